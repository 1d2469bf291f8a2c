"""The witness as an ASGI application (C2SP tlog-witness)."""

from typing import Final

import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ingest_service.domain.note import NoteInvalid
from ingest_service.domain.witnessing import SIZE_TYPE, AddCheckpoint, parse_add_checkpoint
from ingest_service.witness.cosign import (
    Inconsistent,
    NotSigned,
    UnknownLog,
    Witness,
    WrongSize,
)
from ingest_service.witness.memory import MemoryUnusable

# 63 hashes and 100 signature lines fit into a fraction of this.
BODY_BYTES_MAX: Final = 64 * 1024

_REFUSALS: Final[dict[type[Exception], tuple[int, str]]] = {
    UnknownLog: (404, "this log is not watched here"),
    NotSigned: (403, "no known key of this log signed this checkpoint"),
    NoteInvalid: (400, "the old size is larger than the checkpoint's"),
    MemoryUnusable: (503, "this witness cannot remember now"),
}
_LOG: Final = structlog.get_logger("ingest.witness")


def make_witness_app(witness: Witness) -> Starlette:
    """Return the application of one witness."""

    async def add_checkpoint(request: Request) -> Response:
        try:
            asked = parse_add_checkpoint(await _read_body(request))
        except ClientDisconnect:
            return Response(status_code=400)
        except (NoteInvalid, UnicodeDecodeError) as error:
            return PlainTextResponse(f"{error}\n", 400)
        return await _answer(witness, asked)

    async def get_key(_request: Request) -> Response:
        return PlainTextResponse(f"{witness.verifier_key}\n")

    async def get_life(_request: Request) -> Response:
        return PlainTextResponse("alive\n")

    return Starlette(
        routes=[
            Route("/add-checkpoint", add_checkpoint, methods=["POST"]),
            Route("/key", get_key),
            Route("/livez", get_life),
        ]
    )


async def _read_body(request: Request) -> str:
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > BODY_BYTES_MAX:
            message = f"a request has at most {BODY_BYTES_MAX} bytes"
            raise NoteInvalid(message)
    return body.decode()


async def _answer(witness: Witness, asked: AddCheckpoint) -> Response:
    checkpoint = asked.signed.checkpoint
    told = _LOG.bind(origin=checkpoint.origin, old_size=asked.old_size, size=checkpoint.size)
    try:
        line = await witness.add_checkpoint(asked)
    except WrongSize as wrong:
        told.info("not_the_next", known_size=wrong.size)
        return Response(f"{wrong.size}\n", 409, {"Content-Type": SIZE_TYPE})
    except Inconsistent as error:
        # The log's key signed it, and it does not fit: keep what may be proof of a fork.
        told.error("inconsistent_checkpoint", reason=str(error), note=asked.signed.text)
        return PlainTextResponse(f"{error}\n", 422)
    except tuple(_REFUSALS) as error:
        told.warning("refused", reason=f"{type(error).__name__}: {error}")
        status, text = _REFUSALS[type(error)]
        return PlainTextResponse(f"{text}\n", status)
    told.info("cosigned")
    return PlainTextResponse(line)
