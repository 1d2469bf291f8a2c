"""Announce: a dock says what it will send, and is told where and how."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from ingest_service import telemetry
from ingest_service.domain.clip import (
    Clip,
    Judgement,
    differing_content,
    judge_announcement,
)
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import Actor, ChainHead, Happening, chain_events
from ingest_service.domain.ids import make_id
from ingest_service.domain.priority import Priority, PriorityClaim, judge_claim
from ingest_service.domain.upload import Upload, UploadRules, choose_part_bytes
from ingest_service.errors import AnnouncementConflict, ClipTooLarge, UploadBusy
from ingest_service.ledger import clips, uploads
from ingest_service.ledger.connection import Connection, Pool, reading
from ingest_service.ledger.directory import Directory
from ingest_service.ledger.stations import Station
from schemas.announcement import Announcement

_TRIES: Final = 8


@dataclass(frozen=True, slots=True)
class Announced:
    """The clip and its upload; `is_new` is false when it was announced before."""

    clip: Clip
    upload: Upload
    is_new: bool


async def announce_clip(
    announcement: Announcement,
    raw: dict[str, Any],
    station: Station,
    *,
    pool: Pool,
    directory: Directory,
    rules: UploadRules,
    now: Clock,
    request_id: str | None = None,
    claim: PriorityClaim | None = None,
) -> Announced:
    """Record a clip and the plan of its upload, or return the clip of the same identity.

    The same identity again is the same clip, whatever its state: from another dock the upload
    moves there (the camera did), and an abandoned upload is opened afresh.

    raw    the announcement as received, kept unchanged
    claim  that it matters more than others: recorded, whatever is made of it

    Raises:
        ClipTooLarge: nothing was recorded.
        AnnouncementConflict: the identity is held by other content; nothing was changed.
        UploadBusy: the clip changed too often meanwhile; announce again.
    """
    _check_size(announcement.size_bytes, rules)
    known = await directory.entries(pool)
    priority = judge_claim(claim, announcement.category, rules.urgent_categories)
    tell_claim(priority)
    for _ in range(_TRIES):
        moment = now()
        judgement = judge_announcement(announcement, known, now=moment, priority=priority)
        clip = make_clip(announcement, raw, station, judgement, now=moment)
        upload = plan_upload(clip, rules, now=moment)
        async with reading(pool) as connection:
            recorded = await record_clip(connection, clip, upload, request_id, priority)
        if recorded is not None:
            return recorded
        again = await _announce_again(announcement, station, pool, rules, now, request_id, priority)
        if again is not None:
            return again
    raise UploadBusy(clip.upload_id, "the clip keeps changing")


def tell_claim(priority: Priority | None) -> None:
    """Count a claim of priority, and tell it in the request's line."""
    if priority is not None:
        outcome = "founded" if priority.is_founded else "unfounded"
        telemetry.PRIORITY_CLAIMS.labels(outcome).inc()
        telemetry.add_fields(priority=outcome, priority_was_used=priority.was_used)


async def record_clip(
    connection: Connection,
    clip: Clip,
    upload: Upload,
    request_id: str | None,
    priority: Priority | None = None,
    *,
    writes_at_once: bool = False,
) -> Announced | None:
    """Record a new clip with its first event and its upload; None: its identity is held.

    writes_at_once  `store_whole` follows
    """
    events = chain_events(
        ChainHead(clip.clip_id),
        [describe_clip(clip, request_id, priority)],
        now=clip.announced_at,
        device_serial=clip.device_serial,
    )
    if not await clips.insert_clip(connection, clip, upload, events, writes_at_once=writes_at_once):
        return None
    return Announced(replace(clip, last_leaf_hash=events[-1].leaf_hash), upload, is_new=True)


def _check_size(size_bytes: int, rules: UploadRules) -> None:
    if size_bytes > rules.clip_bytes_max:
        raise ClipTooLarge(size_bytes, rules.clip_bytes_max)


def make_clip(
    announcement: Announcement,
    raw: dict[str, Any],
    station: Station,
    judgement: Judgement,
    *,
    now: datetime,
    duplicate_of: UUID | None = None,
) -> Clip:
    """Return the clip that an announcement stands for, not yet recorded."""
    digest = announcement.sha256_device
    return Clip(
        clip_id=make_id(now),
        state="receiving",
        upload_id=make_id(now),
        device_serial=announcement.device_serial,
        recording_id=announcement.recording_id,
        segment_no=announcement.segment_no,
        device_recording_seq=announcement.device_recording_seq,
        announcement=raw,
        size_bytes=announcement.size_bytes,
        sha256_device=None if digest is None else bytes.fromhex(digest),
        station_id=station.station_id,
        site_id=station.site_id,
        borough=station.borough,
        started_at=announcement.started_at,
        ended_at=announcement.ended_at,
        clock_offset_ms=announcement.clock_offset_ms,
        clock_uncertainty_ms=announcement.clock_uncertainty_ms,
        duplicate_of=duplicate_of,
        flags=judgement.flags,
        clock_state=judgement.clock_state,
        started_at_corrected=judgement.started_at_corrected,
        announced_at=now,
        sealed_at=None,
        secured_at=None,
        released_at=None,
        officer_id=announcement.officer_id,
        incident_id=announcement.incident_id,
        crime_ref=announcement.crime_ref,
        category=announcement.category,
        evidential_state=announcement.evidential_state,
        title=announcement.title,
        sha256=None,
        sha256_readback=None,
        quarantine_reason=None,
        bucket=None,
        object_key=None,
        object_version=None,
        manifest=None,
        is_held=False,
        erase_due_at=None,
        event_count=1,
        last_leaf_hash=None,
    )


def plan_upload(
    clip: Clip, rules: UploadRules, *, now: datetime, tus_metadata: str | None = None
) -> Upload:
    """Return the upload of a new clip: the grid is fixed here, for good."""
    return Upload(
        upload_id=clip.upload_id,
        clip_id=clip.clip_id,
        station_id=clip.station_id,
        surface="undecided",
        state="open",
        length_bytes=clip.size_bytes,
        part_bytes=choose_part_bytes(clip.size_bytes, rules.part_bytes),
        offset_bytes=0,
        hashed_bytes=0,
        sha256_state=None,
        epoch=0,
        leased_by=None,
        multipart_key=None,
        multipart_id=None,
        tus_metadata=tus_metadata,
        expires_at=now + rules.expires_after,
    )


def describe_clip(
    clip: Clip, request_id: str | None, priority: Priority | None = None
) -> Happening:
    """Return the first event of a clip's chain."""
    return Happening(
        "clip.announced",
        Actor("station", clip.station_id),
        {
            "device_serial": clip.device_serial,
            "recording_id": clip.recording_id,
            "segment_no": clip.segment_no,
            "size_bytes": clip.size_bytes,
            "sha256_device": None if clip.sha256_device is None else clip.sha256_device.hex(),
            "upload_id": str(clip.upload_id),
            "clock_state": clip.clock_state,
            "clock_offset_ms": clip.clock_offset_ms,
            "flags": clip.flags,
            "duplicate_of": None if clip.duplicate_of is None else str(clip.duplicate_of),
            **_describe_claim(priority),
        },
        request_id=request_id,
    )


def _describe_claim(priority: Priority | None) -> dict[str, Any]:
    # Who overtakes others answers for it; of all the others the leaf says nothing.
    return {} if priority is None else {"priority": priority.describe()}


async def _announce_again(
    announcement: Announcement,
    station: Station,
    pool: Pool,
    rules: UploadRules,
    now: Clock,
    request_id: str | None,
    priority: Priority | None,
) -> Announced | None:
    """Return the clip of the same identity, moved or reopened where need be; None: try again."""
    async with reading(pool) as connection:
        clip = await clips.find_clip_by_identity(
            connection,
            announcement.device_serial,
            announcement.recording_id,
            announcement.segment_no,
        )
        upload = None if clip is None else await uploads.find_upload(connection, clip.upload_id)
    if clip is None or upload is None:
        return None
    if differs := differing_content(clip, announcement):
        raise AnnouncementConflict(clip.clip_id, ", ".join(differs))
    is_abandoned = clip.state == "expired"
    is_elsewhere = upload.station_id != station.station_id and _may_move(clip, announcement)
    is_news = clip.state == "receiving" and (
        clip.size_bytes is None
        or (announcement.sha256_device is not None and clip.sha256_device is None)
    )
    moment = now()
    # The job has not ended it yet, and what was sent of it is still there.
    is_overdue = upload.state == "open" and upload.expires_at <= moment
    if not (is_abandoned or is_elsewhere or is_news or is_overdue):
        return Announced(clip, upload, is_new=False)
    upload_id = make_id(moment) if is_abandoned else clip.upload_id
    resumed = Happening(
        "upload.resumed",
        Actor("station", station.station_id),
        {
            "upload_id": str(upload_id),
            "from_station": upload.station_id,
            "offset_bytes": 0 if is_abandoned else upload.offset_bytes,
            "sha256_device": announcement.sha256_device,
            **_describe_claim(priority),
        },
        request_id=request_id,
    )
    events = chain_events(clip.head, [resumed], now=moment, device_serial=clip.device_serial)
    async with reading(pool) as connection:
        digest = announcement.sha256_device
        reopened = await clips.reopen_clip(
            connection,
            clip,
            events,
            upload_id=upload_id,
            station_id=station.station_id,
            size_bytes=announcement.size_bytes,
            sha256_device=None if digest is None else bytes.fromhex(digest),
            is_new_upload=is_abandoned,
            part_bytes=choose_part_bytes(announcement.size_bytes, rules.part_bytes),
            opened_at=moment,
            expires_at=moment + rules.expires_after,
        )
        if not reopened:
            return None
        now_clip = await clips.find_clip(connection, clip.clip_id)
        now_upload = await uploads.find_upload(connection, upload_id)
    if now_clip is None or now_upload is None:
        return None
    return Announced(now_clip, now_upload, is_new=False)


def _may_move(clip: Clip, announcement: Announcement) -> bool:
    """Tell whether a clip goes with its camera to the dock that announces it now.

    A complete one moves to who shows by its SHA-256 to hold the recording: the receipt is needed
    where the camera is.
    """
    if clip.state == "receiving":
        return True
    known = clip.sha256 or clip.sha256_device
    return known is not None and announcement.sha256_device == known.hex()
