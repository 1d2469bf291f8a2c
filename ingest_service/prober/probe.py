"""Have one clip looked into by a process of its own, which gets its bytes from here."""

import asyncio
import json
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from ingest_service.errors import VaultUnavailable
from ingest_service.prober.ranges import Ranges, ReadRange

_ROOT: Final = Path(__file__).parents[2]
_START: Final = (
    f"import sys; sys.path.insert(0, {str(_ROOT)!r}); "
    "from ingest_service.prober.child import main; main()"
)
# Only where the libraries are; nothing of what the service was told.
_KEPT_VARIABLES: Final = ("LD_LIBRARY_PATH", "SYSTEMROOT")
_LINE_BYTES_MAX: Final = 64 * 1024
_READ_BYTES_MAX: Final = 1024 * 1024
_START_TIMEOUT_S: Final = 60.0
_END_TIMEOUT_S: Final = 5.0


_P = TypeVar("_P")


class ProberBroken(Exception):
    """The child did not even begin: this installation cannot probe. It says nothing of the clip."""


@dataclass(frozen=True, slots=True)
class ProbeLimits:
    """What one clip may cost.

    timeout_s        of the parser; what the store takes is counted apart
    store_timeout_s  of all reading from the store
    bytes_max        read from the store
    """

    timeout_s: float = 20.0
    store_timeout_s: float = 60.0
    bytes_max: int = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Probed:
    """What came of it.

    report      as the child sent it: whoever uses it must not trust its form; None without one
    flag        why the child did not do it all; None = it did
    parser      name and version of the library
    """

    report: dict[str, Any] | None
    flag: str | None
    parser: str
    bytes_read: int


async def probe(size_bytes: int, read_range: ReadRange, limits: ProbeLimits) -> Probed:
    """Look into a clip of so many bytes.

    Whatever the clip does to the child, an answer comes within the limits.

    Raises:
        VaultUnavailable: the store took too long; and whatever `read_range` raises.
        ProberBroken: the child did not start.
    """
    ranges = Ranges(read_range, size_bytes, bytes_max=limits.bytes_max)
    async with _running(size_bytes, limits) as process:
        talk = _Talk(process, ranges, limits)
        parser = await talk.hear_ready()
        report: dict[str, Any] | None = None
        flag = None
        try:
            report = await talk.serve()
        except _ChildTooSlow:
            flag = "probe_timed_out"
        except _ChildFailed:
            flag = "probe_crashed"
        if ranges.was_exhausted:
            flag = "probe_bytes_exceeded"
        return Probed(report, flag, parser, ranges.bytes_read)


class _ChildTooSlow(Exception):
    """The child has used up its time."""


class _ChildFailed(Exception):
    """The child died, or says what is no word of the protocol."""


@asynccontextmanager
async def _running(size_bytes: int, limits: ProbeLimits) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        # Isolated: neither the working directory nor PYTHON* variables change what it imports.
        "-I",
        "-B",
        "-c",
        _START,
        str(size_bytes),
        str(max(1, round(limits.timeout_s))),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
        limit=_LINE_BYTES_MAX,
        # A group of its own, so that what it may have started ends with it.
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(TimeoutError):
            async with asyncio.timeout(_END_TIMEOUT_S):
                # asyncio tells of the end only when all that was said has been heard.
                while await _pipe(process.stdout).read(_LINE_BYTES_MAX):
                    pass
                await process.wait()


class _Talk:
    """The conversation with one child; see `child`."""

    def __init__(self, process: Process, ranges: Ranges, limits: ProbeLimits) -> None:
        self._process = process
        self._ranges = ranges
        self._left_s = limits.timeout_s
        self._store_left_s = limits.store_timeout_s

    async def hear_ready(self) -> str:
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                word, rest = await self._hear_line()
        except (TimeoutError, _ChildFailed) as error:
            message = "the process that looks into footage does not start"
            raise ProberBroken(message) from error
        if word != "ready":
            message = f"the process that looks into footage begins with {word!r}"
            raise ProberBroken(message)
        return rest[:100]

    async def serve(self) -> dict[str, Any]:
        """Hand out bytes until the report comes."""
        while True:
            word, rest = await self._hear()
            if word == "done":
                return _parse_report(rest)
            if word != "read":
                raise _ChildFailed
            offset, length = _parse_request(rest)
            await self._answer(await self._read(offset, length))

    async def _hear(self) -> tuple[str, str]:
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._left_s):
                return await self._hear_line()
        except TimeoutError as error:
            raise _ChildTooSlow from error
        finally:
            self._left_s -= time.monotonic() - began

    async def _hear_line(self) -> tuple[str, str]:
        try:
            line = await _pipe(self._process.stdout).readuntil(b"\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError) as error:
            raise _ChildFailed from error
        word, _, rest = line.decode("ascii", "replace").rstrip("\n").partition(" ")
        return word, rest

    async def _read(self, offset: int, length: int) -> bytes:
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._store_left_s) as clock:
                return await self._ranges.read(offset, min(length, _READ_BYTES_MAX))
        except TimeoutError as error:
            if not clock.expired():
                raise
            reason = "reading a clip's headers took too long"
            raise VaultUnavailable(reason) from error
        finally:
            self._store_left_s -= time.monotonic() - began

    async def _answer(self, data: bytes) -> None:
        began = time.monotonic()
        pipe = _pipe(self._process.stdin)
        try:
            async with asyncio.timeout(self._left_s):
                pipe.write(len(data).to_bytes(4, "big") + data)
                await pipe.drain()
        except TimeoutError as error:
            raise _ChildTooSlow from error
        except OSError as error:
            raise _ChildFailed from error
        finally:
            self._left_s -= time.monotonic() - began


def _pipe(pipe: _P | None) -> _P:
    if pipe is None:
        raise _ChildFailed
    return pipe


def _parse_request(rest: str) -> tuple[int, int]:
    try:
        offset, length = map(int, rest.split(" "))
    except ValueError as error:
        raise _ChildFailed from error
    return offset, length


def _parse_report(rest: str) -> dict[str, Any]:
    try:
        report = json.loads(rest)
    except (ValueError, RecursionError) as error:
        raise _ChildFailed from error
    if not isinstance(report, dict):
        raise _ChildFailed
    return report
