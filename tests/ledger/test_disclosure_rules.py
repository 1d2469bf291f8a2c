"""What the database refuses of disclosures, requests and derivatives, even from its owner."""

import asyncpg
import pytest

MADE = """
    INSERT INTO stations (station_id, site_id, borough) VALUES ('s', 's', 's');
    INSERT INTO clips (
        clip_id, upload_id, device_serial, recording_id, segment_no, announcement, station_id,
        site_id, borough, clock_state, announced_at)
    VALUES ('00000000-0000-7000-8000-000000000000', gen_random_uuid(), 'd', 'r', 0, '{}', 's', 's',
            's', 'synced', now());
    INSERT INTO holds (hold_id, clip_id, kind, authority, reason, placed_by, placed_at)
    VALUES ('00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000000', 'case',
            'C-1', 'r', 'p', now());
    INSERT INTO disclosures (
        disclosure_id, token_sha256, recipient_kind, person, reference, salt, purpose, legal_basis,
        allows, terms, boroughs, clip_count, made_by, made_at, expires_at)
    VALUES ('00000000-0000-7000-8000-000000000002', sha256(''), 'cps', 'Ada', 'r', sha256(''), 'p',
            'b', '{pack}', 't', '{s}', 1, 'p', now(), now() + interval '1 day');
    INSERT INTO disclosure_acceptances (disclosure_id, accepted_at, name)
    VALUES ('00000000-0000-7000-8000-000000000002', now(), 'Ada');
    INSERT INTO disclosure_accesses (disclosure_id, what, accessed_at)
    VALUES ('00000000-0000-7000-8000-000000000002', 'page', now());
    INSERT INTO access_requests (
        request_id, reference, subject, salt, received_at, due_on, made_by, made_at)
    VALUES ('00000000-0000-7000-8000-000000000003', 'SAR-1', 'x', sha256(''), now(), now(), 'p',
            now());
    INSERT INTO access_request_clips (request_id, clip_id, hold_id, linked_by, linked_at)
    VALUES ('00000000-0000-7000-8000-000000000003', '00000000-0000-7000-8000-000000000000',
            '00000000-0000-7000-8000-000000000001', 'p', now());
    INSERT INTO derivatives (
        derivative_id, master_clip_id, master_sha256, sha256, size_bytes, kind, tool, parameters,
        made_by, registered_by, registered_at)
    VALUES ('00000000-0000-7000-8000-000000000004', '00000000-0000-7000-8000-000000000000',
            sha256('a'), sha256('b'), 1, 'redaction', 't', '{}', 'p', 'p', now());
"""
EXTEND = """
    UPDATE access_requests
       SET due_on = due_on + 30, extension_months = 1, extension_reason = 'r', extended_by = 'p',
           extended_at = now()
"""
FULFIL = """
    UPDATE access_requests
       SET outcome = 'refused', fulfilled_by = 'p', fulfilled_at = now()
"""


@pytest.fixture
async def made(owner_connection):
    await owner_connection.execute(MADE)
    return owner_connection


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE disclosures SET terms = 'others'",
        "DELETE FROM disclosures",
        "UPDATE disclosure_acceptances SET name = 'Eve'",
        "DELETE FROM disclosure_acceptances",
        "UPDATE disclosure_accesses SET what = 'pack'",
        "DELETE FROM disclosure_accesses",
        "UPDATE access_requests SET received_at = received_at + interval '1 day'",
        "UPDATE access_requests SET due_on = due_on + 1",
        "DELETE FROM access_requests",
        "UPDATE access_request_clips SET linked_by = 'q'",
        "DELETE FROM access_request_clips",
        "UPDATE derivatives SET tool = 'another'",
        "DELETE FROM derivatives",
        "TRUNCATE derivatives",
    ],
)
async def test_even_the_owner_is_refused(made, change):
    with pytest.raises(asyncpg.RestrictViolationError):
        await made.execute(change)


@pytest.mark.parametrize("second", [EXTEND, FULFIL + ", due_on = due_on + 1"])
async def test_a_request_is_extended_once(made, second):
    await made.execute(EXTEND)

    with pytest.raises(asyncpg.RestrictViolationError):
        await made.execute(second)


@pytest.mark.parametrize("second", [EXTEND, FULFIL])
async def test_nothing_changes_of_a_fulfilled_request(made, second):
    await made.execute(EXTEND)
    await made.execute(FULFIL)

    with pytest.raises(asyncpg.RestrictViolationError):
        await made.execute(second)


@pytest.mark.parametrize(
    "nonsense",
    [
        "UPDATE disclosures SET revoked_at = now()",
        "UPDATE access_requests SET extension_months = 3",
        FULFIL.replace("refused", "disclosed"),
        "UPDATE access_requests SET outcome = 'refused'",
    ],
)
async def test_no_half_of_a_record_is_written(made, nonsense):
    with pytest.raises(asyncpg.CheckViolationError):
        await made.execute(nonsense)
