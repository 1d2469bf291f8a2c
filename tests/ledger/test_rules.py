"""What the database itself refuses, whatever the code above it does."""

from datetime import UTC, datetime

import asyncpg
import pytest

CLIP_ID = "0199c0de-0000-7000-8000-000000000001"
UPLOAD_ID = "0199c0de-0000-7000-8000-000000000002"
NOW = datetime(2026, 11, 22, tzinfo=UTC)
HASH, OTHER_HASH = bytes(32), bytes([1] * 32)


@pytest.fixture
async def ledger(service_connection):
    """A clip of 100 bytes, sealed; its upload has 40 bytes."""
    await service_connection.execute(
        "INSERT INTO stations (station_id, site_id, borough) VALUES ('dock-1', 's', 'Croydon')"
    )
    await service_connection.execute(
        """
        INSERT INTO clips (
            clip_id, upload_id, device_serial, recording_id, segment_no, announcement, size_bytes,
            station_id, site_id, borough, clock_state, announced_at, object_key)
        VALUES ($1, $2, 'BWC-1', 'r-1', 0, '{}', 100, 'dock-1', 's', 'Croydon', 'synced', now(),
                'clips/1')
        """,
        CLIP_ID,
        UPLOAD_ID,
    )
    await service_connection.execute(
        """
        INSERT INTO uploads (
            upload_id, clip_id, station_id, length_bytes, part_bytes, offset_bytes, opened_at,
            expires_at)
        VALUES ($1, $2, 'dock-1', 100, 32, 40, now(), now())
        """,
        UPLOAD_ID,
        CLIP_ID,
    )
    return service_connection


async def change_clip(ledger, **columns):
    """Change the clip's columns; names come from this file."""
    changes = ", ".join(f"{name} = ${number}" for number, name in enumerate(columns, 1))
    await ledger.execute(f"UPDATE clips SET {changes}", *columns.values())  # noqa: S608


async def change_upload(ledger, **columns):
    changes = ", ".join(f"{name} = ${number}" for number, name in enumerate(columns, 1))
    await ledger.execute(f"UPDATE uploads SET {changes}", *columns.values())  # noqa: S608


async def test_a_clip_with_equal_hashes_may_be_secured(ledger):
    await change_clip(ledger, state="secured", sha256=HASH, sha256_readback=HASH, secured_at=NOW)


@pytest.mark.parametrize(
    ("received", "read_back"),
    [(HASH, OTHER_HASH), (HASH, None), (None, HASH), (None, None)],
)
async def test_a_clip_is_not_secured_without_equal_hashes(ledger, received, read_back):
    with pytest.raises(asyncpg.CheckViolationError, match="clips_secured_was_read_back"):
        await change_clip(
            ledger, state="secured", sha256=received, sha256_readback=read_back, secured_at=NOW
        )


async def test_a_clip_is_not_secured_without_an_object(ledger):
    with pytest.raises(asyncpg.CheckViolationError, match="clips_secured_was_read_back"):
        await change_clip(
            ledger,
            state="secured",
            sha256=HASH,
            sha256_readback=HASH,
            secured_at=NOW,
            object_key=None,
        )


@pytest.mark.parametrize("column", ["object_key", "size_bytes"])
async def test_a_clip_is_not_sealed_without_its_object(ledger, column):
    with pytest.raises(asyncpg.CheckViolationError, match="clips_sealed_has_object"):
        await change_clip(ledger, state="sealed", **{column: None})


@pytest.mark.parametrize("column", ["sha256", "sha256_device", "sha256_readback"])
async def test_a_digest_has_32_bytes(ledger, column):
    with pytest.raises(asyncpg.CheckViolationError, match="clips_digests"):
        await change_clip(ledger, **{column: bytes(31)})


@pytest.mark.parametrize(
    ("column", "value", "constraint"),
    [
        ("state", "lost", "clips_state"),
        ("clock_state", "late", "clips_clock_state"),
        ("evidential_state", "maybe", "clips_evidential_state"),
        ("size_bytes", -1, "clips_size"),
    ],
)
async def test_a_clip_has_no_other_states(ledger, column, value, constraint):
    with pytest.raises(asyncpg.CheckViolationError, match=constraint):
        await change_clip(ledger, **{column: value})


@pytest.mark.parametrize("offset", [-1, 101])
@pytest.mark.parametrize("column", ["offset_bytes", "hashed_bytes"])
async def test_no_offset_lies_outside_the_clip(ledger, column, offset):
    with pytest.raises(asyncpg.CheckViolationError):
        await change_upload(ledger, **{column: offset})


@pytest.mark.parametrize(
    ("column", "value"), [("state", "lost"), ("surface", "ftp"), ("part_bytes", 0)]
)
async def test_an_upload_has_no_other_states(ledger, column, value):
    with pytest.raises(asyncpg.CheckViolationError):
        await change_upload(ledger, **{column: value})


async def test_one_identity_is_one_clip(ledger):
    with pytest.raises(asyncpg.UniqueViolationError, match="clips_identity_key"):
        await ledger.execute(
            """
            INSERT INTO clips (
                clip_id, upload_id, device_serial, recording_id, segment_no, announcement,
                station_id, site_id, borough, clock_state, announced_at)
            VALUES (gen_random_uuid(), $1, 'BWC-1', 'r-1', 0, '{}', 'dock-1', 's', 'Croydon',
                    'synced', now())
            """,
            UPLOAD_ID,
        )


@pytest.mark.parametrize("clip_seq", [0, None, -1])
async def test_a_chain_has_no_place_twice_none_without_number_and_none_below_zero(ledger, clip_seq):
    insert = """
        INSERT INTO custody_events (
            event_id, clip_id, clip_seq, type, recorded_at, actor_kind, actor_id, leaf, leaf_hash)
        VALUES (gen_random_uuid(), $1, $2, 'x', now(), 'station', 'dock-1', $3, sha256($4))
    """
    await ledger.execute(insert, CLIP_ID, 0, b"{}", b"\0{}")

    with pytest.raises((asyncpg.UniqueViolationError, asyncpg.CheckViolationError)):
        await ledger.execute(insert, CLIP_ID, clip_seq, b"{}", b"\0{}")


async def test_a_tail_holds_at_least_one_byte(ledger):
    with pytest.raises(asyncpg.CheckViolationError, match="tails_length"):
        await ledger.execute(
            "INSERT INTO tails (upload_id, offset_bytes, length_bytes, object_key)"
            " VALUES ($1, 0, 0, 'tails/1')",
            UPLOAD_ID,
        )
