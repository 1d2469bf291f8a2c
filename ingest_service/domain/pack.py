"""A custody pack: which files it has, and what stands in them (BagIt 1.0, RFC 8493).

`schemas/verify_pack.py` goes into every pack as verify.py and reads what is written here.
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from ingest_service.domain.clip import Clip
from ingest_service.domain.custody import SOFTWARE_VERSION, format_time
from ingest_service.domain.disclosure import Disclosure
from schemas import verify_pack as layout

BAGIT: Final = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]")
_NAME_CHARS_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class PackedEvent:
    """An event with its tlog-proof@v1 under the pack's checkpoint."""

    leaf: bytes
    log_index: int
    proof: str


@dataclass(frozen=True, slots=True)
class PackedStamp:
    """A time authority's word on a checkpoint of the log.

    body   the checkpoint's signed lines: what is stamped
    token  the authority's whole answer (DER)
    path   that the pack's checkpoint is of the same log: a consistency proof between the two
    """

    body: str
    token: bytes
    gen_time: datetime
    path: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class PackContents:
    """Everything in a pack but the footage.

    manifest      bytes of the clip's manifest object; None where it has none
    left_out      events that no published checkpoint covers yet
    stamp         the oldest over the clip's clip.secured (else its last event); None without any
    lineage       what it was made from, and what from it (lineage.json); None: nothing
    """

    clip: Clip
    events: Sequence[PackedEvent]
    manifest: bytes | None
    checkpoint: str
    verifier_keys: Sequence[str]
    left_out: int
    made_at: datetime
    stamp: PackedStamp | None = None
    lineage: bytes | None = None


def name_folder(clip: Clip) -> str:
    """Return the name of the pack's one folder."""
    return f"custody-{clip.clip_id}"


def place_of(clip_id: UUID, name: str) -> str:
    """Return where a file of a clip's own pack lies in a pack of many."""
    return layout.CLIP_PLACE.format(clip_id) + name.removeprefix("data/")


def name_clip_file(clip: Clip) -> str:
    """Return where the footage lies in the pack; a name that no system stumbles over."""
    told = str(clip.announcement.get("filename") or f"{clip.recording_id}-{clip.segment_no}")
    safe = _UNSAFE.sub("_", told)[-_NAME_CHARS_MAX:].lstrip("._-")
    return f"{layout.CLIP_FOLDER}{safe or 'clip'}"


def write_payload(contents: PackContents) -> dict[str, bytes]:
    """Return the payload files beside the footage, by name."""
    files = {
        layout.EVENTS: b"".join(event.leaf + b"\n" for event in contents.events),
        layout.CHECKPOINT: contents.checkpoint.encode(),
        layout.KEY: "".join(f"{key}\n" for key in contents.verifier_keys).encode(),
    }
    for number, event in enumerate(contents.events):
        files[layout.PROOF.format(number)] = event.proof.encode()
    if contents.manifest is not None:
        files[layout.CLIP_MANIFEST] = contents.manifest
    if contents.lineage is not None:
        files[layout.LINEAGE] = contents.lineage
    secured = [event for event in contents.events if _type_of(event) == "clip.secured"]
    if secured:
        files[layout.RECEIPT] = secured[-1].leaf + b"\n" + secured[-1].proof.encode()
    if contents.stamp is not None:
        files[layout.STAMPED] = contents.stamp.body.encode()
        files[layout.TOKEN] = contents.stamp.token
        files[layout.CONSISTENCY] = b"".join(
            base64.b64encode(each) + b"\n" for each in contents.stamp.path
        )
    files[layout.REPORT] = write_report(contents).encode()
    return files


@dataclass(slots=True)
class BagSums:
    """What is in a bag so far: SHA-256 (hex) of each payload file by its name, and their bytes."""

    sums: dict[str, str] = field(default_factory=dict)
    total_bytes: int = 0

    def add(self, name: str, digest: str, length_bytes: int) -> None:
        """Take a payload file."""
        self.sums[name] = digest
        self.total_bytes += length_bytes


def write_tags(
    identifier: UUID, made_at: datetime, payload: BagSums, verifier: bytes
) -> dict[str, bytes]:
    """Return the tag files, after the payload's sums are known.

    identifier  of what is in the bag: a clip, or a disclosure
    """
    manifest = _write_sums(payload.sums)
    tags = {
        "bagit.txt": BAGIT,
        "bag-info.txt": (
            f"Bagging-Date: {made_at.date().isoformat()}\n"
            f"Bag-Software-Agent: {SOFTWARE_VERSION}\n"
            f"External-Identifier: {identifier}\n"
            f"Payload-Oxum: {payload.total_bytes}.{len(payload.sums)}\n"
        ).encode(),
        layout.MANIFEST: manifest,
        "verify.py": verifier,
    }
    listed = {name: hashlib.sha256(data).hexdigest() for name, data in tags.items()}
    return {**tags, layout.TAG_MANIFEST: _write_sums(listed)}


def _write_sums(sums: dict[str, str]) -> bytes:
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode()


def find_dated(events: Sequence[PackedEvent]) -> PackedEvent:
    """Return the event of which a court asks since when it was logged."""
    secured = [event for event in events if _type_of(event) == "clip.secured"]
    return (secured or list(events))[-1]


def _type_of(event: PackedEvent) -> str:
    return str(json.loads(event.leaf)["type"])


# --- a pack of many clips --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PackedClip:
    """A clip of a pack of many, after its footage went by; sha256 is hex."""

    clip: Clip
    file: str
    sha256: str
    size_bytes: int


def write_disclosure(
    disclosure: Disclosure, packed: Sequence[PackedClip], made_at: datetime
) -> dict[str, bytes]:
    """Return the payload files that tell of a whole disclosure."""
    told = disclosure.recipient
    listed = {
        "disclosure_id": str(disclosure.disclosure_id),
        "recipient": {
            "kind": told.kind,
            "organisation": told.organisation,
            "person": told.person,
            "reference": told.reference,
        },
        "purpose": disclosure.purpose,
        "legal_basis": disclosure.legal_basis,
        "terms": disclosure.terms,
        "disclosed_at": format_time(disclosure.made_at),
        "made_at": format_time(made_at),
        "clips": [
            {
                "clip_id": str(each.clip.clip_id),
                "file": each.file,
                "sha256": each.sha256,
                "size_bytes": each.size_bytes,
            }
            for each in packed
        ],
    }
    text = json.dumps(listed, indent=2, ensure_ascii=False) + "\n"
    return {
        layout.DISCLOSURE: text.encode(),
        layout.REPORT: _write_index(disclosure, packed, made_at).encode(),
    }


def _write_index(disclosure: Disclosure, packed: Sequence[PackedClip], made_at: datetime) -> str:
    rows = "".join(
        f'<tr><td><a href="clips/{each.clip.clip_id}/report.html">{each.clip.clip_id}</a></td>'
        f"<td>{html.escape(_show_time(each.clip.started_at))}</td><td>{each.size_bytes}</td>"
        f"<td><code>{each.sha256}</code></td></tr>"
        for each in packed
    )
    names = [disclosure.organisation, disclosure.person]
    facts = {
        "Given to": ", ".join(name for name in names if name is not None),
        "Reference": disclosure.reference,
        "For": disclosure.purpose,
        "Legal basis": disclosure.legal_basis,
        "Disclosed": _show_time(disclosure.made_at),
        "Disclosure": str(disclosure.disclosure_id),
    }
    table = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(value)}</td></tr>'
        for name, value in facts.items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Disclosure {disclosure.disclosure_id}</title><style>{_STYLE}</style></head><body>"
        f"<h1>Disclosed clips</h1><p>Made {html.escape(_show_time(made_at))}. This page explains "
        "the pack; the files beside it prove it. All times are UTC.</p>"
        f"<table><caption>The disclosure</caption><tbody>{table}</tbody></table>"
        f"<h2>Terms</h2><p>{html.escape(disclosure.terms)}</p>"
        f"<h2>How to check it</h2>{_HOW_TO_CHECK}"
        "<h2>Clips</h2><table><caption>Every clip, with its own report</caption><thead><tr>"
        '<th scope="col">Clip</th><th scope="col">Began, by the camera\'s clock</th>'
        '<th scope="col">Bytes</th><th scope="col">SHA-256</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></body></html>\n"
    )


# --- the report ------------------------------------------------------------------------------

_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#1a1a1a;background:#fff}table{border-collapse:collapse;width:100%}"
    "th,td{border:1px solid #999;padding:.3rem .5rem;text-align:left;vertical-align:top}"
    "th{background:#eee}code{overflow-wrap:anywhere}caption{text-align:left;font-weight:bold}"
    "@media print{body{margin:0}}"
)


_HOW_TO_CHECK: Final = (
    "<ol>"
    "<li>Unpack it and run <code>sha256sum -c manifest-sha256.txt</code> in its folder: every "
    "file is as it was when the pack was made.</li>"
    "<li>Get the log's verifier key from the force, not from this pack, and run "
    "<code>python3 verify.py FOLDER --key KEY</code>. It needs no network and nothing but "
    "Python: it holds the recording against its events, the events against each other and "
    "against the signed log.</li></ol>"
)


def write_report(contents: PackContents) -> str:
    """Return a page for people: it explains the pack and proves nothing itself."""
    clip = contents.clip
    rows = [_show_event(event) for event in contents.events]
    digest = clip.sha256 or clip.sha256_readback
    facts = {
        "Clip": str(clip.clip_id),
        "Recording": f"{clip.recording_id}, segment {clip.segment_no}",
        "Camera": clip.device_serial,
        "Docking station": f"{clip.station_id} ({clip.site_id}, {clip.borough})",
        "State": clip.state,
        "Length": f"{clip.size_bytes} bytes",
        "SHA-256": "not known" if digest is None else digest.hex(),
        "Began, by the camera's clock": _show_time(clip.started_at),
        "Camera's clock": f"{clip.clock_state}, off by {_show_ms(clip.clock_offset_ms)}",
        "Announced": _show_time(clip.announced_at),
        "Secured": _show_time(clip.secured_at),
    }
    if contents.stamp is not None:
        facts["In the log no later than"] = (
            f"{_show_time(contents.stamp.gen_time)}, by a time authority's clock"
        )
    if clip.quarantine_reason is not None:
        facts["Quarantined because"] = clip.quarantine_reason
    left_out = (
        f"<p>{contents.left_out} later events are recorded and not yet published; ask again for a "
        "pack that holds them.</p>"
        if contents.left_out
        else ""
    )
    table = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(value)}</td></tr>'
        for name, value in facts.items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Custody pack of clip {clip.clip_id}</title><style>{_STYLE}</style></head><body>"
        f"<h1>Custody pack</h1><p>Made {html.escape(_show_time(contents.made_at))}. This page "
        "explains the pack; the files beside it prove it. All times are UTC.</p>"
        f"<table><caption>The clip</caption><tbody>{table}</tbody></table>"
        f"<h2>How to check it</h2>{_HOW_TO_CHECK}"
        "<p>What it does not show: that what was filmed is true, or anything from before the "
        "recording reached the docking station.</p>"
        "<h2>Chain of custody</h2><table><caption>Every event, in order</caption><thead><tr>"
        '<th scope="col">No.</th><th scope="col">When</th><th scope="col">What</th>'
        '<th scope="col">Who</th><th scope="col">Details</th><th scope="col">In the log</th>'
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table>{left_out}"
        f"<h2>The log</h2><pre>{html.escape(contents.checkpoint)}</pre></body></html>\n"
    )


def _show_event(event: PackedEvent) -> str:
    leaf: dict[str, Any] = json.loads(event.leaf)
    details = {
        **{name: leaf[name] for name in ("outcome", "reason", "purpose", "integrity")},
        **leaf["facts"],
    }
    shown = "; ".join(
        f"{name}: {value}" for name, value in details.items() if value not in (None, "success", [])
    )
    cells = (
        leaf["clip_seq"],
        leaf["recorded_at"],
        leaf["type"],
        f"{leaf['actor']['kind']} {leaf['actor']['id']}",
        shown,
        event.log_index,
    )
    return "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells) + "</tr>"


def _show_time(moment: datetime | None) -> str:
    return "not known" if moment is None else format_time(moment)


def _show_ms(offset_ms: int | None) -> str:
    return "an unknown time" if offset_ms is None else f"{offset_ms} ms"
