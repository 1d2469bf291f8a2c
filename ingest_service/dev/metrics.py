"""Every metric of the service, as the document that SREs read: what `docs/metrics.md` holds.

`python -m ingest_service.dev.metrics` prints it, from the metrics as they are in the code.
"""

import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from ingest_service import telemetry

_HEAD: Final = """# Metrics

Made from the code by `make schema`; a test compares. `GET /metrics` of the API shows them to a token with the scope `operate`, those of all processes of a machine added up
(and those of `ingest work`, where both have one `PROMETHEUS_MULTIPROC_DIR`, as under `ingest dev`). Elsewhere `ingest work` answers scrapes itself, on `INGEST_WORK_METRICS_PORT`.

Labels are bounded: routes are templates, methods and statuses are HTTP's, and no label holds a station, a device, a clip or a person; who wants those asks `GET /v1/at-risk` or the log.
Gauges that jobs measure are the same from every worker: take `max`. What is sampled is at most two seconds old.

Alerts: `deploy/prometheus/alerts.yaml`, each with its [runbook](runbooks/README.md). Dashboards: `deploy/grafana`.

## The four golden signals of each surface

| surface | latency | traffic | errors | saturation |
|---|---|---|---|---|
"""  # noqa: E501 - a document's lines
_REQUESTS: Final = (
    ("native", "docks, the API of this service", "`ingest_requests_in_work` of `_max`"),
    ("tus", "docks, tus and the IETF's uploads", "`ingest_active_bodies`, `ingest_replay_bytes`"),
    ("queries", "people and services", "`ingest_requests_in_work` of `_max`"),
    ("log", "auditors, witnesses", "`ingest_log_lag_seconds`"),
)
# What is called differently for the others.
_OTHERS: Final = """\
| jobs | `ingest_job_seconds{job}`, `ingest_time_to_secure_seconds` | `ingest_job_runs_total{job}`, `ingest_read_back_bytes_total` | `ingest_job_runs_total{outcome!="ok"}` | `ingest_queue_waiting{queue}`, `ingest_queue_oldest_seconds{queue}` |
| S3 | `ingest_vault_seconds{operation}` | its count, `ingest_chunk_bytes_total` | `ingest_vault_errors_total{operation,kind}` | `ingest_vault_connections{use}` of `_max` |
| Postgres | `ingest_ledger_held_seconds`, `ingest_ledger_wait_seconds` | its count | `ingest_ledger_errors_total{kind}` | `ingest_ledger_connections` of `_max`, `ingest_ledger_waiting` |

Evidence at risk: `ingest_at_risk_oldest_seconds`, `ingest_at_risk_bytes`, `ingest_at_risk_recordings`, `ingest_time_to_secure_seconds`, `ingest_time_at_risk_seconds`, `ingest_stalled_stations`.
Every process: `ingest_loop_lag_seconds` (it lacks CPU), `ingest_clock_offset_seconds`. Surfaces `feed` and `downloads` take as long as their callers like; `links` is for recipients of disclosures, `ops` for probes.
"""  # noqa: E501 - rows of a table
_HEADING: Final = re.compile(r"# --- (.+?) -+")
_METRIC: Final = re.compile(r"([A-Z][A-Z0-9_]*): Final = (?:Counter|Gauge|Histogram)\(")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    name      as it is exported; a counter's with `_total`
    constant  its name in `telemetry.py`
    section   heading above it in `telemetry.py`
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str
    section: str
    constant: str

    @property
    def series(self) -> tuple[str, ...]:
        """The names that queries may use."""
        if self.kind == "histogram":
            return tuple(f"{self.name}_{suffix}" for suffix in ("bucket", "sum", "count"))
        return (self.name,)


def list_metrics() -> Iterator[Metric]:
    """Yield every metric, in the order in which the code has them."""
    section = ""
    for line in inspect.getsource(telemetry).splitlines():
        heading = _HEADING.fullmatch(line)
        if heading is not None:
            section = heading[1]
        found = _METRIC.match(line)
        if found is not None:
            yield _describe(found[1], section)


def _describe(constant: str, section: str) -> Metric:
    metric: Counter | Gauge | Histogram = getattr(telemetry, constant)
    [family] = metric.describe()
    name = f"{family.name}_total" if family.type == "counter" else family.name
    labels = metric._labelnames  # noqa: SLF001 - the library tells them nowhere else
    return Metric(name, family.type, tuple(labels), family.documentation, section, constant)


def make_document() -> str:
    """Return the document."""
    lines = [_HEAD]
    for surface, who, saturation in _REQUESTS:
        chosen = f'{{surface="{surface}"}}'
        lines.append(
            f"| {surface} ({who}) | `ingest_request_seconds{chosen}` "
            f'| `ingest_requests_total{chosen}` | the same with `status=~"5.."` '
            f"| {saturation} |\n"
        )
    lines.append(_OTHERS)
    section = ""
    for metric in list_metrics():
        if metric.section != section:
            section = metric.section
            lines.append(f"\n## {section[0].upper()}{section[1:]}\n\n")
            lines.append("| metric | kind | labels | what it tells |\n|---|---|---|---|\n")
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.meaning} |\n")
    return "".join(lines)


def main() -> None:
    """Print the document."""
    sys.stdout.write(make_document())


if __name__ == "__main__":
    main()
