"""Traces of the real service on real servers: one tree for each request, and nothing in it that is
secret."""

import asyncio
import json
import secrets
import socket
import subprocess
import sys
import threading
from contextlib import asynccontextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import perf_counter
from uuid import uuid4

import httpx
import pytest
import structlog
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import REGISTRY
from pydantic import SecretStr

from ingest_service import VERSION
from ingest_service.actions.register_station import register_station
from ingest_service.api.wire import GuardedProtocol
from ingest_service.app import create_app
from ingest_service.courier.webhooks import Courier
from ingest_service.domain.clock import utc_now
from ingest_service.domain.token import import_signing_key, make_private_key, sign_station_token
from ingest_service.errors import UploadBusy
from ingest_service.jobs.every import repeat
from ingest_service.jobs.read_back import read_back_next
from ingest_service.jobs.sequence_log import lead_log
from ingest_service.ledger.connection import reading
from ingest_service.ledger.stations import Station
from ingest_service.ledger.traced import name_statement
from ingest_service.ledger.uploads import FIND_UPLOAD
from ingest_service.resources import open_resources
from ingest_service.settings import Settings
from ingest_service.signer import make_signing_key
from ingest_service.tracing import spans
from ingest_service.tracing.exporting import make_exporter, tracing
from tests.api.served import announcement, digest_of
from tests.vault.faulty_s3 import FaultyS3

pytestmark = pytest.mark.s3
DATA = b"footage" * 20_000
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{CALLER}-01"


@pytest.fixture(scope="module")
def shared_dsn(postgres, ledger_template):
    """A ledger that tests of this file share; each brings a station of its own."""
    postgres.run_sql(f'CREATE DATABASE ledger_traced TEMPLATE "{ledger_template}"')
    return postgres.service_dsn("ledger_traced")


@pytest.fixture
def exported():
    """What is traced, in memory; everything is."""
    exporter = InMemorySpanExporter()
    with tracing(exporter, sample_ratio=1, is_batched=False):
        yield exporter


class Running:
    """The service, a station's client and what is open in between."""

    def __init__(self, opened, http):
        self.opened = opened
        self.http = http

    async def announce(self, **headers):
        answer = await self.http.post(
            "/v1/clips", json=announcement(len(DATA), officer_id="PC 4711"), headers=headers
        )
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def send(self, clip_id, **headers):
        return await self.http.post(
            f"/v1/clips/{clip_id}/chunks/0",
            content=DATA,
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Digest": digest_of(DATA),
                **headers,
            },
        )

    async def bring_in(self, **headers):
        clip_id = (await self.announce(**headers))["clip_id"]
        assert (await self.send(clip_id, **headers)).status_code == 201
        answer = await self.http.post(f"/v1/clips/{clip_id}/seal", headers=headers)
        assert answer.status_code == 200, answer.text
        return clip_id


@asynccontextmanager
async def serve(folder, seaweed, ledger_dsn, **changes):
    make_signing_key(folder / "signing.pem")
    configured = Settings(
        ledger_dsn=SecretStr(ledger_dsn),
        vault_endpoint=changes.pop("vault_endpoint", seaweed.endpoint),
        vault_bucket=seaweed.bucket,
        vault_access_key=SecretStr(seaweed.access_key),
        vault_secret_key=SecretStr(seaweed.secret_key),
        signing_key_file=folder / "signing.pem",
        read_back_yield_s=0,
        **changes,
    )
    listener = socket.create_server(("127.0.0.1", 0))
    async with open_resources(configured) as opened:
        app = create_app(configured, opened)
        config = uvicorn.Config(
            app, http=GuardedProtocol, ws="none", lifespan="on", log_config=None, access_log=False
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        key = import_signing_key(make_private_key())
        station = Station(f"dock-{secrets.token_hex(6)}", "site-1", "Camden")
        await register_station(station, key.verifying_key.public_jwk, pool=opened.pool)
        token = sign_station_token(key, station.station_id, now=utc_now())
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{listener.getsockname()[1]}",
            headers={"Authorization": f"Bearer {token}"},
            timeout=20,
            trust_env=False,
        ) as http:
            yield Running(opened, http)
        server.should_exit = True
        await serving


@pytest.fixture
async def running(exported, tmp_path, seaweed, shared_dsn):
    async with serve(tmp_path, seaweed, shared_dsn) as service:
        yield service


@pytest.fixture
async def working(exported, tmp_path, seaweed, ledger_dsn):
    """The service with a ledger of its own, so that its jobs find nothing of others'."""
    async with serve(tmp_path, seaweed, ledger_dsn) as service:
        yield service


def tree(found, trace_id):
    """Each span's way up to the caller: names, from the top."""
    own = [span for span in found if span.context.trace_id == int(trace_id, 16)]
    by_id = {span.context.span_id: span for span in own}

    def way(span):
        above = by_id.get(span.parent.span_id) if span.parent is not None else None
        return (*(() if above is None else way(above)), span.name)

    return [way(span) for span in own]


def of_requests(exporter):
    return [span for span in exporter.get_finished_spans() if span.kind is SpanKind.SERVER]


# --- one upload --------------------------------------------------------------------------


async def test_an_uploads_requests_are_one_tree_under_their_callers_trace(running, exported):
    await running.bring_in(traceparent=TRACEPARENT, tracestate="vendor=1")

    ways = tree(exported.get_finished_spans(), TRACE_ID)
    assert {way[0] for way in ways} == {
        "POST /v1/clips",
        "POST /v1/clips/{clip_id}/chunks/{index}",
        "POST /v1/clips/{clip_id}/seal",
    }
    assert {way[1] for way in ways if len(way) > 1} >= {"ledger", "vault.put_object"}
    assert any(way[1] == "ledger" and way[2].startswith("clips.") for way in ways if len(way) > 2)
    for span in of_requests(exported):
        assert span.parent.span_id == int(CALLER, 16)
        assert span.context.trace_state.get("vendor") == "1"


async def test_a_requests_span_says_what_its_line_in_the_log_does(running, exported):
    clip_id = await running.bring_in()

    chunk = next(span for span in of_requests(exported) if "chunks" in span.name)
    assert chunk.attributes["clip_id"] == clip_id
    assert chunk.attributes["http.route"] == "/v1/clips/{clip_id}/chunks/{index}"
    assert chunk.attributes["http.response.status_code"] == 201
    assert chunk.attributes["http.request.method"] == "POST"
    assert chunk.attributes["outcome"] == "ok"
    assert chunk.attributes["request_id"]
    assert chunk.status.status_code is StatusCode.UNSET


async def test_the_storages_span_says_where_and_how_much(running, exported, seaweed):
    await running.bring_in()

    [put] = [s for s in exported.get_finished_spans() if s.name == "vault.put_object"]
    assert put.attributes["aws.s3.bucket"] == seaweed.bucket
    assert put.attributes["ingest.bytes"] == len(DATA)
    assert put.attributes["rpc.method"] == "put_object"


async def test_nothing_that_a_caller_wrote_stands_in_a_span(running, exported):
    plan = await running.announce(cookie="secret-cookie")
    await running.http.get("/d/secret-link", headers={"X-Request-Id": "mine"})
    await running.http.request("SECRETVERB", "/v1/clips")
    await running.http.get("/v1/clips/secret-id?purpose=secret-purpose")

    told = "".join(span.to_json() for span in exported.get_finished_spans())
    assert plan["clip_id"] in told
    for secret in ("4711", "secret", "SECRET", "Bearer", "SELECT", "footage"):
        assert secret not in told


# --- whose trace -------------------------------------------------------------------------


NONE = {
    "nonsense": "nonsense",
    "no trace": f"00-{'0' * 32}-{CALLER}-01",
    "no span": f"00-{TRACE_ID}-{'0' * 16}-01",
    "no version": f"ff-{TRACE_ID}-{CALLER}-01",
    "capitals": f"00-{TRACE_ID.upper()}-{CALLER}-01",
    "too long": f"00-{TRACE_ID}-{CALLER}-01-more",
    "much too long": f"00-{TRACE_ID}-{CALLER}-01" + "0" * 600,
}


async def test_a_traceparent_that_is_none_begins_a_new_trace(running, exported):
    for name, traceparent in NONE.items():
        exported.clear()
        await running.http.get("/v1/time", headers={"traceparent": traceparent})

        [span] = of_requests(exported)
        assert span.parent is None, name
        assert span.context.trace_id != int(TRACE_ID, 16), name


async def test_two_traceparents_are_none(running, exported):
    twice = [("traceparent", TRACEPARENT), ("traceparent", TRACEPARENT.replace("4bf", "5bf"))]
    await running.http.get("/v1/time", headers=twice)

    assert of_requests(exported)[0].parent is None


@settings(max_examples=200, deadline=None)
@given(
    traceparents=st.lists(st.binary(max_size=80) | st.just(TRACEPARENT.encode()), max_size=2),
    tracestates=st.lists(st.binary(max_size=600), max_size=3),
)
def test_no_header_keeps_a_request_from_beginning(traceparents, tracestates):
    headers = [(b"traceparent", each) for each in traceparents]
    headers += [(b"tracestate", each) for each in tracestates]
    exporter = InMemorySpanExporter()
    with tracing(exporter, sample_ratio=1, is_batched=False):
        spans.tracer.begin_request("GET", headers).leave()

    # A caller's flags may be any.
    assert len(exporter.get_finished_spans()) <= 1
    assert spans.CURRENT.get() is None


async def test_a_caller_who_does_not_record_is_not_recorded(running, exported):
    await running.bring_in(traceparent=TRACEPARENT.replace("-01", "-00"))

    assert exported.get_finished_spans() == ()


async def test_what_machines_ask_all_the_time_is_not_traced(running, exported):
    for path in ("/livez", "/readyz", "/metrics", "/v1/events/stream"):
        await running.http.get(path)

    assert exported.get_finished_spans() == ()


async def test_a_path_that_leads_nowhere_is_named_by_its_method_alone(running, exported):
    await running.http.get("/nowhere/1234")

    assert [span.name for span in of_requests(exported)] == ["GET"]


# --- what goes wrong ---------------------------------------------------------------------


async def test_a_failing_store_is_an_error_in_its_trace(
    exported, tmp_path, seaweed, shared_dsn, monkeypatch
):
    monkeypatch.setattr("ingest_service.vault.s3.FIRST_WAIT_S", 0.01)
    async with (
        FaultyS3(seaweed.endpoint) as faulty,
        serve(tmp_path, seaweed, shared_dsn, vault_endpoint=faulty.endpoint) as service,
    ):
        clip_id = (await service.announce())["clip_id"]
        faulty.fail_next("PUT", "500", times=3)
        exported.clear()
        answer = await service.send(clip_id)

    assert answer.status_code == 503
    [request] = of_requests(exported)
    [put] = [s for s in exported.get_finished_spans() if s.name == "vault.put_object"]
    assert put.status.status_code is request.status.status_code is StatusCode.ERROR
    assert put.attributes["error.type"] == "VaultUnavailable"
    assert request.attributes["error.type"] == "vault-unavailable"


async def test_a_statement_that_fails_is_an_error_and_tells_no_value(running, exported):
    with spans.step("outside"):
        pass
    pool = running.opened.pool
    with pytest.raises(Exception, match="invalid input"), spans.job("asking"):
        async with reading(pool) as connection:
            await connection.fetchval("SELECT 'secret-value'::text::int4")

    [statement] = [s for s in exported.get_finished_spans() if s.name == "statement"]
    assert statement.status.status_code is StatusCode.ERROR
    assert "secret-value" not in statement.to_json()


async def test_a_refusal_is_no_error(running, exported):
    answer = await running.send(uuid4())

    assert answer.status_code == 404
    found = exported.get_finished_spans()
    assert {span.status.status_code for span in found} == {StatusCode.UNSET}


async def test_other_bytes_than_were_said_are_no_failure_of_the_store(running, exported):
    clip_id = (await running.announce())["clip_id"]
    exported.clear()
    await running.send(clip_id, **{"Content-Digest": digest_of(b"other")})

    [put] = [span for span in exported.get_finished_spans() if span.name == "vault.put_object"]
    assert put.attributes["ingest.body"] == "ChunkCorrupted"
    assert put.status.status_code is StatusCode.UNSET


async def test_what_a_block_refuses_is_no_failure_of_the_ledger(running, exported):
    with pytest.raises(UploadBusy), spans.job("refusing"):
        async with reading(running.opened.pool):
            raise UploadBusy(uuid4(), "")

    failed = {span.name for span in exported.get_finished_spans() if not span.status.is_ok}
    assert failed == {"job refusing"}


def test_a_statement_is_called_as_it_is_in_the_code():
    assert name_statement(FIND_UPLOAD) == "uploads.find_upload"
    assert name_statement("COMMIT;") == "COMMIT"
    assert name_statement("SELECT 'secret'") == "statement"


# --- jobs --------------------------------------------------------------------------------


async def one_round(name, run_once):
    stop = asyncio.Event()

    async def run():
        stop.set()
        return await run_once()

    await repeat(name, run, interval_s=0, stop=stop)


async def test_a_read_back_is_a_trace_of_its_own_that_names_its_clip(working, exported):
    clip_id = await working.bring_in()
    exported.clear()
    await one_round("read_back", partial(read_back_next, working.opened))

    found = exported.get_finished_spans()
    [root] = [span for span in found if span.parent is None]
    assert (root.name, root.attributes["clip_id"]) == ("job read_back", clip_id)
    assert {span.context.trace_id for span in found} == {root.context.trace_id}
    [read] = [span for span in found if span.name == "vault.read"]
    assert read.attributes["ingest.bytes"] == len(DATA)


async def test_a_round_that_found_nothing_leaves_no_trace(working, exported):
    await one_round("read_back", partial(read_back_next, working.opened))

    assert exported.get_finished_spans() == ()


async def test_a_round_that_fails_leaves_one(working, exported):
    async def fail():
        raise RuntimeError(repr("secret-text"))

    await one_round("failing", fail)

    [root] = exported.get_finished_spans()
    assert root.attributes["error.type"] == "RuntimeError"
    assert "secret-text" not in root.to_json()


async def test_the_logs_batches_are_traced_and_not_the_lead(working, exported):
    await working.bring_in()
    exported.clear()
    stop = asyncio.Event()
    leading = asyncio.create_task(
        repeat(
            "sequence_log",
            partial(lead_log, working.opened, stop),
            interval_s=1,
            stop=stop,
            is_traced=False,
        )
    )
    async with asyncio.timeout(20):
        while not {"job sequence_log", "job publish_checkpoints"} <= {  # noqa: ASYNC110 - not ours
            span.name for span in exported.get_finished_spans()
        }:
            await asyncio.sleep(0.05)
    stop.set()
    await leading

    roots = [span for span in exported.get_finished_spans() if span.parent is None]
    assert {span.name for span in roots} == {"job sequence_log", "job publish_checkpoints"}
    assert all(span.attributes["ingest.job.found"] > 0 for span in roots)


class Receiver(BaseHTTPRequestHandler):
    """Notes the headers of whatever is posted, and answers as it is told."""

    def do_POST(self):
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append(self.headers)
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_args):
        pass


@pytest.fixture
def receiver():
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        server.seen, server.bodies, server.status = [], [], 200
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


async def test_a_webhook_is_told_of_which_trace_it_is(exported, receiver):
    courier = Courier(may_be_private=True)
    url = f"http://127.0.0.1:{receiver.server_port}/secret-path"
    with spans.job("deliver_webhooks") as found:
        found.append(2)
        await courier.send(url, b"{}", {})
        receiver.status = 500
        await courier.send(url, b"{}", {})
    await courier.close()

    first, second = [s for s in exported.get_finished_spans() if s.name == "POST webhook"]
    carried = [headers["traceparent"].split("-")[1:3] for headers in receiver.seen]
    assert carried == [
        [f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"]
        for span in (first, second)
    ]
    assert second.attributes["error.type"] == "500"
    assert "secret-path" not in first.to_json()


async def test_a_webhook_is_told_nothing_where_nothing_is_traced(receiver):
    courier = Courier(may_be_private=True)
    await courier.send(f"http://127.0.0.1:{receiver.server_port}/", b"{}", {})
    await courier.close()

    assert "traceparent" not in receiver.seen[0]


# --- the log -----------------------------------------------------------------------------


def test_lines_carry_trace_and_span():
    script = """
import structlog
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from ingest_service.telemetry import configure_logging
from ingest_service.tracing import spans
from ingest_service.tracing.exporting import tracing
configure_logging(form="json", level="info")
log = structlog.get_logger()
with tracing(InMemorySpanExporter(), sample_ratio=0):
    log.info("outside")
    with spans.job("work"):
        log.info("inside")
"""
    outside, inside = map(json.loads, run(script).splitlines())

    assert "trace_id" not in outside
    assert (len(inside["trace_id"]), len(inside["span_id"])) == (32, 16)


# --- off, and away -----------------------------------------------------------------------


def run(script):
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_of_it_is_loaded_while_it_is_off():
    script = """
import sys
import fastapi  # brings the API of OpenTelemetry, and none of what records or sends
before = {name for name in sys.modules if name.startswith("opentelemetry")}
import ingest_service.app, ingest_service.jobs.run, ingest_service.cli.work
after = {name for name in sys.modules if name.startswith("opentelemetry")}
print(sorted(after - before))
print([name for name in after if "sdk" in name or "exporter" in name])
print("ingest_service.tracing.exporting" in sys.modules)
"""
    assert run(script).splitlines() == ["[]", "[]", "False"]


async def test_nothing_is_wrapped_while_it_is_off(tmp_path, seaweed, shared_dsn):
    async with serve(tmp_path, seaweed, shared_dsn) as service:
        await service.bring_in()

        kinds = {type(service.opened.pool).__name__, type(service.opened.vault).__name__}
        assert kinds == {"Pool", "S3Vault"}
        assert spans.tracer is None


def count(outcome):
    return REGISTRY.get_sample_value("ingest_spans_total", {"outcome": outcome}) or 0.0


async def test_a_collector_gets_what_was_traced(tmp_path, seaweed, shared_dsn, receiver):
    before = count("exported")
    async with serve(
        tmp_path,
        seaweed,
        shared_dsn,
        tracing_endpoint=f"http://127.0.0.1:{receiver.server_port}/v1/traces",
        tracing_sample_ratio=1,
    ) as service:
        await service.bring_in()

    assert count("exported") > before + 3
    [resource, *_] = ExportTraceServiceRequest.FromString(receiver.bodies[0]).resource_spans
    told = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert (told["service.name"], told["service.version"]) == ("ingest", VERSION)
    assert "POST /v1/clips" in {span.name for span in resource.scope_spans[0].spans}


async def test_a_collector_that_is_away_costs_spans_and_no_request(tmp_path, seaweed, shared_dsn):
    """It takes the connection and says nothing: the worst of them."""
    lost = count("lost")
    silent = socket.create_server(("127.0.0.1", 0))
    async with serve(
        tmp_path,
        seaweed,
        shared_dsn,
        tracing_endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces",
        tracing_sample_ratio=1,
    ) as service:
        began = perf_counter()
        await service.bring_in()
        took_s = perf_counter() - began
        closing = perf_counter()
    closed_s = perf_counter() - closing
    silent.close()
    for thread in threading.enumerate():
        if thread.name.startswith("Otel"):
            thread.join(10)

    # A request that waited for it would take as long as an export: five seconds.
    assert took_s < 5
    assert closed_s < 5
    assert count("lost") > lost


def test_spans_beyond_what_may_wait_are_counted_as_lost(monkeypatch):
    monkeypatch.setattr("ingest_service.tracing.exporting.SPANS_WAITING_MAX", 3)
    held = threading.Event()

    class Stuck(InMemorySpanExporter):
        def export(self, batch):
            held.wait(5)
            return super().export(batch)

    lost, exporter = count("lost"), Stuck()
    with tracing(exporter, sample_ratio=1):
        for _ in range(10):
            with spans.job("work") as found:
                found.append(1)
        now_lost = count("lost") - lost
        held.set()

    assert now_lost == 7
    assert len(exporter.get_finished_spans()) == 3


def test_that_the_collector_is_away_is_told_once_and_that_it_is_back():
    answers = iter([False, False, True, True])

    class Moody(InMemorySpanExporter):
        def export(self, batch):
            if not next(answers):
                raise OSError(repr("secret-address"))
            return super().export(batch)

    with (
        structlog.testing.capture_logs() as lines,
        tracing(Moody(), sample_ratio=1, is_batched=False),
    ):
        for _ in range(4):
            with spans.job("work") as found:
                found.append(1)

    assert [line["event"] for line in lines] == ["traces_not_exported", "traces_exported_again"]
    assert lines[0]["reason"] == "OSError"


def test_the_exporters_own_words_are_the_reason():
    exporter = make_exporter("http://127.0.0.1:1/v1/traces")
    with (
        structlog.testing.capture_logs() as lines,
        tracing(exporter, sample_ratio=1, is_batched=False),
        spans.job("work") as found,
    ):
        found.append(1)

    assert [line["event"] for line in lines] == ["traces_not_exported"]
    assert "spans" in lines[0]["reason"]


# --- settings ----------------------------------------------------------------------------


def make_settings(**changes):
    return Settings(
        ledger_dsn=SecretStr("postgresql://h/d"),
        vault_endpoint="http://127.0.0.1:1",
        vault_bucket="evidence",
        vault_access_key=SecretStr("a"),
        vault_secret_key=SecretStr("s"),
        signing_key_file="signing.pem",
        **changes,
    )


@pytest.mark.parametrize(
    "endpoint", ["http://user:hunter2@collector/v1/traces", "collector:4318", "grpc://collector"]
)
def test_an_endpoint_that_is_none_stops_the_start_and_is_not_shown(endpoint):
    with pytest.raises(ValueError, match="INGEST_TRACING_ENDPOINT is a URL") as refused:
        make_settings(tracing_endpoint=endpoint)

    assert "hunter2" not in str(refused.value)


def test_an_endpoint_without_the_extra_stops_the_start(monkeypatch):
    def find_nothing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("ingest_service.settings.find_spec", find_nothing)

    assert make_settings().tracing_endpoint is None
    with pytest.raises(ValueError, match="needs the extra `tracing`"):
        make_settings(tracing_endpoint="http://127.0.0.1:4318/v1/traces")
