"""Audit answers in three forms, written as they are read: JSON, CSV, and HTML to print."""

import base64
import csv
import hashlib
import html
import io
import json
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from typing import Any, Final, Literal

from ingest_service.actions.audit_trail import Pages
from ingest_service.api.page_headers import PAGE_HEADERS
from ingest_service.domain.custody import format_time
from ingest_service.domain.event_types import VERB_OF
from ingest_service.ledger.trails import TrailEvent

Form = Literal["json", "csv", "html"]

MEDIA_TYPES: Final[Mapping[Form, str]] = {
    "json": "application/json",
    "csv": "text/csv",
    "html": "text/html",
}
_COLUMNS: Final = (
    "log_index", "recorded_at", "occurred_at", "type", "verb", "outcome", "reason", "integrity",
    "actor_kind", "actor_id", "actor_role", "purpose", "clip_id", "clip_seq", "device_serial",
    "facts", "request_id", "software_version", "event_id", "leaf_hash",
)  # fmt: skip
_PRINTED: Final = (
    "log_index", "recorded_at", "type", "verb", "outcome", "actor_kind", "actor_id", "purpose",
    "clip_id", "device_serial", "facts",
)  # fmt: skip
# What a spreadsheet takes for a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_STYLE: Final = """
body { font: 11px/1.35 system-ui, sans-serif; margin: 1.5rem; color: #111; background: #fff }
h1 { font-size: 1.3rem } dt { font-weight: 600; float: left; width: 9rem }
table { border-collapse: collapse; width: 100% }
th, td { border: 1px solid #999; padding: .2rem .35rem; text-align: left; vertical-align: top }
td { overflow-wrap: anywhere } thead { display: table-header-group } tr { break-inside: avoid }
@page { size: A4 landscape; margin: 12mm }
@media print { body { margin: 0 } }
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS: Final[Mapping[Form, Mapping[str, str]]] = {
    "json": {},
    "csv": {"Content-Disposition": 'attachment; filename="audit.csv"'},
    "html": {
        **PAGE_HEADERS,
        "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox",
    },
}


def make_entry(event: TrailEvent) -> dict[str, Any]:
    """Return the members of `schemas.audit.AuditEvent`, as JSON."""
    leaf = json.loads(event.leaf)
    return {
        "event_id": str(event.event_id),
        "log_index": event.log_index,
        "recorded_at": format_time(event.recorded_at),
        "occurred_at": leaf["occurred_at"],
        "type": event.type,
        "verb": VERB_OF.get(event.type),
        "outcome": leaf["outcome"],
        "reason": leaf["reason"],
        "integrity": leaf["integrity"],
        "actor": leaf["actor"],
        "purpose": leaf["purpose"],
        "clip_id": leaf["clip_id"],
        "clip_seq": event.clip_seq,
        "device_serial": leaf["device_serial"],
        "facts": leaf["facts"],
        "request_id": leaf["request_id"],
        "software_version": leaf["software_version"],
        "leaf_hash": event.leaf_hash.hex(),
    }


def write(form: Form, asked: Mapping[str, Any], at: datetime, pages: Pages) -> AsyncIterator[bytes]:
    """Return the answer in pieces.

    One that breaks off can be told: JSON and HTML are not closed, CSV lacks its last line, which
    holds the number of events.
    """
    writers: dict[Form, Callable[[Mapping[str, Any], datetime, Pages], AsyncIterator[bytes]]] = {
        "json": _write_json,
        "csv": _write_csv,
        "html": _write_html,
    }
    return writers[form](asked, at, pages)


async def _write_json(asked: Mapping[str, Any], at: datetime, pages: Pages) -> AsyncIterator[bytes]:
    head = {"asked": asked, "asked_at": format_time(at)}
    yield _dump(head)[:-1] + b',"events":['
    count = 0
    async for page in pages:
        entries = [_dump(make_entry(event)) for event in page]
        if entries:
            yield (b",\n" if count else b"\n") + b",\n".join(entries)
            count += len(entries)
    yield b'],"event_count":%d}\n' % count


async def _write_csv(
    _asked: Mapping[str, Any], _at: datetime, pages: Pages
) -> AsyncIterator[bytes]:
    yield _row(_COLUMNS)
    count = 0
    async for page in pages:
        count += len(page)
        yield b"".join(_row(_flatten(make_entry(event), _COLUMNS)) for event in page)
    yield _row([f"# {count} events"])


def _row(cells: list[str] | tuple[str, ...]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(
        [f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in cells]
    )
    return line.getvalue().encode("utf-8", "backslashreplace")


def _flatten(entry: Mapping[str, Any], columns: tuple[str, ...]) -> list[str]:
    actor = entry["actor"]
    flat = {
        **entry,
        **{f"actor_{name}": actor[name] for name in ("kind", "id", "role")},
        "facts": json.dumps(entry["facts"], ensure_ascii=False, sort_keys=True),
    }
    return ["" if flat[name] is None else str(flat[name]) for name in columns]


async def _write_html(asked: Mapping[str, Any], at: datetime, pages: Pages) -> AsyncIterator[bytes]:
    terms = "".join(
        f"<dt>{_escape(name)}</dt><dd>{_escape(value)}</dd>"
        for name, value in {**asked, "asked at": format_time(at)}.items()
        if value is not None
    )
    heads = "".join(f'<th scope="col">{name.replace("_", " ")}</th>' for name in _PRINTED)
    yield _encode(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Audit</title>'
        f"<style>{_STYLE}</style></head><body><h1>Audit of custody events</h1><dl>{terms}</dl>"
        f"<table><thead><tr>{heads}</tr></thead><tbody>\n"
    )
    count = 0
    async for page in pages:
        count += len(page)
        rows = (
            "".join(f"<td>{_escape(cell)}</td>" for cell in _flatten(make_entry(event), _PRINTED))
            for event in page
        )
        yield _encode("".join(f"<tr>{row}</tr>\n" for row in rows))
    yield _encode(f"</tbody></table><p>{count} events, end of the answer.</p></body></html>\n")


def _escape(value: object) -> str:
    return html.escape(str(value))


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "xmlcharrefreplace")


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), default=str).encode()
