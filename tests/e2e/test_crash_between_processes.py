"""Two API processes on one ledger: what one holds, the other can take over."""

import asyncio
import os
import signal
import time

import pytest

from tests.e2e.honest_dock import TusDock, make_recording
from tests.e2e.stage import PART_BYTES, Stage

pytestmark = [pytest.mark.e2e, pytest.mark.s3]

ARRIVES_WITHIN_S = 0.5
ANSWER_TIMEOUT_S = 30


async def test_a_stalled_sender_is_overtaken_through_another_process(stage: Stage):
    first, second = await stage.start(), await stage.start()
    dock = TusDock(make_recording(2_000_000))
    async with stage.dial(first) as at_first, stage.dial(second) as at_second:
        await dock.open(at_first)
        reader, writer = await dock.stall(at_first, dock.recording.content, 1_000_000)
        await asyncio.sleep(ARRIVES_WITHIN_S)

        asked_at = time.monotonic()
        offset = await dock.ask_offset(at_second)
        took_s = time.monotonic() - asked_at
        answer = await read_answer(reader)
        writer.close()
        await dock.bring_in(at_second)

        assert offset == 1_000_000, "what the first process had in memory was not kept"
        assert took_s < 1
        assert b" 204 " not in answer
        await stage.secure(dock)
        await stage.judge(dock, at_second)


async def test_a_process_that_comes_back_from_a_stop_changes_nothing(stage: Stage):
    first, second = await stage.start(), await stage.start()
    dock = TusDock(make_recording(2 * PART_BYTES + 1_000_000))
    content = dock.recording.content
    async with stage.dial(first) as at_first, stage.dial(second) as at_second:
        await dock.open(at_first)
        reader, writer = await dock.stall(at_first, content, PART_BYTES + 1_000_000)
        await until_offset(stage, dock, PART_BYTES)
        os.kill(first.said()["pid"], signal.SIGSTOP)

        asked_at = time.monotonic()
        offset = await dock.ask_offset(at_second)
        took_s = time.monotonic() - asked_at
        os.kill(first.said()["pid"], signal.SIGCONT)
        writer.write(content[PART_BYTES + 1_000_000 :])
        answer = await read_answer(reader)
        writer.close()
        offset_after = await dock.ask_offset(at_second)

        assert offset == PART_BYTES
        assert took_s < 1.5
        assert b" 204 " not in answer
        assert offset_after == offset, "an offset moved by itself after it was told"
        await dock.bring_in(at_second)
        await stage.secure(dock)
        await stage.judge(dock, at_second)


async def test_a_stopped_process_wakes_to_a_finished_upload_and_harms_it_not(stage: Stage):
    first, second = await stage.start(), await stage.start()
    dock = TusDock(make_recording(300_000))
    content = dock.recording.content
    async with stage.dial(first) as at_first, stage.dial(second) as at_second:
        await dock.open(at_first)
        reader, writer = await dock.stall(at_first, content, 100_000)
        await asyncio.sleep(ARRIVES_WITHIN_S)
        os.kill(first.said()["pid"], signal.SIGSTOP)
        # All of the body waits in the socket of the stopped process.
        writer.write(bytes(200_000))
        await dock.bring_in(at_second)

        os.kill(first.said()["pid"], signal.SIGCONT)
        answer = await read_answer(reader)
        writer.close()

        assert b" 204 " not in answer
        await stage.secure(dock)
        await stage.judge(dock, at_second)


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    """Return what the process said to the request that it held, or b'' if it just hung up."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            return await reader.readline()
    except ConnectionError:
        return b""


async def until_offset(stage: Stage, dock: TusDock, offset: int) -> None:
    async with asyncio.timeout(ANSWER_TIMEOUT_S):
        while True:
            (upload,) = await stage.uploads_of(dock)
            if upload["offset_bytes"] == offset:
                return
            await asyncio.sleep(0.02)
