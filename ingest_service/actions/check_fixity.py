"""Read a retained object again: is it still what was secured?"""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Final

from ingest_service.actions.check_erasure import is_being_erased
from ingest_service.domain.clip import Clip
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import WORKER, Happening, Integrity, chain_events
from ingest_service.errors import StoredBytesLost
from ingest_service.ledger import clips, fixity
from ingest_service.ledger.connection import Pool, reading
from ingest_service.vault import Vault

_CHAIN_TRIES: Final = 8
_RETAINED: Final = frozenset({"secured", "erase_pending"})


async def check_fixity(
    clip: Clip,
    *,
    pool: Pool,
    vault: Vault,
    now: Clock,
    pace: Callable[[int], Awaitable[None]],
) -> Integrity | None:
    """Compare a stored object with its clip and record the result; nothing is ever deleted.

    pace  is told of every block's length, and makes the reading wait

    'mismatch': other bytes. 'not_verifiable': the store has no such object, which shows no
    tampering. None: the clip is not retained any more, or is being erased just then.

    Raises:
        VaultUnavailable, LedgerUnavailable: nothing was recorded; the claim lapses.
    """
    result, facts = await _read(clip, vault, pace)
    if result != "match" and await is_being_erased(clip.clip_id, pool=pool):
        return None
    latest: Clip | None = clip
    for _ in range(_CHAIN_TRIES):
        if latest is None or latest.state not in _RETAINED:
            return None
        moment = now()
        checked = Happening(
            "fixity.checked",
            WORKER,
            facts,
            outcome="success" if result == "match" else "failed",
            integrity=result,
        )
        events = chain_events(
            latest.head, [checked], now=moment, device_serial=latest.device_serial
        )
        async with reading(pool) as connection:
            if await fixity.record_fixity(connection, latest, moment, result, events):
                return result
            latest = await clips.find_clip(connection, clip.clip_id)
    return None


async def _read(
    clip: Clip, vault: Vault, pace: Callable[[int], Awaitable[None]]
) -> tuple[Integrity, dict[str, object]]:
    digest, size_bytes = hashlib.sha256(), 0
    facts: dict[str, object] = {
        "object_key": clip.object_key,
        "object_version": clip.object_version,
    }
    try:
        async for block in vault.read(clip.object_key or "", clip.object_version):
            digest.update(block)
            size_bytes += len(block)
            await pace(len(block))
    except StoredBytesLost:
        return "not_verifiable", facts
    facts |= {"size_bytes": size_bytes, "sha256": digest.hexdigest()}
    is_same = size_bytes == clip.size_bytes and digest.digest() == clip.sha256
    return "match" if is_same else "mismatch", facts
