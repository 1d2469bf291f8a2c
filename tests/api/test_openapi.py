"""The description of the API: complete, true, and the committed one.

That no answer was met which it does not tell is looked at after every test here (conftest).
"""

from pathlib import Path

import pytest

from ingest_service.app import create_app
from ingest_service.cli.openapi import make_openapi
from ingest_service.settings import Settings
from schemas.problem import Problem

COMMITTED = Path(__file__).parents[2] / "schemas" / "openapi.json"
DESCRIPTION = create_app(Settings.model_construct()).openapi()
OPERATIONS = [
    pytest.param(path, method, id=f"{method.upper()} {path}")
    for path, operations in DESCRIPTION["paths"].items()
    for method in operations
]
PUBLIC = ("/livez", "/readyz", "/log/", "/upload", "/ops", "/d/")


def operation(path, method):
    return DESCRIPTION["paths"][path][method]


def resolve(node):
    if "$ref" in node:
        found = DESCRIPTION
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        return found
    return node


def references(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node
        for child in node.values():
            yield from references(child)
    elif isinstance(node, list):
        for child in node:
            yield from references(child)


def test_the_committed_description_is_the_present_one():
    message = "run `make schema` and commit"

    assert COMMITTED.read_text(encoding="utf-8") == make_openapi(), message


def test_every_reference_leads_somewhere():
    found = [resolve(node) for node in references(DESCRIPTION)]

    assert found


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_call_says_what_it_is_for(path, method):
    described = operation(path, method)

    assert described["summary"]
    assert described["description"]
    assert described["tags"]


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_json_body_has_an_example(path, method):
    content = operation(path, method).get("requestBody", {}).get("content", {})

    for media_type, body in content.items():
        if media_type == "application/json":
            assert resolve(body["schema"]).get("examples") or body.get("examples")


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_refusal_is_a_problem_document(path, method):
    for status, response in operation(path, method)["responses"].items():
        if status < "400" or (path, status) == ("/readyz", "503"):
            continue
        assert list(response["content"]) == ["application/problem+json"], status
        body = response["content"]["application/problem+json"]
        assert body["schema"] == {"$ref": "#/components/schemas/Problem"}
        for example in body.get("examples", {}).values():
            assert str(Problem.model_validate(example["value"]).status) == status


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_call_says_whether_it_needs_a_token(path, method):
    described = operation(path, method)
    is_public = path.startswith(PUBLIC) and path != "/log/tile/entries/{path}"
    is_public |= method == "options"

    assert bool(described.get("security")) is not is_public
    assert ("401" in described["responses"]) is not is_public


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_call_says_how_it_succeeds(path, method):
    assert any(status < "400" for status in operation(path, method)["responses"])


def test_no_two_calls_share_a_name():
    names = [
        described["operationId"]
        for operations in DESCRIPTION["paths"].values()
        for described in operations.values()
    ]

    assert len(set(names)) == len(names)
