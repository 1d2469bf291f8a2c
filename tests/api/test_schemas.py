"""What outsiders rely on: generated, committed, the present one, and no breach of what was."""

import copy
import json

import pytest

from ingest_service.app import create_app
from ingest_service.cli.schemas import make_asyncapi, make_schemas
from ingest_service.dev.compare_openapi import BASELINE, find_breaks, prune
from ingest_service.domain.event_types import EVENT_TYPES
from ingest_service.settings import Settings
from tests.docs.documents import ROOT

MADE = make_schemas()
PRESENT = prune(create_app(Settings.model_construct()).openapi())


@pytest.mark.parametrize("name", MADE)
def test_the_committed_schema_is_the_present_one(name):
    message = "run `make schema` and commit"

    assert (ROOT / "schemas" / name).read_text(encoding="utf-8") == MADE[name], message


def test_there_is_a_schema_of_all_that_outsiders_keep():
    assert set(MADE) == {
        "clip.schema.json",
        "event.schema.json",
        "receipt.schema.json",
        "webhook.schema.json",
        "asyncapi.json",
    }


def references(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for child in node.values():
            yield from references(child)
    elif isinstance(node, list):
        for child in node:
            yield from references(child)


@pytest.mark.parametrize("name", MADE)
def test_every_reference_leads_somewhere(name):
    document = json.loads(MADE[name])

    for reference in references(document):
        found = document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
        assert found


def test_the_asyncapi_document_is_of_version_3():
    document = make_asyncapi()

    assert document["asyncapi"].startswith("3.")
    for operation in document["operations"].values():
        assert operation["action"] in {"send", "receive"}
        channel = operation["channel"]["$ref"].rpartition("/")[2]
        for message in operation["messages"]:
            assert message["$ref"].startswith(f"#/channels/{channel}/messages/")
    listed = {name.removeprefix("local.ingest.") for name in document["x-event-types"]}
    assert listed == EVENT_TYPES - {"audit.viewed"}


async def test_events_bear_what_their_schema_requires_and_nothing_it_does_not_know(served, dock):
    schema = json.loads(MADE["event.schema.json"])
    await dock.secure(b"x")
    async with served.client(served.token("events:read")) as client:
        events = (await client.get("/v1/events", params={"limit": 1000})).json()

    assert events
    for event in events:
        assert set(schema["required"]) <= set(event) <= set(schema["properties"])


async def test_a_receipt_and_a_clip_bear_the_members_of_their_schemas(dock, reader):
    clip_id = await dock.secure(b"x")

    clip = (await reader.get(f"/v1/clips/{clip_id}")).json()
    receipt = (await dock.http.get(f"/v1/clips/{clip_id}/receipt")).json()
    assert set(clip) == set(json.loads(MADE["clip.schema.json"])["properties"])
    assert set(receipt) == set(json.loads(MADE["receipt.schema.json"])["properties"])


# --- breaking changes ----------------------------------------------------------------------


def test_nothing_breaks_who_wrote_against_the_baseline():
    baseline = json.loads((ROOT / BASELINE).read_text(encoding="utf-8"))
    message = "see CONTRIBUTING.md, 'Change the API'"

    assert find_breaks(baseline, PRESENT) == [], message


def test_the_same_breaks_nobody():
    assert find_breaks(PRESENT, PRESENT) == []


OLD = {
    "paths": {
        "/things": {
            "get": {
                "parameters": [
                    {"in": "query", "name": "limit", "schema": {"type": "integer", "maximum": 9}},
                    {"in": "query", "name": "state", "schema": {"enum": ["a", "b"]}},
                ],
                "responses": {
                    "200": {
                        "content": {
                            "application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}
                        }
                    },
                    "404": {},
                },
            },
            "post": {
                "requestBody": {
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/New"}}
                    }
                },
                "responses": {"201": {}},
            },
        }
    },
    "components": {
        "schemas": {
            "Thing": {
                "type": "object",
                "required": ["id", "name"],
                "properties": {
                    "id": {"type": "string"},
                    "name": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                    "state": {"type": "string", "enum": ["a"]},
                    "parts": {"type": "array", "items": {"$ref": "#/components/schemas/Thing"}},
                },
            },
            "New": {
                "type": "object",
                "required": ["id"],
                "properties": {
                    "id": {"type": "string", "maxLength": 10},
                    "name": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                },
            },
        }
    },
}
THINGS, GET, POST = "/things", ("paths", "/things", "get"), ("paths", "/things", "post")
THING = ("components", "schemas", "Thing")
NEW = ("components", "schemas", "New")


def changed(path, value):
    """The description with one thing changed; None takes it away."""
    new = copy.deepcopy(OLD)
    node = new
    for step in path[:-1]:
        node = node[step]
    if value is None:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return new


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("paths", THINGS), None, "the route is gone"),
        (GET, None, "the method is gone"),
        ((*GET, "responses", "200"), None, "no longer answers 200"),
        ((*GET, "responses", "200", "content"), {}, "application/json is gone"),
        ((*GET, "security"), [{"bearer": []}], "needs a token now"),
        ((*GET, "parameters", 1), None, "the parameter is gone"),
        ((*GET, "parameters", 0, "required"), True, "is required now"),
        ((*GET, "parameters", 0, "schema", "maximum"), 8, "maximum is 8 now"),
        ((*GET, "parameters", 0, "schema", "minimum"), 1, "minimum is 1 now"),
        ((*GET, "parameters", 0, "schema", "type"), "string", "may not be integer"),
        (
            (*GET, "parameters", 1),
            {"in": "query", "name": "state", "schema": {"type": "string", "enum": ["a"]}},
            "may not be anything",
        ),
        ((*POST, "requestBody", "required"), True, "a body is required now"),
        ((*POST, "requestBody"), None, "takes no body any more"),
        ((*THING, "properties", "id"), None, ".id: the member is gone"),
        ((*THING, "properties", "id", "type"), "integer", ".id: may be integer now"),
        ((*THING, "properties", "id"), {}, ".id: may be anything now"),
        (
            (*THING, "properties", "id"),
            {"anyOf": [{"type": "string"}, {"type": "null"}]},
            ".id: may be null now",
        ),
        ((*THING, "required"), ["id"], ".name: may be missing now"),
        ((*THING, "properties", "parts", "items"), {"type": "string"}, "[]: may be string now"),
        ((*NEW, "required"), ["id", "name"], ".name: is required now"),
        ((*NEW, "properties", "id", "maxLength"), 9, "maxLength is 9 now"),
        ((*NEW, "properties", "id", "pattern"), "^a$", "pattern is ^a$ now"),
        ((*NEW, "properties", "name"), {"type": "string"}, "may not be null any more"),
        ((*NEW, "properties", "id", "enum"), ["x"], "is no value any more"),
        ((*NEW, "additionalProperties"), False, "unknown members are refused now"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_breaks_somebody_is_told(path, value, told):
    breaks = find_breaks(OLD, changed(path, value))

    assert any(told in problem for problem in breaks), breaks


def test_a_new_parameter_that_is_required_breaks():
    new = changed((*GET, "parameters"), [])
    new["paths"][THINGS]["get"]["parameters"] = [
        *OLD["paths"][THINGS]["get"]["parameters"],
        {"in": "query", "name": "why", "required": True, "schema": {"type": "string"}},
    ]

    assert find_breaks(OLD, new) == ["GET /things query why: a new parameter is required"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("paths", "/more"), {"get": {"responses": {"200": {}}}}),
        ((*GET, "responses", "404"), None),
        ((*GET, "parameters", 0, "schema", "maximum"), 10),
        ((*THING, "properties", "more"), {"type": "string"}),
        ((*THING, "properties", "state", "enum"), ["a", "z"]),
        ((*THING, "properties", "name"), {"type": "string"}),
        ((*THING, "required"), ["id", "name", "state"]),
        ((*NEW, "required"), []),
        ((*NEW, "properties", "more"), {"type": "string"}),
        ((*NEW, "properties", "id", "maxLength"), 11),
        ((*THING, "properties", "id", "description"), "text"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_breaks_nobody_passes(path, value):
    assert find_breaks(OLD, changed(path, value)) == []


def test_prose_is_not_in_the_baseline():
    pruned = prune(
        {
            "paths": {"/a": {"get": {"summary": "x", "responses": {"200": {}, "404": {}}}}},
            "components": {
                "schemas": {"T": {"properties": {"title": {"type": "string", "title": "Title"}}}}
            },
        }
    )

    assert pruned["paths"]["/a"]["get"] == {"responses": {"200": {}}}
    assert pruned["components"]["schemas"]["T"] == {"properties": {"title": {"type": "string"}}}
