"""What the upload path costs: CPU per GiB, small clips a second, memory. `make bench`.

The real API process, real Postgres, jobs and custody on, against an S3 that costs nothing
(loadtest/null_s3.py); then the custody log (loadtest/bench_log.py). Prints goal and verdict;
exits 1 if a goal is missed.

    python -m loadtest.bench [--big-gib 4] [--only big small] [--write-docs]
"""

import argparse
import asyncio
import dataclasses
import secrets
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, Literal

import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from loadtest.bench_log import LogFailed, measure_log
from loadtest.bench_report import Report
from loadtest.bench_runs import (
    GIB,
    MIB,
    SMALL_WAYS,
    Advance,
    Measured,
    measure_hashlib,
    run_big,
    run_many,
    run_parallel,
    run_small,
)
from loadtest.bench_tus import TUS_WAYS, run_head, run_tus
from loadtest.dock_wire import Refused
from loadtest.link import LinkBroken
from loadtest.own_stack import Stack, StackFailed, running_stack

RESULTS: Final = Path(__file__).parent / "results"
RUNS: Final = ("big", *TUS_WAYS, "parallel", *SMALL_WAYS, "head", "many")
# On the real store: the way through it, not the cost of the service.
STORE_RUN: Final = "store"
# The custody log has figures of its own: loadtest/bench_log.py.
LOG_RUN: Final = "log"
# So many uploads at once are the design peak (docs/capacity.md, S1).
MANY_CLIPS: Final = 540
_SIZE_OF: Final = {"parallel": "parallel_gib", STORE_RUN: "store_gib"}


def parse_arguments() -> argparse.Namespace:
    """Return what to measure."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--big-gib", type=float, default=4.0, help="8 clips, in all (default 4)")
    parser.add_argument("--parallel-gib", type=float, default=2.0, help="one clip (default 2)")
    parser.add_argument("--small-clips", type=int, default=3000, help="of 256 KiB (default 3000)")
    parser.add_argument("--small-connections", type=int, default=16, help="(default 16)")
    parser.add_argument("--heads", type=int, default=20_000, help="(default 20000)")
    parser.add_argument("--store-gib", type=float, default=2.0, help="8 clips (default 2)")
    parser.add_argument("--tries", type=int, default=2, help="of a noisy run (default 2)")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=(*RUNS, STORE_RUN, LOG_RUN),
        default=(*RUNS, STORE_RUN, LOG_RUN),
        help="default: all",
    )
    parser.add_argument("--write-docs", action="store_true", help="table in docs/performance.md")
    return parser.parse_args()


class Bench:
    """Makes the runs, one after the other, and tells how far they are."""

    def __init__(self, stack: Stack, arguments: argparse.Namespace, console: Console) -> None:
        self._stack = stack
        self._arguments = arguments
        self._console = console
        self._run = secrets.token_hex(4)

    async def make(self, name: str) -> Measured:
        """Make one run; again if others disturbed it."""
        for attempt in range(1, self._arguments.tries + 1):
            before = measure_hashlib()
            measured = await self._make_once(name, f"{self._run}-{attempt}")
            measured.hashlib_cpu_s_per_gib = (before + measure_hashlib()) / 2
            if not measured.is_noisy:
                break
            self._console.print(f"{name}: noisy, others used {measured.foreign_cpu_s:.1f} CPU-s")
        return measured

    async def _make_once(self, name: str, run: str) -> Measured:
        asked, stack = self._arguments, self._stack
        connections = asked.small_connections
        total = int(getattr(asked, _SIZE_OF.get(name, "big_gib")) * GIB)
        ways: dict[str, tuple[int, Callable[[Advance], Awaitable[Measured]]]] = {
            "big": (total, lambda go: run_big(stack, run, total, go)),
            STORE_RUN: (total, lambda go: run_big(stack, run, total, go, name)),
            "parallel": (total, lambda go: run_parallel(stack, run, total, go)),
            "many": (MANY_CLIPS * 8 * MIB, lambda go: run_many(stack, run, MANY_CLIPS, go)),
            "head": (
                asked.heads,
                lambda go: run_head(stack, run, asked.heads, connections, go),
            ),
            **{
                way: (total, lambda go, way=way: run_tus(stack, run, total, go, way))  # type: ignore[misc]
                for way in TUS_WAYS
            },
            **{
                way: (
                    asked.small_clips,
                    lambda go, way=way: run_small(  # type: ignore[misc]
                        stack, run, asked.small_clips, connections, go, way
                    ),
                )
                for way in SMALL_WAYS
            },
        }
        amount, way = ways[name]
        return await self._show(name, amount, way)

    async def _show(
        self, name: str, total: int, run: Callable[[Advance], Awaitable[Measured]]
    ) -> Measured:
        if not self._console.is_terminal:
            self._console.print(f"{name} ...")
            return await run(lambda _amount: None)
        columns = (TextColumn("{task.description:>9}"), BarColumn(), TimeElapsedColumn())
        # Few refreshes: the bar shares the machine with what is measured.
        with Progress(*columns, console=self._console, refresh_per_second=4) as progress:
            task = progress.add_task(name, total=total)
            return await run(lambda amount: progress.advance(task, amount))


async def measure(
    stack: Stack, names: Sequence[str], arguments: argparse.Namespace, console: Console
) -> dict[str, Measured]:
    """Make runs, one after the other."""
    # The first bytes through new processes cost more: memory is touched, statements are prepared.
    await run_big(stack, f"warm-{secrets.token_hex(4)}", GIB, lambda _amount: None)
    bench = Bench(stack, arguments, console)
    return {name: await bench.make(name) for name in names}


def measure_on(
    store: Literal["null", "embedded"],
    names: Sequence[str],
    arguments: argparse.Namespace,
    console: Console,
) -> dict[str, Measured]:
    """Start the service on a store, make the runs that were asked for, and stop it.

    Raises:
        StackFailed: it did not start, or refused what it was sent.
    """
    wanted = set(arguments.only)
    if wanted & set(TUS_WAYS):
        wanted.add("big")  # what they are compared with
    asked = [name for name in names if name in wanted]
    if not asked:
        return {}
    told = "null S3" if store == "null" else "SeaweedFS"
    console.print(f"starting Postgres, {told}, one API process, jobs ...")
    with (
        tempfile.TemporaryDirectory(prefix="ingest-bench-") as folder,
        running_stack(Path(folder), store=store) as stack,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        if store == "embedded":
            # Metered as the store.
            measured_stack = dataclasses.replace(
                stack, pids={**stack.pids, "null_s3": stack.pids["seaweed"]}
            )
        else:
            measured_stack = stack
        try:
            return runner.run(measure(measured_stack, asked, arguments, console))
        except* (Refused, LinkBroken, TimeoutError) as group:
            errors = [str(error) for error in group.exceptions] + stack.last_errors()
            raise StackFailed("\n".join(errors)) from None


def main() -> int:
    """Measure, print, and return 1 if a goal was missed, 2 if nothing could be measured."""
    arguments = parse_arguments()
    console = Console(highlight=False, soft_wrap=True)
    try:
        runs = measure_on("null", RUNS, arguments, console)
        runs |= measure_on("embedded", (STORE_RUN,), arguments, console)
        log = measure_log(console.print) if LOG_RUN in arguments.only else None
    except (StackFailed, LogFailed) as error:
        console.print(str(error), markup=False)
        return 2
    report = Report(runs, log)
    for line in report.lines():
        console.print(line)
    goals = report.goals()
    for goal in goals:
        console.print(str(goal))
    console.print(f"written: {report.write_json(RESULTS)}")
    if arguments.write_docs:
        report.write_docs()
    return 0 if all(goal.is_met for goal in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
