"""The JSON of a request as it was received, fit to be kept for ever."""

import json
from typing import Any

from fastapi import Request

from ingest_service.errors import InvalidRequest


async def read_raw_object(request: Request) -> dict[str, Any]:
    """Return the request's JSON object unchanged, for the record.

    FastAPI has read and validated the body before; this only takes it again from memory.

    Raises:
        InvalidRequest: members that no database keeps: NUL, lone surrogates, endless numbers.
    """
    raw = json.loads(await request.body())
    try:
        text = json.dumps(raw, ensure_ascii=False, allow_nan=False)
        text.encode()
    except ValueError as error:
        reason = "the body holds a number or a character that JSON cannot carry"
        raise InvalidRequest(reason) from error
    if "\\u0000" in text:
        reason = "the body holds a NUL character"
        raise InvalidRequest(reason)
    if not isinstance(raw, dict):
        reason = "the body is not a JSON object"
        raise InvalidRequest(reason)
    return raw
