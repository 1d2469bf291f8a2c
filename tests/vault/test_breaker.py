"""A store that is away is not asked by everybody; see docs/overload.md."""

import time

import pytest
from prometheus_client import REGISTRY

from ingest_service.domain.breaker import HOLDS_BYTES, Breaker
from ingest_service.errors import StoredBytesLost, VaultFull, VaultUnavailable
from tests.vault.bodies import Bytes, with_digest
from tests.vault.conftest import OpenVault
from tests.vault.faulty_s3 import Fault, FaultyS3

pytestmark = pytest.mark.s3

FAILURES = 4
REST_S = 0.3


@pytest.fixture
def breaker() -> Breaker:
    return Breaker(FAILURES, rest_s=REST_S)


@pytest.fixture
async def vault(open_vault: OpenVault, faulty: FaultyS3, breaker: Breaker):
    async with open_vault(
        endpoint=faulty.endpoint, timeout_s=0.5, attempts=1, breaker=breaker
    ) as opened:
        yield opened


async def put(vault, key: str, data: bytes = b"x") -> bool:
    try:
        await vault.put_object(key, with_digest(data))
    except VaultUnavailable:
        return False
    return True


async def trip(vault, faulty: FaultyS3, prefix: str, fault: Fault = "lost") -> None:
    faulty.fail_next("PUT", fault, times=FAILURES)
    for _ in range(FAILURES):
        assert not await put(vault, f"{prefix}clip")


@pytest.mark.parametrize("fault", ["500", "slow_down", "lost", "stored", "silent"])
async def test_after_many_failures_nothing_is_asked_of_the_store(vault, faulty, prefix, fault):
    await trip(vault, faulty, prefix, fault)
    seen = len(faulty.seen)
    refused = REGISTRY.get_sample_value("ingest_breaker_refused_total", {"dependency": "vault"})
    body = with_digest(b"x")

    began = time.monotonic()
    with pytest.raises(VaultUnavailable):
        await vault.put_object(f"{prefix}clip", body)
    with pytest.raises(VaultUnavailable):
        await vault.get_facts(f"{prefix}clip", None)
    with pytest.raises(VaultUnavailable):
        await anext(vault.read(f"{prefix}clip", None))

    assert time.monotonic() - began < 0.2
    assert (len(faulty.seen), body.drawn_count) == (seen, 0)
    after = REGISTRY.get_sample_value("ingest_breaker_refused_total", {"dependency": "vault"})
    assert after - (refused or 0) == 3


async def test_one_success_after_the_rest_opens_the_store_to_all(vault, faulty, prefix, breaker):
    await trip(vault, faulty, prefix)
    breaker._rests_until = 0

    assert await put(vault, f"{prefix}clip")
    assert breaker.is_closed


async def test_a_read_looks_as_well_as_a_write(vault, faulty, prefix, breaker):
    assert await put(vault, f"{prefix}clip", b"held")
    await trip(vault, faulty, prefix)
    breaker._rests_until = 0

    assert [block async for block in vault.read(f"{prefix}clip", None)] == [b"held"]
    assert breaker.is_closed


async def test_a_health_check_looks_itself_and_tells_the_others(vault, faulty, prefix, breaker):
    await trip(vault, faulty, prefix)

    await vault.check()
    assert breaker.is_closed


async def test_a_body_that_has_come_is_stored_whatever_the_breaker_says(
    vault, faulty, prefix, breaker
):
    await trip(vault, faulty, prefix)

    token = HOLDS_BYTES.set(True)
    try:
        assert await put(vault, f"{prefix}clip", b"a prefix of a cut request")
    finally:
        HOLDS_BYTES.reset(token)


async def test_a_store_that_is_slow_is_asked(open_vault, faulty, prefix, breaker):
    """Half of the requests time out; the others are answered."""
    async with open_vault(
        endpoint=faulty.endpoint, timeout_s=0.4, attempts=1, breaker=breaker
    ) as vault:
        for _ in range(FAILURES + 1):
            faulty.fail_next("PUT", "silent")
            await put(vault, f"{prefix}clip")
            assert (await vault.get_facts(f"{prefix}nothing", None)) is None

    assert breaker.is_closed


@pytest.mark.parametrize(
    ("method", "fault", "error"),
    [("PUT", "full", VaultFull), ("PUT", "denied", VaultUnavailable)],
)
async def test_a_store_that_refuses_is_there(vault, faulty, prefix, breaker, method, fault, error):
    faulty.fail_next(method, fault, times=3 * FAILURES)
    for _ in range(3 * FAILURES):
        with pytest.raises(error):
            await vault.put_object(f"{prefix}clip", Bytes(b"x"))

    assert breaker.is_closed


async def test_what_is_not_there_is_an_answer(vault, faulty, prefix, breaker):
    faulty.fail_next("PUT", "lost", times=FAILURES - 1)
    for _ in range(FAILURES - 1):
        await put(vault, f"{prefix}clip")
    with pytest.raises(StoredBytesLost):
        await anext(vault.read(f"{prefix}nothing", None))
    faulty.fail_next("PUT", "lost")
    await put(vault, f"{prefix}clip")

    assert breaker.is_closed


async def test_a_dock_that_goes_away_as_the_probe_leaves_the_place_to_the_next(
    vault, faulty, prefix, breaker
):
    await trip(vault, faulty, prefix)
    breaker._rests_until = 0
    with pytest.raises(ConnectionResetError):
        await vault.put_object(f"{prefix}clip", Bytes(b"x", breaks_with=ConnectionResetError()))

    assert await put(vault, f"{prefix}clip")


async def test_tries_end_when_the_breaker_opens(open_vault, faulty, prefix, monkeypatch):
    monkeypatch.setattr("ingest_service.vault.s3.FIRST_WAIT_S", 0.01)
    faulty.fail_next("PUT", "lost", times=50)
    async with open_vault(
        endpoint=faulty.endpoint, attempts=10, breaker=Breaker(FAILURES)
    ) as vault:
        assert not await put(vault, f"{prefix}clip")

    assert len([seen for seen in faulty.seen if seen.startswith("PUT")]) == FAILURES
