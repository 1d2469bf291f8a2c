"""Make the store's legal holds what the ledger says: on what is held, or kept without a date."""

from typing import Final

from ingest_service.domain.clock import Clock
from ingest_service.errors import StoredBytesLost
from ingest_service.ledger import holds
from ingest_service.ledger.connection import Pool, reading
from ingest_service.vault import Vault

_BATCH: Final = 50


async def sync_legal_holds(*, pool: Pool, vault: Vault, now: Clock) -> int:
    """Bring a batch in line; return how many there were.

    A clip is forgotten only if it is kept, or not, as it was when the store was asked, and if
    nobody has placed or released a hold meanwhile: else the store is told once more.

    Raises:
        VaultUnavailable, LedgerUnavailable: the rest is done again.
    """
    async with reading(pool) as connection:
        syncs = await holds.list_syncs(connection, now(), limit=_BATCH)
    for sync in syncs:
        if sync.object_key is not None and sync.state != "erased":
            try:
                await vault.set_legal_hold(sync.object_key, sync.object_version, is_on=sync.is_kept)
            except StoredBytesLost:
                if sync.is_kept:
                    raise
        async with reading(pool) as connection:
            await holds.end_sync(connection, sync)
    return len(syncs)
