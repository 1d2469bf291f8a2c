"""What a witness remembers: the newest checkpoint that it cosigned, one file for each log.

The key lies in the same folder: who loses the memory loses the key with it, and cannot begin anew
under the same name. A backup of the folder must never be put back: it would cosign a fork.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ingest_service.domain.checkpoint import Checkpoint, parse_checkpoint
from ingest_service.domain.note import NoteInvalid

KEY_NAME: Final = "witness.pem"


class MemoryUnusable(ValueError):
    """What the witness remembers cannot be read, or another one works on it; nothing is signed."""


@contextmanager
def claimed_folder(folder: Path) -> Iterator[None]:
    """Make the folder if it is missing, and let no second process work in it.

    Raises:
        MemoryUnusable: another one does, or it cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        message = f"{folder} cannot be used: {error.strerror}"
        raise MemoryUnusable(message) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            message = f"another witness works in {folder}"
            raise MemoryUnusable(message) from error
        yield
    finally:
        os.close(descriptor)


class Memory:
    """The files of one folder; the caller lets one writer at a time at each log."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, origin: str) -> Checkpoint | None:
        """Return the newest checkpoint that was cosigned for a log; None before the first.

        Raises:
            MemoryUnusable: there is one, and it cannot be read. That is never 'none'.
        """
        path = self._path(origin)
        try:
            checkpoint = parse_checkpoint(path.read_text()).checkpoint
        except FileNotFoundError:
            return None
        except (OSError, NoteInvalid, UnicodeDecodeError) as error:
            message = f"{path} cannot be read: {error}"
            raise MemoryUnusable(message) from error
        if checkpoint.origin != origin:
            message = f"{path} is of {checkpoint.origin}, not of {origin}"
            raise MemoryUnusable(message)
        return checkpoint

    def keep(self, origin: str, note: str) -> None:
        """Replace what is remembered of a log; on return it survives a power cut.

        Raises:
            MemoryUnusable: it could not be written; the old one stands.
        """
        path = self._path(origin)
        temporary = path.with_suffix(".tmp")
        try:
            with temporary.open("w") as file:
                file.write(note)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            descriptor = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            message = f"{path} cannot be written: {error.strerror}"
            raise MemoryUnusable(message) from error

    def _path(self, origin: str) -> Path:
        # An origin is any text; its hash is a name for a file.
        return self._folder / f"{hashlib.sha256(origin.encode()).hexdigest()}.checkpoint"
