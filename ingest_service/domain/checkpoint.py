"""Checkpoints and proofs as texts that outsiders check.

Sources: C2SP signed-note, tlog-checkpoint, tlog-cosignature, tlog-proof.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ingest_service.domain.merkle import HASH_BYTES, verify_inclusion
from ingest_service.domain.note import (
    NoteInvalid,
    VerifierKey,
    decode_base64,
    verify_signature,
)

PROOF_HEADER: Final = "c2sp.org/tlog-proof@v1"
_DASH: Final = "\u2014"
_SIZE_DIGITS_MAX: Final = 18
_SIGNATURE_LINES_MAX: Final = 100
_BODY_LINES: Final = 3


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a log says of itself: its name, how many leaves, and the root over them."""

    origin: str
    size: int
    root: bytes

    def body(self) -> str:
        """Return the note text that is signed (C2SP tlog-checkpoint)."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True, slots=True)
class SignatureLine:
    """One signature line of a note: key_id is 4 raw bytes, signature what follows them."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint with its signature lines, as published."""

    checkpoint: Checkpoint
    text: str
    lines: tuple[SignatureLine, ...]

    @property
    def body(self) -> str:
        """The signed text."""
        return self.text.split("\n\n", 1)[0] + "\n"


@dataclass(frozen=True, slots=True)
class LogProof:
    """That a leaf is in the log: where, the audit path, and the checkpoint it leads to."""

    index: int
    path: tuple[bytes, ...]
    signed: SignedCheckpoint


def format_signature(name: str, key_id_hex: str, signature: bytes) -> str:
    """Return one signature line, with its newline (C2SP signed-note)."""
    blob = base64.b64encode(bytes.fromhex(key_id_hex) + signature).decode()
    return f"{_DASH} {name} {blob}\n"


def parse_checkpoint(text: str) -> SignedCheckpoint:
    """Read a signed checkpoint; nothing is verified yet.

    Raises:
        NoteInvalid: not a checkpoint.
    """
    body, blank, signatures = text.partition("\n\n")
    lines = body.split("\n")
    if not blank or len(lines) < _BODY_LINES or not lines[0]:
        message = "a checkpoint has an origin, a size, a root, an empty line and signatures"
        raise NoteInvalid(message)
    size = parse_number(lines[1])
    root = decode_base64(lines[2])
    if len(root) != HASH_BYTES:
        message = "the root of a checkpoint has 32 bytes"
        raise NoteInvalid(message)
    found = signatures.removesuffix("\n").split("\n")
    if not signatures.endswith("\n") or len(found) > _SIGNATURE_LINES_MAX:
        message = "the signature lines of a checkpoint cannot be read"
        raise NoteInvalid(message)
    parsed = tuple(_parse_signature(line) for line in found)
    return SignedCheckpoint(Checkpoint(lines[0], size, root), text, parsed)


def verify_checkpoint(signed: SignedCheckpoint, key: VerifierKey) -> None:
    """Check that the log's own key signed the checkpoint, and that the log is the key's.

    Raises:
        NoteInvalid: another origin, no signature of this key, or a false one.
    """
    if signed.checkpoint.origin != key.name:
        message = f"the checkpoint is of {signed.checkpoint.origin}, not of {key.name}"
        raise NoteInvalid(message)
    for line in signed.lines:
        if line.name == key.name and line.key_id.hex() == key.key_id:
            verify_signature(key, signed.body.encode(), line.signature)
            return
    message = f"the checkpoint carries no signature of {key.name}+{key.key_id}"
    raise NoteInvalid(message)


def verify_any(signed: SignedCheckpoint, keys: Sequence[VerifierKey]) -> VerifierKey:
    """Check that one of the keys that a log had signed the checkpoint; return which.

    Raises:
        NoteInvalid: none of them did; the message is the first key's.
    """
    refused: NoteInvalid | None = None
    for key in keys:
        try:
            verify_checkpoint(signed, key)
        except NoteInvalid as error:
            refused = refused or error
        else:
            return key
    message = "no key is known that could have signed the checkpoint"
    raise refused or NoteInvalid(message)


def format_proof(index: int, path: Sequence[bytes], checkpoint_text: str) -> str:
    """Return a tlog-proof@v1 text."""
    hashes = "".join(f"{base64.b64encode(each).decode()}\n" for each in path)
    return f"{PROOF_HEADER}\nindex {index}\n{hashes}\n{checkpoint_text}"


def parse_proof(text: str) -> LogProof:
    """Read a tlog-proof@v1 text; nothing is verified yet.

    Raises:
        NoteInvalid: not such a text.
    """
    head, blank, checkpoint_text = text.partition("\n\n")
    lines = head.split("\n")
    if not blank or lines[0] != PROOF_HEADER:
        message = f"a proof begins with the line {PROOF_HEADER}"
        raise NoteInvalid(message)
    # Extra data is not authenticated: whatever it says, nothing here depends on it.
    lines = lines[2:] if lines[1:2] and lines[1].startswith("extra ") else lines[1:]
    if not lines or not lines[0].startswith("index "):
        message = "a proof names the index of its leaf"
        raise NoteInvalid(message)
    path = tuple(decode_base64(line) for line in lines[1:])
    if any(len(each) != HASH_BYTES for each in path):
        message = "a hash of the path does not have 32 bytes"
        raise NoteInvalid(message)
    return LogProof(
        parse_number(lines[0].removeprefix("index ")), path, parse_checkpoint(checkpoint_text)
    )


def verify_proof(proof: LogProof, leaf_hash: bytes, key: VerifierKey) -> None:
    """Check that the leaf is in the log that this key signs for.

    Raises:
        NoteInvalid: the checkpoint is not the log's. ProofInvalid: the leaf is not in it.
    """
    verify_checkpoint(proof.signed, key)
    checkpoint = proof.signed.checkpoint
    verify_inclusion(leaf_hash, proof.index, checkpoint.size, proof.path, checkpoint.root)


def parse_number(text: str) -> int:
    """Read a size or index as C2SP writes them.

    Raises:
        NoteInvalid: a sign, a leading zero, another digit than ASCII's, or too many of them.
    """
    is_number = text.isascii() and text.isdigit() and len(text) <= _SIZE_DIGITS_MAX
    if not is_number or (text.startswith("0") and text != "0"):
        message = "a size or index is a decimal number without leading zeroes"
        raise NoteInvalid(message)
    return int(text)


def _parse_signature(line: str) -> SignatureLine:
    fields = line.split(" ")
    if len(fields) != 3 or fields[0] != _DASH or not fields[1]:  # noqa: PLR2004 - dash, name, blob
        message = "a signature line is '\u2014 <name> <base64>'"
        raise NoteInvalid(message)
    blob = decode_base64(fields[2])
    if len(blob) <= 4:  # noqa: PLR2004 - the key id
        message = "a signature line holds no signature"
        raise NoteInvalid(message)
    return SignatureLine(fields[1], blob[:4], blob[4:])
