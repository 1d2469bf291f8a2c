"""A ledger with a published log and a bucket of its own, for the tools that stand beside them."""

import asyncio
import itertools
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ingest_service.actions.publish_checkpoint import publish_checkpoints
from ingest_service.actions.sequence_log import Sequencer, sequence_log
from ingest_service.dev.postgres import EmbeddedPostgres
from ingest_service.dev.seaweed import EmbeddedSeaweed
from ingest_service.domain.clock import utc_now
from ingest_service.ledger.connection import open_pool
from ingest_service.resources import open_vault
from ingest_service.signer import make_signing_key, open_local_signer
from tests.actions.engine import Process, cut_chunks, describe_recording, make_footage
from tests.actions.engine import register_docks as register_in
from tests.actions.test_custody_log import record

_numbers = itertools.count(1)


@dataclass
class Custody:
    """Where everything is, and the environment by which the command finds it."""

    dsn: str
    owner_dsn: str
    bucket: str
    seaweed: EmbeddedSeaweed
    key_file: Path
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.env = self.env_of(self.dsn)

    def env_of(self, dsn: str) -> dict[str, str]:
        return {
            "INGEST_LEDGER_DSN": dsn,
            "INGEST_VAULT_ENDPOINT": self.seaweed.endpoint,
            "INGEST_VAULT_BUCKET": self.bucket,
            "INGEST_VAULT_ACCESS_KEY": self.seaweed.access_key,
            "INGEST_VAULT_SECRET_KEY": self.seaweed.secret_key,
            "INGEST_SIGNING_KEY_FILE": str(self.key_file),
        }

    @property
    def signer(self):
        return open_local_signer(self.key_file, "ingest.local/custody")

    def open_vault(self):
        return open_vault(
            endpoint=self.seaweed.endpoint,
            bucket=self.bucket,
            access_key=self.seaweed.access_key,
            secret_key=self.seaweed.secret_key,
        )

    async def fill(self) -> None:
        """Bring clips in and place and publish their events."""
        pool = await open_pool(self.dsn, connections_max=4, statement_timeout_s=10)
        async with pool, self.open_vault() as vault:
            await register_in(pool)
            service = Process("filler", pool, vault)
            for name in ("one", "two"):
                footage = make_footage(32, name)
                clip = (await service.announce(describe_recording(footage))).clip
                await service.store(clip.clip_id, 0, cut_chunks(footage)[0])
                await service.seal(clip.clip_id)
                assert await service.read_back(clip.clip_id) == "secured"
            await record(pool, 300)
            await sequence_log(Sequencer(), pool=pool, signer=self.signer, now=utc_now)
            await publish_checkpoints(pool=pool, vault=vault)


@pytest.fixture
def custody(
    postgres: EmbeddedPostgres, ledger_database: str, seaweed: EmbeddedSeaweed, tmp_path: Path
) -> Custody:
    bucket = f"custody-{next(_numbers)}"
    status, _ = seaweed._ask("PUT", f"/{bucket}", {"x-amz-bucket-object-lock-enabled": "true"})
    assert status == 200
    key_file = tmp_path / "custody.pem"
    make_signing_key(key_file)
    made = Custody(
        postgres.service_dsn(ledger_database),
        postgres.owner_dsn(ledger_database),
        bucket,
        seaweed,
        key_file,
    )
    asyncio.run(made.fill())
    return made
