"""The page on which a person uploads a clip by hand, when a dock is out of order."""

import hashlib
from functools import cache
from importlib.resources import files
from typing import Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response

from ingest_service.api.deps import Opened
from ingest_service.api.page_headers import PAGE_HEADERS
from ingest_service.api.problems import documented
from ingest_service.errors import RouteNotFound

router = APIRouter(tags=["page"])

PAGE: Final = "upload.html"
ASSETS: Final = frozenset({"upload.css", "upload.js", "uppy.js", "uppy.LICENSES.txt"})

_MEDIA_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
}
# Nothing but files of ours is loaded, run or spoken to; no text becomes markup or script.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
    "connect-src 'self' {origin}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


@router.get(
    "/upload",
    summary="Upload a clip by hand",
    response_class=Response,
    responses={
        200: {"content": {"text/html": {}}, "description": "The page"},
        304: {"description": "The ETag in If-None-Match is the present one"},
    },
)
async def get_page(request: Request, opened: Opened) -> Response:
    """Answer with the page. It needs no token: the person enters one, and the page keeps it."""
    return answer_with_file(PAGE, request, opened.base_url)


@router.get(
    "/upload/{name}",
    summary="A file of the page",
    response_class=Response,
    responses={
        200: {"content": {"text/css": {}, "text/javascript": {}}, "description": "The file"},
        304: {"description": "The ETag in If-None-Match is the present one"},
        **documented(RouteNotFound),
    },
)
async def get_asset(name: str, request: Request, opened: Opened) -> Response:
    """Answer with a script, a style sheet or the licences of what is bundled."""
    if name not in ASSETS:
        raise RouteNotFound(request.method, f"/upload/{name[:64]}")
    return answer_with_file(name, request, opened.base_url)


def answer_with_file(name: str, request: Request, base_url: str) -> Response:
    """Answer with a file of the pages, its ETag, and headers that let it load nothing else."""
    content, etag = _read(name)
    # The URLs of uploads have this origin, under whatever name the page was reached.
    parts = urlsplit(base_url)
    headers = {
        **PAGE_HEADERS,
        "Content-Security-Policy": _POLICY.format(origin=f"{parts.scheme}://{parts.netloc}"),
        "Cache-Control": "no-cache",
        "ETag": etag,
    }
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    media_type = _MEDIA_TYPES[name.rsplit(".", 1)[1]]
    return Response(content, headers={**headers, "Content-Type": media_type})


@cache
def _read(name: str) -> tuple[bytes, str]:
    """Return a file of the package and its ETag; they do not change while a process runs."""
    content = (files("ingest_service.api") / "pages" / name).read_bytes()
    return content, f'"{hashlib.sha256(content).hexdigest()[:32]}"'
