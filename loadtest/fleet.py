"""One generator process: thousands of docks on asyncio, each on a socket of its own.

It is started by judge.py, which talks to it in lines: a job (JSON) in, `ready` out, the time to
begin (Unix seconds) in; then one JSON object per half second out, and one at the end.

    python -m loadtest.fleet
"""

import asyncio
import gc
import json
import random
import resource
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import uvloop

from loadtest.dock import (
    NO_ANSWER,
    Ask,
    Connect,
    Dock,
    HangUp,
    Outcome,
    Rest,
    Step,
    WaitUntil,
)
from loadtest.dock_wire import Wire
from loadtest.faults import deal_temper
from loadtest.link import Answer, Link, LinkBroken, open_link
from loadtest.receipt_check import ReceiptCheck
from loadtest.reel import Reel
from loadtest.scenarios import SCENARIOS, Knobs
from loadtest.tally import Tally

TICK_S: Final = 0.5
# A start that comes so long after its time is the generator's fault and is counted.
LATE_AFTER_S: Final = 1.0
_CONNECT_TIMEOUT_S: Final = 60.0
_ANSWER_TIMEOUT_S: Final = 180.0
_SOURCES: Final = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")
_SPARE_FILES: Final = 100


@dataclass(frozen=True, slots=True)
class Job:
    """What one generator is to do.

    part, parts   takes every parts-th device, from part on
    give_up_s     second of the plan after which it stops waiting
    outcomes      file for what became of each clip, one JSON object a line
    """

    scenario: str
    knobs: Knobs
    run: str
    part: int
    parts: int
    give_up_s: float
    wire: Wire
    verifier_key: str
    outcomes: Path

    def pack(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self), default=str)


def unpack_job(text: str) -> Job:
    """Return the job that `pack` made into text."""
    fields: dict[str, Any] = json.loads(text)
    fields["knobs"] = Knobs(**fields["knobs"])
    fields["wire"] = Wire(**fields["wire"])
    fields["outcomes"] = Path(fields["outcomes"])
    return Job(**fields)


def count_processes(devices: int) -> int:
    """Return how many generators the open-file limit asks for, at least two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    usable = sys.maxsize if hard == resource.RLIM_INFINITY else hard - _SPARE_FILES
    return min(max(2, -(-devices // usable)), max(devices, 1))


def make_reels(scenario: str, knobs: Knobs, run: str) -> list[list[Reel]]:
    """Return the footage of every device of a run; anybody who knows the run can make it again."""
    load = SCENARIOS[scenario].make_load(knobs)
    seeded = random.Random(f"{run}/sizes")
    per_device = load.clips_per_device
    return [
        [
            Reel(run, device * per_device + each, load.sizes(seeded), load.is_rotated)
            for each in range(per_device)
        ]
        for device in range(knobs.devices)
    ]


class RunClock:
    """Seconds of the plan. uvloop's own clock only moves once a millisecond."""

    def __init__(self) -> None:
        self._zero = 0.0

    def begin(self, begin_at: float) -> None:
        """Set second 0, the same for all generators: Unix seconds."""
        self._zero = time.perf_counter() + begin_at - time.time()

    def now(self) -> float:
        """Return the present second of the plan."""
        return time.perf_counter() - self._zero

    def perf_counter_of(self, at_s: float) -> float:
        """Return the perf_counter at a second of the plan."""
        return self._zero + at_s


@dataclass(slots=True)
class Carrier:
    """Carries out one dock's steps on one socket.

    intended  perf_counter at which the next step is meant to begin
    answer_timeout_s  a service that is silent for longer is given up
    """

    dock: Dock
    source: str | None
    clock: RunClock
    is_held: bool
    link: Link | None = None
    intended: float = 0.0
    has_started: bool = False
    answer_timeout_s: float = _ANSWER_TIMEOUT_S

    async def run(self) -> None:
        """Drive the dock's visit to its end."""
        visit = self.dock.visit()
        try:
            step = next(visit)
            while True:
                try:
                    answer = await self._do(step)
                except LinkBroken as broken:
                    step = visit.throw(broken)
                else:
                    step = visit.send(answer)
        except StopIteration:
            pass
        if not self.is_held:
            self._hang_up()

    async def _do(self, step: Step) -> Answer:
        match step:
            case Ask():
                return await self._ask(step)
            case Connect():
                await self._connect()
            case HangUp():
                self._hang_up()
            case Rest(seconds):
                self.intended += seconds
                await _sleep_until(self.intended)
            case WaitUntil(at_s):
                await self._wait_until(at_s)
        return NO_ANSWER

    async def _wait_until(self, at_s: float) -> None:
        self.intended = self.clock.perf_counter_of(at_s)
        if self.intended > time.perf_counter():
            await _sleep_until(self.intended)
            # Only a sleep can overrun by our own fault; else the service held the dock up.
            if time.perf_counter() - self.intended > LATE_AFTER_S:
                self.dock.tally.count("late")
        self.dock.tally.count("starts")
        self.has_started = True

    async def _connect(self) -> None:
        if self.link is not None and self.link.is_open:
            return
        wire, began = self.dock.wire, time.perf_counter()
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                self.link = await open_link(wire.host, wire.port, self.source)
        except TimeoutError as error:
            message = f"no connection within {_CONNECT_TIMEOUT_S:.0f} s"
            raise LinkBroken(message) from error
        ended = time.perf_counter()
        self.dock.tally.time("connect", ended - began, max(ended - self.intended, ended - began))
        self.dock.tally.count("connects")
        self.intended = ended

    async def _ask(self, ask: Ask) -> Answer:
        link = self.link
        if link is None:
            message = "no connection"
            raise LinkBroken(message)
        if ask.cut_after is not None:
            link.send_in_part(ask.head, ask.body, body_bytes=ask.cut_after, is_rude=ask.is_rude)
            self.link = None
            self.intended = time.perf_counter()
            return NO_ANSWER
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self.answer_timeout_s):
                answer = await link.ask(ask.head, ask.body)
        except TimeoutError as error:
            self._hang_up()
            message = f"no answer within {self.answer_timeout_s:.0f} s"
            raise LinkBroken(message) from error
        except LinkBroken:
            self._hang_up()
            raise
        service_s = answer.received_at - began
        # Timers may fire a millisecond early: nothing is answered before it was asked.
        response_s = max(answer.received_at - self.intended, service_s)
        self.dock.tally.time(ask.name, service_s, response_s)
        self.intended = answer.received_at
        return answer

    def _hang_up(self) -> None:
        if self.link is not None:
            self.link.close()
            self.link = None


async def _sleep_until(moment: float) -> None:
    # Timers may fire a millisecond early.
    while (left_s := moment - time.perf_counter()) > 0:  # noqa: ASYNC110 - it is time we wait for
        await asyncio.sleep(left_s)


@dataclass(slots=True)
class Generator:
    """All docks of this process."""

    job: Job
    clock: RunClock
    tally: Tally = field(default_factory=Tally)
    carriers: list[Carrier] = field(default_factory=list)

    def prepare(self) -> None:
        """Make every dock, and what is dear to make, before the clock runs."""
        job = self.job
        load = SCENARIOS[job.scenario].make_load(job.knobs)
        plan = load.pace(job.knobs.devices, random.Random(f"{job.run}/plan"))
        reels = make_reels(job.scenario, job.knobs, job.run)
        check = ReceiptCheck(job.verifier_key)
        is_loopback = sys.platform == "linux" and job.wire.host == _SOURCES[0]
        for device in range(job.part, job.knobs.devices, job.parts):
            seeded = random.Random(f"{job.run}/dock/{device}")
            dock = Dock(
                wire=job.wire,
                serial=f"BWC-{device:06d}",
                reels=reels[device],
                temper=deal_temper(load.shares, seeded),
                plan=plan[device],
                tally=self.tally,
                check=check,
                seeded=seeded,
                clock=self.clock.now,
            )
            source = _SOURCES[device % len(_SOURCES)] if is_loopback else None
            self.carriers.append(Carrier(dock, source, self.clock, load.is_held))
            if not load.is_rotated:
                for reel in reels[device]:
                    reel.content_digest(0, min(reel.size_bytes, 8 * 1024 * 1024))

    async def run(self) -> None:
        """Run every dock; stop when all are done or the time is over."""
        # Tens of thousands of tasks live as long as the run: looking for garbage among them
        # again and again would only make everybody late.
        gc.collect()
        gc.freeze()
        ticking = asyncio.create_task(self._tick())
        tasks = [asyncio.create_task(carrier.run()) for carrier in self.carriers]
        left_s = self.job.give_up_s - self.clock.now()
        _, unfinished = await asyncio.wait(tasks, timeout=max(left_s, 0))
        ended_at = self.clock.now()
        for task in unfinished:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                self.tally.errors[f"generator: {type(result).__name__}: {result}"] += 1
        self.tally.count("dropped", sum(not carrier.has_started for carrier in self.carriers))
        ticking.cancel()
        with suppress(asyncio.CancelledError):
            await ticking
        self._write_outcomes()
        _say({"final": self.tally.pack(), "ended_at": ended_at})
        for carrier in self.carriers:
            if carrier.link is not None:
                carrier.link.close()

    async def _tick(self) -> None:
        cpu_before, then = time.process_time(), time.perf_counter()
        while True:
            await asyncio.sleep(TICK_S)
            cpu, now = time.process_time(), time.perf_counter()
            is_open = (c.link is not None and c.link.is_open for c in self.carriers)
            _say(
                {
                    "at": self.clock.now(),
                    "open": sum(is_open),
                    "cpu_share": (cpu - cpu_before) / (now - then),
                    "took_s": now - then,
                    "lag_s": max(now - then - TICK_S, 0.0),
                    "errors": sum(self.tally.errors.values()),
                    "times": self.tally.take_interval(),
                    **self.tally.counts,
                }
            )
            cpu_before, then = cpu, now

    def _write_outcomes(self) -> None:
        with self.job.outcomes.open("w") as file:
            for carrier in self.carriers:
                for outcome in _settle(carrier.dock):
                    file.write(json.dumps(asdict(outcome)) + "\n")


def _settle(dock: Dock) -> Sequence[Outcome]:
    """Return what became of a dock's clips; what never began has failed too."""
    outcomes = dock.outcomes or [
        Outcome(reel.number, dock.serial, reel.size_bytes) for reel in dock.reels
    ]
    for outcome in outcomes:
        if outcome.receipt is None and outcome.failure is None:
            outcome.failure = "sealed, but no receipt" if outcome.is_sealed else "not finished"
    return outcomes


def _say(told: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run the job on standard input."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    generator = Generator(unpack_job(sys.stdin.readline()), RunClock())
    generator.prepare()
    _say({"ready": True})
    generator.clock.begin(float(sys.stdin.readline()))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(generator.run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
