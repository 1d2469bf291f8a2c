"""Measures what a byte and a clip cost on this machine, for the capacity model.

The real service on a null S3, then on the embedded SeaweedFS for what the store costs. Two runs
with different shares of bytes and clips tell the two apart. About two minutes.

    python -m loadtest.capacity.measure [--big-gib 2] [--small-clips 1500]
"""

import argparse
import asyncio
import dataclasses
import secrets
import shlex
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import asyncpg
import uvloop

from loadtest.bench_runs import (
    GIB,
    Measured,
    measure_hashlib,
    run_big,
    run_many,
    run_small,
)
from loadtest.capacity.costs import MEASURED, Costs, save_costs
from loadtest.footage import PATTERN_BYTES
from loadtest.own_stack import Stack, StackFailed, running_stack
from loadtest.peers.report import describe_machine

_IDLE_S: Final = 5.0
_FLUSH_S: Final = 2.0  # Postgres adds its counters up with a delay
_BIG_CLIPS: Final = 8
_MANY_UPLOADS: Final = 64
_LOOK: Final = """
    SELECT (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()),
           pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint,
           pg_database_size(current_database()),
           (SELECT count(*) FROM custody_events)
"""


@dataclass(frozen=True, slots=True)
class Look:
    """Counters at one moment."""

    at_s: float
    postgres_s: float
    jobs_s: float
    transactions: int
    wal_bytes: int
    ledger_bytes: int
    events: int


def _less(after: Look, before: Look) -> dict[str, float]:
    names = [each.name for each in dataclasses.fields(Look)]
    return {name: getattr(after, name) - getattr(before, name) for name in names}


async def _look(stack: Stack) -> Look:
    await asyncio.sleep(_FLUSH_S)
    connection = await asyncpg.connect(stack.facts["database_owner_url"])
    try:
        row = await connection.fetchrow(_LOOK)
    finally:
        await connection.close()
    if row is None:
        message = "the ledger did not answer"
        raise StackFailed(message)
    return Look(time.monotonic(), stack.cpu_s("postgres"), stack.cpu_s("work"), *row)


@dataclass(frozen=True, slots=True)
class Run:
    """One run: what the bench saw, and what the counters gained beyond idling."""

    seen: Measured
    gained: dict[str, float]

    @property
    def chunks(self) -> int:
        """Chunks of 8 MiB or the last one of a clip."""
        size_bytes = self.seen.sent_bytes // self.seen.clips
        return self.seen.clips * -(-size_bytes // PATTERN_BYTES)


Size = tuple[float, float]


def split(big: float, small: float, of_big: Size, of_small: Size) -> tuple[float, float]:
    """Return (per unit, per clip) from two runs' totals.

    of_*  units (chunks or GiB) and clips of the run; neither result is below zero
    """
    (units_big, clips_big), (units_small, clips_small) = of_big, of_small
    # Two equations, one a run: the total is what its units cost and what its clips cost.
    determinant = units_big * clips_small - units_small * clips_big
    per_unit = (big * clips_small - small * clips_big) / determinant
    per_unit = max(per_unit, 0.0)
    return per_unit, max((small - units_small * per_unit) / clips_small, 0.0)


async def measure(stack: Stack, big_gib: float, small_clips: int) -> dict[str, float]:
    """Measure API, jobs, ledger and memory on the null S3."""
    before = await _look(stack)
    await asyncio.sleep(_IDLE_S)
    idle = _less(await _look(stack), before)
    run = secrets.token_hex(4)
    await run_small(stack, f"{run}-warm", 100, 16, lambda _amount: None, "small")

    async def make(name: str) -> Run:
        began = await _look(stack)
        if name == "big":
            seen = await run_big(stack, run, int(big_gib * GIB), lambda _amount: None)
        else:
            seen = await run_small(stack, run, small_clips, 16, lambda _amount: None, "small")
        gained = _less(await _look(stack), began)
        return Run(
            seen, {k: v - idle[k] * gained["at_s"] / idle["at_s"] for k, v in gained.items()}
        )

    big, small = await make("big"), await make("small")
    many = await run_many(stack, run, _MANY_UPLOADS, lambda _amount: None)
    gib = (big.seen.gib, big.seen.clips), (small.seen.gib, small.seen.clips)
    chunks = (big.chunks, big.seen.clips), (small.chunks, small.seen.clips)
    found: dict[str, float] = {"hashlib_s_per_gib": measure_hashlib(GIB)}

    def tell(name: str, unit: str, totals: Size, of: tuple[Size, Size]) -> None:
        found[f"{name}_per_{unit}"], found[f"{name}_per_clip"] = split(*totals, *of)

    tell("api_s", "gib", (big.seen.cpu_s["serve"], small.seen.cpu_s["serve"]), gib)
    tell("jobs_s", "gib", (big.gained["jobs_s"], small.gained["jobs_s"]), gib)
    for name in ("postgres_s", "transactions", "wal_bytes"):
        tell(name, "chunk", (big.gained[name], small.gained[name]), chunks)
    found["ledger_bytes_per_clip"] = max(small.gained["ledger_bytes"] / small.seen.clips, 0.0)
    found["events_per_clip"] = small.gained["events"] / small.seen.clips
    found["api_base_mib"] = many.rss_before_bytes / 1024**2
    grown = max(many.rss_max_bytes - many.rss_before_bytes, 0)
    found["api_mib_per_upload"] = grown / 1024**2 / _MANY_UPLOADS
    return found


async def measure_store(stack: Stack, big_gib: float, small_clips: int) -> dict[str, float]:
    """Measure what SeaweedFS itself takes to store clips and to give them back once."""
    seaweed = dataclasses.replace(stack, pids={**stack.pids, "null_s3": stack.pids["seaweed"]})
    run = secrets.token_hex(4)
    totals, sizes = [], []
    for name in ("big", "small"):
        before_s = stack.cpu_s("seaweed")
        if name == "big":
            seen = await run_big(seaweed, run, int(big_gib * GIB), lambda _amount: None)
        else:
            seen = await run_small(seaweed, run, small_clips, 16, lambda _amount: None, "small")
        totals.append(stack.cpu_s("seaweed") - before_s)
        sizes.append((seen.gib, float(seen.clips)))
    per_gib, per_clip = split(totals[0], totals[1], sizes[0], sizes[1])
    return {"store_s_per_gib": per_gib, "store_s_per_clip": per_clip}


def main() -> int:
    """Measure and write loadtest/capacity/measured.toml."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.capacity.measure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--big-gib", type=float, default=2.0, help="8 clips, in all (default 2)")
    parser.add_argument("--small-clips", type=int, default=1500, help="256 KiB (default 1500)")
    parser.add_argument("--output", type=Path, default=MEASURED)
    asked = parser.parse_args()
    found: dict[str, float] = {}
    stores: tuple[Literal["null", "embedded"], ...] = ("null", "embedded")
    try:
        for store in stores:
            print(f"measuring on {store} S3 ...", flush=True)
            with (
                tempfile.TemporaryDirectory(prefix="ingest-measure-") as folder,
                running_stack(Path(folder), store=store) as stack,
                asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
            ):
                if store == "null":
                    found |= runner.run(measure(stack, asked.big_gib, asked.small_clips))
                else:
                    small_clips = max(asked.small_clips // 3, 1)
                    found |= runner.run(measure_store(stack, asked.big_gib / 2, small_clips))
    except StackFailed as error:
        print(error)
        return 2
    command = shlex.join(["python", "-m", "loadtest.capacity.measure", *sys.argv[1:]])
    costs = Costs(describe_machine(), f"{datetime.now(UTC):%Y-%m-%d}", command, **found)
    save_costs(costs, asked.output)
    print(asked.output.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
