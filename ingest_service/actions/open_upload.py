"""Open an upload that no announcement went before (tus creation)."""

from dataclasses import replace
from typing import Final

from ingest_service.actions.announce_clip import Announced, describe_clip, make_clip, plan_upload
from ingest_service.domain.clip import judge_announcement
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import ChainHead, chain_events
from ingest_service.domain.ids import make_id
from ingest_service.domain.tus_metadata import make_announcement, parse_metadata
from ingest_service.domain.upload import UploadRules
from ingest_service.errors import ClipTooLarge, UploadBusy
from ingest_service.ledger import clips
from ingest_service.ledger.connection import Pool, reading
from ingest_service.ledger.stations import Station

_TRIES: Final = 4


async def open_upload(
    length_bytes: int,
    metadata: str | None,
    station: Station,
    *,
    pool: Pool,
    rules: UploadRules,
    now: Clock,
    request_id: str | None = None,
) -> Announced:
    """Record a clip from tus metadata and the plan of its upload; each call opens another one.

    A clip whose identity is held already is kept beside it, flagged and linked: the content is
    not known yet, and footage is not refused.

    metadata  the Upload-Metadata field as received; HEAD answers with it

    Raises:
        InvalidHeader, ClipTooLarge: nothing was recorded.
    """
    if length_bytes > rules.clip_bytes_max:
        raise ClipTooLarge(length_bytes, rules.clip_bytes_max)
    pairs = parse_metadata(metadata)
    for _ in range(_TRIES):
        moment = now()
        announcement, flags = make_announcement(
            pairs, upload_name=f"tus-{make_id(moment)}", length_bytes=length_bytes
        )
        async with reading(pool) as connection:
            known = await clips.find_known(
                connection,
                announcement.device_serial,
                announcement.officer_id,
                announcement.category,
            )
            judgement = judge_announcement(announcement, known, now=moment)
            judgement = replace(judgement, flags=flags + judgement.flags)
            held = await clips.find_clip_by_identity(
                connection,
                announcement.device_serial,
                announcement.recording_id,
                announcement.segment_no,
            )
            if held is not None:
                judgement = replace(judgement, flags=["duplicate_identity", *judgement.flags])
            clip = make_clip(
                announcement,
                dict(pairs),
                station,
                judgement,
                now=moment,
                duplicate_of=None if held is None else held.clip_id,
            )
            upload = plan_upload(clip, rules, now=moment, tus_metadata=metadata)
            events = chain_events(
                ChainHead(clip.clip_id),
                [describe_clip(clip, request_id)],
                now=moment,
                device_serial=clip.device_serial,
            )
            if await clips.insert_clip(connection, clip, upload, events):
                return Announced(clip, upload, is_new=True)
    raise UploadBusy(upload.upload_id, "its identity is being announced")
