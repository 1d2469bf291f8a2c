"""Register one more public key of a station."""

from collections.abc import Mapping
from typing import Any

from ingest_service.domain.token import VerifyingKey, import_station_key
from ingest_service.errors import StationKeyConflict
from ingest_service.ledger.connection import Connection, Pool, writing
from ingest_service.ledger.stations import StationKey, ensure_station_key


async def register_station_key(
    station_id: str, public_jwk: Mapping[str, Any], *, pool: Pool
) -> StationKey:
    """Register a key beside those that the station has, so that keys can be changed one by one.

    Raises:
        InvalidRequest: the key is of another kind than Ed25519 and P-256.
        StationNotFound: the station is not registered.
        StationKeyConflict: the key is another station's, or was revoked.
        Each of them: nothing was recorded.
    """
    key = import_station_key(public_jwk)
    async with writing(pool) as connection:
        return await admit_station_key(connection, station_id, key)


async def admit_station_key(
    connection: Connection, station_id: str, key: VerifyingKey
) -> StationKey:
    """Record a key inside the caller's transaction.

    Raises:
        StationNotFound, StationKeyConflict: the caller's transaction is rolled back.
    """
    recorded = await ensure_station_key(connection, key.key_id, station_id, key.public_jwk)
    if recorded.station.station_id != station_id:
        raise StationKeyConflict(key.key_id, "belongs to another station")
    if recorded.revoked_at is not None:
        raise StationKeyConflict(key.key_id, "was revoked")
    return recorded
