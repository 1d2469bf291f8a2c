"""What must not happen when the ledger, the store or a partial is not what it was."""

from datetime import timedelta

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ingest_service.actions.end_upload import sweep_upload
from ingest_service.actions.publish_checkpoint import is_deletion_safe
from ingest_service.actions.sequence_log import sign_checkpoint
from ingest_service.domain.checkpoint import Checkpoint
from ingest_service.domain.log_paths import checkpoint_key
from ingest_service.ledger import log
from ingest_service.ledger.connection import reading
from ingest_service.signer import LocalSigner
from tests.actions.engine import describe_recording

SIGNER = LocalSigner(Ed25519PrivateKey.generate(), "test.example/log")


async def test_a_restored_ledger_deletes_nothing(ledger, vault, service, upload, footage):
    """It takes a clip that was secured since the backup for an abandoned upload."""
    await service.append_all(upload.upload_id, 0, footage[:96])
    ahead = sign_checkpoint(Checkpoint(SIGNER.name, 10**6, bytes(32)), SIGNER)
    await vault.put_new(checkpoint_key(10**6), ahead.encode())

    assert not await is_deletion_safe(pool=ledger, vault=vault, signer=SIGNER)


async def test_nothing_is_swept_while_the_log_is_halted(ledger, vault, service, upload, footage):
    await service.append_all(upload.upload_id, 0, footage[:100])
    service.now.moved_by = timedelta(days=2)
    stored = vault.keys()
    async with reading(ledger) as connection:
        await log.set_halt(connection, "a backup was restored")

    try:
        assert await sweep_upload(upload.upload_id, pool=ledger, vault=vault) == 0
    finally:
        async with reading(ledger) as connection:
            await log.set_halt(connection, None)

    assert stored
    assert vault.keys() == stored


async def test_the_ledger_refuses_a_secured_clip_without_hashes(engine_dsn, service, footage):
    """A CHECK lets NULL pass unless it is spelt out."""
    clip = (await service.announce(describe_recording(footage))).clip
    connection = await asyncpg.connect(engine_dsn)
    try:
        with pytest.raises(asyncpg.CheckViolationError, match="clips_secured_was_read_back"):
            await connection.execute(
                "UPDATE clips SET state = 'secured', object_key = 'k', secured_at = now()"
                " WHERE clip_id = $1",
                clip.clip_id,
            )
    finally:
        await connection.close()
