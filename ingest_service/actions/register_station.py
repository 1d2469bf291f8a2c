"""Register a station."""

from collections.abc import Mapping
from typing import Any, Final

from ingest_service.actions.register_station_key import admit_station_key
from ingest_service.domain.token import import_station_key
from ingest_service.errors import InvalidRequest, StationConflict
from ingest_service.ledger.connection import Pool, writing
from ingest_service.ledger.stations import Station, StationKey, ensure_station

_CHARS_MAX: Final = 100


async def register_station(
    station: Station, public_jwk: Mapping[str, Any], *, pool: Pool
) -> StationKey:
    """Register a station with its first key (or one more), and return the key as recorded.

    Repeatable: the same station and key again change nothing.

    Raises:
        InvalidRequest: an id is empty, too long or unprintable, or the key is of another kind
            than Ed25519 and P-256.
        StationConflict: the id is taken by a station at another site or borough.
        StationKeyConflict: the key is another station's, or was revoked.
        Each of them: nothing was recorded.
    """
    for name, value in (
        ("station_id", station.station_id),
        ("site_id", station.site_id),
        ("borough", station.borough),
    ):
        if not 0 < len(value) <= _CHARS_MAX or not value.isprintable():
            reason = f"{name} must be 1 to {_CHARS_MAX} printable characters"
            raise InvalidRequest(reason)
    key = import_station_key(public_jwk)
    async with writing(pool) as connection:
        recorded = await ensure_station(connection, station)
        if recorded != station:
            raise StationConflict(recorded.station_id, recorded.site_id, recorded.borough)
        return await admit_station_key(connection, station.station_id, key)
