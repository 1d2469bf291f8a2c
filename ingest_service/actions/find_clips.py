"""Find clips for those who may see them."""

import base64
import binascii
import hashlib
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from ingest_service.domain.canonical import dump_canonical
from ingest_service.domain.clip import Clip
from ingest_service.domain.media import MediaFacts
from ingest_service.domain.principal import Principal
from ingest_service.errors import (
    ANOTHER_BOROUGH,
    ANOTHER_STATION,
    ClipNotFound,
    InvalidCursor,
)
from ingest_service.ledger import clips, media, search, uploads
from ingest_service.ledger.connection import Connection, Pool, reading
from ingest_service.ledger.search import Direction, Place, Search

_CURSOR_MARK: Final = b"c2"
_CURSOR_BYTES: Final = 35
_DIGEST_BYTES: Final = 8
_EXPORT_PAGE: Final = 501
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TICK: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list, and the cursors of its neighbours; None: there is none.

    It may be short, or empty, and have a neighbour all the same: so many clips were looked at.
    """

    clips: list[Clip]
    next_cursor: str | None
    prev_cursor: str | None


async def list_clips(
    asked: Search, principal: Principal, *, cursor: str | None, limit: int, pool: Pool
) -> Page:
    """Return a page of clips in the list's order.

    A cursor is a place between two clips: what comes in or changes meanwhile moves no other clip
    to another page. It is bound to the filters that it was made with.

    Raises:
        InvalidCursor: the cursor was not made here, or for other filters.
    """
    place, direction = (None, _FORWARD) if cursor is None else _read_cursor(cursor, asked)
    async with reading(pool) as connection:
        limited = await _limit(asked, principal, connection)
        listed = await search.list_clips(
            connection, limited, place=place, direction=direction, limit=limit + 1
        )
    found, until = listed.found[:limit], listed.until
    # Where the page ends: at its last clip, or further on, where looking has stopped.
    here = found[0].place if found else until
    there = until or (found[-1].place if found else None)
    is_more = until is not None or len(listed.found) > limit
    if direction == "forward":
        first, last, has_prev, has_next = here, there, place is not None, is_more
    else:
        found.reverse()
        first, last, has_prev, has_next = there, here, is_more, True
    return Page(
        [each.clip for each in found],
        _make_cursor(asked, last, "forward") if last is not None and has_next else None,
        _make_cursor(asked, first, "backward") if first is not None and has_prev else None,
    )


_FORWARD: Final[Direction] = "forward"


async def export_clips(
    asked: Search, principal: Principal, *, pool: Pool
) -> AsyncIterator[list[Clip]]:
    """Yield all clips of a list, in pages; no connection is held while a page is sent.

    Raises:
        LedgerUnavailable: the list breaks off.
    """
    place: Place | None = None
    while True:
        async with reading(pool) as connection:
            limited = await _limit(asked, principal, connection)
            listed = await search.list_clips(connection, limited, place=place, limit=_EXPORT_PAGE)
        yield [each.clip for each in listed.found]
        if listed.until is None and len(listed.found) < _EXPORT_PAGE:
            return
        place = listed.until or listed.found[-1].place


async def _limit(asked: Search, principal: Principal, connection: Connection) -> Search:
    """Return the search within what the principal may see, a site as its stations."""
    boroughs = None if principal.boroughs is None else sorted(principal.boroughs)
    stations = None if asked.site is None else await search.find_stations(connection, asked.site)
    return replace(asked, boroughs=boroughs, stations=stations)


async def get_visible_clip(clip_id: UUID, principal: Principal, *, pool: Pool) -> Clip:
    """Return a clip that exists for this principal: a station sees its own, others by borough.

    Raises:
        ClipNotFound: it does not exist, or not for this principal.
    """
    async with reading(pool) as connection:
        clip = await clips.find_clip(connection, clip_id)
        if clip is None:
            raise ClipNotFound(str(clip_id))
        if principal.kind == "station":
            upload = await uploads.find_clip_upload(connection, clip_id)
            if upload is None or upload.station_id != principal.id:
                raise ClipNotFound(str(clip_id)).hiding(ANOTHER_STATION)
    if not principal.may_see_borough(clip.borough):
        raise ClipNotFound(str(clip_id)).hiding(ANOTHER_BOROUGH)
    return clip


async def count_received(clip: Clip, *, pool: Pool) -> int | None:
    """Return the durable bytes of a clip that is still coming in; None when it is complete."""
    if clip.state not in ("receiving", "finishing"):
        return None
    async with reading(pool) as connection:
        upload = await uploads.find_upload(connection, clip.upload_id)
    return None if upload is None else upload.offset_bytes


async def find_clip_media(clip: Clip, *, pool: Pool) -> MediaFacts | None:
    """Return what the latest probe of a clip has found; None: it was not probed yet."""
    async with reading(pool) as connection:
        return await media.find_media(connection, clip.clip_id)


def _make_cursor(asked: Search, place: Place, direction: Direction) -> str:
    key = _EPOCH if place.key is None else place.key
    raw = (
        _CURSOR_MARK
        + (b"f" if direction == "forward" else b"b")
        + ((key - _EPOCH) // _TICK).to_bytes(8, "big", signed=True)
        + place.clip_id.bytes
        + _digest(asked)
    )
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _read_cursor(cursor: str, asked: Search) -> tuple[Place, Direction]:
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidCursor from error
    if not raw.startswith(_CURSOR_MARK) or len(raw) != _CURSOR_BYTES or raw[2:3] not in b"fb":
        raise InvalidCursor
    if raw[-_DIGEST_BYTES:] != _digest(asked):
        raise InvalidCursor
    try:
        key = _EPOCH + int.from_bytes(raw[3:11], "big", signed=True) * _TICK
    except OverflowError as error:
        raise InvalidCursor from error
    place = Place(None if asked.order == "announced" else key, UUID(bytes=raw[11:27]))
    return place, "forward" if raw[2:3] == b"f" else "backward"


def _digest(asked: Search) -> bytes:
    """Return what a cursor carries of the filters: it is no cursor of another list."""
    named = {
        name: value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(asked).items()
        if value is not None
    }
    return hashlib.sha256(dump_canonical(named)).digest()[:_DIGEST_BYTES]
