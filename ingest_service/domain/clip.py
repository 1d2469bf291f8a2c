"""A clip and what is judged of its announcement: odd metadata is flagged, never refused."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

from ingest_service.domain.custody import ChainHead
from ingest_service.domain.priority import Priority
from schemas.announcement import Announcement, ClipState, ClockState, EvidentialState

# No body-worn camera of this force records before this day: an earlier clock was never set.
CLOCK_FLOOR: Final = datetime(2015, 1, 1, tzinfo=UTC)
CLOCK_AHEAD_MAX: Final = timedelta(days=1)
SEALED_STATES: Final = frozenset({"sealed", "secured", "erase_pending"})
FLAGS_MAX: Final = 50


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip, as the ledger has it; names are those of `schemas.clip`."""

    clip_id: UUID
    state: ClipState
    upload_id: UUID
    device_serial: str
    recording_id: str
    segment_no: int
    device_recording_seq: int | None
    announcement: dict[str, Any]
    size_bytes: int | None
    sha256_device: bytes | None
    station_id: str
    site_id: str
    borough: str
    started_at: datetime | None
    ended_at: datetime | None
    clock_offset_ms: int | None
    clock_uncertainty_ms: int | None
    duplicate_of: UUID | None
    flags: list[str]
    clock_state: ClockState
    started_at_corrected: datetime | None
    announced_at: datetime
    sealed_at: datetime | None
    secured_at: datetime | None
    released_at: datetime | None
    officer_id: str | None
    incident_id: str | None
    crime_ref: str | None
    category: str | None
    evidential_state: EvidentialState
    title: str | None
    sha256: bytes | None
    sha256_readback: bytes | None
    quarantine_reason: str | None
    bucket: str | None
    object_key: str | None
    object_version: str | None
    manifest: dict[str, Any] | None
    is_held: bool
    erase_due_at: datetime | None
    event_count: int
    last_leaf_hash: bytes | None
    manifest_sha256: bytes | None = None
    last_fixity_at: datetime | None = None
    last_fixity_result: str | None = None
    exhibit_ref: str | None = None
    tags: list[str] | None = None

    @property
    def head(self) -> ChainHead:
        """Where the clip's chain of custody ends."""
        return ChainHead(self.clip_id, self.event_count, self.last_leaf_hash)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the service makes of an announcement's odd corners."""

    flags: list[str]
    clock_state: ClockState
    started_at_corrected: datetime | None


def judge_announcement(
    announcement: Announcement,
    known: AbstractSet[tuple[str, str]],
    *,
    now: datetime,
    priority: Priority | None = None,
) -> Judgement:
    """Flag what is odd.

    known     pairs (kind, id) of device, officer and category that the directory has
    priority  what was made of the dock's claim that this clip matters more than others
    """
    flags: list[str] = []
    for kind, name in (
        ("device", announcement.device_serial),
        ("officer", announcement.officer_id),
        ("category", announcement.category),
    ):
        if name is None:
            flags.append(f"{kind}_missing")
        elif (kind, name) not in known:
            flags.append(f"{kind}_unknown")
    if announcement.started_at is None:
        flags.append("started_at_missing")
    corrected = correct_time(announcement.started_at, announcement.clock_offset_ms)
    clock_state = _judge_clock(announcement, corrected, now=now)
    if clock_state in ("not_set", "implausible"):
        flags.append(f"clock_{clock_state}")
    started_at, ended_at = announcement.started_at, announcement.ended_at
    if started_at and ended_at and ended_at < started_at:
        flags.append("ends_before_it_starts")
    if announcement.sha256_device is None:
        flags.append("device_digest_missing")
    if priority is not None and not priority.is_founded:
        flags.append("priority_unfounded")
    flags.extend(f"unknown_member:{name[:80]}" for name in sorted(announcement.model_extra or ()))
    return Judgement(flags[:FLAGS_MAX], clock_state, corrected)


def correct_time(moment: datetime | None, offset_ms: int | None) -> datetime | None:
    """Return a device's time moved by the measured offset (server minus device)."""
    if moment is None or offset_ms is None:
        return None
    try:
        return moment + timedelta(milliseconds=offset_ms)
    except OverflowError:
        return None


@dataclass(frozen=True, slots=True)
class Correction:
    """What a clip's corrected times rest on; None = nothing is known.

    offset_ms       was added to the device's times
    uncertainty_ms  of a measured offset
    """

    offset_ms: int | None
    uncertainty_ms: int | None
    rests_on: Literal["dock_contact", "assertion"] | None


def explain_correction(clip: Clip) -> Correction:
    """Return by how much a clip's times were corrected, and who says so.

    The clip keeps the offset as it was measured; another one was asserted later.
    """
    if clip.started_at is None or clip.started_at_corrected is None:
        return Correction(None, None, None)
    offset_ms = round((clip.started_at_corrected - clip.started_at) / timedelta(milliseconds=1))
    if offset_ms == clip.clock_offset_ms:
        return Correction(offset_ms, clip.clock_uncertainty_ms, "dock_contact")
    return Correction(offset_ms, None, "assertion")


def _judge_clock(
    announcement: Announcement, corrected: datetime | None, *, now: datetime
) -> ClockState:
    started_at = corrected or announcement.started_at
    if announcement.clock_state == "not_set" or started_at is None:
        return "not_set"
    if started_at < CLOCK_FLOOR or started_at > now + CLOCK_AHEAD_MAX:
        return "implausible"
    if announcement.clock_state is not None:
        return announcement.clock_state
    return "free_running" if announcement.clock_offset_ms is None else "synced"


def differing_content(clip: Clip, announcement: Announcement) -> list[str]:
    """Name the members in which an announcement contradicts the bytes that a clip stands for."""
    differs: list[str] = []
    if clip.size_bytes is not None and clip.size_bytes != announcement.size_bytes:
        differs.append("size_bytes")
    ours, theirs = clip.sha256_device or clip.sha256, announcement.sha256_device
    if ours and theirs and ours.hex() != theirs:
        differs.append("sha256_device")
    return differs
