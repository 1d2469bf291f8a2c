"""What is left when the faults are over: everything is read again, and counted."""

import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import asyncpg

from loadtest.audit import Findings, Store, check_receipts, read_objects
from loadtest.chaos.stack import ChaosStack
from loadtest.dock import Outcome
from loadtest.plant import Fault as Plant
from loadtest.plant import plant_fault
from loadtest.receipt_check import ReceiptCheck
from loadtest.reel import Reel

# Once nobody writes any more, five minutes need not be waited for.
_SWEEP_NOW: Final = """
    UPDATE uploads
       SET sweep_after = now()
     WHERE sweep_after > now()
       AND state NOT IN ('open', 'finishing', 'failed')
"""
_UNSETTLED: Final = """
    SELECT (SELECT count(*) FROM uploads WHERE state = 'finishing') AS finishing,
           (SELECT count(*) FROM uploads
             WHERE sweep_after IS NOT NULL
               AND state NOT IN ('open', 'finishing', 'failed')) AS unswept,
           (SELECT count(*) FROM clips WHERE state IN ('finishing', 'sealed')) AS unread,
           (SELECT count(*) FROM log_queue) AS unsequenced,
           (SELECT count(*) FROM log_checkpoints WHERE published_at IS NULL) AS unpublished
"""
_MULTIPARTS: Final = """
    SELECT multipart_key, multipart_id
      FROM uploads
     WHERE multipart_id IS NOT NULL
       AND state IN ('open', 'finishing')
"""
_POLL_S: Final = 1.0
_SHOWN_MAX: Final = 10
_AUDIT_TIMEOUT_S: Final = 600
_METRICS_TIMEOUT_S: Final = 10
_MIB: Final = 1024 * 1024
# What an interpreter keeps after a crowd: its own arenas and caches, whatever the service holds.
RSS_SLACK_MIB: Final = 192.0
_HELD: Final = ("ingest_replay_bytes", "ingest_active_bodies")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the verdict: a figure that must not be over its limit.

    found  the first of what was found, in words
    """

    what: str
    figure: float
    limit: float
    found: Sequence[str] = ()

    @property
    def is_met(self) -> bool:
        """Whether it holds."""
        return self.figure <= self.limit


@dataclass(frozen=True, slots=True)
class Memory:
    """What the processes of the API hold.

    rss_mib  of each worker, the largest
    """

    rss_mib: float
    held: Mapping[str, float]


async def measure_memory(chaos: ChaosStack) -> Memory:
    """Return what the API holds now."""
    rss_bytes = [each.memory_info().rss for each in chaos.find("api worker")]
    return Memory(max(rss_bytes, default=0) / _MIB, await asyncio.to_thread(_read_held, chaos))


def _read_held(chaos: ChaosStack) -> dict[str, float]:
    facts = chaos.facts
    request = urllib.request.Request(  # noqa: S310 - the service's own address
        f"{facts['base_url']}/metrics",
        headers={"Authorization": f"Bearer {facts['tokens']['operator']}"},
    )
    with urllib.request.urlopen(request, timeout=_METRICS_TIMEOUT_S) as answer:  # noqa: S310 - as above
        text: str = answer.read().decode()
    found = dict.fromkeys(_HELD, 0.0)
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if name.partition("{")[0] in found:
            found[name.partition("{")[0]] += float(value)
    return found


async def settle(
    chaos: ChaosStack, *, within_s: float, tell: Callable[[str], None]
) -> dict[str, int]:
    """Wait until nothing is left to do; return what still is when the time is over."""
    deadline = time.monotonic() + within_s
    connection = await asyncpg.connect(chaos.ledger_owner_dsn())
    try:
        while True:
            await connection.execute(_SWEEP_NOW)
            left = {
                name: int(value)
                for name, value in (await connection.fetchrow(_UNSETTLED) or {}).items()
            }
            held = await asyncio.to_thread(_read_held, chaos)
            left |= {name: int(value) for name, value in held.items()}
            if not any(left.values()) or time.monotonic() > deadline:
                return {name: count for name, count in left.items() if count}
            tell(", ".join(f"{count} {name}" for name, count in left.items() if count))
            await asyncio.sleep(_POLL_S)
    finally:
        await connection.close()


async def weigh(
    chaos: ChaosStack,
    run: str,
    outcomes: Mapping[int, Outcome],
    before: Memory,
    left: Mapping[str, int],
    *,
    plant: Plant | None,
    advance: Callable[[int], None],
) -> tuple[list[Line], dict[str, Any]]:
    """Read everything again; return the lines of the verdict, and figures beside them."""
    reels = [
        Reel(run, each.number, each.size_bytes)
        for each in outcomes.values()
        if each.receipt is not None
    ]
    findings = Findings()
    check = ReceiptCheck(str(chaos.stack.facts["log_verifier_key"]))
    proved = check_receipts(reels, outcomes, check, findings)
    store = Store(chaos.stack.facts)
    if plant is not None and proved:
        await plant_fault(plant, proved[min(proved)], store)
    await read_objects(reels, proved, store, findings, advance=advance)
    unfinished = [
        f"{run}-{each.number:06d} ({each.serial}): {each.failure}"
        for each in outcomes.values()
        if each.receipt is None
    ]
    taken_back = [each for each in outcomes.values() if each.taken_back_bytes]
    leaked = await _find_leaks(chaos, store)
    memory = await measure_memory(chaos)
    audit = await asyncio.to_thread(_audit_ledger, chaos)
    sizes = {f"{run}-{each.number:06d}": each.acknowledged_bytes for each in outcomes.values()}
    # What a dock heard of, less what is stored where its receipt says.
    gone = [*findings.lost, *findings.wrong]
    lost_bytes = sum(each.taken_back_bytes for each in taken_back)
    lost_bytes += sum(sizes.get(each.partition(":")[0], 0) for each in gone)
    told = [f"{run}-{each.number:06d}: {each.taken_back_bytes} bytes" for each in taken_back]
    lines = [
        Line("acknowledged bytes lost", lost_bytes, 0, [*told, *gone]),
        Line("secured clips with wrong bytes", len(gone), 0, gone),
        Line("receipts that do not verify", len(findings.bad_receipts), 0, findings.bad_receipts),
        Line("uploads that cannot be finished", len(unfinished), 0, unfinished),
        Line("bytes and bodies held in memory", sum(memory.held.values()), 0),
        Line(
            "memory of an API process, MiB",
            round(memory.rss_mib),
            round(before.rss_mib + RSS_SLACK_MIB),
        ),
        Line("multipart uploads leaked", len(leaked), 0, leaked),
        Line("findings of the ledger's audit", len(audit["found"]), 0, audit["found"]),
        Line(
            "left undone when everything was quiet",
            sum(left.values()),
            0,
            [f"{count} {name}" for name, count in left.items()],
        ),
    ]
    figures = {
        "clips": len(outcomes),
        "acknowledged_bytes": sum(each.acknowledged_bytes for each in outcomes.values()),
        "receipts_checked": findings.receipts_checked,
        "objects_read": findings.objects_read,
        "bytes_read": findings.bytes_read,
        "rss_before_mib": before.rss_mib,
        "rss_after_mib": memory.rss_mib,
        "audit": audit["counts"],
    }
    return lines, figures


async def _find_leaks(chaos: ChaosStack, store: Store) -> list[str]:
    """Return the multipart uploads of the bucket that no upload of the ledger is using."""
    connection = await asyncpg.connect(chaos.ledger_owner_dsn())
    try:
        known = {
            (row["multipart_key"], row["multipart_id"])
            for row in await connection.fetch(_MULTIPARTS)
        }
    finally:
        await connection.close()
    return [
        f"{key} {upload_id}"
        for key, upload_id in await _list_multiparts(chaos.stack.facts["bucket"], store)
        if (key, upload_id) not in known
    ]


async def _list_multiparts(bucket: str, store: Store) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    link = await store.open_link()
    after = ""
    try:
        while True:
            answer = await store.ask(link, "GET", f"/{quote(bucket)}?{after}uploads=")
            text = answer.body.decode()
            found += [
                (unescape(key), unescape(upload_id))
                for key, upload_id in re.findall(
                    r"<Upload>.*?<Key>(.*?)</Key>.*?<UploadId>(.*?)</UploadId>", text, re.DOTALL
                )
            ]
            if "<IsTruncated>true</IsTruncated>" not in text:
                return found
            key, upload_id = found[-1]
            after = (
                f"key-marker={quote(key, safe='')}&upload-id-marker={quote(upload_id, safe='')}&"
            )
    finally:
        link.close()


def _audit_ledger(chaos: ChaosStack) -> dict[str, Any]:
    """Run `ingest audit` with the service's own settings; return what it found."""
    settings = chaos.environment_of("work")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "audit.json"
        done = subprocess.run(
            [sys.executable, "-m", "ingest_service", "audit", "--json", str(report)],
            env={name: value for name, value in settings.items() if not name.startswith("PROM")},
            capture_output=True,
            text=True,
            check=False,
            timeout=_AUDIT_TIMEOUT_S,
        )
        if not report.exists():
            return {"found": [f"it was not finished: {done.stderr[-500:]}"], "counts": {}}
        told = json.loads(report.read_text())
    found = [f"{each['check']} {each['subject']}: {each['detail']}" for each in told["findings"]]
    if done.returncode and not found:
        found = [f"exit status {done.returncode}"]
    return {"found": found, "counts": told["counts"]}


def show_lines(lines: Sequence[Line]) -> list[str]:
    """Return what was found, in words, for people."""
    return [f"{line.what}: {each}" for line in lines for each in line.found[:_SHOWN_MAX]]
