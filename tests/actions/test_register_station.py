"""Stations and their keys, on the real ledger as the service role."""

import pytest

from ingest_service.actions.list_stations import list_stations
from ingest_service.actions.register_station import register_station
from ingest_service.actions.register_station_key import register_station_key
from ingest_service.actions.revoke_station_key import revoke_station_key
from ingest_service.domain.token import import_signing_key, make_private_key
from ingest_service.errors import (
    InvalidRequest,
    StationConflict,
    StationKeyConflict,
    StationKeyNotFound,
    StationNotFound,
)
from ingest_service.ledger.stations import Station

DOCK_1 = Station("dock-1", "south", "Croydon")
DOCK_2 = Station("dock-2", "north", "Camden")


@pytest.fixture
def jwk():
    return import_signing_key(make_private_key()).verifying_key.public_jwk


@pytest.fixture
def other_jwk():
    return import_signing_key(make_private_key("P-256")).verifying_key.public_jwk


async def test_a_registered_station_is_listed_with_its_key(pool, jwk):
    key = await register_station(DOCK_1, jwk, pool=pool)

    [listed] = await list_stations(pool=pool)
    assert (listed.station, listed.keys) == (DOCK_1, (key,))
    assert key.public_jwk == jwk


async def test_registering_again_changes_nothing(pool, jwk):
    first = await register_station(DOCK_1, jwk, pool=pool)

    assert await register_station(DOCK_1, jwk, pool=pool) == first


async def test_a_station_does_not_move(pool, jwk, other_jwk):
    await register_station(DOCK_1, jwk, pool=pool)

    with pytest.raises(StationConflict):
        await register_station(Station("dock-1", "north", "Camden"), other_jwk, pool=pool)
    [listed] = await list_stations(pool=pool)
    assert (listed.station, len(listed.keys)) == (DOCK_1, 1)


async def test_a_key_belongs_to_one_station(pool, jwk):
    await register_station(DOCK_1, jwk, pool=pool)

    with pytest.raises(StationKeyConflict):
        await register_station(DOCK_2, jwk, pool=pool)
    assert [listed.station for listed in await list_stations(pool=pool)] == [DOCK_1]


async def test_a_station_may_have_several_keys(pool, jwk, other_jwk):
    first = await register_station(DOCK_1, jwk, pool=pool)
    second = await register_station_key("dock-1", other_jwk, pool=pool)

    [listed] = await list_stations(pool=pool)
    assert {key.key_id for key in listed.keys} == {first.key_id, second.key_id}


async def test_an_unknown_station_gets_no_key(pool, jwk):
    with pytest.raises(StationNotFound):
        await register_station_key("dock-9", jwk, pool=pool)


async def test_a_revoked_key_is_never_revived(pool, jwk):
    key = await register_station(DOCK_1, jwk, pool=pool)
    await revoke_station_key(key.key_id, pool=pool)

    with pytest.raises(StationKeyConflict, match="was revoked"):
        await register_station_key("dock-1", jwk, pool=pool)


async def test_the_first_revocation_counts(pool, jwk):
    key = await register_station(DOCK_1, jwk, pool=pool)
    first = await revoke_station_key(key.key_id, pool=pool)

    assert first.revoked_at is not None
    assert await revoke_station_key(key.key_id, pool=pool) == first


async def test_an_unknown_key_cannot_be_revoked(pool):
    with pytest.raises(StationKeyNotFound):
        await revoke_station_key("x" * 43, pool=pool)


@pytest.mark.parametrize("station_id", ["", "a\x00", "a\n", "\u202e", "x" * 101])
async def test_an_id_that_cannot_be_printed_is_refused(pool, jwk, station_id):
    with pytest.raises(InvalidRequest, match="station_id"):
        await register_station(Station(station_id, "south", "Croydon"), jwk, pool=pool)
