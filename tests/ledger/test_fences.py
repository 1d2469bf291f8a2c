"""The fences inside the statements: of two writers one matches a row, whatever the code above."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from ingest_service.domain.upload import Part, Tail
from ingest_service.ledger import uploads

CLIP_ID = UUID("0199c0de-0000-7000-8000-000000000001")
UPLOAD_ID = UUID("0199c0de-0000-7000-8000-000000000002")
LATER = datetime.now(UTC) + timedelta(days=1)
HASH, OTHER_HASH = bytes(32), bytes([1] * 32)
PART = Part(1, 5, 32, None, "etag")


@pytest.fixture
async def connection(service_connection):
    """An upload of 100 bytes in parts of 32; 32 bytes are in, process-1 holds epoch 7."""
    await service_connection.execute(
        """
        INSERT INTO stations (station_id, site_id, borough)
        VALUES ('dock-1', 's', 'Croydon'), ('dock-2', 's', 'Croydon')
        """
    )
    await service_connection.execute(
        """
        INSERT INTO clips (
            clip_id, upload_id, device_serial, recording_id, segment_no, announcement, size_bytes,
            station_id, site_id, borough, clock_state, announced_at)
        VALUES ($1, $2, 'BWC-1', 'r-1', 0, '{}', 100, 'dock-1', 's', 'Croydon', 'synced', now())
        """,
        CLIP_ID,
        UPLOAD_ID,
    )
    await service_connection.execute(
        """
        INSERT INTO uploads (
            upload_id, clip_id, station_id, surface, length_bytes, part_bytes, offset_bytes,
            hashed_bytes, epoch, leased_by, opened_at, expires_at)
        VALUES ($1, $2, 'dock-1', 'tus', 100, 32, 32, 32, 7, 'process-1', now(), $3)
        """,
        UPLOAD_ID,
        CLIP_ID,
        LATER,
    )
    return service_connection


async def change(connection, **columns):
    """Change the upload's columns; names come from this file."""
    changes = ", ".join(f"{name} = ${number}" for number, name in enumerate(columns, 1))
    await connection.execute(f"UPDATE uploads SET {changes}", *columns.values())  # noqa: S608


async def get_upload(connection):
    upload = await uploads.find_upload(connection, UPLOAD_ID)
    assert upload is not None
    return upload


# --- appending ----------------------------------------------------------------------------


async def advance(connection, upload, *, offset=32, **options):
    return await uploads.advance_offset(
        connection,
        upload,
        offset_bytes=offset,
        new_offset_bytes=64,
        sha256_state=b"state",
        expires_at=LATER,
        release=True,
        part=PART,
        **options,
    )


async def test_the_holder_moves_the_offset(connection):
    assert await advance(connection, await get_upload(connection)) == "open"

    after = await get_upload(connection)
    assert (after.offset_bytes, after.hashed_bytes, after.leased_by) == (64, 64, None)
    assert [part.part_index for part in await uploads.list_parts(connection, UPLOAD_ID)] == [1]


@pytest.mark.parametrize(
    "changed",
    [
        {"epoch": 8},
        {"epoch": 6},
        {"offset_bytes": 31},
        {"offset_bytes": 64},
        {"state": "finishing"},
        {"state": "finished"},
        {"state": "expired"},
        {"state": "terminated"},
        {"state": "failed"},
        {"surface": "native"},
    ],
)
async def test_whoever_was_overtaken_moves_nothing(connection, changed):
    upload = await get_upload(connection)
    await change(connection, **changed)
    before = await get_upload(connection)

    assert await advance(connection, upload) is None
    assert await get_upload(connection) == before
    assert await uploads.list_parts(connection, UPLOAD_ID) == []


async def test_an_overtaken_writers_tail_is_not_recorded_and_joins_nothing(connection):
    upload = await get_upload(connection)
    await uploads.advance_offset(
        connection,
        upload,
        offset_bytes=32,
        new_offset_bytes=40,
        sha256_state=b"state",
        expires_at=LATER,
        release=True,
        tail=Tail(32, 8, "tails/1", None),
    )

    assert await advance(connection, upload) is None
    assert len(await uploads.list_tails(connection, UPLOAD_ID)) == 1


# --- the lease ----------------------------------------------------------------------------


async def take(connection):
    return await uploads.take_upload(connection, UPLOAD_ID, "dock-1", "process-2", joins=False)


async def test_an_idle_upload_is_leased_under_the_next_epoch(connection):
    await change(connection, leased_by=None)

    taken = await take(connection)

    assert (taken.epoch, taken.leased_by) == (8, "process-2")


@pytest.mark.parametrize(
    "changed",
    [
        {"leased_by": "process-1"},
        {"leased_by": None, "station_id": "dock-2"},
        {"leased_by": None, "state": "finishing"},
        {"leased_by": None, "state": "expired"},
        {"leased_by": None, "expires_at": datetime(2020, 1, 1, tzinfo=UTC)},
    ],
)
async def test_what_is_not_idle_open_and_ones_own_is_not_leased(connection, changed):
    await change(connection, **changed)

    assert await take(connection) is None
    assert (await get_upload(connection)).epoch == 7


async def test_a_lease_is_seized_once_per_epoch(connection):
    first = await uploads.seize_upload(connection, UPLOAD_ID, 7, "process-2")
    second = await uploads.seize_upload(connection, UPLOAD_ID, 7, "process-3")

    assert (first.epoch, second) == (8, None)
    assert (await get_upload(connection)).leased_by == "process-2"


async def test_an_ended_upload_is_not_seized(connection):
    await change(connection, state="terminated")

    assert await uploads.seize_upload(connection, UPLOAD_ID, 7, "process-2") is None


async def test_an_overtaken_holder_does_not_give_the_newer_ones_lease_back(connection):
    await uploads.seize_upload(connection, UPLOAD_ID, 7, "process-2")

    await uploads.release_upload(connection, UPLOAD_ID, 7, has_leftovers=False)

    assert (await get_upload(connection)).leased_by == "process-2"


# --- one multipart upload -----------------------------------------------------------------


async def test_the_first_multipart_upload_is_used_by_both(connection):
    used = [
        await uploads.set_multipart(connection, UPLOAD_ID, "clips/1", name, "tus")
        for name in ("first", "second")
    ]

    assert used == ["first", "first"]


@pytest.mark.parametrize("changed", [{"surface": "native"}, {"state": "expired"}])
async def test_no_multipart_upload_for_another_surface_or_an_ended_upload(connection, changed):
    await change(connection, **changed)

    assert await uploads.set_multipart(connection, UPLOAD_ID, "clips/1", "one", "tus") is None
    assert (await get_upload(connection)).multipart_id is None


# --- native chunks ------------------------------------------------------------------------


@pytest.fixture
async def native(connection):
    """The same upload, natively, with nothing in."""
    await change(connection, surface="undecided", offset_bytes=0, hashed_bytes=0, leased_by=None)
    return connection


async def claim(connection, *, index=0, length=32, sha256=HASH, station="dock-1"):
    claimed = await uploads.claim_chunk(connection, CLIP_ID, station, index, length, sha256)
    return None if claimed is None else (claimed[0].upload, claimed[1])


async def record(connection, upload, *, index=0, length=32, sha256=HASH, state=b"state"):
    return await uploads.record_chunk(
        connection,
        upload,
        Part(index, index * 4 + 2, length, sha256, f"etag-{sha256[0]}"),
        sha256_state=state,
        expires_at=LATER,
        has_leftovers=False,
    )


@pytest.mark.parametrize(("index", "length"), [(0, 32), (2, 32), (3, 4)])
async def test_a_chunk_that_fits_the_plan_is_claimed(native, index, length):
    upload, attempt = await claim(native, index=index, length=length)

    assert (upload.upload_id, attempt) == (UPLOAD_ID, 1)


@pytest.mark.parametrize(
    ("index", "length"),
    [(0, 31), (0, 33), (0, 100), (3, 3), (3, 5), (3, 32), (4, 32), (4, 0), (10**6, 32), (0, 0)],
)
async def test_a_chunk_that_does_not_fit_the_plan_is_not_claimed(native, index, length):
    assert await claim(native, index=index, length=length) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"surface": "tus"},
        {"state": "finishing"},
        {"state": "expired"},
        {"station_id": "dock-2"},
        {"expires_at": datetime(2020, 1, 1, tzinfo=UTC)},
    ],
)
async def test_an_upload_that_takes_no_chunk_gives_no_claim(native, changed):
    await change(native, **changed)

    assert await claim(native) is None


async def test_each_claim_has_a_number_of_its_own(native):
    attempts = [(await claim(native, sha256=sha256))[1] for sha256 in (HASH, OTHER_HASH, HASH)]

    assert attempts == [1, 2, 3]


async def test_a_stored_chunk_is_never_claimed_again(native):
    upload, _ = await claim(native)
    await record(native, upload)

    assert await claim(native) is None
    assert await claim(native, sha256=OTHER_HASH) is None
    assert await uploads.find_stored_digest(native, UPLOAD_ID, 0) == HASH


async def test_a_chunk_is_counted_once(native):
    upload, _ = await claim(native)
    await claim(native)

    assert await record(native, upload) == 32
    assert await record(native, upload) is None
    assert (await get_upload(native)).offset_bytes == 32


async def test_a_chunk_counts_under_the_last_claims_digest_alone(native):
    upload, _ = await claim(native)
    await claim(native, sha256=OTHER_HASH)

    assert await record(native, upload) is None
    assert await record(native, upload, sha256=OTHER_HASH) == 32


@pytest.mark.parametrize(
    "changed", [{"surface": "tus"}, {"state": "expired"}, {"state": "finishing"}]
)
async def test_a_chunk_that_comes_too_late_is_neither_counted_nor_marked(native, changed):
    upload, _ = await claim(native)
    await change(native, **changed)

    assert await record(native, upload) is None
    assert await uploads.list_parts(native, UPLOAD_ID) == []
    assert (await get_upload(native)).offset_bytes == 0


async def test_the_hash_moves_on_only_from_where_it_stood(native):
    upload, _ = await claim(native, index=1)
    await record(native, upload, index=1, state=b"of a gap")

    after = await get_upload(native)
    assert (after.offset_bytes, after.hashed_bytes, after.sha256_state) == (32, 0, None)


async def test_a_chunk_without_a_running_hash_leaves_the_hash_where_it_was(native):
    upload, _ = await claim(native)
    await record(native, upload, state=None)

    after = await get_upload(native)
    assert (after.offset_bytes, after.hashed_bytes) == (32, 0)


# --- closing and finishing ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "closes"),
    [
        ({"offset_bytes": 100}, True),
        ({"offset_bytes": 99}, False),
        ({"offset_bytes": 100, "state": "expired"}, False),
        ({"offset_bytes": 100, "surface": "tus"}, False),
    ],
)
async def test_only_a_complete_open_native_upload_is_closed(native, changed, closes):
    await change(native, **changed)

    assert (await close(native) is not None) is closes


async def close(native, *, station="dock-1"):
    return await uploads.close_upload(native, CLIP_ID, station, "native", claim_s=60)


async def test_another_stations_upload_is_not_closed(native):
    await change(native, offset_bytes=100)

    assert await close(native, station="dock-2") is None


async def test_whoever_closes_drives_the_finishing(native):
    await change(native, offset_bytes=100)
    await close(native)

    assert await uploads.claim_finish(native, UPLOAD_ID, claim_s=60) is None


async def test_finishing_is_claimed_by_one_driver_at_a_time(native):
    await change(native, offset_bytes=100)
    await close(native)
    await change(native, finish_after=datetime(2020, 1, 1, tzinfo=UTC))

    assert await uploads.claim_finish(native, UPLOAD_ID, claim_s=60) is not None
    assert await uploads.claim_finish(native, UPLOAD_ID, claim_s=60) is None


async def test_an_unknown_upload_matches_nothing(connection):
    upload = replace(await get_upload(connection), upload_id=uuid4())

    assert await advance(connection, upload) is None
