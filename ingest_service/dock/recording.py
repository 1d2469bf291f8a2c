"""The file on the dock's disk: its identity, its hash, its bytes."""

import asyncio
import fcntl
import hashlib
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiofiles

from ingest_service.dock.failures import FileChanged, FileInUse, FileUnusable

BLOCK_BYTES: Final = 256 * 1024
HASH_BLOCK_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """What tells, without reading it, that a file is still the same one."""

    size_bytes: int
    mtime_ns: int


def identify_file(path: Path) -> FileIdentity:
    """Read size and time of a file.

    Raises:
        FileUnusable: there is no such regular file.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise FileUnusable(path, _reason(error)) from error
    if not stat.S_ISREG(status.st_mode):
        raise FileUnusable(path, "not a regular file")
    return FileIdentity(status.st_size, status.st_mtime_ns)


@contextmanager
def hold_file(path: Path) -> Iterator[None]:
    """Keep other dock processes away from a file; the kernel lets go when we die.

    Raises:
        FileInUse: another process holds it.
        FileUnusable: it cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise FileUnusable(path, _reason(error)) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FileInUse(path) from error
        except OSError:
            # A file system without locks (some network mounts): uploading matters more.
            pass
        yield
    finally:
        os.close(descriptor)


async def hash_file(path: Path, *, on_bytes: Callable[[int], None] | None = None) -> bytes:
    """Return the SHA-256 of a whole file; `on_bytes` hears how many bytes were read so far.

    Raises:
        FileUnusable: it cannot be read.
    """
    digest = hashlib.sha256()
    read_bytes = 0
    try:
        async with aiofiles.open(path, "rb") as file:
            while block := await file.read(HASH_BLOCK_BYTES):
                await asyncio.to_thread(digest.update, block)
                read_bytes += len(block)
                if on_bytes:
                    on_bytes(read_bytes)
    except OSError as error:
        raise FileUnusable(path, _reason(error)) from error
    return digest.digest()


async def hash_range(path: Path, offset: int, length_bytes: int) -> bytes:
    """Return the SHA-256 of one chunk. Errors as in `read_blocks`."""
    digest = hashlib.sha256()
    async for block in read_blocks(path, offset, length_bytes, block_bytes=HASH_BLOCK_BYTES):
        await asyncio.to_thread(digest.update, block)
    return digest.digest()


async def read_blocks(
    path: Path, offset: int, length_bytes: int, *, block_bytes: int = BLOCK_BYTES
) -> AsyncIterator[bytes]:
    """Yield exactly length_bytes from offset, block by block: memory holds one block.

    Raises:
        FileChanged: the file ends too early.
        FileUnusable: it cannot be read.
    """
    left_bytes = length_bytes
    try:
        async with aiofiles.open(path, "rb") as file:
            await file.seek(offset)
            while left_bytes:
                block = await file.read(min(block_bytes, left_bytes))
                if not block:
                    raise FileChanged(path, f"it ends {left_bytes} bytes early")
                left_bytes -= len(block)
                yield block
    except OSError as error:
        raise FileUnusable(path, _reason(error)) from error


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
