"""The judge of the year: holds ledger and vault against the simulation's own books.

What the service says of a clip is compared with what was done to it. Its rows are read as the owner
of the ledger, by statements of the judge's own; the bytes are read from the vault.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from ingest_service.actions.audit_ledger import audit_ledger, open_audit
from ingest_service.actions.audit_tools import AuditTools
from ingest_service.actions.count_clips import count_clips
from ingest_service.actions.issue_certificate import issue_certificate
from ingest_service.actions.prove_log import PublishedHead
from ingest_service.dev.year.book import Book, Entry
from ingest_service.dev.year.persons import AUDITOR
from ingest_service.domain.clip_status import STATES
from ingest_service.domain.note import parse_verifier_key
from ingest_service.domain.receipt import ReceiptInvalid, verify_certificate
from ingest_service.domain.upload import clip_prefix, tail_prefix
from ingest_service.errors import CertificateNotFound, LogForked, StoredBytesLost
from ingest_service.ledger import clips
from ingest_service.ledger.connection import Pool, reading
from ingest_service.ledger.counts import CountFilter
from ingest_service.signer import Signer
from ingest_service.vault import Vault

EXAMPLES_MAX: Final = 3
_BATCH: Final = 2000
_AT_ONCE: Final = 16

_LIST_CLIPS: Final = """
    SELECT clips.clip_id, state, is_held, size_bytes, sha256, object_key, object_version, phase,
           intended_at, executed_at
      FROM clips
 LEFT JOIN erasures ON erasures.clip_id = clips.clip_id
     WHERE clips.clip_id = ANY ($1::uuid[])
"""
_LIST_BROKEN_OFF: Final = """
    SELECT upload_id, state FROM uploads WHERE upload_id = ANY ($1::uuid[])
"""
_COUNT_EXPIRED: Final = "SELECT count(*) FROM custody_events WHERE type = 'upload.expired'"
_COUNT_CLIPS: Final = "SELECT count(*) FROM clips"
_COUNT_CERTIFIED: Final = "SELECT count(*) FROM custody_events WHERE type = 'erase.executed'"
_LIST_HALTS: Final = """
    SELECT (halted_at AT TIME ZONE 'UTC')::date AS halted_on, first_released_by, released_by
      FROM erase_halts
  ORDER BY halted_at
"""


@dataclass(slots=True)
class Verdict:
    """What was found: clips by what became of them, figures, and what must not be.

    examples  violation -> the first clips of which it is true
    """

    clips: Counter[str] = field(default_factory=Counter)
    total_bytes: Counter[str] = field(default_factory=Counter)
    figures: dict[str, int] = field(default_factory=dict)
    violations: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether everything is as it must be."""
        return not self.violations

    def violate(self, what: str, subject: str) -> None:
        """Note what must not be."""
        self.violations[what] += 1
        examples = self.examples.setdefault(what, [])
        if len(examples) < EXAMPLES_MAX:
            examples.append(subject)


@dataclass(slots=True)
class Judge:
    """Looks at all of it once.

    certificates_max  so many certificates are issued and verified, spread over the year
    tell              takes how many clips were looked at
    """

    pool: Pool
    owner_dsn: str = field(repr=False)
    vault: Vault
    signer: Signer
    book: Book
    certificates_max: int
    tell: Callable[[int], None]
    verdict: Verdict = field(default_factory=Verdict)
    _head: PublishedHead = field(default_factory=PublishedHead)
    _every: int = 1
    _erased: int = 0
    _verified: int = 0
    _states: Counter[str] = field(default_factory=Counter)

    async def judge(self) -> Verdict:
        """Return what was found."""
        owner = await asyncpg.connect(self.owner_dsn)
        try:
            await self._judge_counts(owner)
            await self._judge_clips(owner)
            await self._judge_broken_off(owner)
            await self._judge_halts(owner)
            await self._judge_stats()
        finally:
            await owner.close()
        await self._audit()
        return self.verdict

    async def _judge_counts(self, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
        known, expected = await owner.fetchval(_COUNT_CLIPS), self.book.count_clips()
        if known != expected:
            self.verdict.violate("the ledger has another number of clips", f"{known} / {expected}")
        certified = await owner.fetchval(_COUNT_CERTIFIED)
        self.verdict.figures["erasures in the log"] = certified
        self._every = max(-(-certified // max(self.certificates_max, 1)), 1)

    async def _judge_clips(self, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
        looked_at = 0
        for entries in self.book.list_entries(_BATCH):
            rows = await owner.fetch(_LIST_CLIPS, [entry.clip_id for entry in entries])
            found = {row["clip_id"]: row for row in rows}
            for start in range(0, len(entries), _AT_ONCE):
                some = entries[start : start + _AT_ONCE]
                await asyncio.gather(
                    *[self._judge_clip(entry, found.get(entry.clip_id)) for entry in some]
                )
            looked_at += len(entries)
            self.tell(looked_at)
        erasures = self.verdict.figures["erasures in the log"]
        if erasures != self._erased:
            detail = f"{erasures} / {self._erased}"
            self.verdict.violate("the log has another number of erasures", detail)
        self.verdict.figures["certificates verified"] = self._verified

    async def _judge_clip(self, entry: Entry, row: Any) -> None:  # noqa: ANN401 - a record
        subject = str(entry.clip_id)
        if row is None:
            self.verdict.violate("a clip is unaccounted for", subject)
            return
        is_erased = row["state"] == "erased" or row["phase"] in ("intended", "executed")
        self._states[row["state"]] += 1
        kind = _name(entry, row, is_erased=is_erased)
        self.verdict.clips[kind] += 1
        self.verdict.total_bytes[kind] += entry.size_bytes
        if entry.is_lost:
            await self._judge_lost(entry, row)
        elif is_erased:
            await self._judge_erased(entry, row)
        else:
            await self._judge_present(entry, row)

    # --- what never came in whole ----------------------------------------------------------------

    async def _judge_lost(self, entry: Entry, row: Any) -> None:  # noqa: ANN401 - a record
        subject = str(entry.clip_id)
        if row["state"] != "expired":
            self.verdict.violate("a clip counts that never came in", f"{subject} {row['state']}")
        if row["object_key"] is not None or row["is_held"]:
            self.verdict.violate("a clip that never came in has bytes or a hold", subject)
        if await self.vault.find_first_key(clip_prefix(entry.clip_id)) is not None:
            self.verdict.violate("bytes of a clip that never came in are there", subject)

    async def _judge_broken_off(self, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
        """Look at every upload that broke off, also of what came in whole later."""
        for broken in self.book.list_broken_off(_BATCH):
            rows = await owner.fetch(_LIST_BROKEN_OFF, [upload_id for upload_id, _ in broken])
            states = {row["upload_id"]: row["state"] for row in rows}
            for upload_id, clip_id in broken:
                if states.get(upload_id) != "expired":
                    detail = f"{upload_id} {states.get(upload_id)}"
                    self.verdict.violate("an upload was abandoned and has not expired", detail)
                for prefix in (tail_prefix(upload_id), f"{clip_prefix(clip_id)}{upload_id}"):
                    if await self.vault.find_first_key(prefix) is not None:
                        self.verdict.violate("an expired upload has left bytes", str(upload_id))
        expired, broken_off = await owner.fetchval(_COUNT_EXPIRED), self.book.count_broken_off()
        self.verdict.figures["uploads that expired, by the log"] = expired
        if expired != broken_off:
            self.verdict.violate("other uploads have expired", f"{expired} / {broken_off}")

    # --- what is there -----------------------------------------------------------------------

    async def _judge_present(self, entry: Entry, row: Any) -> None:  # noqa: ANN401 - a record
        subject = str(entry.clip_id)
        expected = "quarantined" if entry.is_damaged else "secured"
        if not entry.must_stay:
            self.verdict.violate("a clip was not erased when its time was over", subject)
        elif row["state"] != expected:
            self.verdict.violate(f"a clip is {row['state']}, not {expected}", subject)
        if row["is_held"] is not entry.is_held:
            self.verdict.violate("the ledger knows nothing of a hold, or too much", subject)
        digest, size_bytes = hashlib.sha256(), 0
        try:
            async for block in self.vault.read(row["object_key"] or "", row["object_version"]):
                digest.update(block)
                size_bytes += len(block)
        except StoredBytesLost:
            self.verdict.violate("bytes of a retained clip are gone", subject)
            return
        if (digest.digest(), size_bytes) != (entry.sha256, entry.size_bytes):
            self.verdict.violate("bytes of a retained clip are not its own", subject)

    # --- what is gone ------------------------------------------------------------------------

    async def _judge_erased(self, entry: Entry, row: Any) -> None:  # noqa: ANN401 - a record
        subject = str(entry.clip_id)
        if row["state"] != "erased" or row["executed_at"] is None:
            self.verdict.violate("an erasure was begun and not ended", subject)
            return
        self._erased += 1
        intended = row["intended_at"].timestamp()
        if entry.is_kept or entry.is_damaged:
            self.verdict.violate("a clip was erased that somebody has said to keep", subject)
        if any(
            placed <= row["executed_at"].timestamp() and (released is None or released > intended)
            for placed, released in self.book.list_holds(entry.clip_id)
        ):
            self.verdict.violate("a held clip was erased", subject)
        if row["executed_at"].timestamp() < entry.not_before:
            due = datetime.fromtimestamp(entry.not_before, UTC)
            detail = f"{subject}: {row['executed_at']:%F}, not before {due:%F}"
            self.verdict.violate("a clip was erased before its date", detail)
        if (row["size_bytes"], row["sha256"]) != (entry.size_bytes, entry.sha256):
            self.verdict.violate("the record of an erased clip is another's", subject)
        if await self.vault.find_first_key(f"clips/{entry.clip_id}/") is not None:
            self.verdict.violate("bytes of an erased clip are there", subject)
        if self._erased % self._every == 0:
            await self._verify_certificate(entry)

    async def _verify_certificate(self, entry: Entry) -> None:
        try:
            facts = await self._issue(entry.clip_id)
        except (CertificateNotFound, LogForked, ReceiptInvalid) as error:
            self.verdict.violate("a certificate does not hold", f"{entry.clip_id}: {error}")
            return
        self._verified += 1
        if facts != (str(entry.clip_id), entry.size_bytes, entry.sha256.hex()):
            self.verdict.violate("a certificate is of other bytes", f"{entry.clip_id}: {facts}")

    async def _issue(self, clip_id: UUID) -> tuple[str, int | None, str | None]:
        async with reading(self.pool) as connection:
            clip = await clips.find_clip(connection, clip_id)
        certificate = None
        if clip is not None:
            certificate = await issue_certificate(
                clip, pool=self.pool, signer=self.signer, head=self._head
            )
        if certificate is None:
            message = "no proof of it was published"
            raise ReceiptInvalid(message)
        facts = verify_certificate(certificate, self.signer.verifier_key)
        return str(facts.clip_id), facts.size_bytes, facts.sha256

    # --- the rest ----------------------------------------------------------------------------

    async def _judge_halts(self, owner: "asyncpg.Connection[asyncpg.Record]") -> None:
        rows = await owner.fetch(_LIST_HALTS)
        halted: Sequence[date] = [row["halted_on"] for row in rows]
        if halted != self.book.planned_halts:
            shown = f"{_show(halted)}; planted on {_show(self.book.planned_halts)}"
            self.verdict.violate("the breaker has halted on other days", shown)
        for row in rows:
            if row["released_by"] is None or row["released_by"] == row["first_released_by"]:
                subject = f"of {row['halted_on']}"
                self.verdict.violate("a halt was not released by two people", subject)
        self.verdict.figures["halts"] = len(rows)

    async def _judge_stats(self) -> None:
        """Compare what was found clip by clip with the counts that are kept counted."""
        counted = await count_clips(CountFilter(), AUDITOR, by=frozenset({"state"}), pool=self.pool)
        told = {STATES[each.state_number or 0]: each.clip_count for each in counted}
        if told != self._states:
            detail = f"{told} / {dict(self._states)}"
            self.verdict.violate("the counts by state are not those of the clips", detail)

    async def _audit(self) -> None:
        """Hold the ledger to itself and to what was published; the objects were read already."""
        state = await open_audit(pool=self.pool, objects_share=0.0)
        tools = AuditTools(
            self.pool,
            self.vault,
            [parse_verifier_key(self.signer.verifier_key)],
            tell=lambda _step, _done, _total: None,
            save=lambda _state: None,
        )
        await audit_ledger(state, tools)
        for finding in state.findings:
            shown = f"{finding.check} {finding.subject}: {finding.detail}"
            self.verdict.violate("the ledger's audit does not hold", shown)
        self.verdict.figures["events in the log"] = state.tree_size


def _name(entry: Entry, row: Any, *, is_erased: bool) -> str:  # noqa: ANN401 - a record
    if row["state"] == "expired":
        return "expired: its camera never came back"
    if is_erased:
        return "erased, with a certificate"
    if row["state"] == "quarantined":
        return "quarantined: not what the camera announced"
    if row["state"] != "secured":
        return f"neither here nor there: {row['state']}"
    if entry.is_held:
        return "secured, held by somebody's authority"
    return "secured, kept as evidence or for a purpose"


def _show(days: Sequence[date]) -> str:
    return ", ".join(day.isoformat() for day in days) or "none"
