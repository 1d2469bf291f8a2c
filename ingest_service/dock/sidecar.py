"""What the dock remembers of a recording: FILE.ingest.json beside it.

It holds no progress: the service owns that. It keeps the whole-file hash (so that it is computed
once), the announcement as first sent (so that sending it again is the same announcement) and the
receipt. Written atomically; losing it costs a hash, never a byte.
"""

import contextlib
import json
import os
from pathlib import Path
from typing import Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from ingest_service.dock.failures import FileUnusable
from ingest_service.dock.recording import FileIdentity

SIDECAR_SUFFIX: Final = ".ingest.json"
RECEIPT_SUFFIX: Final = ".receipt.json"
TEMPORARY_SUFFIX: Final = ".tmp"


class Sidecar(BaseModel):
    """State of one recording on the dock."""

    model_config = ConfigDict(extra="ignore")

    version: Literal[1] = 1
    size_bytes: int
    mtime_ns: int
    sha256: str
    announcement: dict[str, Any]
    service_url: str | None = None
    clip_id: UUID | None = None
    state: str | None = None
    receipt: dict[str, Any] | None = None

    @property
    def identity(self) -> FileIdentity:
        """Return the identity of the file that was hashed."""
        return FileIdentity(self.size_bytes, self.mtime_ns)


def place_beside(path: Path, suffix: str, *, state_dir: Path | None) -> Path:
    """Return where a companion of a recording lies: beside it, or in the state folder."""
    folder = path.parent if state_dir is None else state_dir
    return folder / f"{path.name}{suffix}"


def is_companion(path: Path) -> bool:
    """Tell whether a file is not a recording: written by the dock, or metadata of a recording."""
    return path.name.startswith(".") or path.suffix in {".json", TEMPORARY_SUFFIX}


def find_sidecar(path: Path) -> Sidecar | None:
    """Read a sidecar; None if there is none or it cannot be understood (it is then remade).

    Raises:
        FileUnusable: there is one, but it may not be read.
    """
    try:
        return Sidecar.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        return None
    except OSError as error:
        raise FileUnusable(path, error.strerror or str(error)) from error


def write_sidecar(path: Path, sidecar: Sidecar) -> None:
    """Replace a sidecar. Errors as in `write_durably`."""
    write_durably(path, sidecar.model_dump(mode="json"))


def write_durably(path: Path, document: dict[str, Any]) -> None:
    """Write JSON so that after a crash either the old or the new file is there, whole.

    Raises:
        FileUnusable: the folder is read-only, full, or gone; the old file is untouched.
    """
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    content = json.dumps(document, indent=2, ensure_ascii=True).encode() + b"\n"
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise FileUnusable(path, f"cannot be written: {error.strerror or error}") from error


def sync_folder(folder: Path) -> None:
    """Make renames and removals in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
