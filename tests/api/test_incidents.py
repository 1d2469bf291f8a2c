"""Incidents of other systems, as a dock and those who watch see them; see docs/incidents.md."""

import secrets

import pytest

from ingest_service.errors import VaultFull, VaultUnavailable
from tests.api.test_completeness import count


@pytest.mark.parametrize(
    ("error", "status", "problem"),
    [
        (VaultFull(), 507, "urn:ingest:problem:vault-full"),
        (VaultUnavailable("busy"), 503, "urn:ingest:problem:vault-unavailable"),
    ],
)
async def test_a_server_that_filled_up_is_told_apart_and_cameras_still_hold_all(
    served, dock, reader, error, status, problem
):
    """An incident elsewhere: the server filled up, cameras filled up, cameras stopped recording."""
    serial = f"BWC-{secrets.token_hex(6)}"
    plan = await dock.announce(100, device_serial=serial)
    served.vault.fail_next("put_object", "lost", error=error)

    response = await dock.send(plan["clip_id"], 0, b"f" * 100)

    await count(served)
    asked = await reader.get("/v1/at-risk", params={"station": dock.station.station_id})
    assert (response.status_code, response.json()["type"]) == (status, problem)
    assert int(response.headers["retry-after"]) >= 1
    assert asked.json()["unsecured_bytes"] == 100
