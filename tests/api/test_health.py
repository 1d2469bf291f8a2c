"""What probes and SREs are told, and what strangers are not."""

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import httpx
import pytest
from fastapi import FastAPI

from ingest_service.actions.identify_principal import Authenticator
from ingest_service.actions.record_traffic import TrafficMeter
from ingest_service.api import health
from ingest_service.api.middleware import ObserveRequests
from ingest_service.api.problems import add_problem_handlers
from ingest_service.domain.draining import Drain
from ingest_service.domain.token import (
    TokenRules,
    import_signing_key,
    make_private_key,
    sign_role_token,
)
from ingest_service.keyring import open_keyring
from tests.fakes import MemoryVault


@pytest.fixture
def issuer():
    return import_signing_key(make_private_key())


@pytest.fixture
async def client(pool, tmp_path, issuer):
    key = issuer.verifying_key
    jwks = tmp_path / "jwks.json"
    jwks.write_text(json.dumps({"keys": [key.public_jwk | {"kid": key.key_id}]}))
    app = FastAPI(openapi_url=None)
    app.state.resources = SimpleNamespace(
        pool=pool,
        vault=MemoryVault(),
        worker_stale_after_s=30,
        jobs=SimpleNamespace(object_lock=None),
        security=SimpleNamespace(note=lambda **_: None),
        traffic=TrafficMeter(),
        drain=Drain(),
        authenticator=Authenticator(
            pool=pool,
            keyring=open_keyring(str(jwks)),
            rules=TokenRules("ingest", None, 30, 3600),
        ),
    )
    add_problem_handlers(app)
    app.include_router(health.router)
    app.add_middleware(ObserveRequests)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://ingest.test") as client:
        yield client


@pytest.fixture
def bearer(issuer):
    def make(role):
        token = sign_role_token(
            issuer, role, now=datetime.now(UTC), lifetime=timedelta(hours=1), issuer="idp.test"
        )
        return {"Authorization": f"Bearer {token}"}

    return make


async def test_alive_needs_nothing(client):
    assert (await client.get("/livez")).json() == {"status": "alive"}


async def test_not_ready_says_what_is_missing(client):
    answer = await client.get("/readyz")

    assert (answer.status_code, answer.json()["status"]) == (503, "not ready")
    assert answer.json()["checks"]["worker"]["ok"] is False
    assert answer.json()["checks"]["database"] == {"ok": True, "detail": "ok"}


async def test_ready_is_200(client, pool):
    await pool.execute("INSERT INTO worker_beats (worker_id, beat_at) VALUES ('w', now())")

    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ready")


@pytest.mark.parametrize("path", ["/metrics", "/openapi.json"])
async def test_a_stranger_is_told_nothing(client, path):
    assert (await client.get(path)).status_code == 401


async def test_metrics_are_for_operators(client, bearer):
    assert (await client.get("/metrics", headers=bearer("reader"))).status_code == 403
    answer = await client.get("/metrics", headers=bearer("operator"))

    assert answer.headers["content-type"].startswith("text/plain")
    assert "ingest_requests_total" in answer.text


async def test_the_description_is_for_anyone_with_a_token(client, bearer):
    answer = await client.get("/openapi.json", headers=bearer("reader"))

    assert "/readyz" in answer.json()["paths"]
