"""Alerts and dashboards speak of metrics that there are, and every alert has its runbook."""

import json
import os
import re
import shutil
import subprocess

import pytest
import yaml

from ingest_service.api.problems import HTTP_ROWS
from ingest_service.dev.metrics import list_metrics
from tests.docs.documents import ROOT, find_blocks
from tests.runbooks.conftest import RUNBOOKS

PROMETHEUS = ROOT / "deploy/prometheus"
RULES = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = sorted({rule["alert"] for rule in RULES if "alert" in rule})
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
UNIT_TESTS = ("alerts_test.yaml", "alerts_days_test.yaml")
DASHBOARDS = sorted((ROOT / "deploy/grafana").glob("*.json"))
METRICS = {metric.name: metric for metric in list_metrics()}
SERIES = {series: metric for metric in METRICS.values() for series in metric.series}
PROCEDURES = {
    "backup-and-restore", "region-loss", "key-compromise", "stolen-station-key", "full-disk",
    "s3-outage", "multipart-uploads", "clock-trouble",
}  # fmt: skip

_USED = re.compile(r"\b(ingest[a-z_]*:[a-z0-9_:]+|ingest_[a-z_]+)(?:\{([^}]*)\})?")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"")


def assert_speaks_of_metrics(query: str, *, is_prose: bool = False) -> None:
    """In prose a histogram may be called by its name."""
    for name, chosen in _USED.findall(query):
        if name in RECORDED:
            continue
        found = SERIES.get(name) or (METRICS.get(name) if is_prose else None)
        assert found, f"there is no metric {name}"
        known = {*found.labels, "le", "instance"}
        assert set(_LABEL.findall(chosen)) <= known, query


def list_panels(path) -> list[dict]:
    return [panel for panel in json.loads(path.read_text())["panels"] if panel["type"] != "row"]


@pytest.mark.parametrize("rule", RULES, ids=[f"{r.get('alert', r.get('record'))}" for r in RULES])
def test_a_rule_asks_for_metrics_that_there_are(rule):
    assert _USED.search(rule["expr"])
    assert_speaks_of_metrics(rule["expr"])


@pytest.mark.parametrize("rule", [r for r in RULES if "alert" in r], ids=lambda r: r["alert"])
def test_an_alert_says_how_urgent_it_is_and_where_its_runbook_is(rule):
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{rule['alert']}.md"
    assert (ROOT / rule["annotations"]["runbook_url"]).exists()


def test_a_job_a_problem_or_a_queue_that_is_named_is_one():
    text = (PROMETHEUS / "alerts.yaml").read_text()
    jobs = (ROOT / "ingest_service/jobs/run.py").read_text()
    queues = (ROOT / "ingest_service/ledger/queues.py").read_text()
    problems = {re.sub(r"(?<!^)(?=[A-Z])", "-", error.__name__).lower() for error in HTTP_ROWS}

    assert all(f'"{name}"' in jobs for name in re.findall(r'job="(\w+)"', text))
    named = [each for found in re.findall(r'queue=~?"([\w|]+)"', text) for each in found.split("|")]
    assert all(f"'{name}'" in queues for name in named)
    assert set(re.findall(r'problem="([\w-]+)"', text)) <= problems


def test_every_runbook_is_that_of_an_alert_or_a_procedure():
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == {*ALERTS, *PROCEDURES, "README"}


def test_the_index_lists_every_runbook():
    index = (RUNBOOKS / "README.md").read_text()

    assert [name for name in (*ALERTS, *PROCEDURES) if f"({name}.md)" not in index] == []


@pytest.mark.parametrize("alert", ALERTS)
def test_a_runbook_has_its_five_parts_and_speaks_of_metrics_that_there_are(alert):
    text = (RUNBOOKS / f"{alert}.md").read_text()

    parts = re.findall(r"^\*\*([\w ]+)\.\*\* \S", text, re.MULTILINE)
    assert parts == ["Meaning", "Look first", "Do", "Verify", "Escalate"]
    assert_speaks_of_metrics(text, is_prose=True)


@pytest.mark.parametrize("procedure", sorted(PROCEDURES))
def test_a_procedure_speaks_of_metrics_that_there_are(procedure):
    text = (RUNBOOKS / f"{procedure}.md").read_text()

    assert "**Verify.**" in text or find_blocks(RUNBOOKS / f"{procedure}.md", "sh")
    assert_speaks_of_metrics(text, is_prose=True)


def test_every_alert_is_seen_firing_in_a_unit_test():
    tested = "".join((PROMETHEUS / name).read_text() for name in UNIT_TESTS)

    assert [alert for alert in ALERTS if f'alertname="{alert}"' not in tested] == []


needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is not installed"
)


@needs_promtool
def test_promtool_takes_the_rules():
    checked = subprocess.run(
        ["promtool", "check", "rules", PROMETHEUS / "alerts.yaml"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert checked.returncode == 0, checked.stdout + checked.stderr


@needs_promtool
@pytest.mark.parametrize("name", UNIT_TESTS)
def test_what_fires_and_what_does_not(name):
    tested = subprocess.run(
        ["promtool", "test", "rules", PROMETHEUS / name],
        # A quarter of its time would go into collecting what ends with it.
        env={**os.environ, "GOGC": "800"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_asks_for_metrics_that_there_are(path):
    for panel in list_panels(path):
        for target in panel["targets"]:
            assert _USED.search(target["expr"]), panel["title"]
            assert_speaks_of_metrics(target["expr"])


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboards_panels_are_whole_and_do_not_lie_on_each_other(path):
    dashboard = json.loads(path.read_text())
    panels = dashboard["panels"]
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not taken & cells, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in list_panels(path):
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_the_dashboards_show_what_they_are_for():
    rows = [
        panel["title"]
        for path in DASHBOARDS
        for panel in json.loads(path.read_text())["panels"]
        if panel["type"] == "row"
    ]

    assert {"Evidence at risk", "Custody log", "Retention", "S3", "Postgres", "Jobs"} <= set(rows)
