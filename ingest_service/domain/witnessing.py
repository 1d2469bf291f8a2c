"""What a log asks of a witness, as text (C2SP tlog-witness, add-checkpoint)."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ingest_service.domain.checkpoint import SignedCheckpoint, parse_checkpoint, parse_number
from ingest_service.domain.merkle import HASH_BYTES
from ingest_service.domain.note import NoteInvalid, decode_base64

SIZE_TYPE: Final = "text/x.tlog.size"
_PATH_MAX: Final = 63


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A checkpoint to be cosigned, with the proof that it continues the one of old_size leaves."""

    old_size: int
    path: tuple[bytes, ...]
    signed: SignedCheckpoint


def format_add_checkpoint(old_size: int, path: Sequence[bytes], checkpoint_text: str) -> str:
    """Return the body of a request."""
    lines = "".join(f"{base64.b64encode(each).decode()}\n" for each in path)
    return f"old {old_size}\n{lines}\n{checkpoint_text}"


def parse_add_checkpoint(text: str) -> AddCheckpoint:
    """Read the body of a request; nothing is verified yet.

    Raises:
        NoteInvalid: not such a body.
    """
    head, _, checkpoint_text = text.partition("\n\n")
    first, *lines = head.split("\n")
    if not first.startswith("old ") or len(lines) > _PATH_MAX:
        message = f"a request begins with 'old <size>' and at most {_PATH_MAX} hashes"
        raise NoteInvalid(message)
    path = tuple(decode_base64(line) for line in lines)
    if any(len(each) != HASH_BYTES for each in path):
        message = "a hash of the proof does not have 32 bytes"
        raise NoteInvalid(message)
    old_size = parse_number(first.removeprefix("old "))
    return AddCheckpoint(old_size, path, parse_checkpoint(checkpoint_text))
