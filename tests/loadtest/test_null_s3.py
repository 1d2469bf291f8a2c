"""The null S3 must answer as a real one does, or the bench measures something else."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest

from ingest_service.errors import ChunkCorrupted, StoredBytesLost
from ingest_service.vault.s3 import S3Vault, open_s3_vault
from loadtest.footage import PATTERN_BYTES, make_chunk, make_stamp
from loadtest.null_s3 import NullS3, Store
from tests.vault.bodies import Bytes, with_digest


@pytest.fixture
async def null_vault() -> AsyncIterator[S3Vault]:
    store = Store()
    server = await asyncio.get_running_loop().create_server(lambda: NullS3(store), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with open_s3_vault(
        endpoint=f"http://127.0.0.1:{port}",
        region="us-east-1",
        bucket="null",
        access_key="any",
        secret_key="any",  # noqa: S106 - nobody checks it
        checks_sha256="probe",
        connections_max=4,
        timeout_s=5,
        attempts=1,
    ) as vault:
        yield vault
    server.close()


def make_footage(length_bytes: int) -> bytes:
    return b"".join(make_chunk(make_stamp(1), length_bytes))


async def read_all(blocks: AsyncIterator[bytes]) -> bytes:
    return b"".join([block async for block in blocks])


@pytest.mark.parametrize("length_bytes", [0, 1, 31, 32, 33, 5000, 262_144])
async def test_footage_reads_back_though_it_was_dropped(
    null_vault: S3Vault, length_bytes: int
) -> None:
    footage = make_footage(length_bytes)

    stored = await null_vault.put_object("clip", with_digest(footage))

    assert await read_all(null_vault.read("clip", stored.version)) == footage


async def test_joined_parts_read_back(null_vault: S3Vault) -> None:
    first, last = make_footage(PATTERN_BYTES), make_footage(1000)
    multipart_id = (await null_vault.open_multipart("clip", with_sha256=True)).multipart_id
    parts = [
        await null_vault.put_part("clip", multipart_id, 1, with_digest(first)),
        await null_vault.put_part("clip", multipart_id, 4, with_digest(last)),
    ]

    stored = await null_vault.complete_multipart("clip", multipart_id, parts)

    whole = first + last
    assert await read_all(null_vault.read("clip", stored.version)) == whole
    middle = await read_all(null_vault.read("clip", stored.version, 8_388_600, 8_388_650))
    assert middle == whole[8_388_600:8_388_650]
    facts = await null_vault.get_facts("clip", stored.version)
    assert facts is not None
    assert (facts.size_bytes, facts.etag) == (len(whole), stored.etag)


async def test_small_body_with_a_wrong_digest_is_refused(null_vault: S3Vault) -> None:
    assert null_vault.checks_sha256 is True
    with pytest.raises(ChunkCorrupted):
        await null_vault.put_object("clip", Bytes(b"x", hashlib.sha256(b"y").digest()))


async def test_what_is_not_there_is_missed(null_vault: S3Vault) -> None:
    with pytest.raises(StoredBytesLost):
        await null_vault.put_part("clip", "no-such-upload", 1, Bytes(b"x"))
    with pytest.raises(StoredBytesLost):
        await read_all(null_vault.read("absent", None))
    assert await null_vault.get_facts("absent", None) is None
    assert await null_vault.sweep("absent/", keep_key=None) == 0
