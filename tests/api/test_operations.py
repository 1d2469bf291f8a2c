"""GET /v1/ops: what operators are told, against real uploads; and the page /ops as it is served."""

import asyncio
import re
import secrets
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from ingest_service.actions.count_completeness import count_next
from ingest_service.actions.measure_operations import FRESH_S, OperationsBoard
from ingest_service.actions.record_traffic import TrafficMeter
from ingest_service.api.operations import ASSETS
from ingest_service.domain.clock import utc_now
from ingest_service.errors import LedgerUnavailable
from ingest_service.jobs.read_back import read_back_next
from ingest_service.jobs.sample_backlog import sample_backlog
from ingest_service.ledger import operations
from tests.api.served import PART_BYTES, assert_problem

PAGES = Path(__file__).parents[2] / "ingest_service" / "api" / "pages"
CLIP = b"o" * (2 * PART_BYTES + 7)


@pytest.fixture
async def operator(served):
    async with served.client(served.token("operate")) as client:
        yield client


@pytest.fixture
def borough():
    return f"Borough {secrets.token_hex(4)}"


async def ask(client, **query):
    response = await client.get("/v1/ops", params=query)
    assert response.status_code == 200, response.text
    return response.json()


async def ask_anew(served, client, **query):
    """Ask a service that remembers nothing."""
    with served.changed():
        return await ask(client, **query)


async def flush(served, meter):
    """Do what every process does every five seconds; the sample is in the past at once."""
    await served.call(meter.flush(served.resources.pool))
    await served.sql("UPDATE traffic_samples SET sampled_at = sampled_at - interval '5 seconds'")


@pytest.fixture
async def quiet(served):
    """No samples of others."""
    for table in ("traffic_samples", "backlog_samples", "station_traffic"):
        await served.sql(f"DELETE FROM {table}")  # noqa: S608 - three names of ours


def queue_of(body, name):
    return next(queue for queue in body["queues"] if queue["name"] == name)


async def secure_all(served):
    opened = served.resources
    while await served.call(read_back_next(opened)):
        pass


@pytest.mark.usefixtures("quiet")
async def test_bytes_and_clips_of_every_surface_are_in_the_live_rate(served, dock, operator):
    await secure_all(served)
    meter = TrafficMeter()
    await dock.bring_in(CLIP)
    # One part, so one statement.
    await dock.bring_in(CLIP[:9])
    await dock.append(await dock.open(len(CLIP)), 0, CLIP)
    await secure_all(served)
    await flush(served, meter)

    rate = (await ask_anew(served, operator))["rate"]
    sent_bytes = 2 * len(CLIP) + 9
    assert rate["over_s"] * rate["received_bytes_s"] == pytest.approx(sent_bytes)
    assert rate["over_s"] * rate["received_clips_s"] == pytest.approx(3)
    assert rate["over_s"] * rate["secured_clips_s"] == pytest.approx(3)
    assert rate["over_s"] * rate["secured_bytes_s"] == pytest.approx(sent_bytes)


@pytest.mark.usefixtures("quiet")
async def test_several_processes_add_to_one_sample(served, dock, operator):
    meters = [TrafficMeter(), TrafficMeter()]
    await dock.bring_in(CLIP)
    pool = served.resources.pool
    await served.call(asyncio.wait_for(meters[0].flush(pool), 10))
    await served.call(asyncio.wait_for(meters[1].flush(pool), 10))

    rows = await served.sql("SELECT received_bytes FROM traffic_samples")
    assert sum(row["received_bytes"] for row in rows) == 2 * len(CLIP)
    assert len(rows) <= 2


@pytest.mark.usefixtures("quiet")
async def test_a_process_that_did_nothing_writes_nothing(served):
    meter = TrafficMeter()
    await served.call(meter.flush(served.resources.pool))

    assert await served.sql("SELECT sampled_at FROM traffic_samples") == []


@pytest.mark.usefixtures("quiet")
async def test_what_could_not_be_written_is_written_the_next_time(served, dock):
    meter = TrafficMeter()
    meter.note("dock-1", status=200, is_shed=False, received_bytes=5, seconds=1)
    await dock.bring_in(CLIP)

    class Gone:
        def get_idle_size(self):
            return 1

        def acquire(self, **_options):
            raise OSError

    with pytest.raises(LedgerUnavailable):
        await meter.flush(Gone())
    await served.call(meter.flush(served.resources.pool))

    (traffic,) = await served.sql("SELECT received_bytes FROM traffic_samples")
    (station,) = await served.sql("SELECT station_id, received_bytes FROM station_traffic")
    assert traffic["received_bytes"] == len(CLIP)
    assert station == {"station_id": "dock-1", "received_bytes": 5}


@pytest.mark.usefixtures("quiet")
async def test_the_history_survives_whoever_asks_and_ends_with_a_whole_step(served, dock, operator):
    meter = TrafficMeter()
    await dock.bring_in(CLIP)
    await served.call(meter.flush(served.resources.pool))
    await served.sql("UPDATE traffic_samples SET sampled_at = sampled_at - interval '3 minutes'")

    for minutes, step_s, count in ((5, 5, 60), (15, 15, 60), (60, 30, 120)):
        history = (await ask_anew(served, operator, minutes=minutes))["history"]
        points = history["points"]
        assert (history["step_s"], len(points)) == (step_s, count)
        received = sum(point["received_bytes_s"] * step_s for point in points)
        assert received == pytest.approx(len(CLIP))


@pytest.mark.usefixtures("quiet")
async def test_active_uploads_are_counted_by_borough(served, make_dock, operator, borough):
    dock = await make_dock(borough=borough)
    await dock.announce(len(CLIP))
    path = await dock.open(100)
    await dock.append(path, 0, b"x" * 40)
    await dock.announce(5)
    await served.sql(
        "UPDATE uploads SET expires_at = expires_at - interval '2 minutes'"
        " WHERE length_bytes = 5 AND station_id = $1",
        dock.station.station_id,
    )

    uploads = (await ask_anew(served, operator))["uploads"]
    (mine,) = [each for each in uploads["boroughs"] if each["borough"] == borough]
    assert mine == {"borough": borough, "active_count": 2, "left_bytes": len(CLIP) + 60}
    assert uploads["open_count"] >= 3


async def test_queues_grow_and_shrink_with_the_work(served, dock, operator):
    await secure_all(served)
    await served.publish_log()
    before = await ask_anew(served, operator)
    await dock.bring_in(CLIP)
    waiting = await ask_anew(served, operator)
    await secure_all(served)
    await served.publish_log()
    after = await ask_anew(served, operator)

    assert queue_of(before, "read_back")["waiting_count"] == 0
    assert queue_of(waiting, "read_back")["waiting_count"] == 1
    assert queue_of(waiting, "read_back")["waiting_since"] is not None
    assert queue_of(after, "read_back")["waiting_count"] == 0


async def test_the_logs_lag_and_its_last_checkpoint(served, dock, operator):
    await served.publish_log()
    before = (await ask_anew(served, operator))["custody_log"]
    await dock.bring_in(CLIP)
    waiting = (await ask_anew(served, operator))["custody_log"]
    await served.publish_log()
    after = (await ask_anew(served, operator))["custody_log"]

    assert before["lag_events"] == 0
    assert before["checkpoint"]["tree_size"] == before["tree_size"]
    assert waiting["lag_events"] > 0
    assert waiting["lag_s"] > 0
    assert after["lag_events"] == 0
    assert after["tree_size"] == before["tree_size"] + waiting["lag_events"]
    assert after["checkpoint"]["tree_size"] == after["tree_size"]
    assert after["checkpoint"]["age_s"] < 60


async def test_what_is_at_risk_and_a_stalled_station(served, make_dock, operator, borough):
    dock = await make_dock(borough=borough)
    serial = f"BWC-{secrets.token_hex(6)}"
    held = {"recording_id": "r-1", "size_bytes": 10**15}
    response = await dock.http.post(f"/v1/devices/{serial}/manifest", json={"recordings": [held]})
    assert response.status_code == 201
    await served.publish_log()
    opened = served.resources
    while await served.call(count_next(pool=opened.pool, tail=opened.feed, now=opened.now)):
        pass
    await served.sql(
        "UPDATE device_completeness SET held_since = now() - interval '1 hour'"
        " WHERE device_serial = $1",
        serial,
    )

    body = await ask_anew(served, operator)
    assert body["at_risk"]["unsecured_bytes"] >= 10**15
    assert body["at_risk"]["stalled_count"] >= 1
    (mine,) = [each for each in body["stations"] if each["borough"] == borough]
    assert (mine["station_id"], mine["reasons"]) == (dock.station.station_id, ["stalled"])


@pytest.mark.usefixtures("quiet")
async def test_a_station_whose_requests_fail_stands_out(served, make_dock, operator, borough):
    dock = await make_dock(borough=borough)
    plan = await dock.announce(len(CLIP))
    for _ in range(9):
        assert (await dock.send(plan["clip_id"], 0, b"short")).status_code == 400
    await served.call(served.resources.traffic.flush(served.resources.pool))

    body = await ask_anew(served, operator)
    (mine,) = [each for each in body["stations"] if each["borough"] == borough]
    assert mine["reasons"] == ["failing"]
    assert (mine["failed_count"], mine["request_count"]) == (9, 10)


@pytest.mark.usefixtures("quiet")
async def test_a_station_far_below_the_others_is_slow(served, make_dock, operator, borough):
    docks = [await make_dock(borough=borough) for _ in range(4)]
    meter = TrafficMeter()
    for number, dock in enumerate(docks):
        name = dock.station.station_id
        seconds = 10 if number == 2 else 1
        meter.note(name, status=201, is_shed=False, received_bytes=10**7, seconds=seconds)
    await served.call(meter.flush(served.resources.pool))

    body = await ask_anew(served, operator)
    (mine,) = [each for each in body["stations"] if each["borough"] == borough]
    assert (mine["station_id"], mine["reasons"]) == (docks[2].station.station_id, ["slow"])
    assert mine["stream_bytes_s"] == pytest.approx(10**6)


@pytest.mark.usefixtures("quiet")
async def test_a_worker_keeps_samples_and_forgets_old_ones(served, dock, operator):
    await secure_all(served)
    await dock.bring_in(CLIP)
    for table, columns in (("traffic_samples", 7), ("backlog_samples", 8)):
        zeros = ", ".join(["0"] * columns)
        await served.sql(f"INSERT INTO {table} VALUES (now() - interval '3 hours', {zeros})")  # noqa: S608
    await served.call(sample_backlog(served.resources))
    await served.call(sample_backlog(served.resources))

    rows = await served.sql("SELECT sampled_at, read_back_count FROM backlog_samples")
    # The second worker saw the first one's.
    assert [row["read_back_count"] for row in rows] == [1]
    assert await served.sql("SELECT sampled_at FROM traffic_samples") == []


async def test_a_hundred_open_pages_cost_as_much_as_one(served):
    opened = served.resources
    lent = 0

    class Counting:
        def get_idle_size(self):
            return 1

        def acquire(self, **options):
            nonlocal lent
            lent += 1
            return opened.pool.acquire(**options)

    moment = 0.0
    board = OperationsBoard(
        pool=Counting(),
        expires_after=timedelta(days=7),
        fixity_interval_s=90 * 86400,
        now=utc_now,
        monotonic=lambda: moment,
    )

    async def look():
        await asyncio.gather(*(board.measure(60) for _ in range(100)))

    await served.call(look())
    once = lent
    moment = FRESH_S - 0.1
    await served.call(look())
    assert lent == once
    moment = FRESH_S + 0.1
    await served.call(look())
    assert once < lent <= 2 * once


async def test_a_full_house_still_tells_operators(served, operator):
    door = served.resources.door
    door.in_work += 10_000
    try:
        assert (await operator.get("/v1/ops")).status_code == 200
    finally:
        door.in_work -= 10_000


async def test_only_operators_are_told(served, dock, reader, stranger):
    assert_problem(await stranger.get("/v1/ops"), 401, "unauthorized")
    assert_problem(await dock.http.get("/v1/ops"), 403, "forbidden")
    assert_problem(await reader.get("/v1/ops"), 403, "forbidden")


async def test_a_token_for_one_borough_shows_no_other(served, make_dock, borough):
    other = f"{borough} other"
    for each in (borough, other):
        await (await make_dock(borough=each)).announce(9)

    async with served.client(served.token("operate", boroughs=[borough])) as limited:
        uploads = (await ask_anew(served, limited))["uploads"]
    assert [each["borough"] for each in uploads["boroughs"]] == [borough]


async def test_an_odd_window_is_refused(operator):
    problem = assert_problem(await operator.get("/v1/ops?minutes=7"), 422, "invalid-request")

    assert problem["action"] == "fix"


async def test_the_readiness_of_what_it_leans_on_is_told(served, operator):
    with served.changed():
        served.vault.fail_next("check", "lost")
        body = await ask(operator)

    assert body["readiness"]["status"] == "not ready"
    assert body["readiness"]["checks"]["bucket"]["ok"] is False


# --- what it costs ------------------------------------------------------------------------

FILL = """
    INSERT INTO stations (station_id, site_id, borough) VALUES ('s-1', 'site', 'Camden');
    SET session_replication_role = replica;
    INSERT INTO clips (clip_id, state, upload_id, device_serial, recording_id, segment_no,
                       announcement, station_id, site_id, borough, clock_state, announced_at,
                       sealed_at, secured_at, size_bytes, sha256, sha256_readback, object_key,
                       manifest_sha256, last_fixity_at)
    SELECT uuidv7(), 'secured', gen_random_uuid(), 'BWC', n::text, 0, '{}', 's-1', 'site',
           'Camden', 'synced', now(), now(), now(), 9, sha256('x'), sha256('x'), 'k',
           sha256('m'), now()
      FROM generate_series(1, 30000) AS n;
    INSERT INTO uploads (upload_id, clip_id, station_id, state, length_bytes, part_bytes,
                         opened_at, expires_at)
    SELECT gen_random_uuid(), clip_id, 's-1', 'finished', 9, 9, now(), now() FROM clips;
    INSERT INTO traffic_samples
    SELECT now() - n * interval '5 seconds', 1, 1, 1, 1, 1, 1, 1
      FROM generate_series(1, 20000) AS n;
    INSERT INTO station_traffic
    SELECT date_trunc('minute', now()) - n * interval '1 minute', 's-1', 1, 1, 1, 1
      FROM generate_series(1, 20000) AS n;
    INSERT INTO log_checkpoints
    SELECT n, 'note', now(), now() FROM generate_series(1, 20000) AS n;
    SET session_replication_role = origin;
"""
ASKED = {
    "queues": (operations.MEASURE_QUEUES, "10000, 7776000"),
    "active": (operations.LIST_ACTIVE, "604740, 10000"),
    "open": (operations.COUNT_OPEN, "10000"),
    "log": (operations.FIND_LOG_STATE, None),
    "recent": (operations.SUM_RECENT, "10"),
    "points": (operations.LIST_POINTS, "30, 120"),
    "station work": (operations.LIST_STATION_WORK, "900"),
}


async def test_no_figure_reads_the_archive(ledger_owner_dsn):
    """Whole tables are never scanned, and few rows are touched, however many clips there are."""

    connection = await asyncpg.connect(ledger_owner_dsn)
    try:
        await connection.execute(FILL)
        for table in ("clips", "uploads", "traffic_samples", "station_traffic", "log_checkpoints"):
            await connection.execute(f"VACUUM ANALYZE {table}")
        found = {}
        for name, (statement, arguments) in ASKED.items():
            await connection.execute(f"PREPARE asked AS {statement}")
            execute = "asked" if arguments is None else f"asked({arguments})"
            rows = await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS) EXECUTE {execute}")
            await connection.execute("DEALLOCATE asked")
            plan = "\n".join(row[0] for row in rows)
            blocks = int(re.search(r"Buffers: shared hit=(\d+)", plan)[1])
            scanned = re.findall(r"Seq Scan on (\w+)", plan)
            found[name] = (blocks, scanned, plan)
    finally:
        await connection.close()

    small = {"stations", "log_state", "log_queue", "webhooks", "backlog_samples"}
    for name, (blocks, scanned, plan) in found.items():
        assert set(scanned) <= small, f"{name}: {plan}"
        assert blocks < 200, f"{name}: {plan}"


# --- the page -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/ops", *(f"/ops/{name}" for name in sorted(ASSETS))])
async def test_the_page_comes_with_strict_headers_and_needs_no_token(stranger, path):
    response = await stranger.get(path)

    assert response.status_code == 200
    policy = response.headers["content-security-policy"]
    for part in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"):
        assert part in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"


async def test_no_other_file_is_served_beside_the_page(stranger):
    for name in ("upload.js", "ops.html", "%2e%2e%2foperations.py"):
        assert_problem(await stranger.get(f"/ops/{name}"), 404, "route-not-found")


@pytest.mark.parametrize("name", ["ops.html", "ops.css", "ops.js"])
def test_the_page_names_no_other_host_and_has_no_script_or_style_in_its_text(name):
    text = (PAGES / name).read_text()

    assert "://" not in text
    assert not re.search(r"\son\w+=|\sstyle=|<script>|<style", text)
