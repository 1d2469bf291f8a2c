"""The last step: believe a receipt, keep it, and only then erase."""

import asyncio
from pathlib import Path
from uuid import UUID

from ingest_service.dock.failures import FileChanged, FileUnusable, ReceiptRefused
from ingest_service.dock.recording import hash_file, identify_file
from ingest_service.dock.sidecar import sync_folder
from ingest_service.domain.cosignature import NO_WITNESSES, WitnessPolicy
from ingest_service.domain.receipt import verify_receipt
from schemas.receipt import Receipt, SecuredFacts


def verify_release(
    receipt: Receipt,
    *,
    verifier_key: str,
    clip_id: UUID,
    sha256_hex: str,
    size_bytes: int,
    witnesses: WitnessPolicy = NO_WITNESSES,
) -> SecuredFacts:
    """Check that a receipt proves this very file to be safe. Needs no network.

    Raises:
        ReceiptRefused: another key signed, the log does not hold it, too few witnesses cosigned,
            or another clip, hash or length is meant.
    """
    try:
        facts = verify_receipt(receipt, verifier_key, witnesses)
    except ValueError as error:
        raise ReceiptRefused(str(error)) from error
    if facts.clip_id != clip_id:
        reason = f"it is about clip {facts.clip_id}, not {clip_id}"
        raise ReceiptRefused(reason)
    if facts.size_bytes != size_bytes:
        reason = f"it is about {facts.size_bytes} bytes, the file has {size_bytes}"
        raise ReceiptRefused(reason)
    for name, proven_hex in (("received", facts.sha256), ("read back", facts.sha256_readback)):
        if proven_hex != sha256_hex:
            reason = f"SHA-256 {name} is {proven_hex}, the file's is {sha256_hex}"
            raise ReceiptRefused(reason)
    return facts


async def erase_recording(path: Path, sidecar_path: Path, *, facts: SecuredFacts) -> None:
    """Erase a file that a verified receipt vouches for.

    The file is hashed once more: what is erased is what was secured, not what lay here when the
    upload began.

    Raises:
        FileChanged: it is not what the receipt vouches for; nothing was erased.
        FileUnusable: it could not be read or removed.
    """
    identity = identify_file(path)
    if identity.size_bytes != facts.size_bytes or (await hash_file(path)).hex() != facts.sha256:
        raise FileChanged(path, "it is not what was secured; it is kept")
    if identify_file(path) != identity:
        raise FileChanged(path, "it was written to while it was checked; it is kept")
    try:
        await asyncio.to_thread(_remove, path, sidecar_path)
    except OSError as error:
        raise FileUnusable(path, f"cannot be erased: {error.strerror or error}") from error


def _remove(path: Path, sidecar_path: Path) -> None:
    # The sidecar goes first: a crash in between leaves a file that is simply announced again.
    sidecar_path.unlink(missing_ok=True)
    path.unlink()
    sync_folder(path.parent)
