"""Lists of clips: what they find, in which order, and that no plan reads what it does not show."""

import asyncio
import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from ingest_service.actions import find_clips
from ingest_service.actions.find_clips import export_clips
from ingest_service.dev import bench_lists
from ingest_service.domain.clip_status import EVIDENTIAL_STATES, STATES, name_status, number_status
from ingest_service.domain.principal import Principal
from ingest_service.ledger import search
from ingest_service.ledger.connection import close_pool, open_pool, reading
from ingest_service.ledger.search import LISTS, Place, Search, choose_path
from loadtest.ten_million import fill

CLIPS = 60_000
ANYBODY = Principal("person", "P-anna", frozenset(), role="auditor")
# Every third camera's clock is wrong, by up to four days; footage was looked into, as flagged.
MOVE_CLOCKS = """
    UPDATE clips SET started_at_corrected = started_at - n * interval '7 hours'
      FROM (SELECT clip_id, abs(hashtext(device_serial)) % 45 - 30 AS n FROM clips) AS moved
     WHERE moved.clip_id = clips.clip_id AND n > 0;
    INSERT INTO media_facts (clip_id, probe_no, probed_at, prober, flags, bytes_read)
    SELECT clip_id, 1, now(), 'probe 1',
           ARRAY[CASE abs(hashtext(clip_id::text)) % 3 WHEN 0 THEN 'truncated'
                      WHEN 1 THEN 'unplayable' ELSE 'not_a_video' END], 1
      FROM clip_search WHERE is_settled AND abs(hashtext(clip_id::text)) % 20 = 7;
"""
# What a list may read and throw away: the cells it does not ask for, and the clips that come in.
REMOVED_MAX = 2_000
# So many clips may be read past for a page that two filters without a common index leave short.
READ_PAST_MAX = 4_000
# And so many pages it may touch: 1,800 are the clips that come in, four for each shown.
PAGES_MAX = 6_000

# The same list, read in the simplest way: every clip is looked at.
ORACLE = """
    SELECT clip_id
      FROM clips
     CROSS JOIN LATERAL (
            SELECT CASE WHEN $22::text = 'raw' THEN started_at
                        ELSE COALESCE(started_at_corrected, started_at) END AS recorded)
     WHERE ($1::text IS NULL OR device_serial = $1)
       AND ($2::text IS NULL OR officer_id = $2)
       AND ($3::text IS NULL OR station_id = $3)
       AND ($4::text IS NULL OR site_id = $4)
       AND ($5::text IS NULL OR borough = $5)
       AND ($6::text IS NULL OR category = $6)
       AND ($7::text IS NULL OR evidential_state = $7)
       AND ($8::text IS NULL OR state = $8)
       AND ($9::text IS NULL OR crime_ref = $9)
       AND ($10::text IS NULL OR incident_id = $10)
       AND ($11::text IS NULL OR exhibit_ref = $11)
       AND ($12::text IS NULL OR $12 = ANY (tags))
       AND ($13::timestamptz IS NULL OR recorded >= $13)
       AND ($14::timestamptz IS NULL OR recorded < $14)
       AND ($15::timestamptz IS NULL OR announced_at >= $15)
       AND ($16::timestamptz IS NULL OR announced_at < $16)
       AND ($17::boolean IS NULL OR is_held = $17)
       AND ($18::timestamptz IS NULL OR erase_due_at < $18)
       AND ($19::text[] IS NULL OR borough = ANY ($19))
       AND ($20::text IS NULL OR $20 = ANY (
                SELECT unnest(flags) FROM media_facts WHERE media_facts.clip_id = clips.clip_id))
  ORDER BY CASE WHEN $21 IN ('recorded', 'raw') THEN recorded END DESC,
           CASE $21 WHEN 'due' THEN erase_due_at END,
           CASE WHEN $21 = 'due' THEN clip_id END,
           clip_id DESC
"""
ORACLE_FIELDS = (
    *("device", "officer", "station", "site", "borough", "category", "evidential_state", "state"),
    *("crime_ref", "incident", "exhibit_ref", "tag", "recorded_after", "recorded_before"),
    *("received_after", "received_before", "held", "erase_due_before", "boroughs"),
    "media_flag",
)


@pytest.fixture(scope="module")
def full_ledger(postgres, ledger_template):
    """The name of a ledger with clips as a force has them."""
    name = "ledger_full"
    postgres.copy_database(name, template=ledger_template)
    asyncio.run(fill(postgres.owner_dsn(name), CLIPS))
    postgres.run_sql(MOVE_CLOCKS, database=name)
    yield name
    postgres.run_sql(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
async def connection(postgres, full_ledger):
    pool = await open_pool(
        postgres.service_dsn(full_ledger), connections_max=1, statement_timeout_s=30
    )
    async with reading(pool) as opened:
        yield opened
    await close_pool(pool)


async def list_all(connection, asked, *, limit, direction="forward", place=None):
    """Every page of a list, put together."""
    if asked.site is not None:
        asked = replace(asked, stations=await search.find_stations(connection, asked.site))
    ids = []
    while True:
        listed = await search.list_clips(
            connection, asked, place=place, direction=direction, limit=limit
        )
        ids += [each.clip.clip_id for each in listed.found]
        if listed.until is None and len(listed.found) < limit:
            return ids
        place = listed.until or listed.found[-1].place


async def list_some(connection, asked, *, place=None, **how):
    return (await search.list_clips(connection, asked, place=place, **how)).found


async def ask_oracle(connection, asked):
    values = [getattr(asked, name) for name in ORACLE_FIELDS]
    return [
        row["clip_id"] for row in await connection.fetch(ORACLE, *values, asked.order, asked.clock)
    ]


# --- what is found ------------------------------------------------------------------------


async def make_searches(connection, count, seed):
    """Searches by the values of clips that exist, so that most find something."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    rows = await connection.fetch(
        "SELECT * FROM clips WHERE random() < CASE WHEN tags IS NULL THEN 0.01 ELSE 0.2 END"
    )
    boroughs = sorted({row["borough"] for row in rows})
    for _ in range(count):
        clip = dice.choice(rows)
        tags = clip["tags"]
        recorded = clip["started_at_corrected"]
        width = timedelta(hours=dice.choice([1, 30, 3000]))
        values = {
            "device": clip["device_serial"],
            "officer": clip["officer_id"],
            "station": clip["station_id"],
            "site": clip["site_id"],
            "borough": clip["borough"],
            "category": clip["category"],
            "evidential_state": clip["evidential_state"],
            "state": clip["state"],
            "crime_ref": clip["crime_ref"],
            "incident": clip["incident_id"],
            "exhibit_ref": clip["exhibit_ref"],
            "tag": tags and tags[0],
            "recorded_after": recorded - width,
            "recorded_before": recorded + width,
            "received_after": clip["announced_at"] - width,
            "received_before": clip["announced_at"] + width,
            "held": clip["is_held"],
            "erase_due_before": clip["erase_due_at"] and clip["erase_due_at"] + width,
            "media_flag": dice.choice(["truncated", "unplayable"]),
            "clock": dice.choice(["raw", "corrected"]),
            "boroughs": [*dice.sample(boroughs, 9), clip["borough"]],
        }
        chosen = dice.sample(sorted(values), dice.randint(1, 4))
        yield Search(**{name: values[name] for name in chosen})


@pytest.mark.parametrize("seed", range(6))
async def test_lists_find_what_looking_at_every_clip_finds(connection, seed):
    async for asked in make_searches(connection, 12, seed):
        expected = await ask_oracle(connection, asked)
        limit = 501 if len(expected) > 400 else 7

        if len(expected) > 3000:
            listed = await search.list_clips(connection, asked, place=None, limit=501)
            ids = [each.clip.clip_id for each in listed.found]
            assert ids == expected[: len(ids)], asked
            assert len(ids) == 501 or listed.until is not None, asked
        else:
            assert await list_all(connection, asked, limit=limit) == expected, asked


@pytest.mark.parametrize("seed", range(6, 9))
async def test_a_list_read_backward_is_the_same_list(connection, seed):
    async for asked in make_searches(connection, 12, seed):
        expected = await ask_oracle(connection, asked)
        if len(expected) > 3000:
            continue
        limit = 501 if len(expected) > 400 else 7

        back = await list_all(connection, asked, limit=limit, direction="backward")
        assert back == expected[::-1], asked


async def test_the_searches_take_every_path(connection):
    paths = {
        (choose_path(asked), asked.order)
        # Drawn by chance: of a few, one path is missing now and then.
        for seed in range(60)
        async for asked in make_searches(connection, 12, seed)
    }

    assert {path for path, _ in paths} >= {"cell", "station", "status", "label_status"}
    assert {order for _, order in paths} == {"announced", "recorded", "raw", "due"}


# --- how it is found ----------------------------------------------------------------------


def nodes_of(plan):
    return list(bench_lists.walk(plan))


def assert_no_scan(nodes, case):
    """No table is read from end to end but those that have a few hundred rows."""
    seq = [
        node["Relation Name"]
        for node in nodes
        if node["Node Type"] == "Seq Scan"
        and node["Relation Name"] not in {"stations", "clip_cells"}
    ]
    assert seq == [], case


async def cases_of(connection):
    now, somebody = await bench_lists.pick(connection)
    return list(bench_lists.make_cases(now, somebody))


async def test_no_list_reads_a_table_from_end_to_end(connection):
    for case in await cases_of(connection):
        assert_no_scan(nodes_of(await bench_lists.explain(connection, case)), case)


async def test_no_list_throws_away_more_than_it_may(connection):
    """The rows that filters removed, loops counted, and the pages that were touched."""
    for case in await cases_of(connection):
        plan = await bench_lists.explain(connection, case)
        removed = sum(
            node.get("Rows Removed by Filter", 0) * node.get("Actual Loops", 1)
            for node in nodes_of(plan)
        )
        read_past = READ_PAST_MAX if case.asked.is_read_past else 0
        assert removed <= REMOVED_MAX + read_past, case
        assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= PAGES_MAX, case


async def test_how_far_a_list_may_look_is_found_without_reading_far(connection):
    for case in await cases_of(connection):
        asked = case.asked
        if asked.site is not None:
            stations = await search.find_stations(connection, asked.site)
            asked = replace(asked, stations=stations)
        horizon = search.HORIZONS.get((search.choose_path(asked), asked.order, case.direction))
        if horizon is None or not asked.is_read_past:
            continue
        arguments = search.bind(asked, place=None, direction=case.direction, limit=1)
        taken = [arguments[number - 1] for number in horizon.arguments]
        async with connection.transaction():
            await connection.execute(search.PLAN_STREAMS)
            text = await connection.fetchval(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {horizon.statement}", *taken
            )
        plan = json.loads(text)[0]["Plan"]

        assert_no_scan(nodes_of(plan), case)
        assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= PAGES_MAX, case


async def test_short_pages_lose_no_clip_in_either_direction(postgres, full_ledger, connection):
    now, _ = await bench_lists.pick(connection)
    asked = Search(
        recorded_before=now - timedelta(days=100), received_after=now - timedelta(days=90)
    )
    expected = await ask_oracle(connection, asked)
    dsn = postgres.service_dsn(full_ledger)
    pool = await open_pool(dsn, connections_max=1, statement_timeout_s=30)
    try:
        forward = await turn_pages(pool, asked, None, "next_cursor")
        last = next(page for page in reversed(forward) if page.prev_cursor is not None)
        back = await turn_pages(pool, asked, last.prev_cursor, "prev_cursor")
        exported = [
            clip.clip_id
            async for clips in export_clips(asked, ANYBODY, pool=pool)
            for clip in clips
        ]
    finally:
        await close_pool(pool)

    assert any(len(page.clips) < 40 and page.next_cursor for page in forward)
    assert [clip.clip_id for page in forward for clip in page.clips] == expected
    after = len(forward) - forward.index(last)
    before = [*back[::-1], *forward[-after:]]
    assert [clip.clip_id for page in before for clip in page.clips] == expected
    assert exported == expected


async def turn_pages(pool, asked, cursor, turn):
    pages = []
    while not pages or cursor is not None:
        page = await find_clips.list_clips(asked, ANYBODY, cursor=cursor, limit=40, pool=pool)
        pages.append(page)
        cursor = getattr(page, turn)
    return pages


async def test_every_filter_alone_is_among_the_cases(connection):
    asked = [case.asked for case in await cases_of(connection) if case.asked.clock is None]
    alone = set()
    for each in asked:
        named = [name for name in ORACLE_FIELDS if getattr(each, name) is not None]
        if len({name.removesuffix("_after").removesuffix("_before") for name in named}) == 1:
            alone.add(named[0].removesuffix("_after").removesuffix("_before"))

    wanted = {name.removesuffix("_after").removesuffix("_before") for name in ORACLE_FIELDS}
    assert alone == wanted


@pytest.mark.parametrize(("path", "order"), sorted({name[:2] for name in LISTS}))
async def test_a_list_has_a_good_plan_also_when_its_arguments_are_not_known(
    connection, path, order
):
    """Postgres may plan a statement once for all arguments: it must not sort a table then."""
    of_lists = [(name, text, 25) for name, text in LISTS.items() if name[:2] == (path, order)]
    of_horizons = [
        (name, horizon.statement, len(horizon.arguments))
        for name, horizon in search.HORIZONS.items()
        if name[:2] == (path, order)
    ]
    for name, statement, count in of_lists + of_horizons:
        async with connection.transaction():
            await connection.execute(search.PLAN_STREAMS)
            await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
            await connection.execute(f"PREPARE list AS {statement}")
            nothing = ", ".join(["NULL"] * count)
            text = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE list ({nothing})")
            await connection.execute("DEALLOCATE list")

        nodes = nodes_of(json.loads(text)[0]["Plan"])
        assert_no_scan(nodes, name)
        table = "clip_labels" if path.startswith("label") else "clip_search"
        reads = [node for node in nodes if node.get("Relation Name") == table]
        if path == "received":
            # By the ids alone, or by the ids of each status: both read that range and no more.
            assert reads, name
            assert all("(clip_id > " in read["Index Cond"] for read in reads), name
        else:
            assert {read.get("Index Name") for read in reads} == {index_of(path, order)}, name


def index_of(path, order):
    if path == "label":
        return "clip_labels_pkey"
    index = f"clip_search_{'settled' if path == 'all' else path}"
    index = index.replace("clip_search_label_", "clip_labels_")
    return f"{index}_idx" if order == "announced" or path in FEW else f"{index}_{order}_idx"


# Of which there are so few clips that they are sorted.
FEW = {"device", "officer", "incident", "crime", "exhibit"}


# --- what the lists are made of -----------------------------------------------------------


async def test_ledger_and_domain_number_a_status_alike(connection):
    for number in range(64):
        state, evidential, held = name_status(number)
        assert number_status(state, evidential, is_held=held) == number
        counted = await connection.fetchval(
            "SELECT clip_status($1, $2, $3)", state, evidential, held
        )
        assert counted == number
    assert len(STATES) * len(EVIDENTIAL_STATES) * 2 == 64


async def test_a_place_bears_its_time_only_where_time_is_the_order(connection):
    [announced] = await list_some(connection, Search(), limit=1)
    asked = Search(recorded_before=datetime(2100, 1, 1, tzinfo=UTC))
    [recorded] = await list_some(connection, asked, limit=1)

    assert announced.place == Place(None, announced.clip.clip_id)
    assert recorded.place.key == recorded.clip.started_at_corrected


async def test_a_place_at_the_ends_of_the_ids_can_be_asked_from(connection):
    first, last = UUID(int=0), UUID(int=2**128 - 1)

    assert await list_all(connection, Search(), limit=7, place=Place(None, first)) == []
    asked = {"place": Place(None, last), "direction": "backward", "limit": 7}
    assert await list_some(connection, Search(), **asked) == []
