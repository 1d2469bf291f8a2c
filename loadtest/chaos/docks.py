"""The docks of a chaos run, in a process of their own: each brings clip after clip.

It is started by run.py, which talks to it in lines: a job (JSON) in, `ready` out, the time to begin
(Unix seconds) in; then one JSON object per second out. `stop` in: no new clips, every dock finishes
the one that it has; then `final` out. `end` in: those that have not finished give up.

    python -m loadtest.chaos.docks
"""

import asyncio
import json
import os
import random
import resource
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, Final

import uvloop

from loadtest.chaos.relay import LOOPBACK
from loadtest.dock import Dock, Outcome
from loadtest.dock_wire import Wire
from loadtest.faults import Shares, Temper, deal_temper
from loadtest.fleet import Carrier, RunClock
from loadtest.pace import Visit
from loadtest.receipt_check import ReceiptCheck
from loadtest.reel import Reel
from loadtest.tally import Tally

SHARES: Final = Shares(tus=0.4, cut=0.3, repeated=0.1, clock=0.2)
HERD_CLIP_BYTES: Final = 16 * 1024
# Numbers of the herd's clips begin here, so that they meet nobody else's.
HERD_FIRST: Final = 1_000_000

_KIB: Final = 1024
_MIB: Final = 1024 * 1024
# Most are small, some fill a chunk or two, few are long.
_SIZES: Final = ((0.65, 4 * _KIB, 512 * _KIB), (0.27, _MIB, 7 * _MIB), (0.08, 9 * _MIB, 24 * _MIB))
_REST_S: Final = (2.0, 20.0)
_TICK_S: Final = 1.0
_SOURCES: Final = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")
_AGAIN_AFTER_S: Final = (1.0, 4.0)


@dataclass(frozen=True, slots=True)
class Job:
    """What the docks are to do.

    docks         that bring clip after clip
    ramp_s        over which they arrive
    herd          docks that are cut off in their first chunk and come back at once
    herd_plan     seconds of the run: first arrival, last arrival, cut from .. to, return
    answer_timeout_s  after which a silent service is given up
    outcomes      file for what became of each clip, one JSON object a line
    """

    run: str
    wire: Wire
    verifier_key: str
    outcomes: Path
    docks: int
    ramp_s: float
    rest_s: tuple[float, float] = _REST_S
    herd: int = 0
    herd_plan: tuple[float, float, float, float, float] | None = None
    answer_timeout_s: float = 45.0

    def pack(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self), default=str)


def unpack_job(text: str) -> Job:
    """Return the job that `pack` made into text."""
    fields: dict[str, Any] = json.loads(text)
    fields["wire"] = Wire(**fields["wire"])
    fields["outcomes"] = Path(fields["outcomes"])
    return Job(**fields)


def draw_size(seeded: random.Random) -> int:
    """Return the length of a clip, in bytes."""
    shares = [share for share, _, _ in _SIZES]
    _, lowest_bytes, highest_bytes = seeded.choices(_SIZES, shares)[0]
    return seeded.randint(lowest_bytes, highest_bytes)


@dataclass(slots=True)
class Docks:
    """All docks of a run.

    busy   docks that have a clip which is not released
    """

    job: Job
    clock: RunClock
    check: ReceiptCheck
    tally: Tally = field(default_factory=Tally)
    done: list[Outcome] = field(default_factory=list)
    open: dict[int, Dock] = field(default_factory=dict)
    gave_up: int = 0
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _numbers: Iterator[int] = field(default_factory=count)

    async def run(self) -> None:
        """Let every dock work until it is told to stop and has finished."""
        ticking = asyncio.create_task(self._tick())
        listening = asyncio.create_task(self._listen())
        tasks = [asyncio.create_task(self._keep_bringing(each)) for each in range(self.job.docks)]
        tasks += [asyncio.create_task(self._be_one_of_herd(each)) for each in range(self.job.herd)]
        working = asyncio.create_task(asyncio.wait(tasks))
        # It ends when nobody waits for the docks any more.
        await asyncio.wait({working, listening}, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                self.tally.errors[f"docks: {type(result).__name__}: {result}"] += 1
        for task in (ticking, listening):
            task.cancel()
        await asyncio.gather(working, ticking, listening, return_exceptions=True)
        self._write_outcomes()
        _say({"final": self._told(), "errors": dict(self.tally.errors.most_common(60))})

    # --- one dock -------------------------------------------------------------------------

    async def _keep_bringing(self, device: int) -> None:
        seeded = random.Random(f"{self.job.run}/dock/{device}")
        await self._rest(self.job.ramp_s * device / max(self.job.docks, 1))
        while not self._stopping.is_set():
            number = next(self._numbers)
            size_bytes = draw_size(random.Random(f"{self.job.run}/size/{number}"))
            reel = Reel(self.job.run, number, size_bytes)
            now_s = self.clock.now()
            # Dealt anew for every clip: so the dock's clock jumps, too.
            temper = deal_temper(SHARES, seeded)
            await self._bring(device, reel, temper, Visit(now_s, now_s), seeded)
            await self._rest(seeded.uniform(*self.job.rest_s))

    async def _be_one_of_herd(self, each: int) -> None:
        if self.job.herd_plan is None:
            return
        first_s, last_s, cut_from_s, cut_to_s, back_s = self.job.herd_plan
        seeded = random.Random(f"{self.job.run}/herd/{each}")
        share = each / self.job.herd
        visit = Visit(
            first_s + share * (last_s - first_s),
            cut_from_s + share * (cut_to_s - cut_from_s),
            back_s,
        )
        temper = replace(deal_temper(SHARES, seeded), cut_at=seeded.uniform(0.05, 0.95))
        reel = Reel(self.job.run, HERD_FIRST + each, HERD_CLIP_BYTES)
        await self._bring(self.job.docks + each, reel, temper, visit, seeded)

    async def _bring(
        self, device: int, reel: Reel, temper: Temper, visit: Visit, seeded: random.Random
    ) -> None:
        """Bring one clip, coming back as often as it takes."""
        dock = Dock(
            wire=self.job.wire,
            serial=f"BWC-{device:06d}",
            reels=[reel],
            temper=temper,
            plan=visit,
            tally=self.tally,
            check=self.check,
            seeded=seeded,
            clock=self.clock.now,
        )
        self.open[device] = dock
        is_loopback = sys.platform == "linux" and self.job.wire.host == LOOPBACK
        source = _SOURCES[device % len(_SOURCES)] if is_loopback else None
        while True:
            carrier = Carrier(
                dock,
                source,
                self.clock,
                is_held=False,
                answer_timeout_s=self.job.answer_timeout_s,
            )
            await carrier.run()
            (outcome,) = dock.outcomes
            if outcome.receipt is not None:
                break
            # It has given up, and somebody puts the camera in again.
            self.gave_up += 1
            self.tally.errors[f"gave up: {outcome.failure}"] += 1
            await asyncio.sleep(seeded.uniform(*_AGAIN_AFTER_S))
            now_s = self.clock.now()
            dock.is_back, dock.plan = True, Visit(now_s, now_s)
            dock.temper = replace(temper, cut_at=None)
            outcome.failure = None
        self.done.append(outcome)
        del self.open[device]

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    # --- talking --------------------------------------------------------------------------

    async def _listen(self) -> None:
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        while line := (await reader.readline()).strip():
            if line == b"stop":
                self._stopping.set()
            if line == b"end":
                return

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            _say(self._told())

    def _told(self) -> dict[str, Any]:
        return {
            "at": self.clock.now(),
            "secured": len(self.done),
            "open": len(self.open),
            "gave_up": self.gave_up,
            **{
                name: self.tally.counts[name]
                for name in ("retries", "resumes", "cuts", "acknowledged_bytes", "secured_bytes")
            },
            "connects": self.tally.counts["connects"],
            "failures": sum(self.tally.errors.values()),
        }

    def _write_outcomes(self) -> None:
        left = [outcome for dock in self.open.values() for outcome in dock.outcomes]
        for outcome in left:
            if outcome.receipt is None and outcome.failure is None:
                outcome.failure = "sealed, but no receipt" if outcome.is_sealed else "not finished"
        with self.job.outcomes.open("w") as file:
            for outcome in (*self.done, *left):
                file.write(json.dumps(asdict(outcome)) + "\n")


def _say(told: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run the job on standard input."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # Unbuffered: what is read too early here would be missing where the loop reads on.
    job = unpack_job(_read_line())
    clock = RunClock()
    _say({"ready": True})
    clock.begin(float(_read_line()))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Docks(job, clock, ReceiptCheck(job.verifier_key)).run())
    return 0


def _read_line() -> str:
    line = bytearray()
    while (byte := os.read(sys.stdin.fileno(), 1)) not in {b"", b"\n"}:
        line += byte
    return line.decode()


if __name__ == "__main__":
    sys.exit(main())
