"""The audit: every stored object is read again straight from S3, and every receipt checked.

It asks nothing of the service. The footage is made again from the run's seed, so that each stored
byte is compared with the byte that was sent; the receipts are checked under the pinned key.
"""

import asyncio
import hashlib
import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from loadtest.dock import Outcome
from loadtest.link import Answer, Link, LinkBroken, open_link
from loadtest.receipt_check import BadReceipt, ReceiptCheck
from loadtest.reel import Reel
from schemas.receipt import SecuredFacts

_CONNECTIONS: Final = 16
_STEP_BYTES: Final = 8 * 1024 * 1024
_TRIES: Final = 3
_NOTHING_SHA256: Final = hashlib.sha256(b"").hexdigest()
_REGION: Final = "us-east-1"
_STATUS_OK: Final = frozenset({200, 206})
_NOT_FOUND: Final = frozenset({404, 405})  # 405: the version is a delete marker
_TOLD_MAX: Final = 20

Advance = Callable[[int], None]


@dataclass(slots=True)
class Findings:
    """What the audit found; the lists must be empty. Each entry names the clip and says why."""

    receipts_checked: int = 0
    objects_read: int = 0
    bytes_read: int = 0
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    bad_receipts: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is lost, wrong or unproved."""
        return not (self.lost or self.wrong or self.bad_receipts)

    def told(self) -> dict[str, Any]:
        """Return counts, and the first of each kind in words."""
        return {
            "receipts_checked": self.receipts_checked,
            "objects_read": self.objects_read,
            "bytes_read": self.bytes_read,
            **{
                kind: {"count": len(found), "first": found[:_TOLD_MAX]}
                for kind, found in (
                    ("lost", self.lost),
                    ("wrong", self.wrong),
                    ("bad_receipts", self.bad_receipts),
                )
            },
        }


class Store:
    """S3 as it is, not as the service tells: signed GETs (and, to plant faults, more)."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        """Take endpoint and keys from dev.json, or a file of the same form."""
        url = urlsplit(facts["s3_endpoint"])
        self._endpoint: str = facts["s3_endpoint"]
        self._host, self._port = url.hostname or "", url.port or 80
        self._signer = S3SigV4Auth(
            Credentials(facts["s3_access_key"], facts["s3_secret_key"]), "s3", _REGION
        )

    async def open_link(self) -> Link:
        """Connect."""
        return await open_link(self._host, self._port)

    async def ask(
        self,
        link: Link,
        method: str,
        target: str,
        *,
        fields: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        """Send one signed request.

        Raises:
            LinkBroken: no answer.
        """
        sha256 = hashlib.sha256(body).hexdigest() if body else _NOTHING_SHA256
        request = AWSRequest(
            method, self._endpoint + target, headers={"x-amz-content-sha256": sha256}
        )
        self._signer.add_auth(request)
        lines = [f"{name}: {value}" for name, value in request.headers.items()]
        lines += [f"{name}: {value}" for name, value in (fields or {}).items()]
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
            f"Content-Length: {len(body)}\r\n" + "\r\n".join(lines) + "\r\n\r\n"
        )
        return await link.ask(head.encode(), [body] if body else [])


def target_of(facts: SecuredFacts, *, is_versioned: bool = True) -> str:
    """Return path and query of the stored object that a receipt names."""
    target = f"/{quote(facts.bucket)}/{quote(facts.object_key)}"
    if is_versioned and facts.object_version is not None:
        target += f"?versionId={quote(facts.object_version, safe='')}"
    return target


def read_outcomes(files: Iterable[Path]) -> dict[int, Outcome]:
    """Return what the generators wrote down, by clip number; what is not there was never told."""
    outcomes = {}
    for file in files:
        if file.exists():
            for line in file.read_text().splitlines():
                outcome = Outcome(**json.loads(line))
                outcomes[outcome.number] = outcome
    return outcomes


def check_receipts(
    reels: Iterable[Reel], outcomes: Mapping[int, Outcome], check: ReceiptCheck, findings: Findings
) -> dict[int, SecuredFacts]:
    """Check that every clip has a receipt, and that it is of this clip and no other.

    Returns:
        What the good receipts prove, by clip number.
    """
    proved: dict[int, SecuredFacts] = {}
    owners: dict[str, str] = {}
    for reel in reels:
        name = reel.recording_id
        outcome = outcomes.get(reel.number)
        if outcome is None or outcome.receipt is None:
            why = "nothing was told of it" if outcome is None else outcome.failure
            findings.lost.append(f"{name}: no receipt: {why}")
            continue
        try:
            facts = check.read(outcome.receipt)
        except BadReceipt as bad:
            findings.bad_receipts.append(f"{name}: {bad}")
            continue
        findings.receipts_checked += 1
        wrong = _find_contradiction(reel, outcome, facts)
        other = owners.setdefault(str(facts.clip_id), name)
        if other != name:
            wrong = f"its clip is also {other}"
        if wrong is not None:
            findings.bad_receipts.append(f"{name}: {wrong}")
            continue
        proved[reel.number] = facts
    return proved


def _find_contradiction(reel: Reel, outcome: Outcome, facts: SecuredFacts) -> str | None:
    if (facts.recording_id, facts.device_serial) != (reel.recording_id, outcome.serial):
        return f"is of {facts.device_serial} {facts.recording_id}"
    if facts.size_bytes != reel.size_bytes:
        return f"says {facts.size_bytes} bytes, {reel.size_bytes} were sent"
    if facts.sha256 != reel.sha256().hex():
        return "states another SHA-256 than that of the bytes sent"
    return None


async def read_objects(
    reels: Sequence[Reel],
    proved: Mapping[int, SecuredFacts],
    store: Store,
    findings: Findings,
    *,
    share: float = 1.0,
    advance: Advance = lambda _count: None,
) -> None:
    """Read the stored objects of the proved clips and compare every byte.

    share  of them, drawn at random; 1: all
    """
    chosen = [reel for reel in reels if reel.number in proved]
    if share < 1:
        chosen = random.sample(chosen, round(len(chosen) * share))
    waiting = iter(chosen)

    async def work() -> None:
        link: Link | None = None
        for reel in waiting:
            for attempt in range(1, _TRIES + 1):
                try:
                    if link is None or not link.is_open:
                        link = await store.open_link()
                    await _compare(reel, proved[reel.number], store, link, findings)
                    break
                except (LinkBroken, OSError) as error:
                    if attempt == _TRIES:
                        findings.lost.append(f"{reel.recording_id}: cannot be read: {error}")
            advance(1)
        if link is not None:
            link.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(_CONNECTIONS):
            group.create_task(work())


async def _compare(
    reel: Reel, facts: SecuredFacts, store: Store, link: Link, findings: Findings
) -> None:
    name, target = reel.recording_id, target_of(facts)
    at = 0
    while at < reel.size_bytes or at == 0:
        fields = {}
        if reel.size_bytes:
            fields["Range"] = f"bytes={at}-{min(at + _STEP_BYTES, reel.size_bytes) - 1}"
        answer = await store.ask(link, "GET", target, fields=fields)
        if answer.status in _NOT_FOUND:
            findings.lost.append(f"{name}: {await _describe_loss(reel, facts, store, link)}")
            return
        if answer.status not in _STATUS_OK:
            said = answer.body[:200].decode("utf-8", "replace")
            findings.lost.append(f"{name}: the store answers {answer.status}: {said}")
            return
        findings.bytes_read += len(answer.body)
        if (wrong := reel.find_difference(at, answer.body[: reel.size_bytes - at])) is not None:
            findings.wrong.append(f"{name}: byte {wrong} is not the byte that was sent")
            return
        whole = (answer.find_field("Content-Range") or "").rpartition("/")[2]
        stored_bytes = int(whole) if whole.isdigit() else at + len(answer.body)
        if stored_bytes != reel.size_bytes or not (answer.body or not reel.size_bytes):
            findings.wrong.append(
                f"{name}: {stored_bytes} bytes are stored, {reel.size_bytes} were sent"
            )
            return
        at += max(len(answer.body), 1)
    findings.objects_read += 1


async def _describe_loss(reel: Reel, facts: SecuredFacts, store: Store, link: Link) -> str:
    """Say whether the object is gone, or another stands where it was."""
    answer = await store.ask(link, "GET", target_of(facts, is_versioned=False))
    if answer.status not in _STATUS_OK:
        return "its object is gone"
    at = reel.find_difference(0, answer.body[: reel.size_bytes])
    where = "the same bytes" if at is None else f"other bytes from byte {at} on"
    return f"the version that the receipt names is gone; {where} stand in its place"
