"""Lists of clips: each is merged from streams of one index, so none reads what it does not show.

A filter that few clips pass (an officer, an incident) has an index of its own. The others (borough,
category, state, ...) are cut into *cells*, the combinations that occur; the index gives the clips
of one cell in the list's order. A list looks at the first clips of every cell it asks for, and so
learns down to where its page reaches; then it reads on in the cells that may have more of it. What
is rare is found as fast as what is common, and nothing is sorted but the page.

Clips that come in are a small rest beside those indexes (the view `coming_clips`), read whole.

Two ranges of time at once have no index: the streams go by one of them, and the other may leave out
any number of clips. What was received in a short time is read whole and sorted; else so many clips
are looked at and no more, and a page may be short (`Listed.until`).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal
from uuid import UUID

from ingest_service.domain.clip import Clip
from ingest_service.domain.clip_status import list_statuses
from ingest_service.ledger.connection import Connection

Order = Literal["announced", "recorded", "raw", "due"]
Path = Literal[
    "all", "status", "category_status", "borough_status", "cell", "station_status", "station",
    "device", "officer", "incident", "crime", "exhibit", "label", "label_status", "label_category",
    "label_borough", "label_cell", "label_station", "received",
]  # fmt: skip
Direction = Literal["forward", "backward"]

_FIRST_TIME: Final = datetime(1, 1, 1, tzinfo=UTC)
_LAST_TIME: Final = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
FIRST_ID: Final = UUID(int=0)
LAST_ID: Final = UUID(int=2**128 - 1)
# More boroughs than this are not cut into streams but read past: they are most of the force.
_BOROUGHS_MAX: Final = 8
_UUID_TIME_MAX_MS: Final = 2**48 - 1


@dataclass(frozen=True, slots=True)
class Search:
    """Which clips are asked for; None = any. Times are aware; `before` is exclusive.

    media_flag  one of those that the latest look into the footage has set
    clock       by which the time of recording is meant; None = corrected
    boroughs    those the asker may see; None = every one
    stations    of the asked site; None = any site
    """

    device: str | None = None
    officer: str | None = None
    station: str | None = None
    site: str | None = None
    borough: str | None = None
    category: str | None = None
    evidential_state: str | None = None
    state: str | None = None
    crime_ref: str | None = None
    incident: str | None = None
    exhibit_ref: str | None = None
    tag: str | None = None
    media_flag: str | None = None
    recorded_after: datetime | None = None
    recorded_before: datetime | None = None
    clock: str | None = None
    received_after: datetime | None = None
    received_before: datetime | None = None
    held: bool | None = None
    erase_due_before: datetime | None = None
    boroughs: list[str] | None = None
    stations: list[str] | None = None

    @property
    def order(self) -> Order:
        """By what the list goes: newest announcement first, unless another time is asked for."""
        if self.recorded_after is not None or self.recorded_before is not None:
            return "raw" if self.clock == "raw" else "recorded"
        return "announced" if self.erase_due_before is None else "due"

    @property
    def is_read_past(self) -> bool:
        """Whether any number of clips may have to be read past: no index has both of two filters.

        So it is with a second range of time, with two labels, and with a label's clips by a time
        that has no stream for what else is asked for.
        """
        is_received = self.received_after is not None or self.received_before is not None
        if self.tag is not None or self.media_flag is not None:
            others = (self.category, self.station, self.borough, self.boroughs, self.stations)
            if self.tag is not None and self.media_flag is not None:
                return True
            if self.order not in _NEWEST and any(each is not None for each in others):
                return True
        if self.order == "announced":
            return False
        return is_received or (self.order != "due" and self.erase_due_before is not None)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a list: between two clips. `key` is None where announcement is the order."""

    key: datetime | None
    clip_id: UUID


@dataclass(frozen=True, slots=True)
class Found:
    """A clip and its place in the list."""

    place: Place
    clip: Clip


@dataclass(frozen=True, slots=True)
class Listed:
    """Some clips of a list, in its order or against it.

    until  where looking has stopped although there are not as many clips as were asked for: the
           list goes on beyond that place; None: they are as many, or the list ends here
    """

    found: list[Found]
    until: Place | None = None


# --- the statements ------------------------------------------------------------------------
# One shape for all of them: which cells, which index, which order. They are put together once,
# from the words below; what is asked for comes only as arguments.
#
# A stream by announcement is bounded and sorted by *all* columns of its index, as one row: no other
# index has that order, so the planner has nothing to choose, whatever its statistics say of a rare
# combination.
# The other filters stand in a CASE, of which the planner assumes that every second clip passes:
# multiplying what it believes of each, it would rather sort another index than read this one on.

# By column, so that a stream is not asked again for what it is already the stream of.
_ASKED: Final[dict[str, str]] = {
    "device_serial": "($6::text IS NULL OR s.device_serial = $6)",
    "officer_id": "($7::text IS NULL OR s.officer_id = $7)",
    "station_id": "($8::text[] IS NULL OR s.station_id = ANY ($8))",
    "borough": "($9::text[] IS NULL OR s.borough = ANY ($9))",
    "category": "($10::text IS NULL OR s.category = $10)",
    "status": "s.status = ANY ($11::smallint[])",
    "crime_ref": "($12::text IS NULL OR s.crime_ref = $12)",
    "incident_id": "($13::text IS NULL OR s.incident_id = $13)",
    "exhibit_ref": "($14::text IS NULL OR s.exhibit_ref = $14)",
    "tag": "($15::text IS NULL OR s.tags @> ARRAY[$15])",
    "media_flag": "($25::text IS NULL OR s.media_flags @> ARRAY[$25])",
    "recorded_at": "($16::timestamptz IS NULL OR s.recorded_at >= $16)\n"
    "               AND ($17::timestamptz IS NULL OR s.recorded_at < $17)",
    "announced_at": "($18::timestamptz IS NULL OR s.announced_at >= $18)\n"
    "               AND ($19::timestamptz IS NULL OR s.announced_at < $19)\n"
    "               AND s.clip_id > $21 AND s.clip_id < $22",
    "erase_due_at": "($20::timestamptz IS NULL OR s.erase_due_at < $20)",
}
_ASKED_COMING: Final = {
    **_ASKED,
    "status": "s.status = ANY ($23::smallint[])",
    # Arguments that a list may not need are named once, so that Postgres knows what they are.
    "bounds": "$1::timestamptz IS NOT NULL AND $3::timestamptz IS NOT NULL\n"
    "               AND ($24::text IS NULL OR $24 <> '')\n"
    "               AND COALESCE($16, $17, $1) IS NOT NULL",
}

_AND: Final = "\n               AND "

_SHAPE: Final[str] = """
    WITH cell AS MATERIALIZED (
        SELECT row_number() OVER () AS cell_no, cells.*
          FROM ({cells}) AS cells
    ), peek AS MATERIALIZED (
        SELECT cell.cell_no, hit.place, hit.clip_id
          FROM cell CROSS JOIN LATERAL (
            SELECT {place} AS place, s.clip_id
              FROM clip_search AS s{joined}
             WHERE s.is_settled
               AND {low}
               AND {high}{asked}
          ORDER BY {sorted}
             LIMIT {peeked}) AS hit
    ), edge AS MATERIALIZED (
        SELECT place, clip_id
          FROM peek
      ORDER BY {merged}
        OFFSET $5::integer - 1
         LIMIT 1
    ), deep AS MATERIALIZED (
        {deep}
    ), coming AS MATERIALIZED (
        SELECT {place_coming} AS place, s.clip_id
          FROM coming_clips AS s
         WHERE cardinality($23::smallint[]) > 0
           AND ({order}) > ({start})
           AND ({order}) < ({stop}){asked_coming}
    ), page AS MATERIALIZED (
        SELECT place, clip_id
          FROM (
            SELECT place, clip_id
              FROM peek
             WHERE cell_no NOT IN (SELECT cell_no FROM deep)
         UNION ALL
            SELECT hit.place, hit.clip_id
              FROM deep AS cell CROSS JOIN LATERAL (
                SELECT {place} AS place, s.clip_id
                  FROM clip_search AS s{joined}
                 WHERE s.is_settled
                   AND {low_edge}
                   AND {high_edge}{asked}
              ORDER BY {sorted}
                 LIMIT {limit}) AS hit
         UNION ALL
            SELECT place, clip_id FROM coming) AS found
      ORDER BY {merged}
         LIMIT $5
    )
    SELECT page.place, clip.*
      FROM page CROSS JOIN LATERAL (
        SELECT clip_id, state, upload_id, device_serial, recording_id, segment_no,
               device_recording_seq, '{}'::jsonb AS announcement, size_bytes, sha256_device,
               station_id, site_id, borough, started_at, ended_at, clock_offset_ms,
               clock_uncertainty_ms, duplicate_of, flags, clock_state, started_at_corrected,
               announced_at, sealed_at, secured_at, released_at, officer_id, incident_id,
               crime_ref, category, evidential_state, title, sha256, sha256_readback,
               quarantine_reason, bucket, object_key, object_version, NULL::jsonb AS manifest,
               is_held, erase_due_at, event_count, last_leaf_hash, manifest_sha256,
               last_fixity_at, last_fixity_result, exhibit_ref, tags
          FROM clips
         WHERE clips.clip_id = page.clip_id
         LIMIT 1) AS clip
  ORDER BY {merged_page}
"""

# Which end of the index comes first: the newest announcement, but the soonest erasure.
_IS_DESCENDING: Final[dict[Order, bool]] = {
    "announced": True,
    "recorded": True,
    "raw": True,
    "due": False,
}
_KEYS: Final[dict[Order, str]] = {
    "announced": "",
    "recorded": "recorded_at",
    "raw": "recorded_raw_at",
    "due": "erase_due_at",
}
_ONE_CELL: Final[str] = "SELECT 1"
_STATUS_CELLS: Final[str] = "SELECT unnest($11::smallint[]) AS status"
_CATEGORY_CELLS: Final[str] = (
    "SELECT $10::text AS category, status FROM unnest($11::smallint[]) AS status"
)
_BOROUGH_STATUS_CELLS: Final[str] = """SELECT borough, status
          FROM unnest($9::text[]) AS borough, unnest($11::smallint[]) AS status"""
_STATION_STATUS_CELLS: Final[str] = """SELECT stations.station_id, status
          FROM stations, unnest($11::smallint[]) AS status
         WHERE stations.station_id = ANY ($8::text[])
           AND ($9::text[] IS NULL OR stations.borough = ANY ($9))"""
_BOROUGH_CELLS: Final[str] = """SELECT cell_id
          FROM clip_cells
         WHERE ($9::text[] IS NULL OR borough = ANY ($9))
           AND ($10::text IS NULL OR category = $10)
           AND status = ANY ($11::smallint[])"""
_STATION_CELLS: Final[str] = """SELECT stations.station_id, clip_cells.cell_id
          FROM stations JOIN clip_cells ON clip_cells.borough = stations.borough
         WHERE stations.station_id = ANY ($8::text[])
           AND ($9::text[] IS NULL OR clip_cells.borough = ANY ($9))
           AND ($10::text IS NULL OR clip_cells.category = $10)
           AND clip_cells.status = ANY ($11::smallint[])"""


# Of so many clips in all, each stream is looked at for its share, and never for more than the other
# number; the page may not go beyond the nearest of the places where that ends. A stream that ends
# before has nothing beyond. Nearly all streams are short, so it is some thousands that are read.
_LOOKED_AT: Final = "16000"
_LOOKED_AT_OF_EACH: Final = "800"
_HORIZON: Final[str] = """
    WITH cell AS MATERIALIZED (
        SELECT row_number() OVER () AS cell_no, cells.*
          FROM ({cells}) AS cells
    ), share AS MATERIALIZED (
        SELECT GREATEST(8, LEAST({of_each}, {looked_at} / GREATEST(1, count(*)))) AS clips
          FROM cell
    )
    SELECT hit.place, hit.clip_id
      FROM cell CROSS JOIN LATERAL (
        SELECT {horizon_place} AS place, {stream}.clip_id
          FROM {from} {low_index}
           AND {high}
      ORDER BY {sorted}
        OFFSET (SELECT clips FROM share) - 1
         LIMIT 1) AS hit
  ORDER BY {merged}
     LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class _Way:
    """How one path reads: the cells, and by column of its index before the order's what it is.

    joined   what stands beside `clip_search`, with the order's columns
    within   what bounds its clips beside the columns
    orders   those that it has an index for, or so few clips that they are sorted
    """

    cells: str
    columns: tuple[tuple[str, str], ...]
    joined: str = ""
    within: str = ""
    orders: tuple[Order, ...] = ("announced", "recorded", "raw", "due")


_CELL: Final = ("s.cell_id", "cell.cell_id")
_STATUS: Final = ("s.status", "cell.status")
_CATEGORY: Final = ("s.category", "cell.category")
_BOROUGH: Final = ("s.borough", "cell.borough")
_STATION: Final = ("s.station_id", "cell.station_id")
_NEWEST: Final[tuple[Order, ...]] = ("announced", "recorded")


def _label(cells: str, *columns: tuple[str, str], orders: tuple[Order, ...]) -> _Way:
    """Return the way of a tag or a media flag: the same streams, of the clips that bear it."""
    own = tuple((name.replace("s.", "t.", 1), value) for name, value in columns)
    return _Way(
        cells,
        (("t.label", "$24"), *own),
        joined=" JOIN clip_labels AS t ON t.clip_id = s.clip_id",
        orders=orders,
    )


_PATHS: Final[dict[Path, _Way]] = {
    # Without a status to begin with, the other orders have no index.
    "all": _Way(_ONE_CELL, (), orders=("announced",)),
    "status": _Way(_STATUS_CELLS, (_STATUS,)),
    "category_status": _Way(_CATEGORY_CELLS, (_CATEGORY, _STATUS), orders=_NEWEST),
    "borough_status": _Way(_BOROUGH_STATUS_CELLS, (_BOROUGH, _STATUS), orders=_NEWEST),
    "cell": _Way(_BOROUGH_CELLS, (_CELL,)),
    "station_status": _Way(_STATION_STATUS_CELLS, (_STATION, _STATUS), orders=_NEWEST),
    "station": _Way(_STATION_CELLS, (_STATION, _CELL)),
    "device": _Way(_ONE_CELL, (("s.device_serial", "$6"),)),
    "officer": _Way(_ONE_CELL, (("s.officer_id", "$7"),)),
    "incident": _Way(_ONE_CELL, (("s.incident_id", "$13"),)),
    "crime": _Way(_ONE_CELL, (("s.crime_ref", "$12"),)),
    "exhibit": _Way(_ONE_CELL, (("s.exhibit_ref", "$14"),)),
    "label": _label(_ONE_CELL, orders=("announced",)),
    "label_status": _label(_STATUS_CELLS, _STATUS, orders=("announced", "recorded", "raw", "due")),
    "label_category": _label(_CATEGORY_CELLS, _CATEGORY, _STATUS, orders=_NEWEST),
    "label_borough": _label(_BOROUGH_STATUS_CELLS, _BOROUGH, _STATUS, orders=_NEWEST),
    "label_cell": _label(_BOROUGH_CELLS, _CELL, orders=_NEWEST),
    "label_station": _label(_STATION_STATUS_CELLS, _STATION, _STATUS, orders=_NEWEST),
    # What came in while few did, in any order; by announcement every path has that range.
    "received": _Way(
        _ONE_CELL,
        (),
        within="s.clip_id > $21 AND s.clip_id < $22",
        orders=("recorded", "raw", "due"),
    ),
}
# Of these there are so few clips that they may be read past.
_FEW: Final[frozenset[Path]] = frozenset(
    {"device", "officer", "incident", "crime", "exhibit", "received"}
)
# One stream needs no look ahead; of many, so many clips of each show where the page ends.
_PEEKED: Final = "4"
_NOT_PEEKED: Final = "0"
# A cell of which all the clips looked at are on the page may have more of them; another has none.
_DEEP: Final[str] = """SELECT *
          FROM cell
         WHERE cell_no IN (
            SELECT cell_no
              FROM peek
             WHERE NOT EXISTS (SELECT FROM edge)
                OR ({peeked_place}) {not_beyond} (SELECT {peeked_place} FROM edge)
          GROUP BY cell_no
            HAVING count(*) = {peeked})"""
_NOT_DEEP: Final[str] = "SELECT * FROM cell"
_EDGE: Final = (
    "COALESCE((SELECT place FROM edge), {})",
    "COALESCE((SELECT clip_id FROM edge), {})",
)


def _compose(path: Path, order: Order, direction: Direction, limit: int) -> tuple[str, str]:
    """Return the statement of a list, and the one that finds how far it may look."""
    way = _PATHS[path]
    key = _KEYS[order]
    is_down = _IS_DESCENDING[order] == (direction == "forward")
    turn = "DESC" if is_down else "ASC"
    stream = "t" if way.joined else "s"
    clip_id = f"{stream}.clip_id"
    ends = [f"{stream}.{key}"] if key else []
    columns = [column for column, _ in way.columns]
    values = [value for _, value in way.columns]
    # Arguments 1 to 4: the place before the first clip, and the one after the last.
    start, stop = (["$1", "$2"], ["$3", "$4"]) if key else (["$2"], ["$4"])
    edge = [
        word.format(bound)
        for word, bound in zip(_EDGE[0 if key else 1 :], start if is_down else stop, strict=True)
    ]

    def bound(sign: str, place: list[str]) -> str:
        """A place in the stream; by announcement as one row of all columns of its index.

        Where time is the order no other index has it, and a row would only be taken for a prefix.
        """
        if key:
            row = f"({', '.join([*ends, clip_id])}) {sign} ({', '.join(place)})"
            return " AND ".join([*(f"{c} = {v}" for c, v in way.columns), row])
        left = ", ".join([*columns, *ends, clip_id])
        return f"({left}) {sign} ({', '.join([*values, *place])})"

    has_streams = way.cells != _ONE_CELL
    low, high = bound(">", start), bound("<", stop)
    # What the index leaves out, the planner must see left out.
    present = [*columns, *ends] if way.cells == _ONE_CELL or order == "due" else ends
    low = " AND ".join([low, *(f"{each} IS NOT NULL" for each in present)])
    if way.within:
        # Hidden, as the other filters are: by these bounds Postgres would read another index whole.
        low = f"{way.within} AND CASE WHEN {low} AND {high} THEN true ELSE false END"
        high = "true"
    known = {key, *(column.partition(".")[2] for column in columns)}
    if "cell_id" in known:
        known |= {"borough", "category", "status"}
    if order == "raw":
        # The times of recording that are asked for are those of the camera's clock.
        known.add("recorded_at")
    words = {
        "cells": way.cells,
        "deep": _DEEP if has_streams else _NOT_DEEP,
        "peeked_place": "place, clip_id" if key else "clip_id",
        "not_beyond": ">=" if is_down else "<=",
        "joined": way.joined,
        "place": ends[0] if ends else "NULL::timestamptz",
        "place_coming": f"s.{key}" if key else "NULL::timestamptz",
        "low": low,
        "high": high,
        "low_edge": low.replace(bound(">", start), bound(">=", edge))
        if has_streams and is_down
        else low,
        "high_edge": bound("<=", edge) if has_streams and not is_down else high,
        "order": ", ".join([*([f"s.{key}"] if key else []), "s.clip_id"]),
        "start": ", ".join(start),
        "stop": ", ".join(stop),
        "asked": "\n               AND CASE WHEN "
        + _AND.join(each for name, each in _ASKED.items() if name not in known)
        + " THEN true ELSE false END",
        "asked_coming": _AND
        + _AND.join(
            each for name, each in _ASKED_COMING.items() if name != "recorded_at" or order != "raw"
        ),
        "sorted": ", ".join(
            f"{each} {turn}" for each in [*([] if key else columns), *ends, clip_id]
        ),
        "merged": f"place {turn}, clip_id {turn}",
        "merged_page": f"page.place {turn}, page.clip_id {turn}",
        "limit": str(limit),
        "peeked": _PEEKED if has_streams else _NOT_PEEKED,
        "stream": stream,
        "horizon_place": ends[0] if ends else "NULL::timestamptz",
        "low_index": low,
        "looked_at": _LOOKED_AT,
        "of_each": _LOOKED_AT_OF_EACH,
    }
    return _fill(_SHAPE, words), _fill(_HORIZON, words | {"from": _name_stream(way)})


def _name_stream(way: _Way) -> str:
    return "clip_labels AS t WHERE" if way.joined else "clip_search AS s WHERE s.is_settled AND"


def _fill(shape: str, words: dict[str, str]) -> str:
    for name, word in words.items():
        shape = shape.replace("{" + name + "}", word)
    return shape


_DIRECTIONS: Final[tuple[Direction, ...]] = ("forward", "backward")
# So many clips of a stream are read at most. As numbers in the statement, not as an argument: of an
# argument the planner assumes a tenth of the table, and sorts that.
LIMITS: Final = (101, 501)
LISTS: Final[dict[tuple[Path, Order, Direction, int], str]] = {
    (path, order, direction, limit): _compose(path, order, direction, limit)[0]
    for path, way in _PATHS.items()
    for order in way.orders
    for direction in _DIRECTIONS
    for limit in LIMITS
}
_ARGUMENT: Final = re.compile(r"\$(\d+)")


@dataclass(frozen=True, slots=True)
class Horizon:
    """How far a list may look: a statement, and which of the list's arguments it takes."""

    statement: str
    arguments: tuple[int, ...]


def _compose_horizon(path: Path, order: Order, direction: Direction) -> Horizon:
    _, statement = _compose(path, order, direction, LIMITS[0])
    used = sorted({int(number) for number in _ARGUMENT.findall(statement)})
    numbered = _ARGUMENT.sub(lambda each: f"${used.index(int(each[1])) + 1}", statement)
    return Horizon(numbered, tuple(used))


HORIZONS: Final[dict[tuple[Path, Order, Direction], Horizon]] = {
    (path, order, direction): _compose_horizon(path, order, direction)
    for path, way in _PATHS.items()
    if path not in _FEW
    for order in way.orders
    for direction in _DIRECTIONS
}


def choose_path(asked: Search) -> Path:
    """Return by which index a list is read: the one with the fewest streams of the fewest clips."""
    named: tuple[tuple[Path, str | None], ...] = (
        ("crime", asked.crime_ref),
        ("exhibit", asked.exhibit_ref),
        ("incident", asked.incident),
        ("device", asked.device),
        ("officer", asked.officer),
    )
    for path, value in named:
        if value is not None:
            return path
    boroughs = _limit_boroughs(asked)
    of_boroughs = boroughs is not None and len(boroughs) <= _BOROUGHS_MAX
    of_stations = asked.stations is not None or asked.station is not None
    if asked.tag is not None or asked.media_flag is not None:
        return _choose_label_path(asked, of_boroughs=of_boroughs, of_stations=of_stations)
    is_newest = asked.order in _NEWEST
    if of_stations:
        return "station_status" if is_newest and asked.category is None else "station"
    if asked.category is not None:
        return "category_status" if is_newest and not of_boroughs else "cell"
    if of_boroughs:
        return "borough_status" if is_newest else "cell"
    return "all" if _is_any_status(asked) and asked.order == "announced" else "status"


def _choose_label_path(asked: Search, *, of_boroughs: bool, of_stations: bool) -> Path:
    if asked.order not in _NEWEST:
        return "label_status"
    if of_stations:
        return "label_station"
    if asked.category is not None:
        return "label_cell" if of_boroughs else "label_category"
    if of_boroughs:
        return "label_borough"
    return "label" if _is_any_status(asked) and asked.order == "announced" else "label_status"


def _is_any_status(asked: Search) -> bool:
    return (asked.state, asked.evidential_state, asked.held) == (None, None, None)


FIND_STATIONS: Final = """
    SELECT station_id
      FROM stations
     WHERE site_id = $1
  ORDER BY station_id
"""


async def find_stations(connection: Connection, site_id: str) -> list[str]:
    """Return the stations of a site: clips are found by them."""
    return [row["station_id"] for row in await connection.fetch(FIND_STATIONS, site_id)]


# A stream is read on only as far as the page needs it. Believing that a cell has few clips, the
# planner would rather fetch all of them and sort: for these statements it may not.
PLAN_STREAMS: Final = """
    SELECT set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', 'off', true),
           set_config('enable_incremental_sort', 'off', true),
           set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true)
"""


async def list_clips(
    connection: Connection,
    asked: Search,
    *,
    place: Place | None,
    direction: Direction = "forward",
    limit: int,
) -> Listed:
    """Return at most `limit` clips beyond a place, in the list's order (or against it).

    The announcement and the manifest of the clips are left out.
    """
    async with connection.transaction(readonly=True):
        await connection.execute(PLAN_STREAMS)
        path, until = await plan_list(connection, asked, place=place, direction=direction)
        statement = choose_statement(path, asked.order, direction=direction, limit=limit)
        arguments = bind(asked, place=place, direction=direction, limit=limit, until=until)
        rows = await connection.fetch(statement, *arguments)
    found = [_read(dict(row)) for row in rows]
    return Listed(found, until if len(found) < limit else None)


# Clips lie in the order of their receipt: so many are some hundred pages.
RECEIVED_MAX: Final = 10_000
COUNT_RECEIVED: Final = """
    SELECT count(*)
      FROM (SELECT FROM clip_search
             WHERE is_settled AND clip_id > $1 AND clip_id < $2 LIMIT $3) AS these
"""


async def plan_list(
    connection: Connection, asked: Search, *, place: Place | None, direction: Direction
) -> tuple[Path, Place | None]:
    """Return by which index a list is read, and how far it may look; None: to its end.

    Run after `PLAN_STREAMS`, in one transaction with the list.
    """
    path = choose_path(asked)
    if not asked.is_read_past or path in _FEW:
        return path, None
    first_id, last_id = _first_id_of(asked.received_after), _last_id_before(asked.received_before)
    if asked.order != "announced" and (first_id, last_id) != (FIRST_ID, LAST_ID):
        received = await connection.fetchval(COUNT_RECEIVED, first_id, last_id, RECEIVED_MAX + 1)
        if received <= RECEIVED_MAX:
            return "received", None
    horizon = HORIZONS[path, asked.order, direction]
    arguments = bind(asked, place=place, direction=direction, limit=1)
    row = await connection.fetchrow(
        horizon.statement, *[arguments[number - 1] for number in horizon.arguments]
    )
    return path, None if row is None else Place(row["place"], row["clip_id"])


def choose_statement(path: Path, order: Order, *, direction: Direction, limit: int) -> str:
    """Return the statement of a list; `limit` is at most the last of LIMITS."""
    enough = next(each for each in LIMITS if each >= limit)
    return LISTS[path, order, direction, enough]


def _read(row: dict[str, object]) -> Found:
    key = row.pop("place")
    clip = Clip(**row)  # type: ignore[arg-type]  # the columns are named as the fields are
    return Found(Place(key if isinstance(key, datetime) else None, clip.clip_id), clip)


def bind(
    asked: Search,
    *,
    place: Place | None,
    direction: Direction,
    limit: int,
    until: Place | None = None,
) -> tuple[object, ...]:
    """Return the arguments of a list's statement.

    place  the clips beyond it are asked for
    until  and those up to this one, itself included
    """
    order = asked.order
    low, high = {
        "announced": (None, None),
        "recorded": (asked.recorded_after, asked.recorded_before),
        "raw": (asked.recorded_after, asked.recorded_before),
        "due": (None, asked.erase_due_before),
    }[order]
    start: tuple[datetime, UUID] = (low or _FIRST_TIME, FIRST_ID)
    stop: tuple[datetime, UUID] = (high or _LAST_TIME, FIRST_ID if high else LAST_ID)
    first_id, last_id = _first_id_of(asked.received_after), _last_id_before(asked.received_before)
    if order == "announced":
        # Ids go by time: the time of receipt bounds the streams.
        start, stop = (_FIRST_TIME, first_id), (_FIRST_TIME, last_id)
    if place is not None:
        key = None if order == "announced" else place.key
        here = (key or _FIRST_TIME, place.clip_id)
        if _IS_DESCENDING[order] == (direction == "forward"):
            stop = min(stop, here)
        else:
            start = max(start, here)
    if until is not None:
        there = until.key or _FIRST_TIME
        if _IS_DESCENDING[order] == (direction == "forward"):
            start = max(start, (there, UUID(int=max(0, until.clip_id.int - 1))))
        else:
            stop = min(stop, (there, UUID(int=min(LAST_ID.int, until.clip_id.int + 1))))
    return (
        *start,
        *stop,
        limit,
        asked.device,
        asked.officer,
        _limit_stations(asked),
        _limit_boroughs(asked),
        asked.category,
        _statuses(asked, is_settled=True),
        asked.crime_ref,
        asked.incident,
        asked.exhibit_ref,
        asked.tag,
        asked.recorded_after,
        asked.recorded_before,
        asked.received_after,
        asked.received_before,
        asked.erase_due_before,
        first_id,
        last_id,
        _statuses(asked, is_settled=False),
        _label_of(asked),
        asked.media_flag,
    )


def _label_of(asked: Search) -> str | None:
    """Return what the ledger's `name_labels` calls it; of a tag and a media flag, the rarer."""
    if asked.media_flag is not None:
        return f"media:{asked.media_flag}"
    return None if asked.tag is None else f"tag:{asked.tag}"


def _limit_boroughs(asked: Search) -> list[str] | None:
    if asked.borough is None:
        return asked.boroughs
    may_see = asked.boroughs is None or asked.borough in asked.boroughs
    return [asked.borough] if may_see else []


def _limit_stations(asked: Search) -> list[str] | None:
    if asked.station is None:
        return asked.stations
    is_there = asked.stations is None or asked.station in asked.stations
    return [asked.station] if is_there else []


def _statuses(asked: Search, *, is_settled: bool) -> list[int]:
    return list_statuses(
        state=asked.state,
        evidential_state=asked.evidential_state,
        is_held=asked.held,
        is_settled=is_settled,
    )


def _first_id_of(moment: datetime | None) -> UUID:
    """Ids are UUIDv7: those announced from a moment on are above this one."""
    return FIRST_ID if moment is None else UUID(int=max(0, _milliseconds(moment)) << 80)


def _last_id_before(moment: datetime | None) -> UUID:
    if moment is None:
        return LAST_ID
    milliseconds = _milliseconds(moment)
    if milliseconds < 0:
        return FIRST_ID
    return UUID(int=min(milliseconds + 1, _UUID_TIME_MAX_MS) << 80)


def _milliseconds(moment: datetime) -> int:
    return min(int(moment.timestamp() * 1000), _UUID_TIME_MAX_MS)


def list_statements() -> Iterator[tuple[str, str]]:
    """Return every list's name and statement, for whoever checks them."""
    for name, statement in LISTS.items():
        yield f"search.LISTS[{'-'.join(map(str, name))}]", statement
    for place, horizon in HORIZONS.items():
        yield f"search.HORIZONS[{'-'.join(place)}]", horizon.statement
