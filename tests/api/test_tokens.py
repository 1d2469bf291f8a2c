"""Who may ask what: every call with no token, a bad one, and one of the wrong kind."""

import base64
import json
import re
from datetime import timedelta
from uuid import uuid4

import pytest

from ingest_service.actions.register_station import register_station
from ingest_service.actions.revoke_station_key import revoke_station_key
from ingest_service.app import create_app
from ingest_service.domain.clock import utc_now
from ingest_service.domain.principal import ROLE_SCOPES
from ingest_service.domain.token import (
    import_signing_key,
    make_private_key,
    sign_station_token,
    sign_token,
)
from ingest_service.settings import Settings
from tests.api.served import PART_BYTES, TUS, Dock, announcement, assert_problem

PUBLIC = {
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("OPTIONS", "/files"),
    ("OPTIONS", "/files/{upload_id}"),
    # The custody log's public part: checkpoints, hashes and the key tell nothing of any clip.
    ("GET", "/log/checkpoint"),
    ("GET", "/log/consistency"),
    ("GET", "/log/key"),
    ("GET", "/log/timestamp"),
    ("GET", "/log/tile/{level}/{path}"),
    # The page on which a person enters a token.
    ("GET", "/upload"),
    ("GET", "/upload/{name}"),
    # The page on which an operator enters one.
    ("GET", "/ops"),
    ("GET", "/ops/{name}"),
    # The link of a disclosure carries its own secret.
    ("GET", "/d/{token}"),
    ("POST", "/d/{token}/accept"),
    ("GET", "/d/{token}/pack"),
    ("GET", "/d/{token}/clips/{clip_id}"),
}
CALLS = sorted(
    (method.upper(), path)
    for path, operations in create_app(Settings.model_construct()).openapi()["paths"].items()
    for method in operations
)


def fill(path: str) -> str:
    return re.sub(r"{\w+}", "0199c0de-5f0a-7b7c-8d1e-2f3a4b5c6d7e", path)


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_nothing_but_the_public_paths_answers_without_a_token(served, stranger, method, path):
    async with served.nothing_changes():
        response = await stranger.request(method, fill(path), headers=TUS, content=b"")

    if (method, path) in PUBLIC:
        # Whatever it says, it does not ask for a token.
        assert response.status_code in {200, 204, 400, 404, 422, 503}
        return
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")
    if method != "HEAD":
        assert_problem(response, 401, "unauthorized")


@pytest.mark.parametrize(("method", "path"), [call for call in CALLS if call not in PUBLIC])
async def test_a_token_without_scopes_opens_only_what_any_token_opens(served, method, path):
    headers = {**TUS, "Content-Type": "application/json"}

    async with served.client(served.token()) as nobody:
        response = await nobody.request(method, fill(path), headers=headers, content=b"{}")

    if path in {"/v1/time", "/openapi.json"}:
        assert response.status_code == 200
    else:
        assert response.status_code == 403


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "bearer nonsense",
        "Bearer a.b.c",
        "Bearer a.b.c.d.e",
        "Bearer " + "x" * 20_000,
        "Basic dXNlcjpwYXNz",
        "Bearer caf\u00e9".encode(),
        "Bearer \u0663".encode(),
        "Bearer {token} {token}",
        "{token}",
    ],
    ids=range(12),
)
async def test_what_is_no_token_is_refused(served, dock, authorization):
    value = authorization
    if isinstance(value, str):
        value = value.replace("{token}", dock.token).rstrip()

    async with served.client() as client, served.nothing_changes():
        response = await client.post(
            "/v1/clips", json=announcement(), headers={"Authorization": value}
        )
    assert_problem(response, 401, "unauthorized")


async def test_two_tokens_are_none(dock, served):
    headers = [("Authorization", f"Bearer {dock.token}")] * 2

    async with served.client() as client:
        assert_problem(await client.get("/v1/time", headers=headers), 401, "unauthorized")


def encode(part) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def forge(dock, how: str) -> str:
    """A token that the dock's key did not sign, or should not have."""
    now = int(utc_now().timestamp())
    station_id = dock.station.station_id
    claims = {
        "iss": station_id,
        "sub": station_id,
        "aud": "ingest",
        "iat": now,
        "exp": now + 600,
        "jti": "1",
    }
    changed = {
        "another station": {"iss": "dock-x", "sub": "dock-x"},
        "another audience": {"aud": "other"},
        "no expiry": {"exp": None},
        "ten years": {"exp": now + 10 * 365 * 86400},
        "the future": {"iat": now + 600, "exp": now + 900},
        "NaN": {"exp": float("nan")},
    }
    if how in changed:
        return sign_token(dock.key, claims | changed[how])
    stranger = import_signing_key(make_private_key())
    borrowed = type(stranger)(stranger.algorithm, stranger.key, dock.key.verifying_key)
    header = {"alg": "EdDSA", "kid": dock.key.verifying_key.key_id}
    head, body, signature = sign_token(dock.key, claims).split(".")
    return {
        "another key": sign_token(borrowed, claims),
        "unknown key": sign_token(stranger, claims),
        "alg none": f"{encode(header | {'alg': 'none'})}.{body}.",
        "alg HS256": f"{encode(header | {'alg': 'HS256'})}.{body}.{signature}",
        "no signature": f"{head}.{body}.",
        "changed claims": f"{head}.{encode(claims | {'exp': now + 900})}.{signature}",
        "crit": f"{encode(header | {'crit': ['x']})}.{body}.{signature}",
    }[how]


@pytest.mark.parametrize(
    "how",
    [
        "another key", "unknown key", "alg none", "alg HS256", "no signature", "changed claims",
        "another station", "another audience", "no expiry", "ten years", "the future", "NaN",
        "crit",
    ],
)  # fmt: skip
async def test_a_forged_station_token_is_refused(served, dock, how):
    async with served.client(forge(dock, how)) as client, served.nothing_changes():
        response = await client.post("/v1/clips", json=announcement())

    problem = assert_problem(response, 401, "unauthorized")
    assert problem["action"] == "fix"


def claims_of(dock) -> dict[str, object]:
    now = int(utc_now().timestamp())
    station_id = dock.station.station_id
    return {"iss": station_id, "sub": station_id, "aud": "ingest", "iat": now, "exp": now + 600}


@pytest.mark.parametrize("names_key", ["own", "other"])
@pytest.mark.parametrize("names_station", ["own", "other"])
async def test_the_keys_of_two_stations_are_not_interchangeable(
    served, dock, other_dock, names_key, names_station
):
    """Both are registered: one of them signs, and says that it is the other, or its key."""
    named = {"own": dock, "other": other_dock}
    key = type(dock.key)(dock.key.algorithm, dock.key.key, named[names_key].key.verifying_key)
    token = sign_token(key, claims_of(named[names_station]))

    async with served.client(token) as client:
        response = await client.get("/v1/time")
    if (names_key, names_station) == ("own", "own"):
        assert response.status_code == 200
    else:
        assert_problem(response, 401, "unauthorized")


async def test_a_station_brings_in_for_its_own_borough_whatever_its_token_says(
    served, make_dock, reader
):
    dock = await make_dock(borough="Camden")
    claims = {"borough": "Croydon", "boroughs": ["Croydon"], "site": "south", "scope": "operate"}

    async with served.client(sign_token(dock.key, claims_of(dock) | claims)) as client:
        announced = await client.post("/v1/clips", json=announcement())
    shown = (await reader.get(f"/v1/clips/{announced.json()['clip_id']}")).json()
    assert (shown["borough"], shown["station_id"]) == ("Camden", dock.station.station_id)


async def test_an_upload_in_another_borough_does_not_exist_for_a_station(served, make_dock):
    here = await make_dock(borough="Camden")
    there = await make_dock(borough="Croydon")
    clip_id = (await here.announce(PART_BYTES))["clip_id"]
    path = await here.open(10)

    async with served.nothing_changes():
        refused = [
            await there.send(clip_id, 0, b"x" * PART_BYTES),
            await there.http.get(f"/v1/clips/{clip_id}/chunks"),
            await there.seal(clip_id),
            await there.http.get(f"/v1/clips/{clip_id}/receipt"),
            await there.head(path),
            await there.append(path, 0, b"x" * 10),
            await there.delete(path),
        ]
    assert [response.status_code for response in refused] == [404] * len(refused)


async def test_an_expired_token_is_told_so(served, dock):
    token = sign_station_token(
        dock.key,
        dock.station.station_id,
        now=utc_now() - timedelta(hours=1),
        lifetime=timedelta(minutes=10),
    )

    async with served.client(token) as client, served.nothing_changes():
        response = await client.post("/v1/clips", json=announcement())
    assert_problem(response, 401, "token-expired")


async def test_an_expired_service_token_is_told_so(served):
    long_ago = int(utc_now().timestamp()) - 3600
    token = served.token("clips:read", iat=long_ago, exp=long_ago + 60)

    async with served.client(token) as client:
        assert_problem(await client.get("/v1/clips"), 401, "token-expired")


async def test_a_revoked_key_is_told_to_stop(served, dock):
    plan = await dock.announce(PART_BYTES)
    await served.call(revoke_station_key(dock.key.verifying_key.key_id, pool=served.resources.pool))

    async with served.nothing_changes():
        answers = [
            await dock.send(plan["clip_id"], 0, b"x" * PART_BYTES),
            await dock.create(10),
            await dock.http.get("/v1/time"),
        ]
    for response in answers:
        assert assert_problem(response, 401, "key-revoked")["action"] == "stop"


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "elsewhere"},
        {"aud": "other"},
        {"boroughs": None, "scope": 7},
        {"boroughs": "Camden"},
        {"boroughs": [1]},
        {"kind": "station"},
        {"sub": None},
        {"sub": "a\nb"},
        {"exp": None},
        {"role": ["reader"]},
    ],
    ids=repr,
)
async def test_a_service_token_with_claims_that_cannot_be_read_is_refused(served, claims):
    async with served.client(served.token("clips:read", **claims)) as client:
        assert_problem(await client.get("/v1/clips"), 401, "unauthorized")


async def test_a_service_token_of_another_issuers_key_is_refused(served):
    stranger = import_signing_key(make_private_key("P-256"))

    async with served.client(served.token("clips:read", key=stranger)) as client:
        assert_problem(await client.get("/v1/clips"), 401, "unauthorized")


DOCK_CALLS = [
    ("POST", "/v1/clips"),
    ("POST", "/v1/clips/{id}/chunks/0"),
    ("GET", "/v1/clips/{id}/chunks"),
    ("POST", "/v1/clips/{id}/seal"),
    ("GET", "/v1/clips/{id}/receipt"),
    ("POST", "/v1/devices/BWC-1/manifest"),
    ("POST", "/files"),
    ("HEAD", "/files/{id}"),
    ("PATCH", "/files/{id}"),
    ("DELETE", "/files/{id}"),
]


@pytest.mark.parametrize("role", sorted(set(ROLE_SCOPES) - {"station"}))
@pytest.mark.parametrize(("method", "path"), DOCK_CALLS)
async def test_only_a_station_brings_footage_in(served, role, method, path):
    token = served.token("upload", *ROLE_SCOPES[role], role=role)

    async with served.client(token) as client, served.nothing_changes():
        response = await client.request(
            method,
            path.replace("{id}", str(uuid4())),
            headers={**TUS, "Content-Type": "application/json"},
            content=json.dumps(announcement()).encode(),
        )
    assert response.status_code == 403
    if method != "HEAD":
        problem = assert_problem(response, 403, "forbidden")
        assert (problem["scope"], problem["action"]) == ("upload", "stop")


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/v1/clips", "clips:read"),
        ("/v1/clips/{clip_id}/content", "content:read"),
        ("/metrics", "operate"),
    ],
)
async def test_a_station_only_brings_footage_in(dock, path, scope):
    clip_id = await dock.bring_in(b"x" * 10)

    problem = assert_problem(await dock.http.get(path.format(clip_id=clip_id)), 403, "forbidden")
    assert problem["scope"] == scope


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/v1/clips", "clips:read"),
        ("/v1/clips/{clip_id}", "clips:read"),
        ("/v1/clips/{clip_id}/events", "clips:read"),
        ("/v1/clips/{clip_id}/content", "content:read"),
        ("/v1/events", "events:read"),
        ("/v1/audit/clips/{clip_id}", "audit:read"),
        ("/v1/audit/people/somebody", "audit:read"),
        ("/v1/audit/devices/BWC-1", "audit:read"),
        ("/v1/audit/data-protection", "audit:read"),
        ("/v1/audit/security", "audit:read"),
        ("/v1/completeness", "clips:read"),
        ("/v1/at-risk", "clips:read"),
        ("/v1/webhooks", "webhooks:write"),
        ("/metrics", "operate"),
    ],
)
async def test_each_scope_opens_its_own_calls(served, dock, path, scope):
    clip_id = await dock.bring_in(b"x" * 10)
    others = {name for names in ROLE_SCOPES.values() for name in names} - {scope}

    async with (
        served.client(served.token(scope)) as holder,
        served.client(served.token(*others)) as other,
    ):
        granted = await holder.get(path.format(clip_id=clip_id))
        refused = await other.get(path.format(clip_id=clip_id))
    assert granted.status_code == 200
    assert assert_problem(refused, 403, "forbidden")["scope"] == scope


@pytest.mark.parametrize("kind", ["Ed25519", "P-256"])
async def test_both_kinds_of_station_keys_sign(served, dock, kind):
    key = import_signing_key(make_private_key(kind))
    await served.call(
        register_station(dock.station, key.verifying_key.public_jwk, pool=served.resources.pool)
    )
    token = sign_station_token(key, dock.station.station_id, now=utc_now())

    async with served.client(token) as client:
        again = Dock(served, dock.station, key, token, client)
        assert (await again.announce())["state"] == "receiving"
