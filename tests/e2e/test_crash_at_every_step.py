"""SIGKILL at every step between two awaits of append and finish; then the dock goes on."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress

import httpx
import pytest

from tests.e2e.honest_dock import Dock, NativeDock, TusDock, make_recording
from tests.e2e.stage import END_TIMEOUT_S, PART_BYTES, Process, Stage

pytestmark = [pytest.mark.e2e, pytest.mark.s3]

LONG_BYTES = 2 * PART_BYTES + 1_234_567
SECOND_BYTES = PART_BYTES + 1_234_567
SHORT_BYTES = 345_678
TWO_AT_ONCE = 2
# Two steps with nothing but a read between them, or nothing at all, leave the same state behind:
# one of them is tried. What is done again and again in the same way is tried the first time and
# the last. CRASH_STEPS=all tries every one.
TRY_ALL = os.environ.get("CRASH_STEPS") == "all"
READS = (
    *("FIND_", "LIST_", "GET_", "READ_", "read", "get_facts"),
    *("SELECT kind, entry_id FROM directory", "SELECT clips.clip_id, clips.state, "),
)

SCENARIOS: dict[str, Callable[[], Dock]] = {
    "native, three chunks": lambda: NativeDock(make_recording(LONG_BYTES)),
    "native, two chunks backwards": lambda: NativeDock(make_recording(SECOND_BYTES), reversed),
    "native, one chunk": lambda: NativeDock(make_recording(SHORT_BYTES)),
    "native, empty": lambda: NativeDock(make_recording(0)),
    "tus, tails joined to parts": lambda: TusDock(
        make_recording(LONG_BYTES),
        # two tails, a part with a rest, a part to its very end, a tail and the short part
        [1_000_003, 1_777_780, PART_BYTES + 300_000, 2 * PART_BYTES, 2 * PART_BYTES + 500_000],
    ),
    "tus, tails merged": lambda: TusDock(
        make_recording(SECOND_BYTES), [100_000, 200_000, 300_001, 400_000, PART_BYTES]
    ),
    "tus, creation with upload": lambda: TusDock(make_recording(SHORT_BYTES), with_upload=True),
    "tus, chunked coding": lambda: TusDock(
        make_recording(SECOND_BYTES), [PART_BYTES + 500_000], is_chunked=True
    ),
    "tus, the dock hangs up": lambda: TusDock(
        make_recording(SHORT_BYTES), [200_000], hang_up_at=150_000
    ),
    "tus, empty": lambda: TusDock(make_recording(0)),
}
RULES = {
    "tus, tails merged": {"ingest_service.actions.append_bytes:TAILS_MAX": 3},
}


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_killed_at_any_step_no_acknowledged_byte_is_lost(stage: Stage, scenario: str):
    survivor = await stage.start()
    rules = RULES.get(scenario)
    whole = await stage.start(rules=rules)
    await bring_in_and_judge(stage, SCENARIOS[scenario](), whole)
    steps = await stop(whole)

    async def die_at(step: int) -> str | None:
        mortal = await stage.start(die_at=step, rules=rules)
        dock = SCENARIOS[scenario]()
        try:
            await go_on_after_death(stage, dock, mortal, survivor)
        except Exception as failed:  # noqa: BLE001 - every step is tried, then all are told
            fate = mortal.said().get("died", steps[step - 1])
            return f"step {step}, {fate}: {type(failed).__name__}: {failed}"
        return None

    failures = await at_every(distinct_steps(whole), die_at)

    assert not failures, "\n".join(failures)


async def test_a_worker_killed_at_any_step_is_replaced_by_the_next(stage: Stage):
    survivor = await stage.start()
    counting = await prepare_for_worker(stage, survivor)
    whole = await stage.start(role="work")
    steps = await whole.hear("steps", END_TIMEOUT_S)
    async with stage.dial(survivor) as http:
        await stage.judge(counting, http)
    failures = []
    for step in distinct_steps(whole):
        dock = await prepare_for_worker(stage, survivor)
        mortal = await stage.start(role="work", die_at=step)
        assert await mortal.hear("ended", END_TIMEOUT_S) == -9

        await stage.let_claims_lapse(dock)
        try:
            await stage.secure(dock)
            async with stage.dial(survivor) as http:
                await stage.judge(dock, http)
        except Exception as failed:  # noqa: BLE001 - as above
            failures.append(f"step {step}, {steps[step - 1]}: {type(failed).__name__}: {failed}")

    assert not failures, "\n".join(failures)


async def go_on_after_death(stage: Stage, dock: Dock, mortal: Process, survivor: Process) -> None:
    # How much of a cut request arrives is up to the network: its way may be a few steps shorter.
    may_survive = getattr(dock, "hang_up_at", None) is not None
    async with stage.dial(mortal) as http:
        try:
            await dock.bring_in(http)
            await stage.secure(dock)
            await stage.ask_receipt(dock, http)
        except (httpx.TransportError, OSError):
            pass
    if may_survive:
        with suppress(ProcessLookupError):
            os.kill(mortal.said()["pid"], signal.SIGKILL)
    assert await mortal.hear("ended", END_TIMEOUT_S) == -9, "this step was never reached"
    await stage.let_claims_lapse(dock)
    if isinstance(dock, TusDock):
        # HEAD answers 423 until the worker has finished what the dead process began to.
        await stage.finish(dock)
    await bring_in_and_judge(stage, dock, survivor)


async def bring_in_and_judge(stage: Stage, dock: Dock, process: Process) -> None:
    async with stage.dial(process) as http:
        await dock.bring_in(http)
        await stage.secure(dock)
        await stage.judge(dock, http)


async def prepare_for_worker(stage: Stage, process: Process) -> Dock:
    """Leave an upload 'finishing' that nobody drives."""
    dock = NativeDock(make_recording(LONG_BYTES))
    async with stage.dial(process) as http:
        await dock.bring_in_unsealed(http)
    await stage.close(dock)
    await stage.let_claims_lapse(dock)
    return dock


def distinct_steps(whole: Process) -> list[int]:
    """Return the numbers of the steps at which a death can leave a state of its own."""
    said = whole.said()
    chosen: list[int] = []
    repeated: dict[tuple[str, str], list[int]] = {}
    before = ""
    for number, name in enumerate(said["steps"], start=1):
        moment, _, call = name.rpartition(" ")
        is_next_breath = moment == "before" and before.startswith("after ")
        is_read = moment != "before" and call.startswith(READS)
        was_answered = number - 1 in said["answers"]
        if TRY_ALL or was_answered or not (is_next_breath or is_read):
            chosen.append(number)
            repeated.setdefault((before, name), []).append(number)
        before = name
    if TRY_ALL:
        return chosen
    return sorted({number for same in repeated.values() for number in (same[0], same[-1])})


async def at_every(steps: list[int], die_at: Callable) -> list[str]:
    slots = asyncio.Semaphore(TWO_AT_ONCE)

    async def take_turn(step: int) -> str | None:
        async with slots:
            return await die_at(step)

    results = await asyncio.gather(*map(take_turn, steps))
    return [result for result in results if result is not None]


async def stop(process: Process) -> list[str]:
    os.kill(process.said()["pid"], signal.SIGUSR1)
    steps: list[str] = await process.hear("steps", END_TIMEOUT_S)
    return steps
