"""One recording from the dock's disk to a verified receipt."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from pydantic import ValidationError

from ingest_service.dock.failures import (
    ClipQuarantined,
    DockFailure,
    FileChanged,
    ReceiptRefused,
    Refused,
    Trouble,
)
from ingest_service.dock.patience import Patience
from ingest_service.dock.prepare import Prepared, prepare_recording
from ingest_service.dock.progress import Observe, Stage, Step
from ingest_service.dock.recording import hash_range, hold_file, identify_file, read_blocks
from ingest_service.dock.release import erase_recording, verify_release
from ingest_service.dock.service import FoundReceipt, Service
from ingest_service.dock.sidecar import (
    RECEIPT_SUFFIX,
    Sidecar,
    place_beside,
    write_durably,
    write_sidecar,
)
from ingest_service.domain.cosignature import NO_WITNESSES, WitnessPolicy
from schemas.announcement import URGENT_CATEGORIES, AnnouncedClip
from schemas.receipt import Receipt, SecuredFacts

# Refusals that are mended by asking for the state and going on from there.
ASK_AGAIN: Final = frozenset(
    {
        "chunk-corrupted",
        "chunks-missing",
        "taken-over",
        "token-expired",
        "unauthorized",
        "upload-closed",
    }
)
# Refusals that are mended by announcing the clip again.
ANNOUNCE_AGAIN: Final = frozenset({"upload-gone"})
# Mending that brings no progress so many times in a row mends nothing.
FIXES_MAX: Final = 5
POLL_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Policy:
    """How recordings are brought in.

    verifier_key      pinned; receipts signed by another key are refused
    witnesses         pinned; receipts that too few of them have cosigned are refused
    is_erasing        erase the file upon a verified receipt
    is_waiting        wait for the receipt; else stop once the clip is sealed
    parallel_chunks   connections per clip; 1 sends in order, which the service hashes once
    give_up_after_s   without progress; None = never
    state_dir         where sidecars and receipts go; None = beside the recording
    urgent_categories of recordings that are announced as urgent
    """

    verifier_key: str
    is_erasing: bool = False
    is_waiting: bool = True
    parallel_chunks: int = 1
    give_up_after_s: float | None = 3600
    state_dir: Path | None = None
    witnesses: WitnessPolicy = NO_WITNESSES
    urgent_categories: frozenset[str] = frozenset(URGENT_CATEGORIES)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a recording.

    receipt_path  None: sealed, and nobody waited for the receipt
    """

    path: Path
    clip_id: UUID
    state: str
    sha256_hex: str
    size_bytes: int
    receipt_path: Path | None
    is_erased: bool


@dataclass(frozen=True, slots=True)
class Dock:
    """One docking station at work.

    options   members of the announcement that the operator gave; they win over FILE.json
    observe   hears of every step
    """

    service: Service
    policy: Policy
    options: Mapping[str, Any]
    observe: Observe


async def upload_recording(path: Path, *, dock: Dock, patience: Patience | None = None) -> Outcome:
    """Bring one recording in, from wherever an earlier run was stopped.

    Every step may be repeated, so whatever happens in between (a cut, a restarted service, our
    own death) the next attempt asks for the state and goes on from there.

    Raises:
        DockFailure: this recording is not secured; its file is untouched. See `failures`.
    """
    with hold_file(path):
        size_bytes = identify_file(path).size_bytes
        prepared = await prepare_recording(
            path,
            options=dock.options,
            state_dir=dock.policy.state_dir,
            on_hashed=lambda done: dock.observe(Step(path, "hashing", done, size_bytes)),
        )
        # Hashing a long recording is not idling: patience begins with the first request.
        patience = patience or Patience(give_up_after_s=dock.policy.give_up_after_s)
        return await ClipUpload(prepared, dock=dock, patience=patience).run()


class ClipUpload:
    """The way of one clip; holds what the service said last, for this run only."""

    def __init__(self, prepared: Prepared, *, dock: Dock, patience: Patience) -> None:
        self._path = prepared.path
        self._sidecar_path = prepared.sidecar_path
        self._sidecar = prepared.sidecar
        self._service = dock.service
        self._policy = dock.policy
        self._observe = dock.observe
        self._patience = patience
        self._plan: AnnouncedClip | None = None
        self._is_new = False
        self._last_state = ""
        self._fixes = 0
        self._durable_bytes = 0
        self._bytes_in_flight: dict[int, int] = {}

    async def run(self) -> Outcome:
        """Go all the way. Errors as in `upload_recording`."""
        found = self._find_kept_receipt()
        state = "secured"
        if found is None:
            while not isinstance(answer := await self._attempt(), FoundReceipt | str):
                pass
            if isinstance(answer, str):
                state = answer
            else:
                found = answer
        return await self._finish(found, state)

    def _find_kept_receipt(self) -> FoundReceipt | None:
        # A run that died between the receipt and the erasure needs no network to end its work.
        document = self._sidecar.receipt
        if document is None or self._sidecar.clip_id is None:
            return None
        try:
            receipt = Receipt.model_validate(document)
            self._verify(receipt, self._sidecar.clip_id)
        except (ValidationError, ReceiptRefused):
            # Of another service, perhaps: ask this one.
            return None
        return FoundReceipt(receipt, document)

    async def _attempt(self) -> FoundReceipt | str | None:
        """Go on from the state that the service tells; None: ask for it again."""
        try:
            plan = self._plan or await self._announce()
            return await self._advance(plan)
        except Trouble as trouble:
            await self._wait(trouble)
        except Refused as refusal:
            self._require_remedy(refusal)
            await self._wait(Trouble(str(refusal)))
        return None

    async def _announce(self) -> AnnouncedClip:
        if "clock_offset_ms" not in self._sidecar.announcement:
            reading = await self._service.read_clock()
            measured = {
                "clock_offset_ms": reading.offset_ms,
                "clock_uncertainty_ms": reading.uncertainty_ms,
            }
            # Kept before it is sent: the same announcement, however often it is sent.
            self._remember(announcement=self._sidecar.announcement | measured)
        announcement = self._sidecar.announcement
        plan, self._is_new = await self._service.announce(
            announcement,
            is_urgent=announcement.get("category") in self._policy.urgent_categories,
        )
        self._require_plan(plan)
        if self._last_state == "":
            self._patience.progressed()
        self._plan = plan
        self._remember(clip_id=plan.clip_id, state=plan.state)
        flags = f", flagged: {', '.join(plan.flags)}" if plan.flags else ""
        known = "" if self._is_new else ", known already"
        self._tell("announced", f"clip {plan.clip_id} ({plan.state}{known}){flags}")
        return plan

    async def _advance(self, plan: AnnouncedClip) -> FoundReceipt | str | None:
        ranges = [(0, plan.chunk_count - 1)] if plan.chunk_count else []
        state, is_truncated = str(plan.state), False
        if self._is_new:
            # Nothing can be there yet: save the question.
            self._is_new = False
        else:
            missing = await self._service.get_missing(plan.clip_id)
            state, ranges, is_truncated = missing.state, missing.missing, missing.is_truncated
            self._durable_bytes = missing.received_bytes
        if state == "receiving":
            if ranges:
                await self._send(plan, ranges)
            if is_truncated:
                return None
            state = await self._seal(plan)
        return await self._await_receipt(plan, state)

    async def _send(self, plan: AnnouncedClip, ranges: list[tuple[int, int]]) -> None:
        """Send chunks, lowest first; on a failure the other lanes end their chunk first."""
        self._tell("sending")
        indices = (index for first, last in ranges for index in range(first, last + 1))
        failures: list[Trouble | DockFailure] = []

        async def send_lane() -> None:
            for index in indices:
                if failures:
                    return
                try:
                    await self._send_chunk(plan, index)
                except (Trouble, DockFailure) as failure:
                    failures.append(failure)

        async with asyncio.TaskGroup() as lanes:
            for _ in range(self._policy.parallel_chunks):
                lanes.create_task(send_lane())
        if failures:
            raise failures[0]

    async def _send_chunk(self, plan: AnnouncedClip, index: int) -> None:
        offset = index * plan.chunk_bytes
        length_bytes = min(plan.chunk_bytes, self._sidecar.size_bytes - offset)
        # Twice over the disk (the second time it is cached), so that memory holds a block, not a
        # chunk. Should the bytes change in between, the service refuses them by their digest.
        sha256 = await hash_range(self._path, offset, length_bytes)
        try:
            await self._service.send_chunk(
                plan.clip_id,
                index,
                length_bytes=length_bytes,
                sha256=sha256,
                blocks=self._read_chunk(index, offset, length_bytes),
            )
            self._durable_bytes += length_bytes
        finally:
            self._bytes_in_flight.pop(index, None)
        self._patience.progressed()
        self._fixes = 0
        self._tell("sending")

    async def _read_chunk(self, index: int, offset: int, length_bytes: int) -> AsyncIterator[bytes]:
        self._bytes_in_flight[index] = 0
        async for block in read_blocks(self._path, offset, length_bytes):
            yield block
            self._bytes_in_flight[index] += len(block)
            self._tell("sending")

    async def _seal(self, plan: AnnouncedClip) -> str:
        # The last moment to notice that a camera was still writing.
        self._require_unchanged()
        self._tell("sealing")
        sealed = await self._service.seal(plan.clip_id)
        self._patience.progressed()
        self._fixes = 0
        if sealed.state == "quarantined":
            raise ClipQuarantined(plan.clip_id, sealed.quarantine_reason or "no reason given")
        if sealed.state == "sealed" and sealed.receipt_after_s and self._policy.is_waiting:
            read_back_later = Trouble("clip is sealed", sealed.receipt_after_s)
            await self._wait(read_back_later, stage="securing")
        return sealed.state

    async def _await_receipt(self, plan: AnnouncedClip, state: str) -> FoundReceipt | str | None:
        while True:
            if state != self._last_state:
                self._patience.progressed()
                self._last_state = state
            if state == "expired":
                self._plan = None
                return None
            if state == "receiving":
                return None
            if state == "quarantined":
                await self._seal(plan)  # repeatable, and it says why
                return None
            if state == "sealed" and not self._policy.is_waiting:
                self._remember(state=state)
                return state
            answer = await self._service.get_receipt(plan.clip_id)
            if isinstance(answer, FoundReceipt):
                return answer
            if answer.state == state:
                reason = "its proof is not published" if state == "secured" else f"clip is {state}"
                pending = Trouble(reason, answer.retry_after_s or POLL_S)
                await self._wait(pending, stage="securing")
            state = answer.state

    async def _finish(self, found: FoundReceipt | None, state: str) -> Outcome:
        clip_id = self._sidecar.clip_id
        if clip_id is None:
            raise AssertionError("an upload ends with a clip")  # noqa: EM101, TRY003  unreachable
        receipt_path = None
        if found is not None:
            facts = self._verify(found.receipt, clip_id)
            receipt_path = place_beside(
                self._path, RECEIPT_SUFFIX, state_dir=self._policy.state_dir
            )
            write_durably(receipt_path, found.document)
            self._remember(state=state, receipt=found.document)
            if self._policy.is_erasing:
                await erase_recording(self._path, self._sidecar_path, facts=facts)
        self._durable_bytes = self._sidecar.size_bytes
        is_erased = found is not None and self._policy.is_erasing
        self._tell("done", f"{state}{', erased here' if is_erased else ''}")
        return Outcome(
            path=self._path,
            clip_id=clip_id,
            state=state,
            sha256_hex=self._sidecar.sha256,
            size_bytes=self._sidecar.size_bytes,
            receipt_path=receipt_path,
            is_erased=is_erased,
        )

    def _verify(self, receipt: Receipt, clip_id: UUID) -> SecuredFacts:
        return verify_release(
            receipt,
            verifier_key=self._policy.verifier_key,
            clip_id=clip_id,
            sha256_hex=self._sidecar.sha256,
            size_bytes=self._sidecar.size_bytes,
            witnesses=self._policy.witnesses,
        )

    def _require_plan(self, plan: AnnouncedClip) -> None:
        size_bytes = self._sidecar.size_bytes
        fits = plan.chunk_bytes > 0 and plan.chunk_count == -(-size_bytes // plan.chunk_bytes)
        if plan.size_bytes != size_bytes or not fits:
            detail = (
                f"{plan.chunk_count} chunks of {plan.chunk_bytes} bytes for {plan.size_bytes} "
                f"bytes; the file has {size_bytes}"
            )
            raise Refused(200, "", "stop", "The service's plan does not fit the file", detail, "")

    def _require_unchanged(self) -> None:
        if identify_file(self._path) != self._sidecar.identity:
            raise FileChanged(self._path, "it was written to during the upload")

    def _require_remedy(self, refusal: Refused) -> None:
        """Raise the refusal again unless there is something to try."""
        self._fixes += 1
        is_known = refusal.name in ASK_AGAIN or refusal.name in ANNOUNCE_AGAIN
        # A bare 401 comes from a gateway; a new token may please it.
        is_mendable = refusal.action == "fix" and (
            is_known or refusal.status == HTTPStatus.UNAUTHORIZED
        )
        if not is_mendable or self._fixes > FIXES_MAX:
            raise refusal
        if refusal.name == "chunk-corrupted":
            self._require_unchanged()
        if refusal.name in ANNOUNCE_AGAIN:
            self._plan = None

    async def _wait(self, trouble: Trouble, *, stage: Stage = "waiting") -> None:
        wait_s = self._patience.plan(trouble)
        self._tell(stage, f"{trouble.reason}; asking again in {wait_s:.1f} s")
        await self._patience.sleep(wait_s)

    def _remember(self, **facts: object) -> None:
        changed: Sidecar = self._sidecar.model_copy(update=facts)
        if changed != self._sidecar:
            write_sidecar(self._sidecar_path, changed)
            self._sidecar = changed

    def _tell(self, stage: Stage, note: str = "") -> None:
        done_bytes = self._durable_bytes + sum(self._bytes_in_flight.values())
        self._observe(Step(self._path, stage, done_bytes, self._sidecar.size_bytes, note))
