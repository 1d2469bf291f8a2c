"""The log as lines for machines, and metrics that several processes add to."""

import json
import os
import subprocess
import sys


def run(script, *arguments, **environment):
    finished = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def log_lines(script):
    head = (
        "import logging, structlog\n"
        "from ingest_service.telemetry import REQUEST_FIELDS, configure_logging\n"
        "configure_logging(form='json', level='info')\n"
    )
    return [json.loads(line) for line in run(head + script).splitlines()]


def test_a_line_is_one_json_object():
    [line] = log_lines("structlog.get_logger('x').info('chunk_appended', bytes=7)")

    assert (line["event"], line["level"], line["bytes"]) == ("chunk_appended", "info", 7)
    assert line["timestamp"].endswith("Z")


def test_lines_below_the_level_are_dropped():
    assert log_lines("structlog.get_logger('x').debug('quiet')") == []


def test_every_line_of_a_request_carries_its_id():
    script = "REQUEST_FIELDS.set({'request_id': 'r1'}); structlog.get_logger('x').info('inner')"

    assert log_lines(script)[0]["request_id"] == "r1"


def test_a_library_speaks_the_same_form():
    [line] = log_lines("logging.getLogger('botocore').warning('retry %d', 2)")

    assert (line["event"], line["level"]) == ("retry 2", "warning")


def test_a_traceback_shows_no_values():
    script = """
def fail(token):
    raise RuntimeError("it failed")
try:
    fail("hun" + "ter2")
except RuntimeError as error:
    structlog.get_logger("x").error("request_failed", exc_info=error)
    logging.getLogger("x").error("request_failed", exc_info=error)
"""
    lines = log_lines(script)

    assert [line["exception"][0]["exc_type"] for line in lines] == ["RuntimeError"] * 2
    assert "hunter2" not in json.dumps(lines)


def test_several_processes_add_up(tmp_path):
    work = (
        "from ingest_service import telemetry as t; t.TAKE_OVERS.inc(2); t.ACTIVE_BODIES.inc();"
        "print(__import__('os').getpid())"
    )
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    pids = [run(work, **environment).strip() for _ in range(3)]

    render = (
        "import sys; from ingest_service import telemetry as t;"
        "[t.forget_process(int(pid)) for pid in sys.argv[1:]];"
        "print(t.render_metrics()[0].decode())"
    )
    text = run(render, *pids[:2], **environment)
    assert "ingest_take_overs_total 6.0" in text
    # Two of the three are gone, and their open bodies with them.
    assert "ingest_active_bodies 1.0" in text


def test_a_process_that_replaces_a_dead_one_drops_its_gauges(tmp_path):
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    run("from ingest_service import telemetry as t; t.ACTIVE_BODIES.inc()", **environment)

    text = run(
        "from ingest_service import telemetry as t; t.ACTIVE_BODIES.inc(2);"
        "t.forget_dead_processes(); print(t.render_metrics()[0].decode())",
        **environment,
    )

    assert "ingest_active_bodies 2.0" in text


def test_one_process_needs_no_folder():
    text = run(
        "from ingest_service import telemetry as t; t.TAKE_OVERS.inc();"
        "print(t.render_metrics()[0].decode())"
    )

    assert "ingest_take_overs_total 1.0" in text


def test_every_metric_is_named_for_the_service():
    names = run(
        "from ingest_service import telemetry as t\n"
        "from prometheus_client.metrics import MetricWrapperBase as M\n"
        "print(*[n for v in vars(t).values() if isinstance(v, M) for m in v.describe()"
        " for n in [m.name] if not n.startswith('ingest_')])"
    )

    assert names.split() == []


def test_a_tally_gives_its_histogram_what_observing_would():
    text = run(
        "from ingest_service import telemetry as t\n"
        "values = [0.0, 0.004, 0.005, 0.3, 59, 61, 1e9]\n"
        "tally = t.tally(t.VAULT_SECONDS, 'tallied')\n"
        "observed = t.VAULT_SECONDS.labels('observed')\n"
        "for value in values: tally.note(value); observed.observe(value)\n"
        "t.sample(); tally.note(1); t.sample(); observed.observe(1); t.sample()\n"
        "print(t.render_metrics()[0].decode())"
    )

    def series(operation):
        lines = [line for line in text.splitlines() if f'"{operation}"' in line]
        return [line.replace(operation, "") for line in lines if "_created" not in line]

    assert series("tallied") == series("observed") != []


def test_what_is_sampled_is_as_it_is_when_it_is_sampled():
    text = run(
        "from ingest_service import telemetry as t\n"
        "with t.sampled(lambda: t.LEDGER_WAITING.set(7)): t.sample()\n"
        "t.LEDGER_WAITING.inc(); t.sample()\n"
        "print(t.render_metrics()[0].decode())"
    )

    assert "ingest_ledger_waiting 8.0" in text


def test_jobs_answer_scrapes_of_their_own():
    text = run(
        "import socket, urllib.request\n"
        "from ingest_service import telemetry as t\n"
        "taken = socket.create_server(('127.0.0.1', 0))\n"
        "port = taken.getsockname()[1]; taken.close()\n"
        "t.serve_metrics('127.0.0.1', port); t.CLIPS_SECURED.inc(3)\n"
        "ask = urllib.request.build_opener(urllib.request.ProxyHandler({})).open\n"
        "print(ask(f'http://127.0.0.1:{port}/metrics').read().decode())"
    )

    assert "ingest_clips_secured_total 3.0" in text


def test_what_pages_at_its_first_count_is_told_before_as_none():
    """What appears with its first count has grown by nothing, and no alert would see it."""
    text = run("from ingest_service import telemetry as t; print(t.render_metrics()[0].decode())")

    for series in (
        'ingest_fixity_checks_total{result="mismatch"}',
        'ingest_fixity_checks_total{result="not_verifiable"}',
        'ingest_problems_total{problem="vault-full"}',
        'ingest_vault_errors_total{kind="full",operation="put"}',
        "ingest_clips_quarantined_total",
        "ingest_uploads_failed_total",
    ):
        assert f"{series} 0.0" in text
