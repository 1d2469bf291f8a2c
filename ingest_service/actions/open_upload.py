"""Open an upload that no announcement went before (tus and IETF creation)."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime
from typing import Final
from uuid import UUID

from ingest_service.actions.announce_clip import (
    Announced,
    make_clip,
    plan_upload,
    record_clip,
    tell_claim,
)
from ingest_service.domain.clip import FLAGS_MAX, judge_announcement
from ingest_service.domain.clock import Clock
from ingest_service.domain.concatenation import PARTIAL
from ingest_service.domain.ids import make_id
from ingest_service.domain.priority import PriorityClaim, judge_claim
from ingest_service.domain.tus_metadata import make_announcement, parse_metadata
from ingest_service.domain.upload import Upload, UploadRules, choose_part_bytes
from ingest_service.errors import ClipTooLarge, PartialUnusable, UploadBusy
from ingest_service.ledger import clips, uploads
from ingest_service.ledger.connection import Connection, Pool, reading, writing
from ingest_service.ledger.directory import Directory
from ingest_service.ledger.stations import Station

_TRIES: Final = 4


async def open_upload(
    length_bytes: int | None,
    metadata: str | None,
    station: Station,
    *,
    pool: Pool,
    directory: Directory,
    rules: UploadRules,
    now: Clock,
    request_id: str | None = None,
    facts: Mapping[str, str] | None = None,
    is_ietf: bool = False,
    writes_at_once: bool = False,
    claim: PriorityClaim | None = None,
) -> Announced:
    """Record a clip from its metadata and the plan of its upload; each call opens another one.

    A clip whose identity is held already is kept beside it, flagged and linked: the content is
    not known yet, and footage is not refused.

    length_bytes  None when the client does not know it yet
    metadata      the Upload-Metadata field as received; HEAD answers with it
    facts         what other headers say; the metadata has the last word
    writes_at_once  `store_whole` follows
    claim         that it matters more than others: recorded, whatever is made of it

    Raises:
        InvalidHeader, ClipTooLarge: nothing was recorded.
    """
    if length_bytes is not None and length_bytes > rules.clip_bytes_max:
        raise ClipTooLarge(length_bytes, rules.clip_bytes_max)
    pairs = {**(facts or {}), **parse_metadata(metadata)}
    known = await directory.entries(pool)
    for _ in range(_TRIES):
        moment = now()
        async with reading(pool) as connection:
            announced = await _record(
                connection,
                known,
                pairs,
                station,
                _Plan(length_bytes, metadata, is_ietf=is_ietf, writes_at_once=writes_at_once),
                rules,
                moment,
                request_id,
                claim,
            )
        if announced is not None:
            return announced
    raise UploadBusy(make_id(now()), "its identity is being announced")


async def open_partial(
    length_bytes: int | None,
    metadata: str | None,
    station: Station,
    *,
    pool: Pool,
    rules: UploadRules,
    now: Clock,
    claim: PriorityClaim | None = None,
) -> Upload:
    """Record a piece of clips to come: it has no clip, no identity and no custody of its own.

    claim  that it matters more than others: nothing shows it, so it is counted as unfounded

    Raises:
        InvalidHeader, ClipTooLarge: nothing was recorded.
    """
    if length_bytes is not None and length_bytes > rules.clip_bytes_max:
        raise ClipTooLarge(length_bytes, rules.clip_bytes_max)
    parse_metadata(metadata)
    moment = now()
    upload = Upload(
        upload_id=make_id(moment),
        clip_id=None,
        station_id=station.station_id,
        surface="tus",
        state="finished" if length_bytes == 0 else "open",
        length_bytes=length_bytes,
        part_bytes=choose_part_bytes(length_bytes, rules.part_bytes),
        offset_bytes=0,
        hashed_bytes=0,
        sha256_state=None,
        epoch=0,
        leased_by=None,
        multipart_key=None,
        multipart_id=None,
        tus_metadata=metadata,
        expires_at=moment + rules.expires_after,
        kind="partial",
        concat=PARTIAL,
    )
    async with reading(pool) as connection:
        await uploads.insert_partial(connection, upload, moment)
    tell_claim(judge_claim(claim, None, rules.urgent_categories))
    return upload


async def open_final(
    partial_ids: list[UUID],
    concat: str,
    metadata: str | None,
    station: Station,
    *,
    pool: Pool,
    directory: Directory,
    rules: UploadRules,
    now: Clock,
    request_id: str | None = None,
    claim: PriorityClaim | None = None,
) -> Upload:
    """Record a clip that is joined from partials; none of them ends before it is.

    The same request again (its answer was lost) finds the upload that it opened before.

    concat  the Upload-Concat field as received

    Raises:
        PartialUnusable, InvalidHeader, ClipTooLarge: nothing was recorded.
    """
    pairs = parse_metadata(metadata)
    known = await directory.entries(pool)
    for _ in range(_TRIES):
        moment = now()
        async with writing(pool) as connection:
            lengths = await uploads.lock_partials(connection, partial_ids, station.station_id)
            unusable = [str(each) for each in partial_ids if each not in lengths]
            if unusable:
                reason = f"{unusable[0]} is not a complete partial upload"
                raise PartialUnusable(reason)
            before = await uploads.find_final(connection, partial_ids, station.station_id, metadata)
            if before is not None:
                return before
            length_bytes = sum(lengths[each] for each in partial_ids)
            if length_bytes > rules.clip_bytes_max:
                raise ClipTooLarge(length_bytes, rules.clip_bytes_max)
            announced = await _record(
                connection,
                known,
                pairs,
                station,
                _Plan(length_bytes, metadata, concat=concat, partial_ids=partial_ids),
                rules,
                moment,
                request_id,
                claim,
            )
        if announced is not None:
            return announced.upload
    raise UploadBusy(make_id(now()), "its identity is being announced")


class _Plan:
    """What is particular to one way of opening an upload."""

    def __init__(
        self,
        length_bytes: int | None,
        metadata: str | None,
        *,
        is_ietf: bool = False,
        writes_at_once: bool = False,
        concat: str | None = None,
        partial_ids: list[UUID] | None = None,
    ) -> None:
        self.length_bytes = length_bytes
        self.metadata = metadata
        self.writes_at_once = writes_at_once
        self._is_ietf = is_ietf
        self._concat = concat
        self._partial_ids = partial_ids

    def apply(self, upload: Upload) -> Upload:
        """Return the upload of the clip, as this plan has it."""
        if self._partial_ids is not None:
            return replace(
                upload,
                surface="tus",
                kind="final",
                concat=self._concat,
                partial_ids=self._partial_ids,
            )
        return replace(upload, is_ietf=True, surface="tus") if self._is_ietf else upload


async def _record(
    connection: Connection,
    known: AbstractSet[tuple[str, str]],
    pairs: Mapping[str, str],
    station: Station,
    plan: _Plan,
    rules: UploadRules,
    moment: datetime,
    request_id: str | None,
    claim: PriorityClaim | None,
) -> Announced | None:
    """Record clip and upload; None when the identity was taken in this very moment."""
    announcement, flags = make_announcement(
        pairs, upload_name=f"tus-{make_id(moment)}", length_bytes=plan.length_bytes or 0
    )
    priority = judge_claim(claim, announcement.category, rules.urgent_categories)
    judgement = judge_announcement(announcement, known, now=moment, priority=priority)
    judgement = replace(judgement, flags=flags + judgement.flags)
    clip = make_clip(announcement, dict(pairs), station, judgement, now=moment)
    if plan.length_bytes is None:
        clip = replace(clip, size_bytes=None)
    upload = plan.apply(plan_upload(clip, rules, now=moment, tus_metadata=plan.metadata))
    recorded = await record_clip(
        connection, clip, upload, request_id, priority, writes_at_once=plan.writes_at_once
    )
    if recorded is not None:
        tell_claim(priority)
        return recorded
    held = await clips.find_clip_by_identity(
        connection, clip.device_serial, clip.recording_id, clip.segment_no
    )
    if held is None:
        return None
    beside = replace(
        clip, duplicate_of=held.clip_id, flags=["duplicate_identity", *clip.flags][:FLAGS_MAX]
    )
    recorded = await record_clip(
        connection, beside, upload, request_id, priority, writes_at_once=plan.writes_at_once
    )
    if recorded is not None:
        tell_claim(priority)
    return recorded
