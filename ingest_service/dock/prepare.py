"""From a file on the disk to an announcement: hash it once, and remember."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingest_service.dock.failures import FileChanged
from ingest_service.dock.metadata import describe_recording
from ingest_service.dock.recording import FileIdentity, hash_file, identify_file
from ingest_service.dock.sidecar import (
    SIDECAR_SUFFIX,
    Sidecar,
    find_sidecar,
    place_beside,
    write_sidecar,
)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A hashed file and what is remembered of it."""

    path: Path
    sidecar_path: Path
    sidecar: Sidecar


async def prepare_recording(
    path: Path,
    *,
    options: Mapping[str, Any],
    state_dir: Path | None,
    on_hashed: Callable[[int], None] | None = None,
) -> Prepared:
    """Hash a file, unless that is remembered, and write its sidecar.

    The caller holds the file (`hold_file`).

    Raises:
        FileChanged: it is not the file that the sidecar describes, or it is being written to.
        FileUnusable: file or sidecar cannot be read or written.
    """
    sidecar_path = place_beside(path, SIDECAR_SUFFIX, state_dir=state_dir)
    identity = identify_file(path)
    sidecar = find_sidecar(sidecar_path)
    if sidecar is None:
        sha256 = await _hash_quiet_file(path, identity, on_hashed)
        sidecar = Sidecar(
            size_bytes=identity.size_bytes,
            mtime_ns=identity.mtime_ns,
            sha256=sha256.hex(),
            announcement=describe_recording(path, identity, sha256, options=options),
        )
        write_sidecar(sidecar_path, sidecar)
    elif sidecar.identity != identity:
        sidecar = await _accept_touched_file(path, identity, sidecar, sidecar_path, on_hashed)
        write_sidecar(sidecar_path, sidecar)
    return Prepared(path, sidecar_path, sidecar)


async def _accept_touched_file(
    path: Path,
    identity: FileIdentity,
    sidecar: Sidecar,
    sidecar_path: Path,
    on_hashed: Callable[[int], None] | None,
) -> Sidecar:
    # A copy or a `touch` changes the time alone; only other bytes are another recording.
    advice = f"remove {sidecar_path.name} to upload it as another recording"
    if sidecar.size_bytes != identity.size_bytes:
        what = f"{sidecar.size_bytes} bytes were announced, now it has {identity.size_bytes}"
        raise FileChanged(path, f"{what}; {advice}")
    sha256 = await _hash_quiet_file(path, identity, on_hashed)
    if sha256.hex() != sidecar.sha256:
        raise FileChanged(path, f"its bytes are not the ones that were announced; {advice}")
    return sidecar.model_copy(update={"mtime_ns": identity.mtime_ns})


async def _hash_quiet_file(
    path: Path, identity: FileIdentity, on_hashed: Callable[[int], None] | None
) -> bytes:
    sha256 = await hash_file(path, on_bytes=on_hashed)
    if identify_file(path) != identity:
        raise FileChanged(path, "it was written to while it was hashed; try again when it is whole")
    return sha256
