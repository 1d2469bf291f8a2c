"""Probe: look into a secured clip for what kind of footage it is."""

from datetime import timedelta
from typing import Final

from ingest_service.actions.check_erasure import is_being_erased
from ingest_service.domain.clip import Clip
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import chain_events
from ingest_service.domain.media import (
    PROBER,
    MediaFacts,
    ReportInvalid,
    describe_probe,
    judge_media,
)
from ingest_service.errors import StoredBytesLost, VaultUnavailable
from ingest_service.ledger import clips, media
from ingest_service.ledger.connection import Pool, reading
from ingest_service.ledger.media import Claim
from ingest_service.prober.probe import Probed, ProbeLimits, probe
from ingest_service.vault import Vault

_CHAIN_TRIES: Final = 8
_RETAINED: Final = frozenset({"secured", "erase_pending"})
# A claim lasts so much longer than the limits allow: starting, recording.
_CLAIM_MARGIN: Final = timedelta(minutes=5)
_FIRST_WAIT: Final = timedelta(minutes=1)
_WAIT_MAX: Final = timedelta(hours=6)
_DOUBLINGS_MAX: Final = 10


async def claim_next(
    *, pool: Pool, now: Clock, limits: ProbeLimits, waited: timedelta = timedelta()
) -> Claim | None:
    """Claim the clip that has waited longest to be probed, for as long as a probe may take.

    waited  who has not waited so long since it was due is left
    """
    moment = now()
    longest = timedelta(seconds=limits.timeout_s + limits.store_timeout_s)
    async with reading(pool) as connection:
        return await media.claim_probe(
            connection, moment - waited, until=moment + longest + _CLAIM_MARGIN
        )


async def probe_clip(
    claim: Claim, *, pool: Pool, vault: Vault, now: Clock, limits: ProbeLimits
) -> MediaFacts | None:
    """Probe a claimed clip and record what was found; None: it has no bytes any more.

    Footage that cannot be read, or that does harm to who reads it, is flagged. A store that does
    not deliver says nothing of the footage: the clip waits, longer each time.

    Raises:
        VaultUnavailable, StoredBytesLost: nothing was recorded; the clip waits.
        LedgerUnavailable, ProberBroken: nothing was recorded; the claim lapses.
    """
    async with reading(pool) as connection:
        clip = await clips.find_clip(connection, claim.clip_id)
        if clip is None or clip.state not in _RETAINED or clip.object_key is None:
            await media.drop_probe(connection, claim)
            return None
    try:
        facts = await _look(clip, vault, now, limits)
    except (VaultUnavailable, StoredBytesLost) as error:
        if isinstance(error, StoredBytesLost) and await is_being_erased(clip.clip_id, pool=pool):
            async with reading(pool) as connection:
                await media.drop_probe(connection, claim)
            return None
        wait = min(_FIRST_WAIT * 2 ** min(claim.attempt - 1, _DOUBLINGS_MAX), _WAIT_MAX)
        async with reading(pool) as connection:
            await media.postpone_probe(connection, claim, now() + wait)
        raise
    return facts if await _record(clip, claim, facts, pool) else None


async def _look(clip: Clip, vault: Vault, now: Clock, limits: ProbeLimits) -> MediaFacts:
    async def read_range(start: int, stop: int) -> bytes:
        blocks = vault.read(clip.object_key or "", clip.object_version, start, stop)
        return b"".join([block async for block in blocks])

    size_bytes = clip.size_bytes or 0
    if size_bytes == 0:
        probed = Probed({"flags": ["not_a_video"]}, None, "", 0)
    else:
        probed = await probe(size_bytes, read_range, limits)
    prober = f"{PROBER} {probed.parser}".strip()
    try:
        return judge_media(
            clip,
            probed.report,
            probed.flag,
            prober=prober,
            bytes_read=probed.bytes_read,
            now=now(),
        )
    except ReportInvalid:
        # The footage has taken the child over: what it says is worth nothing.
        return judge_media(
            clip, None, "probe_crashed", prober=prober, bytes_read=probed.bytes_read, now=now()
        )


async def _record(clip: Clip, claim: Claim, facts: MediaFacts, pool: Pool) -> bool:
    latest: Clip | None = clip
    for _ in range(_CHAIN_TRIES):
        if latest is None or latest.state not in _RETAINED:
            return False
        events = chain_events(
            latest.head,
            [describe_probe(facts)],
            now=facts.probed_at,
            device_serial=latest.device_serial,
        )
        async with reading(pool) as connection:
            if await media.record_media(connection, latest, claim, facts, events):
                return True
            latest = await clips.find_clip(connection, clip.clip_id)
    return False
