"""List the stations and their keys."""

from dataclasses import dataclass

from ingest_service.ledger.connection import Pool, reading
from ingest_service.ledger.stations import (
    Station,
    StationKey,
    list_station_keys,
)
from ingest_service.ledger.stations import list_stations as list_recorded_stations


@dataclass(frozen=True, slots=True)
class ListedStation:
    """A station and its keys, oldest first, the revoked ones included."""

    station: Station
    keys: tuple[StationKey, ...]


async def list_stations(*, pool: Pool) -> list[ListedStation]:
    """Return every station with its keys, by station id."""
    async with reading(pool) as connection:
        stations = await list_recorded_stations(connection)
        keys = await list_station_keys(connection)
    return [
        ListedStation(station, tuple(key for key in keys if key.station == station))
        for station in stations
    ]
