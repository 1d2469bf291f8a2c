"""The measured runs: big clips, one clip in parallel, small clips three ways, many at once."""

import asyncio
import hashlib
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, Literal, TypeVar, get_args

import psutil

from loadtest.dock_wire import (
    ClipOnWire,
    Refused,
    announce,
    create_whole,
    make_clip,
    make_unsealed_clip,
    seal,
    send_chunk,
    wait_for_release,
)
from loadtest.footage import PATTERN, PATTERN_BYTES
from loadtest.link import Link, open_link
from loadtest.own_stack import Stack

GIB: Final = 1024**3
MIB: Final = 1024**2
ROLES: Final = ("serve", "work", "postgres", "null_s3")
_RSS_INTERVAL_S: Final = 0.05
_MANY_APART_S: Final = 0.01
# 3 Mbit/s: 540 docks send as much as one worker carries.
_MANY_BYTES_S: Final = 400_000
_RELEASE_TIMEOUT_S: Final = 300.0

_T = TypeVar("_T")
Advance = Callable[[int], None]
SmallWay = Literal["small", "pair", "whole"]
SMALL_WAYS: Final = get_args(SmallWay)
Sealed = tuple[ClipOnWire, str]


@dataclass(slots=True)
class Measured:
    """One run.

    cpu_s           by role, while the clips were sent and sealed
    work_cpu_s      of the jobs until every clip was read back and released
    foreign_cpu_s   of everything else on this machine, meanwhile
    hashlib_cpu_s_per_gib  SHA-256 alone, mean of right before and right after the run
    """

    name: str
    clips: int
    sent_bytes: int
    wall_s: float = 0.0
    cpu_s: dict[str, float] = field(default_factory=dict)
    work_cpu_s: float | None = None
    foreign_cpu_s: float = 0.0
    rss_before_bytes: int = 0
    rss_max_bytes: int = 0
    hashlib_cpu_s_per_gib: float = 0.0

    @property
    def gib(self) -> float:
        """How much was sent."""
        return self.sent_bytes / GIB

    @property
    def is_noisy(self) -> bool:
        """Whether others used so much of the machine that the figures are not to be trusted."""
        return self.foreign_cpu_s > 0.3 + 0.15 * self.wall_s


def measure_hashlib(total_bytes: int = GIB) -> float:
    """Return the CPU-seconds per GiB that hashlib's SHA-256 alone takes for so many bytes."""
    view = memoryview(PATTERN)
    digest = hashlib.sha256()
    began = time.process_time()
    for offset in range(0, total_bytes, PATTERN_BYTES):
        digest.update(view[: min(PATTERN_BYTES, total_bytes - offset)])
    return (time.process_time() - began) * GIB / total_bytes


async def run_big(
    stack: Stack, run: str, total_bytes: int, advance: Advance, name: str = "big"
) -> Measured:
    """Send clips of equal size over 8 connections, each its own, in order."""
    size_bytes = total_bytes // 8 // PATTERN_BYTES * PATTERN_BYTES
    clips = [make_clip(f"{run}-{name}", number, size_bytes) for number in range(8)]
    measured = Measured(name, len(clips), sum(clip.size_bytes for clip in clips))
    links = await open_links(stack, len(clips))
    sealed: list[Sealed] = []

    async def send(link: Link, clip: ClipOnWire) -> None:
        path = await announce(link, stack.wire, clip)
        for index in range(clip.chunk_count):
            await send_chunk(link, stack.wire, clip, path, index)
            advance(clip.chunk_bytes(index))
        await seal(link, stack.wire, path)
        sealed.append((clip, path))

    async def send_all() -> None:
        async with asyncio.TaskGroup() as group:
            for link, clip in zip(links, clips, strict=True):
                group.create_task(send(link, clip))

    await measure_run(stack, measured, send_all, links, sealed)
    return measured


async def run_parallel(stack: Stack, run: str, total_bytes: int, advance: Advance) -> Measured:
    """Send one clip over 8 connections at once, so that its chunks come out of order."""
    clip = make_clip(f"{run}-parallel", 0, total_bytes)
    measured = Measured("parallel", 1, clip.size_bytes)
    links = await open_links(stack, 8)
    sealed: list[Sealed] = []

    async def send(link: Link, path: str, indices: Iterator[int]) -> None:
        for index in indices:
            await send_chunk(link, stack.wire, clip, path, index)
            advance(clip.chunk_bytes(index))

    async def send_all() -> None:
        path = await announce(links[0], stack.wire, clip)
        indices = iter(range(clip.chunk_count))
        async with asyncio.TaskGroup() as group:
            for link in links:
                group.create_task(send(link, path, indices))
        await seal(links[0], stack.wire, path)
        sealed.append((clip, path))

    await measure_run(stack, measured, send_all, links, sealed)
    return measured


async def run_small(
    stack: Stack, run: str, clip_count: int, connections: int, advance: Advance, name: SmallWay
) -> Measured:
    """Send clips of 256 KiB, one after the other on every connection.

    small  announce, chunk, seal. pair: announce, chunk that seals. whole: one request (tus).
    """
    clips = [make_clip(f"{run}-{name}", number, 256 * 1024) for number in range(clip_count)]
    measured = Measured(name, clip_count, sum(clip.size_bytes for clip in clips))
    links = await open_links(stack, connections)
    waiting = iter(clips)
    sealed: list[Sealed] = []

    async def send(link: Link) -> None:
        for clip in waiting:
            if name == "whole":
                path = await create_whole(link, stack.wire, clip)
            else:
                path = await announce(link, stack.wire, clip)
                await send_chunk(link, stack.wire, clip, path, 0, seals=name == "pair")
            if name == "small":
                await seal(link, stack.wire, path)
            sealed.append((clip, path))
            advance(1)

    async def send_all() -> None:
        async with asyncio.TaskGroup() as group:
            for link in links:
                group.create_task(send(link))

    await measure_run(stack, measured, send_all, links, sealed)
    return measured


async def run_many(stack: Stack, run: str, clip_count: int, advance: Advance) -> Measured:
    """Have so many clips of 4 GiB come in at once: memory is what is asked.

    Each dock sends one chunk at its uplink's speed, so that all are in work together. So many
    come that some are told to come again: that is waited for, as docks do.
    """
    clips = [make_unsealed_clip(f"{run}-many", number, 4 * GIB) for number in range(clip_count)]
    measured = Measured("many", 0, sum(clip.chunk_bytes(0) for clip in clips))
    all_announced = asyncio.Barrier(clip_count)
    sending = 0

    async def send(clip: ClipOnWire) -> None:
        nonlocal sending
        path = await _let_in(stack, lambda link: announce(link, stack.wire, clip))
        await all_announced.wait()
        await asyncio.sleep(clip.number * _MANY_APART_S)
        sending += 1
        measured.clips = max(measured.clips, sending)
        await _let_in(
            stack,
            lambda link: send_chunk(link, stack.wire, clip, path, 0, bytes_per_s=_MANY_BYTES_S),
        )
        sending -= 1
        advance(clip.chunk_bytes(0))

    async def send_all() -> None:
        async with asyncio.TaskGroup() as group:
            for clip in clips:
                group.create_task(send(clip))

    await measure_run(stack, measured, send_all, [], [])
    return measured


async def _let_in(stack: Stack, ask: Callable[[Link], Awaitable[_T]]) -> _T:
    """Ask on a connection of its own until there is room."""
    while True:
        (link,) = await open_links(stack, 1)
        try:
            return await ask(link)
        except Refused as refused:
            if refused.answer.status != HTTPStatus.SERVICE_UNAVAILABLE:
                raise
            after_s = float(refused.answer.find_field("Retry-After") or 1)
            await asyncio.sleep(after_s * random.uniform(1.0, 1.25))
        finally:
            link.close()


async def open_links(stack: Stack, count: int) -> list[Link]:
    """Connect so often to the API."""
    return [await open_link(stack.wire.host, stack.wire.port) for _ in range(count)]


async def measure_run(
    stack: Stack,
    measured: Measured,
    send_all: Callable[[], Awaitable[None]],
    links: Sequence[Link],
    sealed: Sequence[Sealed],
) -> None:
    """Run, watching CPU and memory; then wait until every clip is released with its own hash."""
    work_before_s = stack.cpu_s("work")
    measured.rss_before_bytes = stack.rss_bytes("serve")
    watching = asyncio.create_task(_watch_memory(stack, measured))
    with _metered(stack, measured):
        await send_all()
    watching.cancel()
    if sealed:
        async with asyncio.timeout(_RELEASE_TIMEOUT_S):
            for clip, path in sealed:
                await wait_for_release(links[0], stack.wire, clip, path)
        measured.work_cpu_s = stack.cpu_s("work") - work_before_s
    for link in links:
        link.close()


@contextmanager
def _metered(stack: Stack, measured: Measured) -> Iterator[None]:
    before = {role: stack.cpu_s(role) for role in ROLES}
    own_before, busy_before, began = time.process_time(), _busy_s(), time.perf_counter()
    yield
    measured.wall_s = time.perf_counter() - began
    measured.cpu_s = {role: stack.cpu_s(role) - before[role] for role in ROLES}
    measured.cpu_s["generator"] = time.process_time() - own_before
    measured.foreign_cpu_s = max(_busy_s() - busy_before - sum(measured.cpu_s.values()), 0.0)


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + getattr(times, "softirq", 0.0))


async def _watch_memory(stack: Stack, measured: Measured) -> None:
    while True:
        measured.rss_max_bytes = max(measured.rss_max_bytes, stack.rss_bytes("serve"))
        await asyncio.sleep(_RSS_INTERVAL_S)
