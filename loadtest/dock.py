"""How a dock behaves, without a socket: a generator of steps that any engine can carry out.

`Dock.visit` yields what it wants done next (connect, ask, rest, wait for its time) and is told the
answer, or that the connection broke. asyncio (fleet.py) and Locust (locustfile.py) drive the same
code, so both load the service with the same behaviour.
"""

import json
import random
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from loadtest.dock_wire import Wire
from loadtest.faults import Temper
from loadtest.link import Answer, LinkBroken
from loadtest.pace import Visit
from loadtest.receipt_check import BadReceipt, ReceiptCheck
from loadtest.reel import Reel
from loadtest.tally import Tally
from schemas.announcement import URGENT_CATEGORIES

_OCTETS: Final = "Content-Type: application/octet-stream\r\n"
_TUS: Final = "Tus-Resumable: 1.0.0\r\n"
_MOMENTS_MS: Final = 1000
_BACKOFF_FIRST_S: Final = 0.5
_BACKOFF_MAX_S: Final = 20.0
_POLL_GROWTH: Final = 1.7
_TRIES_MAX: Final = 40
_CATEGORIES: Final = (
    "stop_and_search",
    "arrest",
    "domestic_incident",
    "traffic",
    "training",
    "use_of_force",
)


@dataclass(frozen=True, slots=True)
class Connect:
    """Have a connection: the present one if the service has not hung up."""


@dataclass(frozen=True, slots=True)
class HangUp:
    """Have none."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Send a request and wait for its answer.

    name        of the step, in figures
    cut_after   send only so many bytes of the body and hang up; the answer is empty
    """

    name: str
    head: bytes
    body: Sequence[bytes | memoryview] = ()
    body_bytes: int = 0
    cut_after: int | None = None
    is_rude: bool = False


@dataclass(frozen=True, slots=True)
class Rest:
    """Wait so many seconds; the dock's own will, so it counts as no delay."""

    seconds: float


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """Wait for a planned time, in seconds of the run; what follows is timed from it."""

    at_s: float


Step = Connect | HangUp | Ask | Rest | WaitUntil
NO_ANSWER: Final = Answer(0, b"")


class DockFailed(Exception):
    """The dock gave up on a clip."""


@dataclass(slots=True)
class Outcome:
    """What became of one clip.

    receipt   as received; None while the clip must stay on the camera
    failure   why the dock gave up
    acknowledged_bytes  the service said that it has them
    taken_back_bytes    of these, those that it later said it does not have
    """

    number: int
    serial: str
    size_bytes: int
    clip_id: str | None = None
    is_sealed: bool = False
    receipt: str | None = None
    failure: str | None = None
    acknowledged_bytes: int = 0
    taken_back_bytes: int = 0


@dataclass(slots=True)
class Dock:
    """One dock with one camera in it, and what it is to bring.

    clock    seconds since the run began
    check    pinned key that receipts are checked under
    is_back  it was here with these clips before: asks what is there already
    """

    wire: Wire
    serial: str
    reels: Sequence[Reel]
    temper: Temper
    plan: Visit
    tally: Tally
    check: ReceiptCheck
    seeded: random.Random
    clock: Callable[[], float]
    outcomes: list[Outcome] = field(default_factory=list)
    is_back: bool = False
    _acknowledged: dict[int, set[int]] = field(default_factory=dict)
    _offset_ms: int = 0
    _receipt_after_s: float = 0.0
    _receipt_at: float = 0.0

    def visit(self) -> Generator[Step, Answer, None]:
        """Bring every clip and stay until each is released or given up."""
        yield WaitUntil(self.plan.arrives_at)
        if not self.is_back:
            self.outcomes = [
                Outcome(reel.number, self.serial, reel.size_bytes) for reel in self.reels
            ]
        pairs = list(zip(self.reels, self.outcomes, strict=True))
        try:
            yield from self._measure_clock()
            self.tally.count("arrived")
        except DockFailed as error:
            self._give_up(pairs, error)
            return
        yield WaitUntil(self.plan.sends_at)
        for reel, outcome in pairs:
            try:
                yield from self._bring(reel, outcome)
            except DockFailed as error:
                self._give_up([(reel, outcome)], error)
        for reel, outcome in pairs:
            if outcome.is_sealed and outcome.failure is None:
                try:
                    yield from self._collect(reel, outcome)
                except DockFailed as error:
                    self._give_up([(reel, outcome)], error)

    def _give_up(self, pairs: Sequence[tuple[Reel, Outcome]], error: DockFailed) -> None:
        for _, outcome in pairs:
            outcome.failure = str(error)
            self.tally.count("failed")

    def _measure_clock(self) -> Generator[Step, Answer, None]:
        """Ask for the server's time: the camera's clock may be anything."""
        answer = yield from self._ask(Ask("time", self.wire.head("GET", "/v1/time")), {200})
        device_ms = int(datetime.now(UTC).timestamp() * _MOMENTS_MS) + self.temper.clock_error_ms
        self._offset_ms = answer.json()["unix_ms"] - device_ms

    # --- one clip -----------------------------------------------------------------------

    def _bring(self, reel: Reel, outcome: Outcome) -> Generator[Step, Answer, None]:
        told = yield from self._announce(reel)
        outcome.clip_id = told["clip_id"]
        self.tally.count("announced")
        if self.temper.surface == "tus":
            yield from self._send_by_tus(reel, _path(told["tus_url"]), outcome)
        else:
            is_sealed = yield from self._send_chunks(reel, told, outcome)
            if not is_sealed:
                yield from self._seal(_path(told["seal_url"]))
        outcome.is_sealed = True
        self._receipt_at = max(self._receipt_at, self.clock() + self._receipt_after_s)
        self.tally.count("sealed")
        self.tally.time_from_plan("sealed", self.clock() - self._began())
        if self.temper.is_repeated:
            yield from self._repeat(reel, told)

    def _began(self) -> float:
        """The time from which the clip's times count: the outage was not the service's doing."""
        return self.plan.sends_at if self.plan.returns_at is None else self.plan.returns_at

    def _announce(self, reel: Reel) -> Generator[Step, Answer, dict[str, Any]]:
        described = self._describe(reel)
        body = json.dumps(described).encode()
        fields = "Content-Type: application/json\r\n"
        if described["category"] in URGENT_CATEGORIES:
            fields += "Priority: u=0\r\n"
        head = self.wire.head("POST", "/v1/clips", len(body), fields)
        answer = yield from self._ask(Ask("announce", head, [body], len(body)), {200, 201})
        told: dict[str, Any] = answer.json()
        return told

    def _describe(self, reel: Reel) -> dict[str, Any]:
        """Return the announcement: times are by the device's clock, however wrong."""
        ended = datetime.now(UTC) + timedelta(milliseconds=self.temper.clock_error_ms)
        started = ended - timedelta(minutes=self.seeded.uniform(1, 30))
        described: dict[str, Any] = {
            "device_serial": self.serial,
            "recording_id": reel.recording_id,
            "segment_no": 0,
            "size_bytes": reel.size_bytes,
            "started_at": started.isoformat(),
            "ended_at": ended.isoformat(),
            "clock_state": "not_set" if self.temper.clock_fault == "not_set" else "synced",
            "clock_offset_ms": self._offset_ms,
            "clock_uncertainty_ms": 20,
            "officer_id": f"P{self.seeded.randrange(30_000):05d}",
            "category": self.seeded.choice(_CATEGORIES),
        }
        if reel.is_rotated:
            described["sha256_device"] = reel.sha256().hex()
        return described

    # --- native -------------------------------------------------------------------------

    def _send_chunks(
        self, reel: Reel, told: dict[str, Any], outcome: Outcome
    ) -> Generator[Step, Answer, bool]:
        """Send what is missing; the last chunk asks for the seal. Tell whether it was made."""
        root = _path(told["chunks_url"])
        chunk_bytes: int = told["chunk_bytes"]
        indices: Sequence[int] = range(told["chunk_count"])
        if self.temper.cut_at is not None and indices:
            chunk = self._make_chunk(reel, root, 0, chunk_bytes)
            yield from self._be_cut(chunk, self.temper.cut_at)
        if (self.temper.cut_at is not None or self.is_back) and indices:
            indices = yield from self._ask_missing(root)
            self._miss_chunks(reel, indices, chunk_bytes, outcome)
        sealed = None
        for index in indices:
            seals = index == indices[-1]
            chunk = self._make_chunk(reel, root, index, chunk_bytes, seals=seals)
            began_s = self.clock()
            answer = yield from self._ask(chunk, {200, 201})
            self.tally.acknowledge(chunk.body_bytes, began_s, self.clock())
            self._hear_chunk(reel, index, chunk.body_bytes, outcome)
            sealed = answer.json()["sealed"] if seals else None
        if sealed is not None:
            self._receipt_after_s = sealed.get("receipt_after_s", 0)
        return sealed is not None and sealed["state"] == "sealed"

    def _hear_chunk(self, reel: Reel, index: int, body_bytes: int, outcome: Outcome) -> None:
        kept = self._acknowledged.setdefault(reel.number, set())
        if index not in kept:
            kept.add(index)
            outcome.acknowledged_bytes += body_bytes

    def _miss_chunks(
        self, reel: Reel, missing: Sequence[int], chunk_bytes: int, outcome: Outcome
    ) -> None:
        """Note what the service had acknowledged and does not have."""
        for index in self._acknowledged.get(reel.number, set()).intersection(missing):
            outcome.taken_back_bytes += min(chunk_bytes, reel.size_bytes - index * chunk_bytes)

    def _make_chunk(
        self, reel: Reel, root: str, index: int, chunk_bytes: int, *, seals: bool = False
    ) -> Ask:
        start = index * chunk_bytes
        stop = min(start + chunk_bytes, reel.size_bytes)
        digest = f"Content-Digest: {reel.content_digest(start, stop)}\r\n{_OCTETS}"
        query = "?seal=true" if seals else ""
        head = self.wire.head("POST", f"{root}/{index}{query}", stop - start, digest)
        return Ask("chunk", head, list(reel.blocks(start, stop)), stop - start)

    def _ask_missing(self, root: str) -> Generator[Step, Answer, list[int]]:
        answer = yield from self._ask(Ask("missing", self.wire.head("GET", root)), {200})
        self.tally.count("resumes")
        return [i for first, last in answer.json()["missing"] for i in range(first, last + 1)]

    def _seal(self, path: str) -> Generator[Step, Answer, None]:
        for _ in range(_TRIES_MAX):
            answer = yield from self._ask(Ask("seal", self.wire.head("POST", path)), {200, 202})
            if answer.status == HTTPStatus.OK:
                return
            yield Rest(self._after(answer, 1.0))
        message = "seal: never finished"
        raise DockFailed(message)

    # --- tus ----------------------------------------------------------------------------

    def _send_by_tus(
        self, reel: Reel, path: str, outcome: Outcome
    ) -> Generator[Step, Answer, None]:
        """Send all in one PATCH; after a cut, ask for the offset and go on from there."""
        offset = 0
        if self.temper.cut_at is not None and reel.size_bytes:
            yield from self._be_cut(self._make_patch(reel, path, 0), self.temper.cut_at)
        if (self.temper.cut_at is not None or self.is_back) and reel.size_bytes:
            offset = yield from self._ask_offset(path, outcome)
        for attempt in range(_TRIES_MAX):
            patch = self._make_patch(reel, path, offset)
            began_s = self.clock()
            try:
                answer = yield from self._ask_once(patch)
            except LinkBroken as broken:
                self._note(patch.name, str(broken))
            else:
                if answer.status == HTTPStatus.NO_CONTENT:
                    self._receipt_after_s = float(answer.find_field("Ingest-Receipt-After") or 0)
                    outcome.acknowledged_bytes = reel.size_bytes
                    self.tally.acknowledge(patch.body_bytes, began_s, self.clock())
                    return
                self._note(patch.name, f"{answer.status} {_problem(answer)}")
                # 409: another offset than we thought, so we ask for it.
                if answer.status != HTTPStatus.CONFLICT and not _may_be_tried_again(answer):
                    message = f"patch: {answer.status} {_problem(answer)}"
                    raise DockFailed(message)
            self.tally.count("retries")
            yield Rest(self._backoff(attempt))
            offset = yield from self._ask_offset(path, outcome)
        message = "patch: too many tries"
        raise DockFailed(message)

    def _make_patch(self, reel: Reel, path: str, offset: int) -> Ask:
        length = reel.size_bytes - offset
        fields = (
            f"{_TUS}Upload-Offset: {offset}\r\nContent-Type: application/offset+octet-stream\r\n"
        )
        head = self.wire.head("PATCH", path, length, fields)
        return Ask("patch", head, list(reel.blocks(offset, reel.size_bytes)), length)

    def _ask_offset(self, path: str, outcome: Outcome) -> Generator[Step, Answer, int]:
        answer = yield from self._ask(Ask("offset", self.wire.head("HEAD", path, 0, _TUS)), {200})
        self.tally.count("resumes")
        offset = int(answer.find_field("Upload-Offset") or 0)
        outcome.taken_back_bytes += max(outcome.acknowledged_bytes - offset, 0)
        outcome.acknowledged_bytes = offset
        return offset

    # --- faults -------------------------------------------------------------------------

    def _be_cut(self, ask: Ask, share: float) -> Generator[Step, Answer, None]:
        """Lose the connection in the middle of a body; come back after a while, or as planned."""
        cut_after = int(ask.body_bytes * share)
        try:
            yield Connect()
            yield Ask(
                f"{ask.name} cut",
                ask.head,
                ask.body,
                ask.body_bytes,
                cut_after,
                self.temper.is_rude,
            )
        except LinkBroken as broken:
            # Others were quicker: it is cut off all the same.
            self._note(f"{ask.name} cut", str(broken))
        self.tally.count("cuts")
        if self.plan.returns_at is None:
            yield Rest(self.seeded.uniform(0.1, 2.0))
        else:
            yield WaitUntil(self.plan.returns_at)

    def _repeat(self, reel: Reel, told: dict[str, Any]) -> Generator[Step, Answer, None]:
        """Send again what was acknowledged, as a dock does that lost the answers."""
        again = yield from self._announce(reel)
        if again["clip_id"] != told["clip_id"]:
            message = "announce: the same recording became another clip"
            raise DockFailed(message)
        if self.temper.surface == "native":
            if told["chunk_count"]:
                root = _path(told["chunks_url"])
                chunk = self._make_chunk(reel, root, 0, told["chunk_bytes"])
                yield from self._ask(chunk, {200})
            yield from self._seal(_path(told["seal_url"]))
        self.tally.count("repeats")

    # --- the receipt --------------------------------------------------------------------

    def _collect(self, reel: Reel, outcome: Outcome) -> Generator[Step, Answer, None]:
        """Ask until the receipt is there, ever more seldom; check it as if to erase the clip."""
        pause_s = 1.0
        yield Rest(max(self._receipt_at - self.clock(), 0.0))
        head = self.wire.head("GET", f"/v1/clips/{outcome.clip_id}/receipt")
        while True:
            answer = yield from self._ask(Ask("receipt", head), {200, 202})
            if answer.status == HTTPStatus.OK:
                break
            if answer.json()["state"] == "quarantined":
                message = "receipt: quarantined"
                raise DockFailed(message)
            yield Rest(self._after(answer, pause_s))
            pause_s = min(pause_s * _POLL_GROWTH, _BACKOFF_MAX_S)
        try:
            facts = self.check.read(answer.body)
        except BadReceipt as error:
            message = f"receipt: {error}"
            raise DockFailed(message) from error
        if facts.size_bytes != reel.size_bytes or facts.recording_id != reel.recording_id:
            message = "receipt: of another clip"
            raise DockFailed(message)
        outcome.receipt = answer.body.decode()
        self.tally.count("secured")
        self.tally.count("secured_bytes", reel.size_bytes)
        self.tally.time_from_plan("secured", self.clock() - self._began())

    # --- asking -------------------------------------------------------------------------

    def _ask(self, ask: Ask, wanted: set[int]) -> Generator[Step, Answer, Answer]:
        """Ask until there is one of the wanted answers; everything here may be repeated.

        Raises:
            DockFailed: the service refused for good, or for too long.
        """
        for attempt in range(_TRIES_MAX):
            try:
                answer = yield from self._ask_once(ask)
            except LinkBroken as broken:
                self._note(ask.name, str(broken))
                pause_s = self._backoff(attempt)
            else:
                if answer.status in wanted:
                    return answer
                told = f"{answer.status} {_problem(answer)}"
                self._note(ask.name, told)
                if not _may_be_tried_again(answer):
                    message = f"{ask.name}: {told}"
                    raise DockFailed(message)
                pause_s = self._after(answer, self._backoff(attempt))
            self.tally.count("retries")
            yield Rest(pause_s)
        message = f"{ask.name}: too many tries"
        raise DockFailed(message)

    def _ask_once(self, ask: Ask) -> Generator[Step, Answer, Answer]:
        yield Connect()
        answer = yield ask
        self.tally.count("requests")
        self.tally.count("sent_bytes", ask.body_bytes)
        return answer

    def _after(self, answer: Answer, pause_s: float) -> float:
        """Return how long to wait: as asked and up to a quarter more, as `ingest dock` does.

        pause_s   where nothing was asked
        """
        asked = answer.find_field("Retry-After") or ""
        wait_s = float(asked) if asked.isdigit() else pause_s
        return wait_s * self.seeded.uniform(1.0, 1.25)

    def _backoff(self, attempt: int) -> float:
        longest_s = min(_BACKOFF_FIRST_S * 2**attempt, _BACKOFF_MAX_S)
        return self.seeded.uniform(longest_s / 2, longest_s)

    def _note(self, step: str, what: str) -> None:
        self.tally.errors[f"{step}: {what}"] += 1


def _may_be_tried_again(answer: Answer) -> bool:
    if answer.status in {HTTPStatus.LOCKED, HTTPStatus.TOO_MANY_REQUESTS}:
        return True
    return answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _problem(answer: Answer) -> str:
    try:
        return str(answer.json()["type"]).rpartition(":")[2]
    except (ValueError, KeyError, TypeError):
        return answer.body[:80].decode("utf-8", "replace")


def _path(url: str) -> str:
    return urlsplit(url).path
