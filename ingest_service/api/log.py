"""The custody log as outsiders read it: C2SP tlog-tiles, and proofs for those without tiles."""

import base64
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import PlainTextResponse

from ingest_service import errors
from ingest_service.actions.prove_log import get_checkpoint, prove_event, prove_growth
from ingest_service.actions.stamp_checkpoint import get_timestamp
from ingest_service.api.deps import Granted, Opened
from ingest_service.api.headers import prefers_text
from ingest_service.api.problems import WITH_TOKEN, documented
from ingest_service.domain.log_paths import BadTilePath, bundle_entries, parse_tile_path
from ingest_service.domain.merkle import HASH_BYTES, TILE_WIDTH, TileId
from ingest_service.domain.principal import AUDIT_READ, Principal
from ingest_service.domain.receipt import format_leaf_proof
from ingest_service.ledger import log
from ingest_service.ledger.connection import reading
from ingest_service.signer import list_verifier_keys
from schemas.log import GrowthProof, LogProof, Timestamp

router = APIRouter(tags=["log"])

_OCTETS: Final = "application/octet-stream"
_IMMUTABLE: Final = {"Cache-Control": "public, max-age=31536000, immutable"}
_FRESH: Final = {"Cache-Control": "public, max-age=1"}
_VARIES: Final = {"Vary": "Accept"}
_OR_TEXT: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}}
}
_LEVEL_MAX: Final = 63
_DIGITS_MAX: Final = 18  # fits the ledger's bigint
_TILE_INDEX_MAX: Final = (2**63 - 1) // TILE_WIDTH - 1  # so does every leaf of such a tile
_OPEN = (errors.LogPartNotFound, errors.LedgerUnavailable)
_TILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {_OCTETS: {}}, "description": "Immutable bytes"},
    **documented(*_OPEN, errors.InvalidLogRange),
}


@router.get(
    "/log/checkpoint",
    summary="The newest checkpoint",
    response_class=PlainTextResponse,
    responses=documented(*_OPEN),
)
async def get_newest_checkpoint(opened: Opened) -> PlainTextResponse:
    """Answer with the newest published checkpoint: a signed note (C2SP tlog-checkpoint)."""
    return PlainTextResponse(
        await get_checkpoint(pool=opened.pool, witnesses=opened.head.witnesses), headers=_FRESH
    )


@router.get("/log/key", summary="The log's verifier key", response_class=PlainTextResponse)
async def get_key(opened: Opened) -> PlainTextResponse:
    """Answer with the verifier key (C2SP signed-note). Pin it from elsewhere, not from here.

    While keys are changed there are two lines: first the key that signs receipts now, then the
    other one that signs checkpoints beside it.
    """
    lines = "".join(f"{key}\n" for key in list_verifier_keys(opened.signer))
    return PlainTextResponse(lines, headers=_FRESH)


@router.get(
    "/log/consistency",
    summary="Proof that the log only grew",
    response_model=GrowthProof,
    responses={**_OR_TEXT, **documented(*_OPEN, errors.InvalidLogRange)},
)
async def get_consistency(
    request: Request,
    opened: Opened,
    old_size: Annotated[str, Query(alias="from", description="The older size.")],
    new_size: Annotated[str, Query(alias="to", description="The newer size.")],
) -> GrowthProof | Response:
    """Answer with the hashes that lead from the old tree to the new one (RFC 6962).

    As text/plain, if that is what Accept prefers: one base64 hash a line.
    """
    sizes = _parse_number(old_size), _parse_number(new_size)
    path = [
        base64.b64encode(each).decode() for each in await prove_growth(*sizes, pool=opened.pool)
    ]
    if prefers_text(request.headers):
        return PlainTextResponse("".join(f"{each}\n" for each in path), headers=_VARIES)
    return GrowthProof(old_size=sizes[0], new_size=sizes[1], path=path)


@router.get(
    "/log/timestamp",
    summary="A time stamp on a checkpoint",
    responses=documented(*_OPEN, errors.InvalidLogRange),
)
async def get_log_timestamp(
    opened: Opened,
    covering: Annotated[
        str | None, Query(description="Log index; the oldest time stamp over it is given.")
    ] = None,
) -> Timestamp:
    """Answer with a checkpoint and a time authority's word that it existed at a time (RFC 3161).

    The newest one, or the oldest that covers an index: by then the event there was logged.
    """
    index = None if covering is None else _parse_number(covering)
    stamped = await get_timestamp(index, pool=opened.pool)
    return Timestamp(
        tree_size=stamped.tree_size,
        checkpoint=stamped.note,
        token=base64.b64encode(stamped.token).decode(),
        gen_time=stamped.gen_time,
    )


# Before the hash tiles: 'entries' stands where a level does.
@router.get(
    "/log/tile/entries/{path:path}",
    summary="An entry bundle",
    response_class=Response,
    responses={
        **documented(*WITH_TOKEN),
        **_TILE,
    },
)
async def get_entries(
    path: str,
    opened: Opened,
    auditor: Annotated[Principal, Depends(Granted(AUDIT_READ))],
) -> Response:
    """Answer with up to 256 leaves, each behind its length; for auditors only."""
    # The log is of all boroughs: who may see only some of them reads clips' events instead.
    auditor.require_everywhere(AUDIT_READ)
    index, width = _parse(path)
    start = index * TILE_WIDTH
    async with reading(opened.pool) as connection:
        events = await log.list_leaves(connection, start, start + width)
    if len(events) < width:
        reason = f"the log has fewer than {start + width} leaves"
        raise errors.LogPartNotFound(reason)
    bundle = bundle_entries([event.leaf for event in events])
    return Response(bundle, media_type=_OCTETS, headers=_IMMUTABLE)


@router.get(
    "/log/tile/{level}/{path:path}",
    summary="A tile of hashes",
    response_class=Response,
    responses=_TILE,
)
async def get_tile(level: str, path: str, opened: Opened) -> Response:
    """Answer with a tile's hashes, 32 bytes each; a partial tile is a prefix of the full one."""
    index, width = _parse(path)
    tile = TileId(_parse_number(level), index)
    if tile.level > _LEVEL_MAX:
        reason = f"tile levels end at {_LEVEL_MAX}"
        raise errors.InvalidLogRange(reason)
    async with reading(opened.pool) as connection:
        hashes = (await log.read_tiles(connection, [tile])).get(tile, b"")
    if len(hashes) < width * HASH_BYTES:
        reason = f"tile {tile.level}/{index} has {len(hashes) // HASH_BYTES} hashes"
        raise errors.LogPartNotFound(reason)
    return Response(hashes[: width * HASH_BYTES], media_type=_OCTETS, headers=_IMMUTABLE)


def _parse(path: str) -> tuple[int, int]:
    try:
        index, width = parse_tile_path(path)
    except BadTilePath as error:
        reason = "a tile's path is <index in elements of three digits>[.p/<width>]"
        raise errors.InvalidLogRange(reason) from error
    if index > _TILE_INDEX_MAX:
        reason = f"indices of tiles end at {_TILE_INDEX_MAX}"
        raise errors.InvalidLogRange(reason)
    return index, width


def _parse_number(text: str) -> int:
    """Read an index or size: decimal, without sign or leading zeroes."""
    is_number = text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX
    if not is_number or (text.startswith("0") and text != "0"):
        reason = "indices, sizes and levels are decimal numbers without leading zeroes"
        raise errors.InvalidLogRange(reason)
    return int(text)


@router.get(
    "/v1/events/{log_index}/proof",
    summary="Proof that an event is in the log",
    response_model=LogProof,
    responses={
        **_OR_TEXT,
        **documented(*WITH_TOKEN, *_OPEN, errors.InvalidLogRange, errors.LogForked),
    },
)
async def get_proof(
    log_index: str,
    request: Request,
    opened: Opened,
    auditor: Annotated[Principal, Depends(Granted(AUDIT_READ))],
) -> LogProof | Response:
    """Answer with the event's leaf and its tlog-proof@v1.

    As text/plain, if that is what Accept prefers: the leaf's exact bytes on one line, a newline,
    then the proof.
    """
    auditor.require_everywhere(AUDIT_READ)
    proven = await prove_event(
        _parse_number(log_index),
        pool=opened.pool,
        head=opened.head,
        verifier_key=opened.signer.verifier_key,
    )
    if prefers_text(request.headers):
        return PlainTextResponse(format_leaf_proof(proven.leaf, proven.proof), headers=_VARIES)
    return LogProof(log_index=proven.log_index, leaf=proven.leaf.decode(), proof=proven.proof)
