"""Tokens at the door: who gets in, and what the others are told."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Annotated

import httpx
import pytest
import structlog
from fastapi import Depends, FastAPI

from ingest_service.actions.identify_principal import Authenticator
from ingest_service.actions.record_traffic import TrafficMeter
from ingest_service.actions.register_station import register_station
from ingest_service.actions.revoke_station_key import revoke_station_key
from ingest_service.api.deps import Granted
from ingest_service.api.middleware import ObserveRequests
from ingest_service.api.problems import add_problem_handlers
from ingest_service.domain.principal import CLIPS_READ, UPLOAD, Principal
from ingest_service.domain.token import (
    TokenRules,
    import_signing_key,
    make_private_key,
    sign_station_token,
)
from ingest_service.keyring import open_keyring
from ingest_service.ledger.stations import Station

RULES = TokenRules(audience="ingest", issuer=None, leeway_s=0, station_lifetime_max_s=3600)


@pytest.fixture
def station_key():
    return import_signing_key(make_private_key())


@pytest.fixture
async def client(pool, station_key):
    jwk = station_key.verifying_key.public_jwk
    await register_station(Station("dock-1", "south", "Croydon"), jwk, pool=pool)
    app = FastAPI(openapi_url="/openapi.json")
    authenticator = Authenticator(
        pool=pool, keyring=open_keyring(None), rules=RULES, look_again_s=0
    )
    app.state.resources = SimpleNamespace(
        authenticator=authenticator,
        security=SimpleNamespace(note=lambda **_: None),
        traffic=TrafficMeter(),
    )
    add_problem_handlers(app)
    app.add_middleware(ObserveRequests)

    @app.get("/upload/{number}")
    async def get_upload(
        number: int, principal: Annotated[Principal, Depends(Granted(UPLOAD))]
    ) -> str:
        return principal.id

    @app.get("/clips")
    async def get_clips(_principal: Annotated[Principal, Depends(Granted(CLIPS_READ))]) -> None:
        pass

    @app.get("/anyone")
    async def get_anyone(principal: Annotated[Principal, Depends(Granted())]) -> str:
        return principal.kind

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://ingest.test") as client:
        yield client


@pytest.fixture
def token(station_key):
    return sign_station_token(station_key, "dock-1", now=datetime.now(UTC))


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_a_good_token_lets_in(client, token, scheme):
    answer = await client.get("/upload/1", headers={"Authorization": f"{scheme} {token}"})

    assert answer.json() == "dock-1"


async def test_any_good_token_will_do_where_no_scope_is_asked(client, token):
    assert (await client.get("/anyone", headers=bearer(token))).json() == "station"


async def test_a_token_without_the_scope_is_forbidden(client, token):
    answer = await client.get("/clips", headers=bearer(token))

    assert (answer.status_code, answer.json()["scope"]) == (403, "clips:read")


@pytest.mark.parametrize(
    "value",
    [None, "", "Bearer", "Bearer ", "Basic ZDpk", "Bearer a b", "Bearer \u00e9", "x" * 20_000],
)
async def test_without_a_token_nothing_is_answered(client, value):
    headers = {} if value is None else {"Authorization": value.encode()}

    answer = await client.get("/upload/1", headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (401, "urn:ingest:problem:unauthorized")
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_two_tokens_are_none(client, token):
    headers = [("Authorization", f"Bearer {token}")] * 2

    assert (await client.get("/upload/1", headers=headers)).status_code == 401


async def test_who_may_not_in_does_not_learn_what_was_wrong_with_the_path(client):
    assert (await client.get("/upload/not-a-number")).status_code == 401


async def test_an_expired_token_is_told_so(client, station_key):
    old = sign_station_token(station_key, "dock-1", now=datetime.now(UTC) - timedelta(hours=1))

    answer = await client.get("/upload/1", headers=bearer(old))
    assert (answer.status_code, answer.json()["type"]) == (401, "urn:ingest:problem:token-expired")


async def test_a_revoked_key_stops_the_dock(client, pool, station_key, token):
    await client.get("/upload/1", headers=bearer(token))
    await revoke_station_key(station_key.verifying_key.key_id, pool=pool)

    answer = await client.get("/upload/1", headers=bearer(token))
    assert (answer.status_code, answer.json()["action"]) == (401, "stop")


async def test_the_line_names_the_principal_and_not_the_token(client, token):
    with structlog.testing.capture_logs() as lines:
        await client.get("/upload/1", headers=bearer(token))

    assert (lines[0]["principal_kind"], lines[0]["principal"]) == ("station", "dock-1")
    assert token not in str(lines)


async def test_openapi_asks_for_the_token(client):
    schema = (await client.get("/openapi.json")).json()

    assert schema["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert schema["paths"]["/clips"]["get"]["security"] == [{"bearer": []}]
