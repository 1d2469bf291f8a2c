"""A vault of either kind for the contract, and ways to make the real one fail."""

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from ingest_service.dev.seaweed import EmbeddedSeaweed
from ingest_service.vault import Vault
from ingest_service.vault.s3 import S3Vault, open_s3_vault
from tests.fakes import MemoryVault
from tests.vault.faulty_s3 import FaultyS3

OpenVault = Callable[..., AbstractAsyncContextManager[S3Vault]]

_prefixes = itertools.count(1)


@pytest.fixture
def open_vault(seaweed: EmbeddedSeaweed) -> OpenVault:
    """Opens a vault on the embedded SeaweedFS; keywords replace single settings."""

    def opener(**changes: Any) -> AbstractAsyncContextManager[S3Vault]:
        settings: dict[str, Any] = {
            "endpoint": seaweed.endpoint,
            "region": "us-east-1",
            "bucket": seaweed.bucket,
            "access_key": seaweed.access_key,
            "secret_key": seaweed.secret_key,
            "checks_sha256": "yes",
            "connections_max": 8,
            "timeout_s": 10.0,
            "attempts": 3,
        }
        return open_s3_vault(**{**settings, **changes})

    return opener


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.s3)])
async def vault(request: pytest.FixtureRequest) -> AsyncIterator[Vault]:
    """Each test of the contract runs on the fake and on the real thing."""
    if request.param == "memory":
        yield MemoryVault()
        return
    open_vault: OpenVault = request.getfixturevalue("open_vault")
    async with open_vault() as opened:
        yield opened


@pytest.fixture
async def faulty(seaweed: EmbeddedSeaweed) -> AsyncIterator[FaultyS3]:
    """SeaweedFS behind a proxy that loses requests and answers when told to."""
    async with FaultyS3(seaweed.endpoint) as proxy:
        yield proxy


@pytest.fixture
async def faulty_vault(
    open_vault: OpenVault, faulty: FaultyS3, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[S3Vault]:
    """A vault whose store is the faulty one; it waits little between tries."""
    monkeypatch.setattr("ingest_service.vault.s3.FIRST_WAIT_S", 0.01)
    async with open_vault(endpoint=faulty.endpoint, timeout_s=2.0) as opened:
        yield opened


@pytest.fixture
def prefix() -> str:
    """A prefix of this test's own in the shared bucket."""
    return f"vault-test-{next(_prefixes)}/"
