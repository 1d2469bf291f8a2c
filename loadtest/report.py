"""One run as one HTML page that needs nothing else, and as JSON."""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from loadtest.charts import Line, Points, draw_chart, join_charts

_MIB: Final = 1024 * 1024
_ROLE_NAMES: Final = {
    "serve": "API",
    "work": "jobs",
    "postgres": "Postgres",
    "seaweed": "SeaweedFS",
    "null_s3": "null S3",
}
_TIMES_HEAD: Final = """<h2>Times</h2>
<p>Milliseconds. <b>Response</b> counts from when a step was meant to begin, <b>service</b> from
when it was sent; <i>sealed</i> and <i>secured</i> count from the planned start of the dock.</p>"""
_STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1180px; }
body { padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2rem; }
.verdict { display: inline-block; padding: .2rem .8rem; border-radius: .4rem; color: #fff; }
.met { background: #00704d; } .missed { background: #b3261e; } .invalid { background: #8a5a00; }
.charts { display: flex; flex-wrap: wrap; gap: 12px; }
.chart { max-width: 100%; height: auto; border: 1px solid #8884; border-radius: .4rem; }
table { border-collapse: collapse; margin: .5rem 0; }
th, td { text-align: right; padding: .15rem .7rem; border-bottom: 1px solid #8883; }
th:first-child, td:first-child { text-align: left; }
td { font-variant-numeric: tabular-nums; }
code { background: #8882; padding: .1rem .3rem; border-radius: .2rem; }
"""


def write_run(document: Mapping[str, Any], folder: Path) -> tuple[Path, Path]:
    """Write a run as JSON and as a page; return both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = str(document["at"]).translate(str.maketrans("", "", "-:"))[:15]
    json_file = folder / f"{document['scenario']}-{stamp}.json"
    json_file.write_text(json.dumps(document, indent=1) + "\n")
    page_file = json_file.with_suffix(".html")
    page_file.write_text(make_page(document))
    return json_file, page_file


def make_page(document: Mapping[str, Any]) -> str:
    """Return the whole page."""
    verdict = str(document["verdict"])
    title = f"load test: {document['scenario']}"
    head = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
    )
    said = (
        f'<p><span class="verdict {verdict}">{verdict}</span> {escape(str(document["at"]))}, on '
        f"{escape(str(document['machine']))}<br>"
        f"<code>{escape(str(document['command']))}</code></p>"
    )
    parts = [
        head,
        f"<h1>{escape(title)}</h1><p>{escape(str(document['goal']))}</p>",
        said,
        "".join(f"<p><b>Invalid:</b> {escape(reason)}</p>" for reason in document["invalid"]),
        _table(
            ("goal", "measured", "limit", ""),
            (
                (
                    goal["what"],
                    f"{_show(goal['figure'])} {goal['unit']}",
                    f"{goal['kind']} {_show(goal['limit'])}",
                    "met" if goal["is_met"] else "MISSED",
                )
                for goal in document["goals"]
            ),
        ),
        f'<h2>Over time</h2><div class="charts">{"".join(_charts(document).values())}</div>',
        _TIMES_HEAD,
        _latency(document),
        "<h2>Processes</h2>",
        _table(
            ("", "CPU s", "most memory, MiB", "most open files"),
            (
                (
                    _ROLE_NAMES.get(role, role),
                    _show(used["cpu_s"]),
                    _show(used["rss_max_mib"]),
                    _show(used["files_max"]),
                )
                for role, used in document["roles"].items()
            ),
        ),
        "<h2>Refusals and broken connections</h2>",
        _table(("step: what", "times"), document["errors"].items())
        if document["errors"]
        else "<p>none</p>",
        "<h2>Audit</h2>",
        _audit(document["audit"]),
        "<h2>Figures and counts</h2>",
        _table(
            ("", ""),
            [(k, _show(v)) for k, v in {**document["figures"], **document["counts"]}.items()],
        ),
        _table(("knob", ""), {**document["knobs"], **document["service"]}.items()),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def make_picture(document: Mapping[str, Any]) -> str:
    """Return the run's four main charts as one SVG."""
    charts = _charts(document)
    figures = document["figures"]
    secured, planned = figures["secured"], figures["clips_planned"]
    caption = (
        f"{document['scenario']}: {secured:,.0f} of {planned:,.0f} clips secured in "
        f"{figures['wall_s']:.0f} s, {figures['open_max']:,.0f} connections at once, "
        f"{figures['failed']:.0f} failed, {figures['audit_lost']:.0f} lost ({document['machine']})"
    )
    chosen = ("connections", "clips", "latency", "memory")
    return join_charts([charts[name] for name in chosen], caption)


def _charts(document: Mapping[str, Any]) -> dict[str, str]:
    docks: Sequence[Mapping[str, float]] = document["series"]["docks"]
    service: Sequence[Mapping[str, float]] = document["series"]["service"]
    roles = [role for role in _ROLE_NAMES if role in document["roles"]]
    return {
        "connections": draw_chart(
            "Connections open and docks at work",
            "docks",
            [
                Line("connections", _points(docks, "open")),
                Line("clips in progress", _points_between(docks, "announced", "secured")),
            ],
        ),
        "clips": draw_chart(
            "Clips",
            "clips in all",
            [
                Line(name, _points(docks, name))
                for name in ("announced", "sealed", "secured", "failed")
            ],
        ),
        "throughput": draw_chart(
            "Footage acknowledged", "MB/s", [Line("MB/s", _rate(docks, "acknowledged_bytes", 1e-6))]
        ),
        "requests": draw_chart(
            "Requests",
            "per second",
            [
                Line("answered", _rate(docks, "requests")),
                Line("retries", _rate(docks, "retries")),
            ],
        ),
        "latency": draw_chart(
            "Response time of all requests, from the intended start",
            "ms",
            [Line(f"p{each}", _points(docks, f"p{each}_ms")) for each in (50, 99)],
        ),
        "errors": draw_chart(
            "Refusals and broken connections",
            "in all",
            [Line("errors", _points(docks, "errors")), Line("late starts", _points(docks, "late"))],
        ),
        "queues": draw_chart(
            "Queues",
            "clips",
            [
                Line("announced, not sealed", _points_between(docks, "announced", "sealed")),
                Line("sealed, no receipt yet", _points_between(docks, "sealed", "secured")),
                Line("bodies on their way", _points(service, "active_bodies")),
            ],
        ),
        "cpu": draw_chart(
            "CPU",
            "cores",
            [Line(_ROLE_NAMES[role], _rate(service, f"{role}_cpu_s")) for role in roles]
            + [
                Line("busiest generator", _points(docks, "cpu_share")),
                Line("machine", _rate(service, "machine_cpu_s")),
            ],
        ),
        "memory": draw_chart(
            "Memory",
            "MiB RSS",
            [Line(_ROLE_NAMES[role], _points(service, f"{role}_rss_mib")) for role in roles],
        ),
        "files": draw_chart(
            "Open files of the API's processes",
            "files",
            [Line("API", _points(service, "serve_files"))],
        ),
    }


def _points(rows: Iterable[Mapping[str, float]], name: str) -> Points:
    return [(row["at"], row[name]) for row in rows if name in row and row["at"] >= 0]


def _points_between(rows: Iterable[Mapping[str, float]], more: str, less: str) -> Points:
    return [(row["at"], max(row[more] - row[less], 0)) for row in rows if more in row]


def _rate(rows: Iterable[Mapping[str, float]], name: str, factor: float = 1.0) -> Points:
    told = [row for row in rows if name in row and row["at"] >= 0]
    return [
        (after["at"], max(after[name] - before[name], 0) * factor / (after["at"] - before["at"]))
        for before, after in pairwise(told)
        if after["at"] > before["at"]
    ]


def _latency(document: Mapping[str, Any]) -> str:
    latency = document["latency"]
    rows = []
    for name, response in latency["response"].items():
        service = latency["service"].get(name)
        rows.append(
            (
                name,
                f"{response['count']:,.0f}",
                *(
                    _show(response[key])
                    for key in ("p50_ms", "p90_ms", "p99_ms", "p99.9_ms", "max_ms")
                ),
                *(_show(service[key]) if service else "" for key in ("p50_ms", "p99_ms", "max_ms")),
            )
        )
    columns = ("step", "count", "response p50", "p90", "p99", "p99.9", "max")
    return _table((*columns, "service p50", "p99", "max"), rows)


def _audit(audit: Mapping[str, Any]) -> str:
    read_mib = audit["bytes_read"] / _MIB
    told = [
        (
            f"<p>{audit['receipts_checked']:,} receipts checked, {audit['objects_read']:,} objects "
            f"({read_mib:,.0f} MiB) read back from S3 and compared byte by byte.</p>"
        )
    ]
    for kind, what in (
        ("lost", "lost"),
        ("wrong", "wrong bytes"),
        ("bad_receipts", "bad receipts"),
    ):
        found = audit[kind]
        listed = "".join(f"<li>{escape(each)}</li>" for each in found["first"])
        told.append(f"<p>{what}: {found['count']:,}</p><ul>{listed}</ul>")
    return "".join(told)


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _show(value: float) -> str:
    whole, hundred = float(value).is_integer(), 100
    return f"{value:,.0f}" if whole or abs(value) >= hundred else f"{value:.2f}"
