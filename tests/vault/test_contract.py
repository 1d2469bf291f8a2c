"""What every Vault promises: run on MemoryVault and on S3, so that the fake stays honest."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from datetime import UTC, datetime, timedelta

import pytest

from ingest_service.errors import (
    ChunkCorrupted,
    ChunkMisshapen,
    ObjectLocked,
    StoredBytesLost,
    VaultUnavailable,
)
from ingest_service.vault import StoredPart, Vault
from tests.vault.bodies import Bytes, with_digest

MIB = 1024 * 1024
FIRST = b"first " * (5 * MIB // 6 + 1)
SECOND = b"second " * (5 * MIB // 7 + 1)
LAST = b"last"


async def read_all(blocks: AsyncIterator[bytes]) -> bytes:
    return b"".join([block async for block in blocks])


async def test_stored_object_reads_back_as_it_was(vault: Vault, prefix: str) -> None:
    data = bytes(range(256)) * 3000

    stored = await vault.put_object(f"{prefix}clip", with_digest(data))

    assert await read_all(vault.read(f"{prefix}clip", stored.version)) == data


async def test_facts_tell_size_tag_and_version_as_stored(vault: Vault, prefix: str) -> None:
    stored = await vault.put_object(f"{prefix}clip", Bytes(b"abc"))

    facts = await vault.get_facts(f"{prefix}clip", None)

    assert facts is not None
    assert (facts.size_bytes, facts.etag, facts.version) == (3, stored.etag, stored.version)


async def test_odd_names_stay_the_names_they_are(vault: Vault, prefix: str) -> None:
    key = f"{prefix}ä b+c%2F?d=e&f~(g)'h.mp4"

    await vault.put_object(key, Bytes(b"odd"))

    assert await vault.get_facts(key, None) is not None
    assert await read_all(vault.read(key, None)) == b"odd"


async def test_empty_object_is_an_object(vault: Vault, prefix: str) -> None:
    stored = await vault.put_object(f"{prefix}empty", Bytes(b""))

    assert await read_all(vault.read(f"{prefix}empty", stored.version)) == b""
    facts = await vault.get_facts(f"{prefix}empty", stored.version)
    assert facts is not None
    assert facts.size_bytes == 0


async def test_second_write_leaves_the_first_version_readable(vault: Vault, prefix: str) -> None:
    first = await vault.put_object(f"{prefix}clip", Bytes(b"first"))

    second = await vault.put_object(f"{prefix}clip", Bytes(b"second"))

    assert first.version != second.version
    assert await read_all(vault.read(f"{prefix}clip", first.version)) == b"first"
    assert await read_all(vault.read(f"{prefix}clip", None)) == b"second"


@pytest.mark.parametrize("length_bytes", [10, 300_000])
async def test_cut_body_leaves_no_object_and_its_own_error(
    vault: Vault, prefix: str, length_bytes: int
) -> None:
    cut = ConnectionResetError("the dock went away")
    body = Bytes(b"x" * length_bytes, breaks_with=cut)

    with pytest.raises(ConnectionResetError) as caught:
        await vault.put_object(f"{prefix}cut", body)

    assert caught.value is cut
    assert await vault.get_facts(f"{prefix}cut", None) is None


async def test_cut_body_leaves_no_part(vault: Vault, prefix: str) -> None:
    multipart_id = (await vault.open_multipart(f"{prefix}cut")).multipart_id
    whole = await vault.put_part(f"{prefix}cut", multipart_id, 1, Bytes(LAST))
    cut = Bytes(b"y" * 300_000, breaks_with=ConnectionResetError())

    with pytest.raises(ConnectionResetError):
        await vault.put_part(f"{prefix}cut", multipart_id, 1, cut)

    stored = await vault.complete_multipart(f"{prefix}cut", multipart_id, [whole])
    assert await read_all(vault.read(f"{prefix}cut", stored.version)) == LAST


@pytest.mark.parametrize("declared_bytes", [2, 4, 400_000])
async def test_body_of_another_length_than_declared_is_refused(
    vault: Vault, prefix: str, declared_bytes: int
) -> None:
    body = Bytes(b"abc", length_bytes=declared_bytes)

    with pytest.raises(ChunkMisshapen):
        await vault.put_object(f"{prefix}misshapen", body)

    assert await vault.get_facts(f"{prefix}misshapen", None) is None


@pytest.mark.parametrize("length_bytes", [10, 300_000])
async def test_bytes_that_differ_from_their_digest_are_not_stored(
    vault: Vault, prefix: str, length_bytes: int
) -> None:
    body = Bytes(b"x" * length_bytes, sha256=hashlib.sha256(b"other").digest())

    with pytest.raises(ChunkCorrupted):
        await vault.put_object(f"{prefix}corrupted", body)

    assert await vault.get_facts(f"{prefix}corrupted", None) is None


async def test_parts_join_in_order_whatever_their_numbers_and_arrival(
    vault: Vault, prefix: str
) -> None:
    key = f"{prefix}clip"
    multipart_id = (await vault.open_multipart(key)).multipart_id
    last = await vault.put_part(key, multipart_id, 9, Bytes(LAST))
    await vault.put_part(key, multipart_id, 6, Bytes(b"stale, never listed"))
    first = await vault.put_part(key, multipart_id, 1, Bytes(FIRST))
    second = await vault.put_part(key, multipart_id, 5, Bytes(SECOND))

    stored = await vault.complete_multipart(key, multipart_id, [first, second, last])

    assert await read_all(vault.read(key, stored.version)) == FIRST + SECOND + LAST


async def test_last_write_of_a_part_number_counts(vault: Vault, prefix: str) -> None:
    key = f"{prefix}clip"
    multipart_id = (await vault.open_multipart(key)).multipart_id
    await vault.put_part(key, multipart_id, 1, Bytes(b"stale"))

    fresh = await vault.put_part(key, multipart_id, 1, Bytes(b"fresh"))

    stored = await vault.complete_multipart(key, multipart_id, [fresh])
    assert await read_all(vault.read(key, stored.version)) == b"fresh"


async def test_overwritten_part_never_joins_as_other_bytes(vault: Vault, prefix: str) -> None:
    """S3 refuses the old tag; SeaweedFS still holds the old bytes and joins those."""
    key = f"{prefix}clip"
    multipart_id = (await vault.open_multipart(key)).multipart_id
    stale = await vault.put_part(key, multipart_id, 1, Bytes(b"stale"))
    await vault.put_part(key, multipart_id, 1, Bytes(b"fresh"))

    with suppress(StoredBytesLost):
        await vault.complete_multipart(key, multipart_id, [stale])

    facts = await vault.get_facts(key, None)
    assert facts is None or await read_all(vault.read(key, facts.version)) == b"stale"


async def test_parts_with_digests_complete(vault: Vault, prefix: str) -> None:
    key = f"{prefix}clip"
    multipart_id = (await vault.open_multipart(key, with_sha256=True)).multipart_id
    parts = [
        await vault.put_part(key, multipart_id, 1, with_digest(FIRST)),
        await vault.put_part(key, multipart_id, 2, with_digest(LAST)),
    ]

    stored = await vault.complete_multipart(key, multipart_id, parts)

    assert [part.sha256 for part in parts] == [
        hashlib.sha256(FIRST).digest(),
        hashlib.sha256(LAST).digest(),
    ]
    facts = await vault.get_facts(key, stored.version)
    assert facts is not None
    assert facts.size_bytes == len(FIRST) + len(LAST)


async def test_part_that_differs_from_its_digest_is_refused(vault: Vault, prefix: str) -> None:
    multipart_id = (await vault.open_multipart(f"{prefix}clip", with_sha256=True)).multipart_id
    body = Bytes(FIRST, sha256=hashlib.sha256(LAST).digest())

    with pytest.raises(ChunkCorrupted):
        await vault.put_part(f"{prefix}clip", multipart_id, 1, body)


async def test_part_of_an_unknown_upload_is_lost(vault: Vault, prefix: str) -> None:
    multipart_id = (await vault.open_multipart(f"{prefix}clip")).multipart_id
    await vault.abort_multipart(f"{prefix}clip", multipart_id)

    with pytest.raises(StoredBytesLost):
        await vault.put_part(f"{prefix}clip", multipart_id, 1, Bytes(LAST))


async def test_completing_twice_gives_the_same_object(vault: Vault, prefix: str) -> None:
    multipart_id = (await vault.open_multipart(f"{prefix}clip")).multipart_id
    part = await vault.put_part(f"{prefix}clip", multipart_id, 1, Bytes(LAST))
    first = await vault.complete_multipart(f"{prefix}clip", multipart_id, [part])

    again = await vault.complete_multipart(f"{prefix}clip", multipart_id, [part])

    assert (again.etag, again.version) == (first.etag, first.version)


async def test_part_that_was_never_stored_cannot_be_joined(vault: Vault, prefix: str) -> None:
    multipart_id = (await vault.open_multipart(f"{prefix}clip")).multipart_id
    part = await vault.put_part(f"{prefix}clip", multipart_id, 1, Bytes(LAST))

    with pytest.raises(StoredBytesLost):
        await vault.complete_multipart(
            f"{prefix}clip", multipart_id, [part, StoredPart(2, "0" * 32)]
        )


async def test_only_the_last_part_may_be_small(vault: Vault, prefix: str) -> None:
    multipart_id = (await vault.open_multipart(f"{prefix}clip")).multipart_id
    parts = [
        await vault.put_part(f"{prefix}clip", multipart_id, number, Bytes(LAST))
        for number in (1, 2)
    ]

    with pytest.raises(StoredBytesLost):
        await vault.complete_multipart(f"{prefix}clip", multipart_id, parts)


async def test_aborted_upload_cannot_be_completed(vault: Vault, prefix: str) -> None:
    multipart_id = (await vault.open_multipart(f"{prefix}clip")).multipart_id
    part = await vault.put_part(f"{prefix}clip", multipart_id, 1, Bytes(LAST))
    await vault.abort_multipart(f"{prefix}clip", multipart_id)

    with pytest.raises(StoredBytesLost):
        await vault.complete_multipart(f"{prefix}clip", multipart_id, [part])


async def test_aborting_twice_is_fine(vault: Vault, prefix: str) -> None:
    multipart_id = (await vault.open_multipart(f"{prefix}clip")).multipart_id
    await vault.abort_multipart(f"{prefix}clip", multipart_id)

    await vault.abort_multipart(f"{prefix}clip", multipart_id)


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (5, 9), (65_530, 65_540), (199_999, 200_000), (7, None), (3, 3)]
)
async def test_range_yields_exactly_its_bytes(
    vault: Vault, prefix: str, start: int, stop: int | None
) -> None:
    data = bytes(index % 251 for index in range(200_000))
    stored = await vault.put_object(f"{prefix}clip", Bytes(data))

    read = await read_all(vault.read(f"{prefix}clip", stored.version, start, stop))

    assert read == data[start:stop]


@pytest.mark.parametrize(("start", "stop"), [(0, 11), (10, 20), (20, 30), (11, None)])
async def test_range_beyond_the_end_is_a_loss(
    vault: Vault, prefix: str, start: int, stop: int | None
) -> None:
    stored = await vault.put_object(f"{prefix}clip", Bytes(b"ten bytes."))

    with pytest.raises(StoredBytesLost):
        await read_all(vault.read(f"{prefix}clip", stored.version, start, stop))


async def test_reading_an_absent_object_is_a_loss(vault: Vault, prefix: str) -> None:
    with pytest.raises(StoredBytesLost):
        await read_all(vault.read(f"{prefix}absent", None))


async def test_reading_an_absent_version_is_a_loss(vault: Vault, prefix: str) -> None:
    first = await vault.put_object(f"{prefix}clip", Bytes(b"first"))
    await vault.put_object(f"{prefix}clip", Bytes(b"second"))
    await vault.delete(f"{prefix}clip", first.version)

    with pytest.raises(StoredBytesLost):
        await read_all(vault.read(f"{prefix}clip", first.version))


async def test_a_read_may_be_left_in_the_middle(vault: Vault, prefix: str) -> None:
    data = b"z" * (4 * MIB)
    await vault.put_object(f"{prefix}clip", Bytes(data))

    async with aclosing(vault.read(f"{prefix}clip", None)) as blocks:  # type: ignore[type-var]
        await anext(blocks)

    assert await read_all(vault.read(f"{prefix}clip", None)) == data


async def test_absent_object_has_no_facts(vault: Vault, prefix: str) -> None:
    assert await vault.get_facts(f"{prefix}absent", None) is None


async def test_deleted_version_is_gone_and_others_stay(vault: Vault, prefix: str) -> None:
    first = await vault.put_object(f"{prefix}clip", Bytes(b"first"))
    second = await vault.put_object(f"{prefix}clip", Bytes(b"second"))

    await vault.delete(f"{prefix}clip", second.version)

    assert await vault.get_facts(f"{prefix}clip", second.version) is None
    assert await read_all(vault.read(f"{prefix}clip", first.version)) == b"first"


async def test_deleting_what_is_not_there_is_fine(vault: Vault, prefix: str) -> None:
    stored = await vault.put_object(f"{prefix}clip", Bytes(b"first"))
    await vault.delete(f"{prefix}clip", stored.version)

    await vault.delete(f"{prefix}clip", stored.version)
    await vault.delete(f"{prefix}absent", None)


async def test_object_deleted_without_version_is_absent(vault: Vault, prefix: str) -> None:
    await vault.put_object(f"{prefix}clip", Bytes(b"first"))

    await vault.delete(f"{prefix}clip", None)

    assert await vault.get_facts(f"{prefix}clip", None) is None


async def test_sweep_removes_versions_markers_and_uploads_under_its_prefix(
    vault: Vault, prefix: str
) -> None:
    first = await vault.put_object(f"{prefix}clip/tail-1", Bytes(b"first"))
    await vault.put_object(f"{prefix}clip/tail-1", Bytes(b"second"))
    await vault.delete(f"{prefix}clip/tail-1", None)
    multipart_id = (await vault.open_multipart(f"{prefix}clip/content")).multipart_id
    await vault.put_object(f"{prefix}other", Bytes(b"stays"))

    removed_count = await vault.sweep(f"{prefix}clip/", keep_key=None)

    assert removed_count == 4
    assert await vault.get_facts(f"{prefix}clip/tail-1", first.version) is None
    assert await vault.get_facts(f"{prefix}other", None) is not None
    with pytest.raises(StoredBytesLost):
        await vault.put_part(f"{prefix}clip/content", multipart_id, 1, Bytes(LAST))


async def test_sweep_spares_the_key_that_is_kept(vault: Vault, prefix: str) -> None:
    kept = await vault.put_object(f"{prefix}clip/content", Bytes(b"evidence"))
    multipart_id = (await vault.open_multipart(f"{prefix}clip/content")).multipart_id
    await vault.put_object(f"{prefix}clip/tail-1", Bytes(b"tail"))

    removed_count = await vault.sweep(
        f"{prefix}clip/", keep_key=f"{prefix}clip/content", keep_multipart_id=multipart_id
    )

    assert removed_count == 1
    assert await read_all(vault.read(f"{prefix}clip/content", kept.version)) == b"evidence"
    await vault.put_part(f"{prefix}clip/content", multipart_id, 1, Bytes(LAST))


async def test_sweep_removes_multipart_uploads_that_never_became_the_kept_object(
    vault: Vault, prefix: str
) -> None:
    kept = await vault.put_object(f"{prefix}content", Bytes(b"evidence"))
    forgotten = (await vault.open_multipart(f"{prefix}content")).multipart_id

    removed_count = await vault.sweep(prefix, keep_key=f"{prefix}content")

    assert removed_count == 1
    assert await read_all(vault.read(f"{prefix}content", kept.version)) == b"evidence"
    with pytest.raises(StoredBytesLost):
        await vault.put_part(f"{prefix}content", forgotten, 1, Bytes(LAST))


async def test_sweep_removes_other_versions_of_the_kept_key(vault: Vault, prefix: str) -> None:
    older = await vault.put_object(f"{prefix}content", Bytes(b"older"))
    kept = await vault.put_object(f"{prefix}content", Bytes(b"evidence"))
    newer = await vault.put_object(f"{prefix}content", Bytes(b"newer"))

    removed_count = await vault.sweep(
        prefix, keep_key=f"{prefix}content", keep_version=kept.version
    )

    assert removed_count == 2
    assert await read_all(vault.read(f"{prefix}content", kept.version)) == b"evidence"
    assert await vault.get_facts(f"{prefix}content", older.version) is None
    assert await vault.get_facts(f"{prefix}content", newer.version) is None


async def test_sweep_of_nothing_removes_nothing(vault: Vault, prefix: str) -> None:
    assert await vault.sweep(f"{prefix}nothing/", keep_key=None) == 0


async def test_check_returns_when_the_bucket_answers(vault: Vault) -> None:
    await vault.check()


async def test_a_key_that_is_taken_keeps_what_it_holds(vault: Vault, prefix: str) -> None:
    assert await vault.put_new(f"{prefix}once", b"first")

    assert not await vault.put_new(f"{prefix}once", b"second")
    assert await read_all(vault.read(f"{prefix}once", None)) == b"first"


async def test_keys_are_listed_in_byte_order_from_where_the_caller_was(
    vault: Vault, prefix: str
) -> None:
    for name in ("b", "a/2", "a/1", "c"):
        await vault.put_new(f"{prefix}{name}", b"x")
    gone = await vault.get_facts(f"{prefix}c", None)
    assert gone is not None
    await vault.delete(f"{prefix}c", gone.version)

    listed = [key async for key in vault.list_keys(prefix)]
    assert listed == [f"{prefix}a/1", f"{prefix}a/2", f"{prefix}b"]
    assert [key async for key in vault.list_keys(prefix, after=listed[1])] == listed[2:]


async def test_the_first_key_is_the_first_that_holds_something(vault: Vault, prefix: str) -> None:
    for name in ("a", "b", "c"):
        await vault.put_new(f"{prefix}{name}", b"x")
    # By a marker, as whoever may delete no version removes things.
    await vault.delete(f"{prefix}a", None)

    assert await vault.find_first_key(prefix) == f"{prefix}b"
    assert await vault.find_first_key(prefix, after=f"{prefix}b") == f"{prefix}c"
    assert await vault.find_first_key(prefix, after=f"{prefix}c") is None


async def test_what_was_removed_by_a_marker_may_be_put_anew(vault: Vault, prefix: str) -> None:
    await vault.put_new(f"{prefix}once", b"first")
    await vault.delete(f"{prefix}once", None)

    assert await vault.put_new(f"{prefix}once", b"first")
    assert await read_all(vault.read(f"{prefix}once", None)) == b"first"


async def test_the_bucket_tells_what_it_can_do(vault: Vault) -> None:
    found = await vault.find_abilities()

    assert (found.has_versions, found.has_object_lock) == (True, True)
    assert await vault.find_abilities() == found


async def test_a_retained_version_is_not_deleted_before_its_time(vault: Vault, prefix: str) -> None:
    stored = await vault.put_object(f"{prefix}clip", Bytes(b"kept"))
    until = datetime.now(UTC) + timedelta(seconds=4)
    await vault.retain(f"{prefix}clip", stored.version, until=until, mode="governance")

    with pytest.raises(ObjectLocked):
        await vault.delete(f"{prefix}clip", stored.version)
    assert await read_all(vault.read(f"{prefix}clip", stored.version)) == b"kept"

    await asyncio.sleep(5)
    await vault.delete(f"{prefix}clip", stored.version)
    assert await vault.get_facts(f"{prefix}clip", stored.version) is None


async def test_a_held_version_is_not_deleted_until_it_is_let_go(vault: Vault, prefix: str) -> None:
    stored = await vault.put_object(f"{prefix}clip", Bytes(b"kept"))
    await vault.set_legal_hold(f"{prefix}clip", stored.version, is_on=True)

    with pytest.raises(ObjectLocked):
        await vault.delete(f"{prefix}clip", stored.version)

    await vault.set_legal_hold(f"{prefix}clip", stored.version, is_on=False)
    await vault.delete(f"{prefix}clip", stored.version)
    assert await vault.get_facts(f"{prefix}clip", stored.version) is None


async def test_what_is_not_there_cannot_be_retained(vault: Vault, prefix: str) -> None:
    until = datetime.now(UTC) + timedelta(days=1)

    with pytest.raises((StoredBytesLost, VaultUnavailable)):
        await vault.retain(f"{prefix}absent", None, until=until, mode="governance")
