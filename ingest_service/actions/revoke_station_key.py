"""Revoke a station's key."""

from ingest_service.errors import StationKeyNotFound
from ingest_service.ledger.connection import Pool, writing
from ingest_service.ledger.stations import StationKey, mark_station_key_revoked


async def revoke_station_key(key_id: str, *, pool: Pool) -> StationKey:
    """Revoke a key for ever and return it; a second time changes nothing.

    Every API process refuses the key's tokens within a few seconds, those it has already
    seen included.

    Raises:
        StationKeyNotFound: no such key.
    """
    async with writing(pool) as connection:
        key = await mark_station_key_revoked(connection, key_id)
    if key is None:
        raise StationKeyNotFound(key_id)
    return key
