"""The JSON of a request as it was received, fit to be kept for ever."""

import json
import re
from typing import Any, Final

from fastapi import Request

from ingest_service.errors import InvalidRequest

# Deeper than any honest document, and shallow enough for whoever reads it later.
DEPTH_MAX: Final = 32
# A backslash that is itself escaped escapes nothing.
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


async def read_raw_object(request: Request) -> dict[str, Any]:
    """Return the request's JSON object unchanged, for the record.

    FastAPI has read and validated the body before; this only takes it again from memory.

    Raises:
        InvalidRequest: a member twice, or what no database keeps: NUL, lone surrogates, endless
            numbers, nesting without end.
    """
    try:
        raw = json.loads(await request.body(), object_pairs_hook=_refuse_repeated)
        _refuse_depth(raw)
        text = json.dumps(raw, ensure_ascii=False, allow_nan=False)
        text.encode()
    except ValueError as error:
        reason = "the body holds a number or a character that JSON cannot carry"
        raise InvalidRequest(reason) from error
    except RecursionError as error:
        reason = f"the body is nested deeper than {DEPTH_MAX}"
        raise InvalidRequest(reason) from error
    if _NUL.search(text):
        reason = "the body holds a NUL character"
        raise InvalidRequest(reason)
    if not isinstance(raw, dict):
        reason = "the body is not a JSON object"
        raise InvalidRequest(reason)
    return raw


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two members of one name nobody can say later which one was meant."""
    members = dict(pairs)
    if len(members) != len(pairs):
        reason = "the body names a member twice"
        raise InvalidRequest(reason)
    return members


def _refuse_depth(raw: Any) -> None:  # noqa: ANN401 - anything JSON can hold
    level = [raw]
    for _ in range(DEPTH_MAX + 1):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    reason = f"the body is nested deeper than {DEPTH_MAX}"
    raise InvalidRequest(reason)
