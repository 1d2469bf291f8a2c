"""S3 that fails: every failure with the request lost, and with only its answer lost."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from ingest_service.errors import StoredBytesLost, VaultFull, VaultUnavailable
from ingest_service.vault.s3 import S3Vault
from tests.vault.bodies import Bytes, with_digest
from tests.vault.conftest import OpenVault
from tests.vault.faulty_s3 import Fault, FaultyS3

pytestmark = pytest.mark.s3

MIB = 1024 * 1024
PASSING: list[Fault] = ["500", "slow_down", "lost", "stored", "stored_500"]


async def read_all(blocks: AsyncIterator[bytes]) -> bytes:
    return b"".join([block async for block in blocks])


@pytest.mark.parametrize("fault", PASSING)
async def test_object_is_stored_though_the_first_try_fails(
    faulty_vault: S3Vault, faulty: FaultyS3, prefix: str, fault: Fault
) -> None:
    faulty.fail_next("PUT", fault)
    data = b"x" * 300_000

    stored = await faulty_vault.put_object(f"{prefix}clip", with_digest(data))

    assert await read_all(faulty_vault.read(f"{prefix}clip", stored.version)) == data


@pytest.mark.parametrize("fault", PASSING)
async def test_part_is_stored_though_the_first_try_fails(
    faulty_vault: S3Vault, faulty: FaultyS3, prefix: str, fault: Fault
) -> None:
    multipart_id = (await faulty_vault.open_multipart(f"{prefix}clip")).multipart_id
    faulty.fail_next("PUT", fault, query="partNumber")

    part = await faulty_vault.put_part(f"{prefix}clip", multipart_id, 1, Bytes(b"part"))

    stored = await faulty_vault.complete_multipart(f"{prefix}clip", multipart_id, [part])
    assert await read_all(faulty_vault.read(f"{prefix}clip", stored.version)) == b"part"


@pytest.mark.parametrize("fault", PASSING)
async def test_bytes_that_are_gone_are_not_tried_again(
    faulty_vault: S3Vault, faulty: FaultyS3, prefix: str, fault: Fault
) -> None:
    faulty.fail_next("PUT", fault)
    body = with_digest(b"x" * 300_000, may_replay=False)

    with pytest.raises(VaultUnavailable):
        await faulty_vault.put_object(f"{prefix}clip", body)

    assert body.drawn_count == 1


async def test_tries_end(faulty_vault: S3Vault, faulty: FaultyS3, prefix: str) -> None:
    faulty.fail_next("PUT", "slow_down", times=3)
    body = Bytes(b"x")

    with pytest.raises(VaultUnavailable) as caught:
        await faulty_vault.put_object(f"{prefix}clip", body)

    assert caught.value.reason.startswith("503 SlowDown")
    assert body.drawn_count == 3


async def test_what_cannot_pass_is_not_tried_again(
    faulty_vault: S3Vault, faulty: FaultyS3, prefix: str
) -> None:
    faulty.fail_next("PUT", "denied")
    body = Bytes(b"x")

    with pytest.raises(VaultUnavailable):
        await faulty_vault.put_object(f"{prefix}clip", body)

    assert body.drawn_count == 1


async def test_full_store_is_told_apart_from_a_busy_one(
    faulty_vault: S3Vault, faulty: FaultyS3, prefix: str
) -> None:
    faulty.fail_next("PUT", "full")

    with pytest.raises(VaultFull):
        await faulty_vault.put_object(f"{prefix}clip", Bytes(b"x"))


@pytest.mark.parametrize("fault", ["500", "stored", "stored_500"])
async def test_an_upload_that_took_two_requests_may_have_left_another(
    faulty_vault: S3Vault, faulty: FaultyS3, prefix: str, fault: Fault
) -> None:
    at_once = await faulty_vault.open_multipart(f"{prefix}one")
    faulty.fail_next("POST", fault, query="uploads")

    at_last = await faulty_vault.open_multipart(f"{prefix}two")

    assert (at_once.was_retried, at_last.was_retried) == (False, True)


async def test_full_store_cannot_open_an_upload(
    faulty_vault: S3Vault, faulty: FaultyS3, prefix: str
) -> None:
    faulty.fail_next("POST", "full")

    with pytest.raises(VaultFull):
        await faulty_vault.open_multipart(f"{prefix}clip")


async def test_silent_store_is_given_up_after_the_timeout(
    open_vault: OpenVault, faulty: FaultyS3, prefix: str
) -> None:
    faulty.fail_next("PUT", "silent")
    async with open_vault(endpoint=faulty.endpoint, timeout_s=0.3, attempts=1) as vault:
        began = time.monotonic()

        with pytest.raises(VaultUnavailable) as caught:
            await vault.put_object(f"{prefix}clip", Bytes(b"x"))

    assert "no progress" in caught.value.reason
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "fault", ["500", "slow_down", "lost", "stored", "stored_500", "error_in_200"]
)
async def test_upload_completes_though_the_first_try_fails(
    faulty_vault: S3Vault, faulty: FaultyS3, prefix: str, fault: Fault
) -> None:
    multipart_id = (await faulty_vault.open_multipart(f"{prefix}clip")).multipart_id
    part = await faulty_vault.put_part(f"{prefix}clip", multipart_id, 1, Bytes(b"part"))
    faulty.fail_next("POST", fault, query="uploadId")

    stored = await faulty_vault.complete_multipart(f"{prefix}clip", multipart_id, [part])

    assert await read_all(faulty_vault.read(f"{prefix}clip", stored.version)) == b"part"


async def test_error_inside_a_200_is_no_completion(
    faulty_vault: S3Vault, faulty: FaultyS3, prefix: str
) -> None:
    multipart_id = (await faulty_vault.open_multipart(f"{prefix}clip")).multipart_id
    part = await faulty_vault.put_part(f"{prefix}clip", multipart_id, 1, Bytes(b"part"))
    faulty.fail_next("POST", "error_in_200", query="uploadId", times=3)

    with pytest.raises(VaultUnavailable) as caught:
        await faulty_vault.complete_multipart(f"{prefix}clip", multipart_id, [part])

    assert "InternalError" in caught.value.reason


@pytest.mark.parametrize("has_opaque_tags", [False, True])
@pytest.mark.parametrize("fault", ["stored", "stored_500", "stored_error_in_200"])
async def test_completed_object_is_recognised_when_its_upload_is_forgotten(
    faulty_vault: S3Vault, faulty: FaultyS3, prefix: str, fault: Fault, *, has_opaque_tags: bool
) -> None:
    """S3 may answer NoSuchUpload to a repeated completion; the object's tag or our mark tells."""
    faulty.has_opaque_tags = has_opaque_tags
    multipart_id = (await faulty_vault.open_multipart(f"{prefix}clip")).multipart_id
    part = await faulty_vault.put_part(f"{prefix}clip", multipart_id, 1, Bytes(b"part"))
    faulty.fail_next("POST", fault, query="uploadId")
    faulty.fail_next("POST", "no_such_upload", query="uploadId")

    stored = await faulty_vault.complete_multipart(f"{prefix}clip", multipart_id, [part])

    assert stored.size_bytes == 4
    assert await read_all(faulty_vault.read(f"{prefix}clip", stored.version)) == b"part"


@pytest.mark.parametrize("has_opaque_tags", [False, True])
async def test_other_object_under_the_key_is_not_taken_for_the_completed_one(
    faulty_vault: S3Vault, faulty: FaultyS3, prefix: str, *, has_opaque_tags: bool
) -> None:
    faulty.has_opaque_tags = has_opaque_tags
    multipart_id = (await faulty_vault.open_multipart(f"{prefix}clip")).multipart_id
    part = await faulty_vault.put_part(f"{prefix}clip", multipart_id, 1, Bytes(b"part"))
    await faulty_vault.abort_multipart(f"{prefix}clip", multipart_id)
    await faulty_vault.put_object(f"{prefix}clip", Bytes(b"part"))

    with pytest.raises(StoredBytesLost):
        await faulty_vault.complete_multipart(f"{prefix}clip", multipart_id, [part])


@pytest.mark.parametrize("fault", ["500", "lost", "stored"])
async def test_delete_happens_though_the_first_try_fails(
    faulty_vault: S3Vault, faulty: FaultyS3, prefix: str, fault: Fault
) -> None:
    stored = await faulty_vault.put_object(f"{prefix}clip", Bytes(b"x"))
    faulty.fail_next("DELETE", fault)

    await faulty_vault.delete(f"{prefix}clip", stored.version)

    assert await faulty_vault.get_facts(f"{prefix}clip", stored.version) is None


async def test_broken_download_goes_on_where_it_broke(
    faulty_vault: S3Vault, faulty: FaultyS3, prefix: str
) -> None:
    data = bytes(index % 251 for index in range(MIB))
    stored = await faulty_vault.put_object(f"{prefix}clip", Bytes(data))
    # Each try brings half of what is missing: more broken tries than `attempts`, all with progress.
    faulty.fail_next("GET", "truncated", times=5)

    read = await read_all(faulty_vault.read(f"{prefix}clip", stored.version))

    assert read == data


async def test_download_without_progress_is_given_up(
    faulty_vault: S3Vault, faulty: FaultyS3, prefix: str
) -> None:
    stored = await faulty_vault.put_object(f"{prefix}clip", Bytes(b"x" * MIB))
    faulty.fail_next("GET", "truncated")
    faulty.fail_next("GET", "500", times=3)

    with pytest.raises(VaultUnavailable):
        await read_all(faulty_vault.read(f"{prefix}clip", stored.version))


async def test_download_does_not_go_on_with_other_content(
    faulty_vault: S3Vault, faulty: FaultyS3, prefix: str
) -> None:
    await faulty_vault.put_object(f"{prefix}clip", Bytes(b"a" * MIB))
    faulty.fail_next("GET", "truncated")
    blocks = faulty_vault.read(f"{prefix}clip", None)
    await anext(blocks)
    await faulty_vault.put_object(f"{prefix}clip", Bytes(b"b" * MIB))

    with pytest.raises(StoredBytesLost):
        await read_all(blocks)


async def test_unreachable_store_does_not_stop_the_opening(
    open_vault: OpenVault, unused_tcp_port: int
) -> None:
    endpoint = f"http://127.0.0.1:{unused_tcp_port}"

    async with open_vault(endpoint=endpoint, checks_sha256="probe", attempts=1) as vault:
        assert vault.checks_sha256 is False
        with pytest.raises(VaultUnavailable):
            await vault.check()


async def test_missing_bucket_is_unavailable(open_vault: OpenVault) -> None:
    async with open_vault(bucket="no-such-bucket", checks_sha256="probe") as vault:
        with pytest.raises(VaultUnavailable):
            await vault.check()


async def test_store_that_checks_digests_is_found_out(open_vault: OpenVault) -> None:
    async with open_vault(checks_sha256="probe") as vault:
        assert vault.checks_sha256 is True


async def test_probe_is_asked_again_once_the_store_answers(
    open_vault: OpenVault, faulty: FaultyS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest_service.vault.s3.PROBE_AGAIN_AFTER_S", 0.0)
    faulty.fail_next("PUT", "slow_down")
    async with open_vault(endpoint=faulty.endpoint, checks_sha256="probe") as vault:
        assert vault.checks_sha256 is False

        await vault.check()

        assert vault.checks_sha256 is True


async def test_store_that_takes_wrong_digests_is_found_out_and_cleaned(
    open_vault: OpenVault, faulty: FaultyS3
) -> None:
    faulty.ignores_checksums = True

    async with open_vault(endpoint=faulty.endpoint, checks_sha256="probe") as vault:
        assert vault.checks_sha256 is False

    stored, removed = faulty.seen
    assert removed == stored.replace("PUT", "DELETE") + "?versionId=v0"


async def test_store_that_ignores_digests_is_not_sent_any(
    open_vault: OpenVault, faulty: FaultyS3, prefix: str
) -> None:
    faulty.ignores_checksums = True
    async with open_vault(endpoint=faulty.endpoint, checks_sha256="no") as vault:
        await vault.put_object(f"{prefix}clip", with_digest(b"reaches the real store"))

        assert await vault.get_facts(f"{prefix}clip", None) is not None


async def test_cancelled_upload_is_not_stored(faulty_vault: S3Vault, prefix: str) -> None:
    class Endless(Bytes):
        async def blocks(self) -> AsyncIterator[bytes]:
            yield b"x" * 1000
            await asyncio.Event().wait()

    sending = asyncio.create_task(
        faulty_vault.put_object(f"{prefix}clip", Endless(b"", length_bytes=2000))
    )
    await asyncio.sleep(0.1)
    sending.cancel()

    with pytest.raises(asyncio.CancelledError):
        await sending

    assert await faulty_vault.get_facts(f"{prefix}clip", None) is None
