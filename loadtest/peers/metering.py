"""CPU and memory of process trees around one run, and whether the machine was quiet."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

_INTERVAL_S: Final = 0.1
_BLOCK_BYTES: Final = 8 * 1024 * 1024


@dataclass(slots=True)
class Measured:
    """What one run took.

    cpu_s          user and system, by role
    foreign_cpu_s  of everything else on this machine, meanwhile
    rss_max_bytes  the most that the server's processes held
    """

    wall_s: float = 0.0
    cpu_s: dict[str, float] = field(default_factory=dict)
    foreign_cpu_s: float = 0.0
    rss_max_bytes: int = 0

    @property
    def is_noisy(self) -> bool:
        """Whether others used so much of the machine that the run is to be repeated."""
        return self.foreign_cpu_s > 0.3 + 0.15 * self.wall_s


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process, its children, and the children that have ended."""
    used_s = 0.0
    for process in _tree(pid):
        times = process.cpu_times()
        used_s += times.user + times.system + times.children_user + times.children_system
    return used_s


def rss_bytes(pid: int) -> int:
    """Return the memory that a process and its children hold now."""
    return sum(process.memory_info().rss for process in _tree(pid))


def _tree(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


@asynccontextmanager
async def metered(pids: Mapping[str, int]) -> AsyncIterator[Measured]:
    """Measure what happens inside.

    pids  by role; the memory of the role 'server' is watched
    """
    measured = Measured()
    watching = asyncio.create_task(_watch(pids["server"], measured))
    before = {role: cpu_s(pid) for role, pid in pids.items()}
    own_before, busy_before, began = time.process_time(), _busy_s(), time.perf_counter()
    try:
        yield measured
    finally:
        measured.wall_s = time.perf_counter() - began
        measured.cpu_s = {role: cpu_s(pid) - before[role] for role, pid in pids.items()}
        measured.cpu_s["generator"] = time.process_time() - own_before
        known_s = sum(measured.cpu_s.values())
        measured.foreign_cpu_s = max(_busy_s() - busy_before - known_s, 0.0)
        watching.cancel()


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + getattr(times, "softirq", 0.0))


async def _watch(pid: int, measured: Measured) -> None:
    while True:
        measured.rss_max_bytes = max(measured.rss_max_bytes, rss_bytes(pid))
        await asyncio.sleep(_INTERVAL_S)


def prime_page_cache(folder: Path, amount_bytes: int) -> None:
    """Write and read as much as the next run will: memory given back to the host is slow to touch.

    One file, unlinked at the end; many would make the next files slow to create.
    """
    path = folder / "prime"
    block = os.urandom(_BLOCK_BYTES)
    try:
        with path.open("wb") as file:
            for _ in range(max(1, amount_bytes // _BLOCK_BYTES)):
                file.write(block)
        with path.open("rb") as file:
            while file.read(_BLOCK_BYTES):
                pass
    finally:
        path.unlink(missing_ok=True)
