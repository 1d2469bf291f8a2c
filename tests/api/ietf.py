"""A client of the IETF protocol, as thin as can be."""

import base64
import hashlib

import httpx

COMPLETE = {"Upload-Complete": "?1"}
INCOMPLETE = {"Upload-Complete": "?0"}


def digest(data: bytes, algorithm: str) -> str:
    name = algorithm.replace("-", "")
    return f"{algorithm}=:{base64.b64encode(hashlib.new(name, data).digest()).decode()}:"


async def _pieces(data: bytes):
    for start in range(0, len(data), 30_000):
        yield data[start : start + 30_000]


def _body(data: bytes, *, is_chunked: bool):
    return _pieces(data) if is_chunked else data


async def create(
    dock,
    data: bytes,
    *,
    complete: bool,
    is_chunked: bool = False,
    method: str = "POST",
    **headers: str,
) -> httpx.Response:
    sent = {**(COMPLETE if complete else INCOMPLETE), **headers}
    body = _body(data, is_chunked=is_chunked)
    return await dock.http.request(method, "/files", content=body, headers=sent)


async def append(
    dock,
    location: str,
    offset: object,
    data: bytes,
    *,
    complete: bool,
    is_chunked: bool = False,
    **headers: str,
) -> httpx.Response:
    sent = {
        **(COMPLETE if complete else INCOMPLETE),
        "Content-Type": "application/partial-upload",
        "Upload-Offset": str(offset),
        **headers,
    }
    return await dock.http.patch(location, content=_body(data, is_chunked=is_chunked), headers=sent)


async def head(dock, location: str, **headers: str) -> httpx.Response:
    return await dock.http.head(location, headers=headers)


async def expect_104(dock, wire, data: bytes, *, version: str = "9", **headers: str):
    """Create an upload on the wire; returns the headers of the 104, and the final answer."""
    sent = {
        **dock.authorization,
        **headers,
        "Upload-Draft-Interop-Version": version,
        "Content-Length": str(len(data)),
    }
    await wire.ask("POST", "/files", sent, data)
    interim = await wire.answer(method="HEAD")
    assert interim.status == 104
    return interim.headers, await wire.answer()
