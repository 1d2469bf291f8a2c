"""How fast lists of clips are on a full ledger: `python -m ingest_service.dev.bench_lists DSN`.

Every filter alone and many together, the rare ones and those that nothing passes, in both
directions: each statement as the service runs it, and what Postgres says of its plan. Fill a ledger
with `python -m loadtest.ten_million` before.
"""

import argparse
import asyncio
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from ingest_service.ledger import search
from ingest_service.ledger.connection import Connection, close_pool, open_pool, reading
from ingest_service.ledger.search import Direction, Listed, Place, Search

ROUNDS: Final = 100
GOAL_MS: Final = 10
LIMIT: Final = 101
_PERCENT_99: Final = 0.99


@dataclass(frozen=True, slots=True)
class Case:
    """One list: its name, what is asked for, and from where."""

    name: str
    asked: Search
    place: Place | None = None
    direction: Direction = "forward"


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of a case; milliseconds.

    rows       on the first page
    is_cut     the page is short, and the list goes on

    cpu_ms   of the Postgres process, per list; None where it runs elsewhere
    removed  rows that filters threw away
    buffers  pages that were touched
    """

    case: Case
    rows: int
    is_cut: bool
    p50_ms: float
    p99_ms: float
    cpu_ms: float | None
    removed: int
    buffers: int


# What a large force asks for: names that the generator of `loadtest.ten_million` gives.
def make_cases(now: datetime, somebody: "Somebody") -> Iterator[Case]:
    """Yield the lists: each filter alone, combinations, and what no clip passes."""
    day = timedelta(days=1)
    alone: dict[str, Search] = {
        "no filter": Search(),
        "device": Search(device=somebody.device),
        "officer": Search(officer=somebody.officer),
        "station": Search(station=somebody.station),
        "site": Search(site=somebody.site),
        "borough, large": Search(borough="Borough 00"),
        "borough, small": Search(borough="Borough 28"),
        "category, common": Search(category="patrol"),
        "category, rare": Search(category="firearms"),
        "evidential": Search(evidential_state="evidential"),
        "unclassified": Search(evidential_state="unclassified"),
        "state erased": Search(state="erased"),
        "state quarantined": Search(state="quarantined"),
        "state receiving": Search(state="receiving"),
        "crime reference": Search(crime_ref=somebody.crime_ref),
        "incident": Search(incident=somebody.incident),
        "exhibit": Search(exhibit_ref=somebody.exhibit_ref),
        "tag, common": Search(tag="tag-0"),
        "tag, rare": Search(tag="tag-39"),
        "media flag, common": Search(media_flag="truncated"),
        "media flag, rare": Search(media_flag="not_a_video"),
        "held": Search(held=True),
        "recorded on a day": Search(
            recorded_after=now - 200 * day, recorded_before=now - 199 * day
        ),
        "recorded before a day": Search(recorded_before=now - 300 * day),
        "recorded on a day by the camera's clock": Search(
            recorded_after=now - 200 * day, recorded_before=now - 199 * day, clock="raw"
        ),
        "recorded by an unset clock": Search(recorded_before=datetime(2001, 1, 1, tzinfo=UTC)),
        "received in an hour": Search(
            received_after=now - 100 * day, received_before=now - 100 * day + day / 24
        ),
        "received before a day": Search(received_before=now - 300 * day),
        "due in a week": Search(erase_due_before=now + 7 * day),
    }
    together: dict[str, Search] = {
        "large borough, rare category, rare state": Search(
            borough="Borough 00", category="firearms", state="quarantined"
        ),
        "small borough, rare category, erased": Search(
            borough="Borough 28", category="firearms", state="erased"
        ),
        "small borough, common category, quarantined": Search(
            borough="Borough 28", category="patrol", state="quarantined"
        ),
        "rare category, quarantined": Search(category="firearms", state="quarantined"),
        "borough, evidential": Search(borough="Borough 05", evidential_state="evidential"),
        "borough, evidential, recorded in a month": Search(
            borough="Borough 05",
            evidential_state="evidential",
            recorded_after=now - 130 * day,
            recorded_before=now - 100 * day,
        ),
        "rare category, held, recorded in a year": Search(
            category="firearms",
            held=True,
            recorded_after=now - 400 * day,
            recorded_before=now - 35 * day,
        ),
        "site, rare category, quarantined": Search(
            site=somebody.site, category="firearms", state="quarantined"
        ),
        "site, erased, recorded on a day": Search(
            site=somebody.site,
            state="erased",
            recorded_after=now - 200 * day,
            recorded_before=now - 199 * day,
        ),
        "station, evidential, due in a week": Search(
            station=somebody.station, state="erase_pending", erase_due_before=now + 7 * day
        ),
        "borough, secured, due in a week": Search(
            borough="Borough 00", state="secured", erase_due_before=now + 7 * day
        ),
        "officer, rare category": Search(officer=somebody.officer, category="firearms"),
        "device, erased, recorded in a month": Search(
            device=somebody.device,
            state="erased",
            recorded_after=now - 130 * day,
            recorded_before=now - 100 * day,
        ),
        "tag, borough, evidential": Search(
            tag="tag-3", borough="Borough 00", evidential_state="evidential"
        ),
        "tag, recorded in a month": Search(
            tag="tag-0", recorded_after=now - 130 * day, recorded_before=now - 100 * day
        ),
        "tag, rare category": Search(tag="tag-0", category="firearms"),
        "tag, small borough": Search(tag="tag-0", borough="Borough 28"),
        "tag, small borough, common category": Search(
            tag="tag-0", borough="Borough 28", category="patrol"
        ),
        "tag, site": Search(tag="tag-0", site=somebody.site),
        "tag, quarantined": Search(tag="tag-0", state="quarantined"),
        "media flag, category, held": Search(media_flag="truncated", category="arrest", held=True),
        "media flag, due in a week": Search(media_flag="truncated", erase_due_before=now + 7 * day),
        "category, due in a week": Search(category="patrol", erase_due_before=now + 7 * day),
        "category, recorded before a day": Search(
            category="patrol", recorded_before=now - 300 * day
        ),
        "category, recorded on a day by the camera's clock": Search(
            category="patrol",
            recorded_after=now - 200 * day,
            recorded_before=now - 199 * day,
            clock="raw",
        ),
        "site, recorded on a day by the camera's clock": Search(
            site=somebody.site,
            recorded_after=now - 200 * day,
            recorded_before=now - 199 * day,
            clock="raw",
        ),
        "three boroughs of a token, recorded before a day": Search(
            boroughs=["Borough 00", "Borough 05", "Borough 28"],
            recorded_before=now - 300 * day,
        ),
        "category, twenty boroughs of a token": Search(
            category="firearms", boroughs=[f"Borough {n:02}" for n in range(12, 32)]
        ),
        "category, received in a day, unclassified": Search(
            category="stop_and_search",
            evidential_state="unclassified",
            received_after=now - 100 * day,
            received_before=now - 99 * day,
        ),
        "three boroughs of a token": Search(boroughs=["Borough 00", "Borough 05", "Borough 28"]),
        "twenty boroughs of a token, quarantined": Search(
            boroughs=[f"Borough {n:02}" for n in range(20)], state="quarantined"
        ),
        "everything at once": Search(
            device=somebody.device,
            officer=somebody.officer,
            station=somebody.station,
            site=somebody.site,
            borough="Borough 00",
            category="patrol",
            evidential_state="evidential",
            state="secured",
            held=False,
            crime_ref=somebody.crime_ref,
            recorded_after=now - 400 * day,
            recorded_before=now,
            received_after=now - 400 * day,
            received_before=now,
        ),
    }
    # Two filters that no index has together: a page may be short.
    read_past: dict[str, Search] = {
        "recorded in a year, received in an hour": Search(
            recorded_after=now - 400 * day,
            recorded_before=now,
            received_after=now - 100 * day,
            received_before=now - 100 * day + day / 24,
        ),
        "recorded long ago, received lately": Search(
            recorded_before=now - 100 * day, received_after=now - 90 * day
        ),
        "borough, recorded long ago, received lately": Search(
            borough="Borough 00",
            recorded_before=now - 100 * day,
            received_after=now - 90 * day,
        ),
        "site, recorded long ago by the camera's clock, received lately": Search(
            site=somebody.site,
            recorded_before=now - 100 * day,
            received_after=now - 90 * day,
            clock="raw",
        ),
        "recorded lately, due long ago": Search(
            recorded_before=now - 100 * day, erase_due_before=now - 300 * day
        ),
        "due in a week, received lately": Search(
            erase_due_before=now + 7 * day, received_after=now - 90 * day
        ),
        "tag, recorded long ago, received lately": Search(
            tag="tag-0", recorded_before=now - 100 * day, received_after=now - 90 * day
        ),
        "tag, media flag": Search(tag="tag-39", media_flag="truncated"),
        "tag, rare category, due in a week": Search(
            tag="tag-0", category="firearms", erase_due_before=now + 7 * day
        ),
    }
    nothing: dict[str, Search] = {
        "no such borough": Search(borough="Atlantis"),
        "no such category, evidential": Search(category="x", evidential_state="evidential"),
        "no such officer": Search(officer="nobody"),
        "nothing: quarantined, held, firearms": Search(
            state="quarantined", held=True, category="firearms"
        ),
        "nothing: erased and held": Search(state="erased", held=True),
        "nothing: recorded in the future": Search(recorded_after=now + 30 * day),
        "nothing: expired policing purpose in a day": Search(
            state="expired",
            evidential_state="policing_purpose",
            borough="Borough 28",
            recorded_after=now - 200 * day,
            recorded_before=now - 199 * day,
        ),
    }
    for name, asked in {**alone, **together, **read_past, **nothing}.items():
        yield Case(name, asked)
    middle = Place(now - 250 * day, UUID(int=int((now - 250 * day).timestamp() * 1000) << 80))
    for name in ("no filter", "borough, large", "category, common", "recorded before a day"):
        asked = alone[name]
        yield Case(f"{name}, far in", replace(asked, recorded_before=None), middle)
        yield Case(f"{name}, back", replace(asked, recorded_before=None), middle, "backward")


@dataclass(frozen=True, slots=True)
class Somebody:
    """Names that some clips bear."""

    device: str
    officer: str
    station: str
    site: str
    crime_ref: str
    incident: str
    exhibit_ref: str


_SOMEBODY: Final = """
    SELECT (SELECT device_serial FROM clip_search WHERE is_settled LIMIT 1) AS device,
           (SELECT officer_id FROM clip_search WHERE officer_id IS NOT NULL LIMIT 1) AS officer,
           (SELECT station_id FROM stations WHERE site_id = 'site-2' LIMIT 1) AS station,
           'site-2' AS site,
           (SELECT crime_ref FROM clip_search WHERE crime_ref IS NOT NULL LIMIT 1) AS crime_ref,
           (SELECT incident_id FROM clip_search WHERE incident_id IS NOT NULL LIMIT 1) AS incident,
           (SELECT exhibit_ref FROM clip_search WHERE exhibit_ref IS NOT NULL LIMIT 1)
               AS exhibit_ref,
           (SELECT max(announced_at) FROM clip_search) AS now
"""


async def pick(connection: Connection) -> tuple[datetime, Somebody]:
    """Return the newest clip's time, and names that some clips bear."""
    row = dict(await connection.fetchrow(_SOMEBODY) or {})
    now: datetime = row.pop("now")
    return now, Somebody(**row)


async def run_case(connection: Connection, case: Case) -> Listed:
    """Run a list as the service does."""
    asked = case.asked
    if asked.site is not None:
        asked = replace(asked, stations=await search.find_stations(connection, asked.site))
    return await search.list_clips(
        connection, asked, place=case.place, direction=case.direction, limit=LIMIT
    )


async def explain(connection: Connection, case: Case, *, analyze: bool = True) -> dict[str, Any]:
    """Return what Postgres says of a case's plan."""
    asked = case.asked
    if asked.site is not None:
        asked = replace(asked, stations=await search.find_stations(connection, asked.site))
    how = "ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON" if analyze else "FORMAT JSON"
    direction = case.direction
    async with connection.transaction(readonly=True):
        await connection.execute(search.PLAN_STREAMS)
        path, until = await search.plan_list(
            connection, asked, place=case.place, direction=direction
        )
        statement = search.choose_statement(path, asked.order, direction=direction, limit=LIMIT)
        arguments = search.bind(
            asked, place=case.place, direction=direction, limit=LIMIT, until=until
        )
        text: str = await connection.fetchval(f"EXPLAIN ({how}) {statement}", *arguments)
    plan: dict[str, Any] = json.loads(text)[0]["Plan"]
    return plan


def walk(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every node of a plan."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from walk(child)


async def measure(connection: Connection, case: Case, rounds: int) -> Figures:
    """Run a case some times; the first run, which may read from disk, is not counted."""
    listed = await run_case(connection, case)
    taken: list[float] = []
    pid: int = await connection.fetchval("SELECT pg_backend_pid()")
    cpu_before = _read_cpu_ms(pid)
    for _ in range(rounds):
        started = time.perf_counter()
        await run_case(connection, case)
        taken.append((time.perf_counter() - started) * 1000)
    cpu_after = _read_cpu_ms(pid)
    plan = await explain(connection, case)
    nodes = list(walk(plan))
    taken.sort()
    return Figures(
        case,
        len(listed.found),
        listed.until is not None,
        statistics.median(taken),
        taken[min(len(taken) - 1, int(len(taken) * _PERCENT_99))],
        None if cpu_before is None or cpu_after is None else (cpu_after - cpu_before) / rounds,
        sum(node.get("Rows Removed by Filter", 0) * node.get("Actual Loops", 1) for node in nodes),
        plan["Shared Hit Blocks"] + plan["Shared Read Blocks"],
    )


_OBJECTS_BEFORE_COLLECTION: Final = 5_000


def _read_cpu_ms(pid: int) -> float | None:
    """Return the CPU time of a process on this machine: other loads do not lengthen it much."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


async def bench(dsn: str, rounds: int) -> int:
    """Print the figures of all cases as a table; returns how many took too long."""
    pool = await open_pool(dsn, connections_max=2, statement_timeout_s=60)
    slow = 0
    try:
        async with reading(pool) as connection:
            now, somebody = await pick(connection)
            # As the API's processes do (app.py): else the pauses of a collection are measured.
            gc.collect()
            gc.freeze()
            gc.set_threshold(_OBJECTS_BEFORE_COLLECTION)
            _say("| list | clips | p50 ms | p99 ms | Postgres CPU ms | pages | filtered away |")
            _say("|---|---|---|---|---|---|---|")
            for case in make_cases(now, somebody):
                each = await measure(connection, case, rounds)
                slow += each.p99_ms >= GOAL_MS
                _say(
                    f"| {case.name} | {each.rows}{'+' if each.is_cut else ''} "
                    f"| {each.p50_ms:.1f} | {each.p99_ms:.1f} "
                    f"| {'-' if each.cpu_ms is None else f'{each.cpu_ms:.1f}'} "
                    f"| {each.buffers:,} | {each.removed:,.0f} |",
                )
    finally:
        await close_pool(pool)
    return slow


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(
        prog="python -m ingest_service.dev.bench_lists", description=__doc__
    )
    parser.add_argument("dsn", help="a full ledger")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args(arguments)
    sys.exit(1 if asyncio.run(bench(asked.dsn, asked.rounds)) else 0)


if __name__ == "__main__":
    main()
