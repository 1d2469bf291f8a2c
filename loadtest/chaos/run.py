"""One chaos run: docks, faults by the timetable, quiet, verdict."""

import asyncio
import json
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from loadtest.audit import read_outcomes
from loadtest.chaos.docks import Job
from loadtest.chaos.harm import do_harm
from loadtest.chaos.relay import Weather
from loadtest.chaos.s3_relay import Temper
from loadtest.chaos.stack import ChaosStack, open_chaos_stack
from loadtest.chaos.timetable import Fault
from loadtest.chaos.verdict import Line, Memory, measure_memory, settle, weigh
from loadtest.judge import describe_machine
from loadtest.plant import Fault as Plant

_ROOT: Final = Path(__file__).parents[2]
_LINE_BYTES_MAX: Final = 16 * 1024 * 1024
_READY_TIMEOUT_S: Final = 60.0
_FINAL_TIMEOUT_S: Final = 60.0
_HEAD_START_S: Final = 1.0
_HERD: Final = "outage; all docks come back at once"
# A sealing request may wait for 20 s; a short run has no time for more.
_ANSWER_TIMEOUT_S: Final = 45.0
# The herd arrives before its outage, and begins to send.
_HERD_LEAD_S: Final = 40.0

Tell = Callable[[str, Mapping[str, Any]], None]


class DocksFailed(Exception):
    """The docks ended before their time."""


@dataclass(frozen=True, slots=True)
class Order:
    """One run.

    seconds    how long faults are done
    timetable  of them, in order of time
    settle_s   longest time for the docks to finish when the faults are over, and then for the
               service to have nothing left to do
    plant      harm done to the store behind everybody's back: the verdict must see it
    tell       takes how far the run is: a phase and its facts
    """

    run: str
    seed: str
    folder: Path
    seconds: float
    docks: int
    herd: int
    rest_s: tuple[float, float]
    timetable: list[Fault]
    has_replica: bool
    settle_s: float
    plant: Plant | None
    tell: Tell


@dataclass(slots=True)
class Told:
    """What the docks said last, and what became of each fault."""

    last: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    harm: list[dict[str, Any]] = field(default_factory=list)


async def run_chaos(order: Order) -> dict[str, Any]:
    """Run, settle, weigh; return everything about it, as JSON can hold it.

    SIGTERM ends it as Ctrl-C does: what was started is stopped.

    Raises:
        StackFailed, DocksFailed: nothing was judged.
        CancelledError: SIGTERM came.
    """
    running = asyncio.current_task()
    if running is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    seeded = random.Random(f"{order.seed}/stack")
    async with open_chaos_stack(
        order.folder, seeded=seeded, has_replica=order.has_replica
    ) as chaos:
        began_at = datetime.now(UTC)
        before = await measure_memory(chaos)
        told = Told()
        await _work(order, chaos, told)
        _clear_up(chaos)
        order.tell("settling", {"left": ""})
        left = await settle(
            chaos, within_s=order.settle_s, tell=lambda what: order.tell("settling", {"left": what})
        )
        outcomes = read_outcomes([order.folder / "outcomes.jsonl"])
        done = [0]

        def advance(count: int) -> None:
            done[0] += count
            order.tell("reading", {"read": done[0], "of": len(outcomes)})

        lines, figures = await weigh(
            chaos, order.run, outcomes, before, left, plant=order.plant, advance=advance
        )
        return _describe(order, chaos, told, lines, figures, before, began_at)


async def _work(order: Order, chaos: ChaosStack, told: Told) -> None:
    docks = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "loadtest.chaos.docks",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
        limit=_LINE_BYTES_MAX,
    )
    try:
        await _write(docks, _make_job(order, chaos).pack())
        async with asyncio.timeout(_READY_TIMEOUT_S):
            await _read(docks)
        zero = time.monotonic() + _HEAD_START_S
        await _write(docks, repr(time.time() + _HEAD_START_S))
        listening = asyncio.create_task(_listen(docks, order, told))
        harming = asyncio.create_task(_harm(order, chaos, told, zero))
        await asyncio.wait([listening, harming], return_when=asyncio.FIRST_COMPLETED)
        if not harming.done():
            harming.cancel()
            await asyncio.gather(harming, return_exceptions=True)
            listening.result()
            message = "the docks ended while there was work"
            raise DocksFailed(message)
        harming.result()
        _clear_up(chaos)
        await _write(docks, "stop")
        order.tell("finishing", told.last)
        done, _ = await asyncio.wait([listening], timeout=order.settle_s)
        if not done:
            await _write(docks, "end")
        async with asyncio.timeout(_FINAL_TIMEOUT_S):
            await listening
    finally:
        if docks.returncode is None:
            with suppress(ProcessLookupError):
                docks.terminate()
        await docks.wait()


def _make_job(order: Order, chaos: ChaosStack) -> Job:
    herds = [fault for fault in order.timetable if fault.kind.name == _HERD]
    plan = None
    if herds:
        at_s = herds[0].at_s
        lead_s = min(_HERD_LEAD_S, at_s * 0.8)
        half_s = at_s - lead_s / 2
        plan = (at_s - lead_s, half_s, half_s, at_s, at_s + herds[0].lasts_s)
    return Job(
        run=order.run,
        wire=chaos.wire,
        verifier_key=str(chaos.stack.facts["log_verifier_key"]),
        outcomes=order.folder / "outcomes.jsonl",
        docks=order.docks,
        ramp_s=min(order.seconds * 0.1, 20.0),
        rest_s=order.rest_s,
        herd=order.herd if herds else 0,
        herd_plan=plan,
        answer_timeout_s=min(_ANSWER_TIMEOUT_S, max(order.seconds, _ANSWER_TIMEOUT_S / 3)),
    )


async def _harm(order: Order, chaos: ChaosStack, told: Told, zero: float) -> None:
    """Do every fault at its time, beside those that go on; return when the time is over."""
    async with asyncio.TaskGroup() as going:
        for number, fault in enumerate(order.timetable):
            await asyncio.sleep(zero + fault.at_s - time.monotonic())
            seeded = random.Random(f"{order.seed}/harm/{number}")
            going.create_task(_do(order, fault, chaos, told, seeded))
        await asyncio.sleep(zero + order.seconds - time.monotonic())


async def _do(
    order: Order, fault: Fault, chaos: ChaosStack, told: Told, seeded: random.Random
) -> None:
    order.tell("fault", {"fault": str(fault)})
    what = await do_harm(fault, chaos, seeded)
    told.harm.append(
        {
            "at_s": fault.at_s,
            "lasts_s": fault.lasts_s,
            "name": fault.kind.name,
            "where": fault.kind.where,
            "met": what,
        }
    )


def _clear_up(chaos: ChaosStack) -> None:
    for relay in chaos.relays.values():
        relay.weather = Weather()
    chaos.s3.temper = Temper()


async def _listen(docks: asyncio.subprocess.Process, order: Order, told: Told) -> None:
    while True:
        said = await _read(docks)
        if "final" in said:
            told.last, told.errors = said["final"], said["errors"]
            return
        told.last = said
        order.tell("docks", said)


async def _write(docks: asyncio.subprocess.Process, line: str) -> None:
    if docks.stdin is None:
        message = "the docks have no standard input"
        raise DocksFailed(message)
    docks.stdin.write(line.encode() + b"\n")
    await docks.stdin.drain()


async def _read(docks: asyncio.subprocess.Process) -> dict[str, Any]:
    line = b"" if docks.stdout is None else await docks.stdout.readline()
    if not line:
        message = f"the docks ended before their time, with status {await docks.wait()}"
        raise DocksFailed(message)
    said: dict[str, Any] = json.loads(line)
    return said


def _describe(
    order: Order,
    chaos: ChaosStack,
    told: Told,
    lines: list[Line],
    figures: dict[str, Any],
    before: Memory,
    began_at: datetime,
) -> dict[str, Any]:
    return {
        "scenario": "chaos",
        "at": began_at.isoformat(timespec="seconds"),
        "command": " ".join(["python -m loadtest.chaos", *sys.argv[1:]]),
        "machine": describe_machine(),
        "run": order.run,
        "seed": order.seed,
        "minutes": order.seconds / 60,
        "docks": order.docks,
        "herd": order.herd,
        "has_standby": order.has_replica,
        "planted": order.plant,
        "verdict": "met" if all(line.is_met for line in lines) else "missed",
        "lines": [asdict(line) | {"is_met": line.is_met} for line in lines],
        "figures": figures | {"held_before": dict(before.held)},
        "told_by_docks": told.last,
        "errors_of_docks": told.errors,
        "faults": told.harm,
        "links": {name: dict(relay.counts) for name, relay in chaos.relays.items()},
    }
