"""What the store takes and fails is measured, by what was asked of it."""

from contextlib import suppress

import pytest
from prometheus_client import REGISTRY

from ingest_service import telemetry
from ingest_service.errors import ChunkCorrupted, StoredBytesLost, VaultFull, VaultUnavailable
from ingest_service.vault.s3 import S3Vault
from tests.vault.bodies import Bytes
from tests.vault.conftest import OpenVault
from tests.vault.faulty_s3 import FaultyS3

pytestmark = pytest.mark.s3


def count(metric: str, **labels: str) -> float:
    telemetry.sample()
    return REGISTRY.get_sample_value(f"ingest_vault_{metric}", labels) or 0.0


async def test_every_try_is_timed_by_its_operation(faulty_vault: S3Vault, prefix: str) -> None:
    operations = ("put", "get", "head_object", "delete_object")
    before = [count("seconds_count", operation=name) for name in operations]
    stored = await faulty_vault.put_object(f"{prefix}clip", Bytes(b"x"))
    assert [block async for block in faulty_vault.read(f"{prefix}clip", stored.version)]
    await faulty_vault.get_facts(f"{prefix}clip", stored.version)
    await faulty_vault.delete(f"{prefix}clip", stored.version)

    after = [count("seconds_count", operation=name) for name in operations]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1, 1, 1]


@pytest.mark.parametrize("fault", ["500", "lost", "stored"])
async def test_a_try_that_fails_is_counted_though_the_next_succeeds(
    faulty_vault: S3Vault, faulty: FaultyS3, prefix: str, fault
) -> None:
    before = count("errors_total", operation="put", kind="failed")
    faulty.fail_next("PUT", fault, times=2)
    await faulty_vault.put_object(f"{prefix}clip", Bytes(b"x"))

    assert count("errors_total", operation="put", kind="failed") == before + 2


@pytest.mark.parametrize(("kind", "error"), [("failed", VaultUnavailable), ("full", VaultFull)])
async def test_a_full_store_is_told_apart(
    faulty_vault: S3Vault, faulty: FaultyS3, prefix: str, kind: str, error: type[Exception]
) -> None:
    before = count("errors_total", operation="put", kind=kind)
    faulty.fail_next("PUT", "full" if kind == "full" else "slow_down", times=3)
    with pytest.raises(error):
        await faulty_vault.put_object(f"{prefix}clip", Bytes(b"x"))

    assert count("errors_total", operation="put", kind=kind) > before


async def test_bytes_that_do_not_fit_their_digest_are_no_failure_of_the_store(
    faulty_vault: S3Vault, prefix: str
) -> None:
    failed = count("errors_total", operation="put", kind="failed")
    corrupted = count("errors_total", operation="put", kind="corrupted")
    with pytest.raises(ChunkCorrupted):
        await faulty_vault.put_object(f"{prefix}clip", Bytes(b"x", sha256=bytes(32)))

    assert count("errors_total", operation="put", kind="failed") == failed
    assert count("errors_total", operation="put", kind="corrupted") == corrupted + 1


async def test_connections_that_carry_a_request_are_told(
    open_vault: OpenVault, prefix: str
) -> None:
    async with open_vault() as vault:
        await vault.put_object(f"{prefix}clip", Bytes(bytes(3_000_000)))
        blocks = vault.read(f"{prefix}clip", None)
        await anext(blocks)
        reading = count("connections", use="read")
        with suppress(StoredBytesLost):
            async for _ in blocks:
                pass

        assert (reading, count("connections", use="read")) == (1, 0)
        assert count("connections_max") == 8
