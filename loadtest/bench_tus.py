"""Measured runs of the tus surface: big clips by two ways of sending, and the question HEAD."""

import asyncio
from typing import Final, Literal, get_args

from loadtest.bench_runs import Advance, Measured, Sealed, measure_run, open_links
from loadtest.dock_wire import ClipOnWire, Refused, append_tus, make_clip, open_tus
from loadtest.footage import PATTERN_BYTES
from loadtest.link import Link
from loadtest.own_stack import Stack

TusWay = Literal["tus", "tusone"]
TUS_WAYS: Final = get_args(TusWay)
_STATUS_OK: Final = 200
_CONNECTIONS: Final = 8


async def run_tus(
    stack: Stack, run: str, total_bytes: int, advance: Advance, name: TusWay
) -> Measured:
    """Send what `run_big` sends natively: the same clips over as many connections.

    tus  a PATCH per 8 MiB. tusone: one PATCH for the whole clip.
    """
    size_bytes = total_bytes // _CONNECTIONS // PATTERN_BYTES * PATTERN_BYTES
    clips = [make_clip(f"{run}-{name}", number, size_bytes) for number in range(_CONNECTIONS)]
    measured = Measured(name, len(clips), sum(clip.size_bytes for clip in clips))
    links = await open_links(stack, len(clips))
    sealed: list[Sealed] = []

    async def send(link: Link, clip: ClipOnWire) -> None:
        upload_path, path = await open_tus(link, stack.wire, clip)
        step = clip.chunk_count if name == "tusone" else 1
        for index in range(0, clip.chunk_count, step):
            await append_tus(link, stack.wire, clip, upload_path, index, step)
            advance(step * PATTERN_BYTES)
        sealed.append((clip, path))

    async def send_all() -> None:
        async with asyncio.TaskGroup() as group:
            for link, clip in zip(links, clips, strict=True):
                group.create_task(send(link, clip))

    await measure_run(stack, measured, send_all, links, sealed)
    return measured


async def run_head(
    stack: Stack, run: str, count: int, connections: int, advance: Advance
) -> Measured:
    """Ask open uploads for their offset, one question after the other on every connection."""
    measured = Measured("head", count, 0)
    links = await open_links(stack, connections)
    clips = [make_clip(f"{run}-head", number, PATTERN_BYTES) for number in range(connections)]
    paths = [
        (await open_tus(link, stack.wire, clip))[0] for link, clip in zip(links, clips, strict=True)
    ]
    numbers = iter(range(count))

    async def ask(link: Link, path: str) -> None:
        question = stack.wire.head("HEAD", path, 0, "Tus-Resumable: 1.0.0\r\n")
        for _ in numbers:
            answer = await link.ask(question)
            if answer.status != _STATUS_OK or answer.find_field("upload-offset") != "0":
                raise Refused(step="head", answer=answer)
            advance(1)

    async def ask_all() -> None:
        async with asyncio.TaskGroup() as group:
            for link, path in zip(links, paths, strict=True):
                group.create_task(ask(link, path))

    await measure_run(stack, measured, ask_all, links, [])
    return measured
