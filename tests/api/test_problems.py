"""Every refusal as a problem document."""

import inspect
import json
from dataclasses import fields
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, Field

from ingest_service import errors
from ingest_service.api.problems import (
    HTTP_ROWS,
    add_problem_handlers,
    documented,
    http_row,
    problem_name,
    problem_response,
)
from schemas.problem import Problem

CLIP_ID = UUID("0199c0de-5f0a-7b7c-8d1e-2f3a4b5c6d7e")


def leaves(kind=errors.IngestError):
    children = kind.__subclasses__()
    return [leaf for child in children for leaf in leaves(child)] if children else [kind]


def make(kind):
    """An error of this class with some value in every field."""
    samples = {"int": 7, "float": 7.5, "str": "x", "UUID": CLIP_ID, "list": [[0, 3]]}
    values = {
        field.name: next(
            value for name, value in samples.items() if name in inspect.formatannotation(field.type)
        )
        for field in fields(kind)
    }
    return kind(**values)


def body_of(response):
    return json.loads(bytes(response.body))


@pytest.mark.parametrize("kind", leaves(), ids=lambda kind: kind.__name__)
def test_every_error_has_its_row(kind):
    assert kind in HTTP_ROWS


@pytest.mark.parametrize("kind", leaves(), ids=lambda kind: kind.__name__)
def test_every_error_becomes_a_whole_problem(kind):
    response = problem_response(make(kind), request_id="r1")

    problem = Problem.model_validate_json(bytes(response.body))
    assert response.headers["content-type"] == "application/problem+json"
    assert (problem.status, problem.request_id) == (response.status_code, "r1")
    assert problem.type == f"urn:ingest:problem:{problem_name(kind)}"
    assert "{" not in (problem.detail or "")


@pytest.mark.parametrize("kind", leaves(), ids=lambda kind: kind.__name__)
def test_the_family_decides_status_and_action(kind):
    row = http_row(kind)

    if issubclass(kind, errors.Unavailable):
        assert (row.status in {503, 507}, row.action) == (True, "retry")
        assert row.retry_after_s is not None
    elif issubclass(kind, errors.CustodyBroken):
        assert (row.status, row.action) == (500, "stop")
    else:
        assert 400 <= row.status < 500


@pytest.mark.parametrize("kind", leaves(errors.Unauthorized), ids=lambda kind: kind.__name__)
def test_a_missing_token_is_asked_for(kind):
    assert problem_response(make(kind)).headers["www-authenticate"].startswith("Bearer")


def test_a_herd_is_spread():
    error = errors.VaultUnavailable("busy")

    waits = {int(problem_response(error).headers["retry-after"]) for _ in range(200)}
    assert waits == {1, 2, 3, 4, 5}


def test_a_full_store_is_told_apart_from_a_busy_one():
    full, busy = problem_response(errors.VaultFull()), problem_response(errors.VaultUnavailable())

    assert (full.status_code, busy.status_code) == (507, 503)
    assert int(full.headers["retry-after"]) > 60


def test_facts_of_a_refusal_are_members():
    body = body_of(problem_response(errors.OffsetMismatch(8, 16)))

    assert (body["expected_offset"], body["provided_offset"]) == (8, 16)


@pytest.mark.parametrize(
    "error",
    [
        errors.LedgerUnavailable("connect to 10.0.0.7 as ingest failed"),
        errors.StoredBytesLost("s3://evidence/secret"),
    ],
)
def test_inner_trouble_stays_inside(error):
    text = bytes(problem_response(error).body).decode()

    assert error.reason not in text


def test_a_surface_may_add_headers():
    response = problem_response(
        errors.UnsupportedProtocolVersion("1.0.0"), headers={"Tus-Version": "1.0.0"}
    )

    assert (response.status_code, response.headers["tus-version"]) == (412, "1.0.0")


def test_what_cannot_be_encoded_is_escaped():
    body = body_of(problem_response(errors.ClipNotFound("\ud800")))

    assert body["clip_id"] == "\ud800"


def test_names_are_stable_and_kebab_case():
    assert problem_name(errors.UnknownDigestAlgorithm) == "unknown-digest-algorithm"


# --- in the application ------------------------------------------------------------------


class Sent(BaseModel):
    size_bytes: int = Field(ge=0)
    secret: str = Field(default="", max_length=4)


@pytest.fixture
async def client():
    app = FastAPI(openapi_url="/openapi.json")
    add_problem_handlers(app)

    @app.post("/things", responses=documented(errors.InvalidRequest, errors.VaultUnavailable))
    async def post_thing(sent: Sent) -> Sent:
        return sent

    @app.get("/things/{number}")
    async def get_thing(number: int) -> int:
        raise errors.ClipNotFound(str(number))

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://ingest.test") as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "name"),
    [
        ("GET", "/things/7", None, 404, "clip-not-found"),
        ("GET", "/things/x", None, 422, "invalid-request"),
        ("GET", "/nothing", None, 404, "route-not-found"),
        ("DELETE", "/things", None, 405, "method-not-allowed"),
        ("POST", "/things", b"{", 400, "malformed-body"),
        ("POST", "/things", b'{"size_bytes":\xff}', 400, "malformed-body"),
        ("POST", "/things", b"[" * 100_000, 400, "malformed-body"),
        ("POST", "/things", b"", 422, "invalid-request"),
        ("POST", "/things", b"7", 422, "invalid-request"),
        ("POST", "/things", b'{"size_bytes":-1}', 422, "invalid-request"),
    ],
)
async def test_the_frameworks_refusals_are_problems_too(
    client, method, path, content, status, name
):
    headers = {"Content-Type": "application/json"}

    answer = await client.request(method, path, content=content, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:ingest:problem:{name}")


async def test_a_wrong_method_is_told_the_right_ones(client):
    assert (await client.delete("/things")).headers["allow"] == "POST"


async def test_an_invalid_field_is_named_but_not_repeated(client):
    answer = await client.post("/things", json={"size_bytes": "many", "secret": "hunter2hunter2"})

    assert "body.size_bytes" in answer.json()["detail"]
    assert "body.secret" in answer.json()["detail"]
    assert "hunter2" not in answer.text
    assert "many" not in answer.text


async def test_control_characters_do_not_reach_the_answer(client):
    answer = await client.get("/no%1b%5b31mthing")

    assert "\x1b" not in answer.json()["path"]


@pytest.mark.parametrize("host", ["[", "a/b?c", "\u00e9".encode()])
async def test_a_strange_host_is_no_surprise(client, host):
    answer = await client.get("/nothing", headers={"Host": host})

    assert (answer.status_code, answer.json()["path"]) == (404, "/nothing")


async def test_openapi_shows_each_refusal_with_an_example(client):
    schema = (await client.get("/openapi.json")).json()

    answers = schema["paths"]["/things"]["post"]["responses"]
    for status, name in (("422", "invalid-request"), ("503", "vault-unavailable")):
        assert list(answers[status]["content"]) == ["application/problem+json"]
        example = answers[status]["content"]["application/problem+json"]["examples"][name]["value"]
        assert Problem.model_validate(example).status == int(status)
    assert "remedy" in schema["components"]["schemas"]["Problem"]["properties"]
