"""/v1/audit: whole trails in three forms, the data-protection log, and the security log."""

import asyncio
import base64
import csv
import hashlib
import io
import json
import secrets
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from urllib.parse import quote

import asyncpg
import httpx
import pytest
from pydantic import ValidationError

from ingest_service.actions.audit_trail import make_span
from ingest_service.actions.record_denials import SecurityLog
from ingest_service.domain.event_types import VERBS
from ingest_service.domain.ids import make_id
from ingest_service.domain.principal import ROLE_SCOPES
from ingest_service.domain.purpose import PurposePolicy
from ingest_service.errors import LedgerUnavailable
from ingest_service.ledger import trails
from ingest_service.ledger.connection import reading
from ingest_service.settings import Settings
from tests.api.served import assert_problem

AUDITS = [
    "/v1/audit/people/somebody",
    "/v1/audit/devices/BWC-1",
    "/v1/audit/data-protection",
    "/v1/audit/security",
]


@pytest.fixture
async def auditor(served):
    async with served.client(served.token("audit:read", "clips:read", sub="aud-1")) as client:
        yield client


@pytest.fixture
def person():
    return f"person-{secrets.token_hex(6)}"


async def watch(served, person, clip_id, **query):
    """Somebody looks at footage."""
    token = served.token("content:read", sub=person, kind="person")
    async with served.client(token) as client:
        response = await client.get(f"/v1/clips/{clip_id}/content", params=query)
        assert response.status_code == 200, response.text


async def ask(auditor, path, **query):
    response = await auditor.get(path, params=query)
    assert response.status_code == 200, response.text
    return response.json()


def types_of(answer):
    return [event["type"] for event in answer["events"]]


# --- trails --------------------------------------------------------------------------------


async def test_everything_that_happened_to_a_clip(served, dock, auditor, reader):
    clip_id = await dock.secure(b"x")

    answer = await ask(auditor, f"/v1/audit/clips/{clip_id}")
    trail = (await reader.get(f"/v1/clips/{clip_id}/events")).json()["events"]
    assert [event["event_id"] for event in answer["events"]] == [
        event["event_id"] for event in trail
    ]
    assert answer["event_count"] == len(trail)
    assert answer["events"][0]["log_index"] is not None
    assert answer["events"][0]["verb"] == "collection"
    # The looking is in it.
    assert answer["events"][-1]["type"] == "audit.viewed"
    assert answer["events"][-1]["actor"]["id"] == "aud-1"


async def test_everything_that_somebody_did(served, dock, auditor, person):
    clips = [await dock.secure(b"x") for _ in range(2)]
    for clip_id in clips:
        await watch(served, person, clip_id, purpose="case 7")
    await watch(served, f"{person}-other", clips[0])

    answer = await ask(auditor, f"/v1/audit/people/{person}")
    assert types_of(answer) == ["footage.downloaded"] * 2
    assert [event["clip_id"] for event in answer["events"]] == clips
    assert {event["purpose"] for event in answer["events"]} == {"case 7"}


async def test_everything_that_happened_to_a_device(served, dock, auditor):
    serial = f"BWC-{secrets.token_hex(6)}"
    await dock.http.post(f"/v1/devices/{serial}/manifest", json={})
    await dock.bring_in(b"x", device_serial=serial)

    answer = await ask(auditor, f"/v1/audit/devices/{serial}")
    assert set(types_of(answer)) >= {"device.docked", "clip.announced", "clip.sealed"}
    assert types_of(answer)[-1] == "audit.viewed"
    assert {event["device_serial"] for event in answer["events"]} == {serial}


async def test_a_name_may_hold_a_slash(served, dock, auditor):
    person = f"https://idp.test/users/{secrets.token_hex(6)}"
    await watch(served, person, await dock.secure(b"x"))

    answer = await ask(auditor, f"/v1/audit/people/{quote(person, safe='')}")
    assert types_of(answer) == ["footage.downloaded"]


async def test_a_period_is_exact(served, dock, auditor, person):
    clip_id = await dock.secure(b"x")
    for _ in range(3):
        await watch(served, person, clip_id)
    path = f"/v1/audit/people/{person}"
    times = [event["recorded_at"] for event in (await ask(auditor, path))["events"]]

    middle = await ask(auditor, path, **{"from": times[1], "to": times[2]})
    assert [event["recorded_at"] for event in middle["events"]] == [times[1]]


async def test_a_long_answer_comes_whole(served, dock, auditor, person, monkeypatch):
    monkeypatch.setattr("ingest_service.actions.audit_trail.PAGE", 3)
    clip_id = await dock.secure(b"x")
    for _ in range(7):
        await watch(served, person, clip_id)
    before = datetime.now(UTC) - timedelta(minutes=5)

    by_person = await ask(auditor, f"/v1/audit/people/{person}")
    by_period = await ask(
        auditor, "/v1/audit/data-protection", actor=person, **{"from": before.isoformat()}
    )
    by_clip = await ask(auditor, f"/v1/audit/clips/{clip_id}")
    assert by_person["event_count"] == len(by_person["events"]) == 7
    assert by_period["events"] == by_person["events"]
    assert types_of(by_clip).count("footage.downloaded") == 7
    assert by_clip["event_count"] == len(by_clip["events"])


# --- the data-protection log ---------------------------------------------------------------


async def test_the_data_protection_log_by_verb_person_and_period(served, dock, auditor, person):
    clip_id = await dock.secure(b"x")
    await watch(served, person, clip_id, purpose="case 7")

    seen = await ask(auditor, "/v1/audit/data-protection", verb="consultation", actor=person)
    none = await ask(auditor, "/v1/audit/data-protection", verb="erasure", actor=person)
    past = await ask(
        auditor,
        "/v1/audit/data-protection",
        actor=person,
        **{"from": "2020-01-01T00:00:00Z", "to": "2020-01-02T00:00:00Z"},
    )
    (event,) = seen["events"]
    assert (event["type"], event["verb"]) == ("footage.downloaded", "consultation")
    assert event["purpose"] == "case 7"
    assert none["events"] == past["events"] == []
    assert seen["asked"]["verbs"] == ["consultation"]


async def test_all_six_verbs_are_told_if_none_is_asked_for(served, dock, auditor):
    await dock.bring_in(b"x")

    answer = await ask(auditor, "/v1/audit/data-protection")
    assert answer["asked"]["verbs"] == sorted(VERBS)
    assert {event["verb"] for event in answer["events"]} <= set(VERBS)
    assert answer["events"]


@pytest.mark.parametrize(
    "query",
    [
        {"verb": "looking"},
        {"verb": ["erasure"] * 7},
        {"actor": ""},
        {"actor": "a\x00"},
        {"from": "yesterday"},
        {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"},
        {"from": "2020-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"},
        {"from": "0001-01-01T00:00:00Z"},
        {"format": "pdf"},
        {"colour": "red"},
        {"purpose": "a\nb"},
        {"justification": "x" * 501},
    ],
    ids=repr,
)
async def test_a_query_that_cannot_be_read_is_refused(served, auditor, query):
    async with served.nothing_changes():
        response = await auditor.get("/v1/audit/data-protection", params=query)

    assert_problem(response, 422, "invalid-request")


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2026, 11, 22, 12, 0, 0, 999_999, tzinfo=UTC),
        datetime(2026, 11, 22, 12, 0, 0, 1_000, tzinfo=UTC),
        datetime(9999, 12, 31, tzinfo=UTC),
    ],
    ids=str,
)
def test_the_ids_of_a_period_hold_every_event_of_it(moment):
    span = make_span(moment, moment + timedelta(microseconds=1))

    assert span.after < make_id(moment) < span.before


# --- three forms ---------------------------------------------------------------------------


class Table(HTMLParser):
    def __init__(self):
        super().__init__()
        self.cells, self.tags = [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "td":
            self.cells.append("")

    def handle_data(self, data):
        if self.cells:
            self.cells[-1] += data


EVIL = "<script>alert('x')</script>&\"'"


@pytest.mark.parametrize("how", ["accept", "format"])
async def test_a_trail_in_html_is_text_and_nothing_else(served, dock, auditor, person, how):
    clip_id = await dock.secure(b"x")
    await watch(served, person, clip_id, purpose=EVIL)
    path = f"/v1/audit/people/{person}"

    response = (
        await auditor.get(path, headers={"Accept": "text/html"})
        if how == "accept"
        else await auditor.get(path, params={"format": "html"})
    )
    table = Table()
    table.feed(response.text)
    policy = response.headers["content-security-policy"]
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "script" not in table.tags
    assert EVIL in table.cells
    assert "@media print" in response.text
    assert response.text.endswith("<p>1 events, end of the answer.</p></body></html>\n")


async def test_the_style_of_the_html_is_the_one_that_its_policy_allows(auditor, person):
    response = await auditor.get(f"/v1/audit/people/{person}", params={"format": "html"})
    style = response.text.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in response.headers["content-security-policy"]


async def test_a_trail_in_csv_is_no_formula(served, dock, auditor, person):
    clip_id = await dock.secure(b"x")
    await watch(served, person, clip_id, purpose='=HYPERLINK("http://evil"),"1"')

    response = await auditor.get(f"/v1/audit/people/{person}", headers={"Accept": "text/csv"})
    head, row, last = list(csv.reader(io.StringIO(response.text)))
    cells = dict(zip(head, row, strict=True))
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert cells["type"] == "footage.downloaded"
    assert cells["purpose"] == '\'=HYPERLINK("http://evil"),"1"'
    assert json.loads(cells["facts"])["start"] == 0
    assert last == ["# 1 events"]


async def test_json_is_for_who_does_not_say(auditor, person):
    for accept in ("*/*", "application/xml", "text/html;q=0.1, application/json"):
        response = await auditor.get(f"/v1/audit/people/{person}", headers={"Accept": accept})
        assert response.headers["content-type"] == "application/json"


async def test_an_answer_that_breaks_off_is_not_closed(served, dock, person, monkeypatch):
    """The ledger goes away between two pages: the connection is cut."""
    monkeypatch.setattr("ingest_service.actions.audit_trail.PAGE", 1)
    clip_id = await dock.secure(b"x")
    for _ in range(3):
        await watch(served, person, clip_id)
    real, calls = trails.list_actor_trail, []

    async def failing(*args, **options):
        calls.append(1)
        if len(calls) > 2:
            raise LedgerUnavailable
        return await real(*args, **options)

    monkeypatch.setattr("ingest_service.ledger.trails.list_actor_trail", failing)
    async with served.client(served.token("audit:read")) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(f"/v1/audit/people/{person}")


# --- who looks -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", AUDITS)
async def test_looking_is_an_event_with_its_reasons(served, auditor, path):
    reason = secrets.token_hex(6)

    await ask(auditor, path, purpose=f"inquiry {reason}", justification="ordered by the board")
    rows = await served.sql("SELECT leaf FROM custody_events WHERE type = 'audit.viewed'")
    (leaf,) = [
        leaf
        for leaf in (json.loads(row["leaf"]) for row in rows)
        if leaf["purpose"] == f"inquiry {reason}"
    ]
    assert leaf["actor"]["id"] == "aud-1"
    assert leaf["facts"]["justification"] == "ordered by the board"


@pytest.mark.parametrize("path", AUDITS)
async def test_who_may_see_some_boroughs_does_not_audit_all(served, path):
    token = served.token("audit:read", boroughs=["Camden"])

    async with served.client(token) as limited, served.nothing_changes():
        response = await limited.get(path)

    assert assert_problem(response, 403, "forbidden")["scope"] == "audit:read of every borough"


async def test_a_clip_of_another_borough_is_not_audited(served, dock):
    clip_id = await dock.bring_in(b"x")
    token = served.token("audit:read", boroughs=["Elsewhere"])

    async with served.client(token) as limited:
        response = await limited.get(f"/v1/audit/clips/{clip_id}")
    assert_problem(response, 404, "clip-not-found")


async def test_who_audits_is_for_auditors_alone(served, auditor, person):
    await ask(auditor, f"/v1/audit/people/{person}")
    await served.publish_log()
    size_query = {"type": "audit.viewed", "limit": 1000}

    async with (
        served.client(served.token("events:read")) as consumer,
        served.client(served.token("events:read", "audit:read")) as both,
    ):
        hidden = (await consumer.get("/v1/events", params=size_query)).json()
        shown = (await both.get("/v1/events", params=size_query)).json()
    assert hidden == []
    assert person in {event["data"].get("person") for event in shown}


# --- purposes ------------------------------------------------------------------------------


@pytest.mark.parametrize("purpose", [None, " "])
@pytest.mark.parametrize("path", [*AUDITS, "/v1/audit/clips/{clip_id}"])
async def test_where_policy_wants_it_nobody_audits_without_a_purpose(
    served, dock, auditor, path, purpose
):
    clip_id = await dock.bring_in(b"x")
    query = {} if purpose is None else {"purpose": purpose}

    with served.changed(purposes=PurposePolicy(frozenset({"audit:read"}))):
        async with served.nothing_changes():
            refused = await auditor.get(path.format(clip_id=clip_id), params=query)
        taken = await auditor.get(path.format(clip_id=clip_id), params={"purpose": "case 7"})
    assert assert_problem(refused, 422, "purpose-required")["scope"] == "audit:read"
    assert taken.status_code == 200


@pytest.mark.parametrize("what", ["content", "pack"])
async def test_where_policy_wants_it_nobody_sees_footage_without_a_purpose(served, dock, what):
    clip_id = await dock.secure(b"x")
    path = f"/v1/clips/{clip_id}/{what}"

    with served.changed(purposes=PurposePolicy(frozenset({"content:read"}))):
        async with served.client(served.token("content:read", "holds:write")) as client:
            async with served.nothing_changes():
                refused = await client.get(path)
            taken = await client.get(path, params={"purpose": "case 7"})
    assert_problem(refused, 422, "purpose-required")
    assert taken.status_code == 200


# --- the security log ----------------------------------------------------------------------


async def flush(served):
    return await served.call(served.resources.security.flush())


async def test_a_refusal_is_in_the_security_log(served, auditor, person):
    async with served.client(served.token("clips:read", sub=person, kind="person")) as client:
        refused = await client.get("/metrics")
    await flush(served)

    page = await ask(auditor, "/v1/audit/security", principal=person)
    (event,) = page["events"]
    assert (event["principal_kind"], event["problem"]) == ("person", "forbidden")
    assert (event["method"], event["route"]) == ("GET", "/metrics")
    assert (event["denial_count"], event["last_source"]) == (1, "127.0.0.1")
    assert event["last_request_id"] == refused.headers["x-request-id"]
    assert page["next_after"] is None


async def test_a_minute_of_refusals_is_two_rows(served, auditor, person):
    clock = [0.0]
    log = SecurityLog(pool=served.resources.pool, monotonic=lambda: clock[0])
    with served.changed(security=log):
        async with served.client(served.token("clips:read", sub=person)) as client:
            await client.get("/metrics")
            await flush(served)
            for _ in range(20):
                await client.get("/metrics")
            early = await flush(served)
            clock[0] = 61.0
            await flush(served)
            clock[0] = 200.0
            quiet = await flush(served)

    page = await ask(auditor, "/v1/audit/security", principal=person)
    assert [event["denial_count"] for event in page["events"]] == [1, 20]
    assert early == quiet == 0


async def test_strangers_cannot_fill_the_disk(served, stranger):
    log = SecurityLog(pool=served.resources.pool)
    with served.changed(security=log):
        for path in ("/v1/clips", "/metrics", "/v1/time", "/v1/events", "/nowhere"):
            await stranger.get(path)
        assert await flush(served) == 1


async def test_a_crowd_of_principals_is_counted_together(served, monkeypatch):
    monkeypatch.setattr("ingest_service.actions.record_denials._KINDS_MAX", 3)
    log = SecurityLog(pool=served.resources.pool)
    for number in range(10):
        log.note(
            principal=("service", f"svc-{number}"),
            method="GET",
            route="/metrics",
            problem="forbidden",
            request_id=None,
            source=None,
        )

    assert await served.call(log.flush()) == 4


async def test_refusals_are_kept_while_the_ledger_is_away(served, auditor, person, monkeypatch):
    async def away(*_args):
        raise LedgerUnavailable

    log = SecurityLog(pool=served.resources.pool)
    log.note(
        principal=("service", person),
        method="GET",
        route="/metrics",
        problem="forbidden",
        request_id=None,
        source=None,
    )
    with monkeypatch.context() as patched:
        patched.setattr("ingest_service.actions.record_denials.insert_denials", away)
        with pytest.raises(LedgerUnavailable):
            await served.call(log.flush())

    assert await served.call(log.flush(is_last=True)) == 1


async def test_a_refusal_is_a_line_of_the_security_stream(served, person, capfd):
    async with served.client(served.token("clips:read", sub=person)) as client:
        await client.get("/metrics")

    # Written when the answer has gone.
    printed = ""
    async with asyncio.timeout(5):
        while "access_denied" not in printed:
            await asyncio.sleep(0.02)
            printed += capfd.readouterr().out
    (line,) = [each for each in printed.splitlines() if "access_denied" in each]
    assert person in line
    assert "stream='security'" in line


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE security_events SET denial_count = 1",
        "DELETE FROM security_events",
        "TRUNCATE security_events",
    ],
)
async def test_the_security_log_is_append_only(served, change):
    async def run():
        async with reading(served.resources.pool) as connection:
            await connection.execute(change)

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await served.call(run())


async def test_every_role_but_the_auditors_is_refused(served):
    for role, scopes in ROLE_SCOPES.items():
        if role in {"auditor", "station"}:
            continue
        async with served.client(served.token(*scopes, role=role)) as client:
            for path in AUDITS:
                assert_problem(await client.get(path), 403, "forbidden")


def test_a_purpose_can_be_wanted_only_where_it_is_asked_for():
    known = Settings.model_construct(purpose_required=" audit:read , content:read,")

    assert known.purpose_scopes == {"audit:read", "content:read"}
    with pytest.raises(ValidationError, match="clips:write"):
        Settings(
            ledger_dsn="x",
            vault_endpoint="x",
            vault_bucket="xxx",
            vault_access_key="x",
            vault_secret_key="x",  # noqa: S106 - nothing is opened
            signing_key_file="x",
            purpose_required="clips:write",
        )
