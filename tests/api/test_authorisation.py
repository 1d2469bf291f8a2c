"""Every route, each role, of one's own borough and of another: as tests/api/authorisation.txt says.

Each request is good but for its token, and asks for a thing that exists. So whoever is let in gets
an answer of the route, and whoever is not gets the one refusal that the table promises.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
import pytest

from ingest_service.actions.compute_retention import compute_next
from ingest_service.actions.count_completeness import count_next
from ingest_service.app import create_app
from ingest_service.domain.clock import utc_now
from ingest_service.domain.ids import make_id
from ingest_service.domain.principal import ROLE_SCOPES
from ingest_service.domain.token import SigningKey, sign_station_token
from ingest_service.ledger.stations import Station
from ingest_service.settings import Settings
from tests.api import authorisation
from tests.api.authorisation import Row, read_rows
from tests.api.served import APPEND, TUS, Dock, announcement, digest_of
from tests.api.test_disclosures import order as disclosure_order

DATA = b"footage of a stop" * 100
SAR = "/v1/subject-access-requests"
EVERYTHING = sorted({scope for scopes in ROLE_SCOPES.values() for scope in scopes} - {"upload"})
STREAM_WAIT_S = 0.4
ROUTES = {
    (method, route.path)
    for route in create_app(Settings.model_construct()).router.routes
    for method in route.methods
}
# What a route says to those who are let in, but whose thing is not in the state for it.
LET_IN = {
    ("POST", "/v1/clips/{clip_id}/restore"): "nothing-to-restore",
    ("GET", "/v1/clips/{clip_id}/certificate"): "certificate-not-found",
    ("POST", "/v1/retention/halts/{halt_id}/release"): "halt-not-found",
    ("POST", "/v1/webhooks/{webhook_id}/deliveries/{log_index}/redeliver"): "dead-letter-not-found",
    ("GET", "/log/timestamp"): "log-part-not-found",
    ("PATCH", "/files"): "method-not-allowed",
}
# What a call of the rule `part` says to those for whom its clips do not exist.
NOTHING_THERE = {
    ("POST", "/v1/disclosures"): "clips-not-disclosable",
}


@dataclass
class Facts:
    """What there is to ask for: all of it in one borough, of one station."""

    borough: str
    other_borough: str
    station: Station
    key: SigningKey
    other_station: Station
    other_key: SigningKey
    serial: str
    incident: str
    clip_id: str = ""
    link: str = ""
    log_index: int = 0


class Notes:
    """What would stand in the security log: each refusal's problem."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def note(self, *, problem: str, **_facts: object) -> None:
        self.problems.append(problem)


@dataclass
class World:
    """The facts, and two who may do everything there, to make what a request is about."""

    served: Any
    facts: Facts
    admin: httpx.AsyncClient
    dock: Dock
    notes: Notes = field(default_factory=Notes)
    webhooks: list[str] = field(default_factory=list)

    async def made(self, path: str, body: dict[str, Any], member: str) -> str:
        response = await self.admin.post(path, json=body)
        assert response.status_code in {200, 201}, response.text
        return response.json()[member]

    async def hold(self) -> str:
        return await self.made(f"/v1/clips/{self.facts.clip_id}/holds", hold_order(), "hold_id")

    async def disclosure(self) -> str:
        body = disclosure_order(self.facts.clip_id)
        return await self.made("/v1/disclosures", body, "disclosure_id")

    async def access_request(self) -> str:
        return await self.made(SAR, request_order(), "access_request_id")

    async def webhook(self) -> str:
        webhook_id = await self.made("/v1/webhooks", webhook_order(), "webhook_id")
        self.webhooks.append(webhook_id)
        return webhook_id


Recipe = Callable[[World, httpx.AsyncClient], Awaitable[httpx.Response]]
RECIPES: dict[tuple[str, str], Recipe] = {}
# What stands in an answer that shows the thing; without it: the clip's id.
SHOWN: dict[tuple[str, str], Callable[[World, httpx.Response], bool]] = {}


def recipe(method: str, path: str) -> Callable[[Recipe], Recipe]:
    def keep(made: Recipe) -> Recipe:
        assert (method, path) not in RECIPES
        RECIPES[method, path] = made
        return made

    return keep


def simple(method: str, path: str, asked: str | None = None, **options: Any) -> None:
    """A request that needs nothing but what there is."""

    async def send(world: World, asker: httpx.AsyncClient) -> httpx.Response:
        filled = (asked or path).format_map(vars(world.facts))
        return await asker.request(method, filled, **options)

    RECIPES[method, path] = send


def hold_order() -> dict[str, Any]:
    return {"kind": "legal", "authority": "ORDER-1", "reason": "Preserve."}


def request_order() -> dict[str, Any]:
    return {
        "reference": f"SAR-{secrets.token_hex(8)}",
        "subject": "subject-1",
        "received_at": utc_now().isoformat(),
    }


def webhook_order() -> dict[str, Any]:
    return {"url": f"https://example.com/{secrets.token_hex(8)}"}


def policy_order() -> dict[str, Any]:
    # Of a category that no clip has: other tests' clips keep their dates.
    rule = {"category": f"none-{secrets.token_hex(8)}", "days": 400}
    return {"policy_id": f"p-{secrets.token_hex(8)}", "rules": [rule], "reason": "Decision 1."}


# --- the ways of the bytes -----------------------------------------------------------------

simple("GET", "/v1/time")
simple("OPTIONS", "/files", headers=TUS)
simple("OPTIONS", "/files/{upload_id}", f"/files/{UUID(int=1)}", headers=TUS)


@recipe("POST", "/v1/clips")
async def _announce(_world, asker):
    return await asker.post("/v1/clips", json=announcement())


@recipe("POST", "/v1/clips/{clip_id}/chunks/{index}")
async def _send(world, asker):
    plan = await world.dock.announce(len(DATA))
    headers = {"Content-Type": "application/octet-stream", "Content-Digest": digest_of(DATA)}
    return await asker.post(f"/v1/clips/{plan['clip_id']}/chunks/0", content=DATA, headers=headers)


simple("GET", "/v1/clips/{clip_id}/chunks")
simple("POST", "/v1/clips/{clip_id}/seal")
simple("GET", "/v1/clips/{clip_id}/receipt")
simple("POST", "/v1/devices/{serial}/manifest", json={"recordings": []})


@recipe("POST", "/files")
async def _create(_world, asker):
    return await asker.post("/files", headers={**TUS, "Upload-Length": "9"})


@recipe("PUT", "/files")
async def _put(_world, asker):
    headers = {"Upload-Draft-Interop-Version": "3", "Upload-Incomplete": "?0"}
    return await asker.request("PUT", "/files", content=b"x", headers=headers)


@recipe("PATCH", "/files")
async def _patch_target(_world, asker):
    headers = {"Upload-Draft-Interop-Version": "8", "Upload-Complete": "?1"}
    return await asker.request("PATCH", "/files", content=b"x", headers=headers)


@recipe("HEAD", "/files/{upload_id}")
async def _head(world, asker):
    return await asker.request("HEAD", await world.dock.open(9), headers=TUS)


@recipe("PATCH", "/files/{upload_id}")
async def _append(world, asker):
    headers = {**APPEND, "Upload-Offset": "0"}
    return await asker.request("PATCH", await world.dock.open(9), content=b"x", headers=headers)


@recipe("DELETE", "/files/{upload_id}")
async def _terminate(world, asker):
    return await asker.request("DELETE", await world.dock.open(9), headers=TUS)


# --- clips ---------------------------------------------------------------------------------

simple("GET", "/v1/clips", "/v1/clips?incident={incident}")
simple("GET", "/v1/clips/export", "/v1/clips/export?incident={incident}")
for tail in ("", "/events", "/content", "/assertions", "/holds", "/retention", "/certificate"):
    simple("GET", "/v1/clips/{clip_id}" + tail)
simple("GET", "/v1/clips/{clip_id}/pack")
simple("POST", "/v1/clips/{clip_id}/assertions", json={"fields": {"tags": ["seen"]}})
simple("GET", "/v1/stats", "/v1/stats?by=borough")
SHOWN["GET", "/v1/stats"] = lambda world, response: world.facts.borough in response.text


@recipe("POST", "/v1/assertions")
async def _assert_many(world, asker):
    items = [{"clip_id": world.facts.clip_id, "fields": {"tags": ["batch"]}}]
    return await asker.post("/v1/assertions", json={"key": secrets.token_hex(8), "items": items})


SHOWN["POST", "/v1/assertions"] = lambda _world, response: response.json()["asserted_count"] == 1


# --- holds, retention ----------------------------------------------------------------------

simple("POST", "/v1/clips/{clip_id}/holds", json=hold_order())
simple("POST", "/v1/clips/{clip_id}/restore", json={"authority": "ORDER-2"})


@recipe("POST", "/v1/holds")
async def _preview(world, asker):
    body = {**hold_order(), "filter": {"incident": world.facts.incident}}
    return await asker.post("/v1/holds", json=body)


SHOWN["POST", "/v1/holds"] = lambda _world, response: response.json()["clip_count"] == 1


@recipe("GET", "/v1/holds/{hold_id}")
async def _show_hold(world, asker):
    return await asker.get(f"/v1/holds/{await world.hold()}")


@recipe("POST", "/v1/holds/{hold_id}/release")
async def _release(world, asker):
    hold_id = await world.hold()
    return await asker.post(f"/v1/holds/{hold_id}/release", json={"authority": "ORDER-3"})


simple("GET", "/v1/retention/policies")
simple("GET", "/v1/retention/halts")
simple("GET", "/v1/retention/forecast", "/v1/retention/forecast")
SHOWN["GET", "/v1/retention/forecast"] = lambda world, response: (
    world.facts.borough in response.text
)


@recipe("POST", "/v1/retention/policies")
async def _make_policy(_world, asker):
    return await asker.post("/v1/retention/policies", json=policy_order())


@recipe("POST", "/v1/retention/policies/{policy_id}/versions/{version}/approve")
async def _approve(world, asker):
    body = policy_order()
    await world.made("/v1/retention/policies", body, "policy_id")
    return await asker.post(f"/v1/retention/policies/{body['policy_id']}/versions/1/approve")


@recipe("POST", "/v1/retention/halts/{halt_id}/release")
async def _release_halt(_world, asker):
    path = f"/v1/retention/halts/{make_id(utc_now())}/release"
    return await asker.post(path, json={"authority": "ORDER-4"})


# --- disclosures ---------------------------------------------------------------------------


@recipe("POST", "/v1/clips/{clip_id}/derivatives")
async def _derive(world, asker):
    body = {
        "kind": "redaction",
        "tool": "blur 4.2",
        "parameters": {},
        "made_by": "P1",
        "sha256": secrets.token_hex(32),
        "size_bytes": 9,
    }
    return await asker.post(f"/v1/clips/{world.facts.clip_id}/derivatives", json=body)


@recipe("POST", "/v1/disclosures")
async def _disclose(world, asker):
    return await asker.post("/v1/disclosures", json=disclosure_order(world.facts.clip_id))


@recipe("GET", "/v1/disclosures")
async def _list_disclosures(world, asker):
    await world.disclosure()
    return await asker.get(f"/v1/disclosures?clip_id={world.facts.clip_id}")


SHOWN["GET", "/v1/disclosures"] = lambda _world, response: bool(response.json()["disclosures"])


@recipe("GET", "/v1/disclosures/{disclosure_id}")
async def _show_disclosure(world, asker):
    return await asker.get(f"/v1/disclosures/{await world.disclosure()}")


@recipe("POST", "/v1/disclosures/{disclosure_id}/revoke")
async def _revoke(world, asker):
    path = f"/v1/disclosures/{await world.disclosure()}/revoke"
    return await asker.post(path, json={"authority": "ORDER-5"})


@recipe("POST", SAR)
async def _receive(_world, asker):
    return await asker.post(SAR, json=request_order())


@recipe("GET", SAR)
async def _list_requests(world, asker):
    await world.access_request()
    return await asker.get(f"{SAR}?limit=200")


SHOWN["GET", SAR] = lambda _world, response: any(
    each["made_by"] == "P-admin" for each in response.json()["access_requests"]
)
REQUEST_BODIES = {
    "extend": lambda _facts: {"months": 1, "reason": "Many."},
    "clips": lambda facts: {"clip_ids": [facts.clip_id]},
    "fulfil": lambda _facts: {"outcome": "refused"},
}


@recipe("GET", SAR + "/{access_request_id}")
async def _show_request(world, asker):
    return await asker.get(f"{SAR}/{await world.access_request()}")


for verb, make_body in REQUEST_BODIES.items():

    @recipe("POST", f"{SAR}/{{access_request_id}}/{verb}")
    async def _change_request(world, asker, verb=verb, make_body=make_body):
        path = f"{SAR}/{await world.access_request()}/{verb}"
        return await asker.post(path, json=make_body(world.facts))


simple("GET", "/d/{token}", "/d/{link}")
simple("GET", "/d/{token}/pack", "/d/{link}/pack")
simple("GET", "/d/{token}/clips/{clip_id}", "/d/{link}/clips/{clip_id}")
simple("POST", "/d/{token}/accept", "/d/{link}/accept", data={"name": "Ada", "accept": "yes"})


# --- the log, the feed, audits -------------------------------------------------------------

simple("GET", "/log/checkpoint")
simple("GET", "/log/key")
simple("GET", "/log/consistency", "/log/consistency?from=1&to=2")
simple("GET", "/log/timestamp")
simple("GET", "/log/tile/entries/{path:path}", "/log/tile/entries/000.p/1")
simple("GET", "/log/tile/{level}/{path:path}", "/log/tile/0/000.p/1")
simple("GET", "/v1/events/{log_index}/proof", "/v1/events/{log_index}/proof")
simple("GET", "/v1/events", "/v1/events?clip={clip_id}&after={log_index}&limit=1000")


@recipe("GET", "/v1/events/stream")
async def _follow(world, asker):
    """What a stream has sent after a moment; it has no end."""
    facts = world.facts
    path = f"/v1/events/stream?clip={facts.clip_id}&after={facts.log_index}"
    told = b""
    async with asker.stream("GET", path) as response:
        try:
            async with asyncio.timeout(STREAM_WAIT_S):
                async for block in response.aiter_bytes():
                    told += block
                    if facts.clip_id.encode() in told:
                        break
        except TimeoutError:
            pass
    return httpx.Response(response.status_code, headers=response.headers, content=told)


@recipe("POST", "/v1/webhooks")
async def _make_webhook(world, asker):
    response = await asker.post("/v1/webhooks", json=webhook_order())
    if response.status_code != 201:
        return response
    webhook_id = response.json()["webhook_id"]
    world.webhooks.append(webhook_id)
    # What it will send is what its maker may see; nobody is told of the limits.
    (row,) = await world.served.sql(
        "SELECT limits FROM webhooks WHERE webhook_id = $1", UUID(webhook_id)
    )
    sends = row["limits"] is None or world.facts.borough in row["limits"]
    return httpx.Response(201, text=world.facts.clip_id if sends else "nothing")


@recipe("GET", "/v1/webhooks")
async def _list_webhooks(world, asker):
    await world.webhook()
    return await asker.get("/v1/webhooks")


SHOWN["GET", "/v1/webhooks"] = lambda _world, response: any(
    each["owner_id"] == "P-admin" for each in response.json()["webhooks"]
)


def of_webhook(method: str, tail: str, **options: Any) -> None:
    @recipe(method, "/v1/webhooks/{webhook_id}" + tail)
    async def send(world: World, asker: httpx.AsyncClient) -> httpx.Response:
        path = f"/v1/webhooks/{await world.webhook()}" + tail.format(log_index=0)
        return await asker.request(method, path, **options)


of_webhook("GET", "")
of_webhook("PATCH", "", json={"description": "changed"})
of_webhook("POST", "/secret")
of_webhook("DELETE", "")
of_webhook("GET", "/deliveries")
of_webhook("POST", "/deliveries/{log_index}/redeliver")

simple("GET", "/v1/completeness", "/v1/completeness?device={serial}")
SHOWN["GET", "/v1/completeness"] = lambda world, response: world.facts.serial in response.text
simple("GET", "/v1/at-risk", "/v1/at-risk")
SHOWN["GET", "/v1/at-risk"] = lambda world, response: (
    world.facts.station.station_id in response.text
)
simple("GET", "/v1/audit/clips/{clip_id}")
simple("GET", "/v1/audit/people/{actor_id:path}", "/v1/audit/people/P-nobody")
simple("GET", "/v1/audit/devices/{serial:path}", "/v1/audit/devices/{serial}")
simple("GET", "/v1/audit/data-protection", "/v1/audit/data-protection?actor=P-nobody")
simple("GET", "/v1/audit/security", "/v1/audit/security?principal=P-nobody")

# --- the rest ------------------------------------------------------------------------------

for path in ("/livez", "/readyz", "/metrics", "/openapi.json", "/upload", "/ops"):
    simple("GET", path)
simple("GET", "/upload/{name}", "/upload/upload.css")
simple("GET", "/ops/{name}", "/ops/ops.css")


@recipe("GET", "/v1/ops")
async def _operations(world: World, asker: httpx.AsyncClient) -> httpx.Response:
    async with open_dock(world.served, world.facts.station, world.facts.key) as dock:
        await dock.announce(9)
    world.served.app.state.operations = None
    return await asker.get("/v1/ops")


# Sums are of the whole service; what is named is of one's boroughs.
SHOWN["GET", "/v1/ops"] = lambda world, response: world.facts.borough in response.text


# --- who asks ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def facts(served_process):
    """A secured clip with all that can be asked of it, in a borough of its own."""
    return asyncio.run(make_facts(served_process))


async def make_facts(served) -> Facts:
    mark = secrets.token_hex(4)
    here = f"Here-{mark}"
    made = Facts(
        here,
        f"There-{mark}",
        *await served.register(borough=here),
        *await served.register(borough=here),
        serial=f"BWC-{mark}",
        incident=f"CAD-{mark}",
    )
    opened = served.resources
    async with open_dock(served, made.station, made.key) as dock, open_admin(served) as admin:
        held = {"recording_id": "held", "size_bytes": 10, "device_recording_seq": 2}
        reported = {"recordings": [held]}
        await dock.http.post(f"/v1/devices/{made.serial}/manifest", json=reported)
        feed = await admin.get("/v1/events", params={"limit": 1})
        made.log_index = max(0, int(feed.headers["ingest-log-size"]) - 1)
        # Two: one that is held by what follows, one that will be erased some day.
        marks = {"device_serial": made.serial, "evidential_state": "non_evidential"}
        made.clip_id = await dock.secure(DATA, incident_id=made.incident, **marks)
        await dock.secure(DATA, **marks)
        while await served.call(
            compute_next(pool=opened.pool, rules=opened.retention, now=opened.now)
        ):
            pass
        while await served.call(count_next(pool=opened.pool, tail=opened.feed, now=opened.now)):
            pass
        disclosed = await admin.post("/v1/disclosures", json=disclosure_order(made.clip_id))
        made.link = disclosed.json()["link"].rsplit("/", 1)[1]
        form = {"name": "Ada", "accept": "yes"}
        accepted = await admin.post(f"/d/{made.link}/accept", data=form)
        assert accepted.status_code == 303, accepted.text
    await served.publish_log()
    return made


@asynccontextmanager
async def open_dock(served, station: Station, key: SigningKey):
    token = sign_station_token(key, station.station_id, now=utc_now())
    async with served.client(token) as http:
        yield Dock(served, station, key, token, http)


def open_admin(served) -> httpx.AsyncClient:
    return served.client(served.token(*EVERYTHING, sub="P-admin", kind="person"))


@pytest.fixture
async def world(served, facts):
    async with open_dock(served, facts.station, facts.key) as dock, open_admin(served) as admin:
        made = World(served, facts, admin, dock)
        with served.changed(security=made.notes):
            yield made
        for webhook_id in made.webhooks:
            # Nothing is to be sent to them by other tests.
            await admin.delete(f"/v1/webhooks/{webhook_id}")


def open_as(world: World, role: str, boroughs: list[str] | None = None) -> httpx.AsyncClient:
    """Return a client for somebody of this role, who has made nothing of what there is."""
    if role == "nobody":
        return world.served.client()
    claims = {} if boroughs is None else {"boroughs": boroughs}
    name = f"P-{role}-{'-'.join(boroughs or [])}"
    token = world.served.token(*ROLE_SCOPES[role], sub=name, role=role, kind="person", **claims)
    return world.served.client(token)


# --- what is met ---------------------------------------------------------------------------


def outcome_of(row: Row, world: World, response: httpx.Response) -> str:
    """Return in one word what an answer says of the rule.

    let in, shown, not shown (of an answer that is a list or counts), 401, 403, 404.
    """
    status = response.status_code
    if row.path == "/readyz":
        # No worker runs beside these tests: it says so, to everybody.
        return "let in"
    problem = None
    if response.headers.get("content-type") == "application/problem+json" and response.content:
        problem = response.json()["type"].removeprefix("urn:ingest:problem:")
    key = (row.method, row.path)
    if problem is not None and problem == LET_IN.get(key):
        return "let in"
    if problem is not None and problem == NOTHING_THERE.get(key):
        return "not shown"
    if status in {401, 403, 404}:
        assert row.method == "HEAD" or problem in PROBLEMS_OF[status], response.text
        return str(status)
    assert status < 400, f"{row}: {status} {response.text}"
    if "{" in row.path or row.rule not in {"part", "owner"}:
        return "let in"
    is_shown = SHOWN.get(key, lambda world, response: world.facts.clip_id in response.text)
    return "shown" if is_shown(world, response) else "not shown"


PROBLEMS_OF = {
    401: {"unauthorized"},
    403: {"forbidden"},
    404: {
        "clip-not-found",
        "upload-not-found",
        "hold-not-found",
        "disclosure-not-found",
        "access-request-not-found",
        "webhook-not-found",
    },
}
# What a token meets that is limited to the thing's own borough, or to another one.
LIMITED = {
    "public": ({"let in"}, {"let in"}),
    "same": ({"let in"}, {"let in"}),
    "hidden": ({"let in"}, {"404"}),
    "part": ({"shown"}, {"not shown"}),
    "owner": ({"404", "not shown"}, {"404", "not shown"}),
    "force": ({"403"}, {"403"}),
}


async def assert_noted(world: World, row: Row, met: str) -> None:
    """Assert that a refusal stands in the security log, and nothing else does.

    Also the one that looks like a thing that is not there.
    """
    expected = {"401": ["unauthorized"], "403": ["forbidden"]}.get(met, [])
    hides = met == "404" or (met == "not shown" and (row.method, row.path) in NOTHING_THERE)
    problems = world.notes.problems
    # The answer may be here before its request has ended.
    for _ in range(200):
        if len(problems) >= len(expected) + hides:
            break
        await asyncio.sleep(0.01)
    if hides:
        assert len(problems) == 1
        assert problems[0].startswith("another-")
    else:
        assert problems == expected
    problems.clear()


def test_every_route_has_its_line_and_its_request():
    stated = [(row.method, row.path) for row in read_rows()]

    assert sorted(stated) == sorted(ROUTES)
    assert set(RECIPES) == ROUTES


def test_the_document_shows_the_table():
    document = authorisation.DOCUMENT.read_text()

    assert authorisation.fill(document) == document
    for rule, meaning in authorisation.RULES.items():
        assert f"**{rule}**: {meaning}" in document


@pytest.mark.parametrize("row", read_rows(), ids=lambda row: f"{row.method} {row.path}")
async def test_a_route_lets_in_whom_the_table_says(world, row):
    met, expected = {}, {}
    send = RECIPES[row.method, row.path]
    has_list = "{" not in row.path and row.rule in {"part", "owner"}
    for role in authorisation.ROLES:
        is_in = role in row.admitted
        refused = "401" if role == "nobody" else "403"
        expected[role] = ("shown" if has_list else "let in") if is_in else refused
        if role == "station":
            async with open_dock(world.served, world.facts.station, world.facts.key) as dock:
                met[role] = outcome_of(row, world, await send(world, dock.http))
        else:
            async with open_as(world, role) as somebody:
                met[role] = outcome_of(row, world, await send(world, somebody))
        await assert_noted(world, row, met[role])
    assert met == expected


@pytest.mark.parametrize(
    "row",
    [row for row in read_rows() if row.admitted - {"nobody", "station"} and row.rule != "public"],
    ids=lambda row: f"{row.method} {row.path}",
)
async def test_a_token_of_some_boroughs_meets_what_the_table_says(world, row):
    send = RECIPES[row.method, row.path]
    of_own, of_other = LIMITED[row.rule]
    for role in sorted(row.admitted - {"nobody", "station"}):
        for borough, expected in (
            (world.facts.borough, of_own),
            (world.facts.other_borough, of_other),
        ):
            async with open_as(world, role, [borough]) as limited:
                met = outcome_of(row, world, await send(world, limited))
            assert met in expected, (role, borough)
            await assert_noted(world, row, met)


@pytest.mark.parametrize(
    "row",
    [row for row in read_rows() if "station" in row.admitted and row.rule != "public"],
    ids=lambda row: f"{row.method} {row.path}",
)
async def test_another_station_meets_what_the_table_says(world, row):
    """Also one of the same borough."""
    facts = world.facts
    async with open_dock(world.served, facts.other_station, facts.other_key) as other:
        met = outcome_of(row, world, await RECIPES[row.method, row.path](world, other.http))

    assert met == ("404" if row.rule == "hidden" else "let in")
    await assert_noted(world, row, met)
