"""Whether a new description of the API breaks those who wrote against the old one.

`python -m ingest_service.dev.compare_openapi` compares `schemas/openapi.json` with the baseline,
`schemas/openapi.baseline.json`, prints what breaks, and fails if anything does. With `--accept` it
makes the present description the baseline: at a release, or for what was never released.

Broken is who reads and misses a member, or finds another type in it; and who sends and is refused
what was taken before. New routes, new members of answers, new values of an enumeration in an
answer, new optional parameters break nobody: docs/feed.md asks readers to ignore what they do not
know.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

OPENAPI: Final = Path("schemas/openapi.json")
BASELINE: Final = Path("schemas/openapi.baseline.json")

Document = dict[str, Any]
Direction = Literal["request", "response"]

_ERRORS_FROM: Final = "400"
_METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch")
_LOWER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_TOLD: Final = frozenset({"description", "summary", "title", "examples", "example", "default"})
_DEPTH_MAX: Final = 12


def prune(document: Document) -> Document:
    """Return only what `find_breaks` looks at: no prose, no refusals, no examples."""
    pruned: Document = _strip(document)
    for operations in pruned["paths"].values():
        for operation in operations.values():
            operation["responses"] = {
                status: response
                for status, response in operation["responses"].items()
                if status < _ERRORS_FROM
            }
    return pruned


def _strip(node: Any, *, is_names: bool = False) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(node, list):
        return [_strip(each) for each in node]
    if not isinstance(node, dict):
        return node
    # Members of `properties` and `schemas` are names, whatever they are called.
    return {
        name: _strip(child, is_names=name in {"properties", "schemas"} and not is_names)
        for name, child in node.items()
        if is_names or name not in _TOLD
    }


def find_breaks(old: Document, new: Document) -> list[str]:
    """Return what breaks, in words; empty: nothing."""
    return sorted(set(_compare_paths(old, new)))


def _compare_paths(old: Document, new: Document) -> Iterator[str]:
    for path, operations in old["paths"].items():
        if path not in new["paths"]:
            yield f"{path}: the route is gone"
            continue
        for method in _METHODS:
            if method not in operations:
                continue
            where = f"{method.upper()} {path}"
            changed = new["paths"][path].get(method)
            if changed is None:
                yield f"{where}: the method is gone"
                continue
            comparison = _Comparison(old, new)
            yield from comparison.operation(operations[method], changed, where)


class _Comparison:
    """Two documents, and which of their schemas are being compared already."""

    def __init__(self, old: Document, new: Document) -> None:
        self._old = old
        self._new = new
        self._open: set[tuple[str, str]] = set()

    def operation(self, old: Document, new: Document, where: str) -> Iterator[str]:
        if new.get("security") and not old.get("security"):
            yield f"{where}: needs a token now"
        yield from self._parameters(old, new, where)
        yield from self._body(old, new, where)
        for status, response in old["responses"].items():
            if status >= _ERRORS_FROM:
                continue
            changed = new["responses"].get(status)
            if changed is None:
                yield f"{where}: no longer answers {status}"
                continue
            yield from self._content(response, changed, f"{where} {status}", "response")

    def _parameters(self, old: Document, new: Document, where: str) -> Iterator[str]:
        before = {(each["in"], each["name"]): each for each in old.get("parameters", ())}
        after = {(each["in"], each["name"]): each for each in new.get("parameters", ())}
        for key, parameter in before.items():
            place = f"{where} {key[0]} {key[1]}"
            if key not in after:
                yield f"{place}: the parameter is gone"
                continue
            if after[key].get("required") and not parameter.get("required"):
                yield f"{place}: is required now"
            yield from self._schema(
                parameter.get("schema", {}), after[key].get("schema", {}), place, "request"
            )
        for key, parameter in after.items():
            if key not in before and parameter.get("required"):
                yield f"{where} {key[0]} {key[1]}: a new parameter is required"

    def _body(self, old: Document, new: Document, where: str) -> Iterator[str]:
        before, after = old.get("requestBody"), new.get("requestBody")
        if after is None:
            if before is not None:
                yield f"{where}: takes no body any more"
            return
        if after.get("required") and not (before or {}).get("required"):
            yield f"{where}: a body is required now"
        yield from self._content(before or {}, after, f"{where} body", "request")

    def _content(
        self, old: Document, new: Document, where: str, direction: Direction
    ) -> Iterator[str]:
        for media_type, content in old.get("content", {}).items():
            changed = new.get("content", {}).get(media_type)
            if changed is None:
                yield f"{where}: {media_type} is gone"
                continue
            yield from self._schema(
                content.get("schema", {}), changed.get("schema", {}), where, direction
            )

    def _schema(
        self, old: Document, new: Document, where: str, direction: Direction
    ) -> Iterator[str]:
        pair = (json.dumps(old, sort_keys=True), json.dumps(new, sort_keys=True))
        if pair in self._open or len(self._open) > _DEPTH_MAX:
            return
        self._open.add(pair)
        try:
            before = _variants(old, self._old)
            after = _variants(new, self._new)
            # Without any type, anything may come.
            if direction == "response" and before:
                for kind in sorted(set(after) - set(before)):
                    yield f"{where}: may be {kind} now"
                if not after:
                    yield f"{where}: may be anything now"
            if direction == "request" and after:
                for kind in sorted(set(before) - set(after)):
                    yield f"{where}: may not be {kind} any more"
                if not before:
                    yield f"{where}: may not be anything any more"
            for kind in before.keys() & after.keys():
                yield from self._variant(before[kind], after[kind], where, direction)
        finally:
            self._open.discard(pair)

    def _variant(
        self, old: Document, new: Document, where: str, direction: Direction
    ) -> Iterator[str]:
        if direction == "request":
            yield from _find_tighter(old, new, where)
        if "items" in old and "items" in new:
            yield from self._schema(old["items"], new["items"], f"{where}[]", direction)
        members, changed = old.get("properties", {}), new.get("properties", {})
        for name, member in members.items():
            place = f"{where}.{name}"
            if name in changed:
                yield from self._schema(member, changed[name], place, direction)
            elif direction == "response" or new.get("additionalProperties") is False:
                yield f"{place}: the member is gone"
        needed_before, needed_now = set(old.get("required", ())), set(new.get("required", ()))
        if direction == "response":
            for name in sorted((needed_before - needed_now) & changed.keys()):
                yield f"{where}.{name}: may be missing now"
        else:
            for name in sorted(needed_now - needed_before):
                yield f"{where}.{name}: is required now"


def _find_tighter(old: Document, new: Document, where: str) -> Iterator[str]:
    for bound in _LOWER:
        if bound in new and new[bound] > old.get(bound, float("-inf")):
            yield f"{where}: {bound} is {new[bound]} now"
    for bound in _UPPER:
        if bound in new and new[bound] < old.get(bound, float("inf")):
            yield f"{where}: {bound} is {new[bound]} now"
    for rule in ("pattern", "format"):
        if rule in new and new[rule] != old.get(rule):
            yield f"{where}: {rule} is {new[rule]} now"
    if "enum" in new:
        gone = set(map(str, old["enum"])) - set(map(str, new["enum"])) if "enum" in old else {"all"}
        for value in sorted(gone):
            yield f"{where}: {value} is no value any more"
    if new.get("additionalProperties") is False and old.get("additionalProperties", True):
        yield f"{where}: unknown members are refused now"


def _variants(schema: Document, document: Document) -> dict[str, Document]:
    """Return what a value may be, by its JSON type; empty: anything."""
    schema = _resolve(schema, document)
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        found: dict[str, Document] = {}
        for choice in choices:
            for kind, variant in _variants(choice, document).items():
                found[kind] = _merge(found[kind], variant) if kind in found else variant
        return found
    kinds = schema.get("type")
    if kinds is None and "const" in schema:
        return {type(schema["const"]).__name__: schema}
    if kinds is None:
        return {"object": schema} if "properties" in schema else {}
    return dict.fromkeys([kinds] if isinstance(kinds, str) else kinds, schema)


def _merge(one: Document, other: Document) -> Document:
    """Return both of one type as if they were one: members of either, required by both."""
    return {
        **one,
        **other,
        "properties": {**one.get("properties", {}), **other.get("properties", {})},
        "required": sorted(set(one.get("required", ())) & set(other.get("required", ()))),
    }


def _resolve(schema: Document, document: Document) -> Document:
    while "$ref" in schema:
        found: Any = document
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        schema = found
    return schema


def dump_baseline(document: Document) -> str:
    """Return a description as the baseline file holds it."""
    return json.dumps(prune(document), indent=1, sort_keys=True) + "\n"


def main() -> None:
    """Compare, or accept; see the module's own words."""
    present = json.loads(OPENAPI.read_text(encoding="utf-8"))
    if sys.argv[1:] == ["--accept"]:
        BASELINE.write_text(dump_baseline(present), encoding="utf-8")
        return
    breaks = find_breaks(json.loads(BASELINE.read_text(encoding="utf-8")), prune(present))
    for problem in breaks:
        sys.stdout.write(f"{problem}\n")
    sys.exit(1 if breaks else 0)


if __name__ == "__main__":
    main()
