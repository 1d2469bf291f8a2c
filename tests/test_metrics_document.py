"""docs/metrics.md says what the service measures, and no metric grows without bound."""

import pytest

from ingest_service.dev.metrics import list_metrics, make_document
from tests.docs.documents import ROOT

METRICS = list(list_metrics())
# Each has as many values as the code, the configuration or HTTP gives it.
BOUNDED_LABELS = {
    "surface", "method", "route", "status", "problem", "kind", "result", "outcome", "operation",
    "use", "queue", "job", "witness", "dependency",
}  # fmt: skip


def test_the_document_is_what_the_code_measures():
    assert (ROOT / "docs/metrics.md").read_text() == make_document()


def test_every_metric_stands_in_the_document():
    assert len(METRICS) > 50
    assert len({metric.name for metric in METRICS}) == len(METRICS)


@pytest.mark.parametrize("metric", METRICS, ids=[metric.name for metric in METRICS])
def test_a_label_has_few_values(metric):
    assert set(metric.labels) <= BOUNDED_LABELS


def source_of(path):
    return "\n".join(file.read_text() for file in path.rglob("*.py") if file.name != "telemetry.py")


def test_every_metric_is_moved_by_something():
    """One that is exported and never moves tells a lie: that nothing happens."""
    source = source_of(ROOT / "ingest_service")

    assert [metric.name for metric in METRICS if f"telemetry.{metric.constant}" not in source] == []
