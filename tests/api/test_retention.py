"""Retention by HTTP: who decides, why a date, what will be erased, what was."""

from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from ingest_service.actions.compute_retention import compute_next
from ingest_service.domain.clock import utc_now
from ingest_service.domain.principal import CLIPS_READ, HOLDS_WRITE, OPERATE, RETENTION_WRITE
from ingest_service.domain.receipt import verify_certificate
from ingest_service.jobs.compute_retention import compute_retention
from ingest_service.jobs.enforce_retention import enforce_retention
from schemas.certificate import ErasureCertificate
from tests.api.served import assert_problem, serve_apart

DATA = b"footage" * 100
DAY = timedelta(days=1)
POLICY = {
    "policy_id": "crime",
    "rules": [{"category": "drugs", "days": 365}],
    "reason": "Decision 12/2026.",
}


@pytest.fixture(scope="module")
def served_process(postgres, ledger_template):
    with serve_apart(postgres, ledger_template, "ledger_retention") as service:
        yield service


def as_person(served, name: str, **claims):
    scopes = (RETENTION_WRITE, HOLDS_WRITE, OPERATE, CLIPS_READ)
    return served.client(served.token(*scopes, sub=name, kind="person", **claims))


@pytest.fixture
async def anna(served):
    async with as_person(served, "P-anna") as client:
        yield client


@pytest.fixture
async def ben(served):
    async with as_person(served, "P-ben") as client:
        yield client


@contextmanager
def later(served, days: float):
    """The service some days from now, when all that other tests left behind is due as well."""
    patient = replace(served.resources.retention, deviation_clips=1_000_000)
    with served.changed(now=lambda: utc_now() + days * DAY, retention=patient):
        yield


async def compute(served) -> None:
    opened = served.resources
    await served.publish_log()
    while await served.call(compute_next(pool=opened.pool, rules=opened.retention, now=opened.now)):
        pass


async def work(served) -> None:
    """Do what `ingest work` does, until nothing is left to do now."""
    await compute(served)
    while await served.call(compute_retention(served.resources)):
        pass
    while await served.call(enforce_retention(served.resources)):
        await served.publish_log()
    await served.publish_log()


@pytest.fixture
async def clip_id(served, dock):
    made = await dock.secure(DATA, evidential_state="non_evidential")
    await compute(served)
    return made


@pytest.fixture
async def announced(served, clip_id):
    """A clip whose erasure was announced."""
    with later(served, 32):
        await work(served)
    return clip_id


@pytest.fixture
async def erased(served, announced):
    with later(served, 40):
        await work(served)
    return announced


# --- policies -----------------------------------------------------------------------------


async def test_a_policy_is_made_by_one_and_approved_by_another(anna, ben):
    made = (await anna.post("/v1/retention/policies", json=POLICY)).json()
    path = f"/v1/retention/policies/crime/versions/{made['version']}/approve"

    refused = await anna.post(path)
    approved = await ben.post(path)

    listed = (await ben.get("/v1/retention/policies")).json()["policies"]
    assert (made["is_in_force"], made["made_by"]) == (False, "P-anna")
    assert_problem(refused, 403, "another-person-needed")
    assert approved.json()["approved_by"] == "P-ben"
    assert approved.json() in listed


async def test_the_policy_of_the_start_is_31_days(ben):
    listed = (await ben.get("/v1/retention/policies")).json()["policies"]

    [default] = [each for each in listed if (each["policy_id"], each["version"]) == ("default", 1)]
    assert {rule["evidential_state"]: rule["days"] for rule in default["rules"]} == {
        None: 31,
        "evidential": None,
        "policing_purpose": None,
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"policy_id": "Not Good"},
        {"rules": [{"category": "drugs"}]},
        {"rules": [{"days": 0}]},
        {"rules": [{"days": -1}]},
        {"rules": [{"days": 40_000}]},
        {"rules": [{"days": 5, "evidential_state": "perhaps"}]},
        {"effective_from": "yesterday"},
        {"approved_by": "P-ben"},
    ],
)
async def test_a_malformed_policy_changes_nothing(served, anna, changes):
    async with served.nothing_changes():
        response = await anna.post("/v1/retention/policies", json={**POLICY, **changes})
    assert_problem(response, 422, "invalid-request")


@pytest.mark.parametrize("version", ["99", "-1"])
async def test_a_version_that_was_never_made_is_not_approved(ben, version):
    path = f"/v1/retention/policies/crime/versions/{version}/approve"

    assert_problem(await ben.post(path), 404, "policy-not-found")


async def test_a_number_beyond_all_versions_is_no_fault_of_ours(ben):
    path = f"/v1/retention/policies/crime/versions/{2**70}/approve"

    assert (await ben.post(path)).status_code in {404, 422}


# --- why ----------------------------------------------------------------------------------


async def test_why_shows_every_input_what_won_and_what_lost(anna, clip_id):
    why = (await anna.get(f"/v1/clips/{clip_id}/retention")).json()
    clip = (await anna.get(f"/v1/clips/{clip_id}")).json()

    assert why["erase_due_at"] == clip["erase_due_at"]
    assert why["won"]["name"] == "floor/secured"
    assert [each["name"] for each in why["lost"]] == ["default/1"]
    assert why["inputs"]["evidential_state"] == "non_evidential"
    assert (why["basis"], why["basis_reason"]) == ("received", "the clock was not_set")
    assert (why["is_held"], why["holds"], why["erasure"]) == (False, [], None)


async def test_why_of_a_clip_that_is_coming_in(anna, dock):
    plan = await dock.announce()

    why = (await anna.get(f"/v1/clips/{plan['clip_id']}/retention")).json()
    assert (why["erase_due_at"], why["reason"]) == (None, "counted once the clip is secured")


# --- erasure ------------------------------------------------------------------------------


async def test_an_announced_erasure_is_shown_and_taken_back(served, anna, announced):
    why = (await anna.get(f"/v1/clips/{announced}/retention")).json()

    with later(served, 33):
        restored = await anna.post(f"/v1/clips/{announced}/restore", json={"authority": "REQ-1"})
    shown = (await anna.get(f"/v1/clips/{announced}")).json()

    assert (why["state"], why["erasure"]["phase"]) == ("erase_pending", "notice")
    assert restored.status_code == 200
    assert restored.json()["won"]["name"] == "floor/restored"
    assert shown["state"] == "secured"


async def test_what_is_not_about_to_be_erased_is_not_taken_back(anna, clip_id):
    response = await anna.post(f"/v1/clips/{clip_id}/restore", json={"authority": "REQ-1"})

    assert_problem(response, 409, "nothing-to-restore")


async def test_an_erased_clip_keeps_its_record_and_has_no_content(served, anna, erased, reader):
    shown = (await anna.get(f"/v1/clips/{erased}")).json()

    content = await reader.get(f"/v1/clips/{erased}/content")
    held = await anna.post(
        f"/v1/clips/{erased}/holds", json={"kind": "case", "authority": "C-1", "reason": "late"}
    )
    restored = await anna.post(f"/v1/clips/{erased}/restore", json={"authority": "REQ-1"})

    assert (shown["state"], shown["size_bytes"]) == ("erased", len(DATA))
    assert_problem(content, 410, "content-gone")
    assert_problem(held, 409, "erasure-begun")
    assert_problem(restored, 409, "erasure-begun")


async def test_content_that_goes_while_it_is_asked_for_is_gone_and_no_loss(
    served, announced, reader
):
    [row] = await served.sql("SELECT object_key FROM clips WHERE clip_id = $1", UUID(announced))
    await served.sql("UPDATE erasures SET phase = 'intended' WHERE clip_id = $1", UUID(announced))
    served.vault._versions[row["object_key"]].clear()

    response = await reader.get(f"/v1/clips/{announced}/content")

    assert_problem(response, 410, "content-gone")


async def test_the_certificate_verifies_under_the_logs_key(served, anna, erased, stranger):
    response = await anna.get(f"/v1/clips/{erased}/certificate")

    key = (await stranger.get("/log/key")).text.strip()
    facts = verify_certificate(ErasureCertificate(**response.json()), key)
    assert (response.status_code, str(facts.clip_id)) == (200, erased)


async def test_there_is_no_certificate_of_what_is_there(anna, clip_id):
    response = await anna.get(f"/v1/clips/{clip_id}/certificate")

    assert_problem(response, 404, "certificate-not-found")


async def test_the_camera_of_an_erased_clip_still_gets_its_receipt(dock, erased):
    response = await dock.http.get(f"/v1/clips/{erased}/receipt")

    assert response.status_code == 200


# --- all clips ----------------------------------------------------------------------------


async def test_the_forecast_says_what_will_be_erased_where(served, make_dock, anna):
    dock = await make_dock(borough="Havering")
    await dock.secure(DATA, evidential_state="non_evidential", category="traffic")
    await compute(served)

    told = (
        await anna.get(
            "/v1/retention/forecast", params={"until": (utc_now() + 40 * DAY).isoformat()}
        )
    ).json()

    mine = [line for line in told["lines"] if line["borough"] == "Havering"]
    assert [(line["category"], line["clip_count"]) for line in mine] == [("traffic", 1)]
    assert told["clip_count"] == sum(line["clip_count"] for line in told["lines"])


@pytest.mark.parametrize("until", ["soon", "2026-01-01"])
async def test_a_malformed_forecast_is_refused(anna, until):
    response = await anna.get("/v1/retention/forecast", params={"until": until})

    assert_problem(response, 422, "invalid-request")


async def test_a_halt_is_shown_degrades_readiness_and_is_released_by_two(
    served, dock, anna, ben, stranger
):
    made = await dock.secure(DATA, evidential_state="non_evidential")
    await compute(served)
    strict = served.resources.retention.__class__(clips_per_day_max=0)
    now = served.resources.now
    with served.changed(retention=strict, now=lambda: now() + 32 * DAY):
        await work(served)
        [halt] = [
            each
            for each in (await anna.get("/v1/retention/halts")).json()["halts"]
            if not each["is_released"]
        ]
        ready = (await stranger.get("/readyz")).json()
        path = f"/v1/retention/halts/{halt['halt_id']}/release"
        first = await anna.post(path, json={"authority": "OPS-1"})
        again = await anna.post(path, json={"authority": "OPS-1"})
        second = await ben.post(path, json={"authority": "OPS-1"})

    assert (await anna.get(f"/v1/clips/{made}")).json()["state"] == "secured"
    assert "nothing is erased until two people" in ready["checks"]["erasing"]["detail"]
    assert first.json()["is_released"] is False
    assert_problem(again, 403, "another-person-needed")
    assert (second.json()["is_released"], second.json()["released_by"]) == (True, "P-ben")


async def test_a_halt_that_never_was_is_unknown(anna):
    path = "/v1/retention/halts/0199c0de-5f0a-7b7c-8d1e-2f3a4b5c6d7e/release"

    assert_problem(await anna.post(path, json={"authority": "OPS-1"}), 404, "halt-not-found")
