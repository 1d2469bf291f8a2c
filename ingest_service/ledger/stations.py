"""Stations and the public keys with which they prove themselves."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from asyncpg import Record

from ingest_service.errors import StationNotFound
from ingest_service.ledger.connection import Connection


@dataclass(frozen=True, slots=True)
class Station:
    """The box that uploads, and the building it stands in."""

    station_id: str
    site_id: str
    borough: str


@dataclass(frozen=True, slots=True)
class StationKey:
    """One public key of a station.

    key_id      RFC 7638 thumbprint of the key
    public_jwk  the members that make the key
    revoked_at  None = good
    """

    key_id: str
    station: Station
    public_jwk: dict[str, str]
    registered_at: datetime
    revoked_at: datetime | None


GET_STATION: Final = """
    SELECT station_id, site_id, borough
      FROM stations
     WHERE station_id = $1
"""


async def get_station(connection: Connection, station_id: str) -> Station:
    """Return a station.

    Raises:
        StationNotFound: it was never registered.
    """
    row = await connection.fetchrow(GET_STATION, station_id)
    if row is None:
        raise StationNotFound(station_id)
    return _station(row)


# An id that is taken keeps its site and borough: clips were recorded under them.
INSERT_STATION: Final = """
    INSERT INTO stations (station_id, site_id, borough)
    VALUES ($1, $2, $3)
        ON CONFLICT (station_id) DO NOTHING
"""


async def ensure_station(connection: Connection, station: Station) -> Station:
    """Insert a station unless its id is taken; return what is recorded under the id."""
    await connection.execute(INSERT_STATION, station.station_id, station.site_id, station.borough)
    return await get_station(connection, station.station_id)


LIST_STATIONS: Final = """
    SELECT station_id, site_id, borough
      FROM stations
     ORDER BY station_id
"""


async def list_stations(connection: Connection) -> list[Station]:
    """Return every station, by id: some hundred."""
    return [_station(row) for row in await connection.fetch(LIST_STATIONS)]


FIND_STATION_KEY: Final = """
    SELECT key.key_id, key.public_jwk, key.registered_at, key.revoked_at,
           station.station_id, station.site_id, station.borough
      FROM station_keys AS key
      JOIN stations AS station USING (station_id)
     WHERE key.key_id = $1
"""


async def find_station_key(connection: Connection, key_id: str) -> StationKey | None:
    """Return a key with its station, revoked or not; None when it was never registered."""
    row = await connection.fetchrow(FIND_STATION_KEY, key_id)
    return None if row is None else _station_key(row)


# A revoked key stays revoked: registering it again changes nothing.
INSERT_STATION_KEY: Final = """
    INSERT INTO station_keys (key_id, station_id, public_jwk)
    VALUES ($1, $2, $3)
        ON CONFLICT (key_id) DO NOTHING
"""


async def ensure_station_key(
    connection: Connection, key_id: str, station_id: str, public_jwk: Mapping[str, str]
) -> StationKey:
    """Insert a key unless it is known; return what is recorded under its id.

    Raises:
        StationNotFound: there is no such station; nothing was inserted.
    """
    await get_station(connection, station_id)
    await connection.execute(INSERT_STATION_KEY, key_id, station_id, dict(public_jwk))
    key = await find_station_key(connection, key_id)
    if key is None:  # stations and keys are never deleted
        raise StationNotFound(station_id)
    return key


# The first revocation is the one that counts: its time says which tokens were good.
REVOKE_STATION_KEY: Final = """
    UPDATE station_keys
       SET revoked_at = COALESCE(revoked_at, now())
     WHERE key_id = $1
"""


async def mark_station_key_revoked(connection: Connection, key_id: str) -> StationKey | None:
    """Mark a key as revoked, once; None when it was never registered."""
    await connection.execute(REVOKE_STATION_KEY, key_id)
    return await find_station_key(connection, key_id)


LIST_STATION_KEYS: Final = """
    SELECT key.key_id, key.public_jwk, key.registered_at, key.revoked_at,
           station.station_id, station.site_id, station.borough
      FROM station_keys AS key
      JOIN stations AS station USING (station_id)
     ORDER BY station.station_id, key.registered_at, key.key_id
"""


async def list_station_keys(connection: Connection) -> list[StationKey]:
    """Return every key, by station, oldest first."""
    return [_station_key(row) for row in await connection.fetch(LIST_STATION_KEYS)]


def _station(row: Record) -> Station:
    return Station(row["station_id"], row["site_id"], row["borough"])


def _station_key(row: Record) -> StationKey:
    return StationKey(
        row["key_id"],
        _station(row),
        dict(row["public_jwk"]),
        row["registered_at"],
        row["revoked_at"],
    )
