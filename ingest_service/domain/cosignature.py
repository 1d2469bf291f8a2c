"""Cosignatures: a second party's word that it saw this log grow to this checkpoint, and no other.

Source: C2SP tlog-cosignature, version 1 (Ed25519).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ingest_service.domain.checkpoint import SignedCheckpoint, format_signature
from ingest_service.domain.note import (
    COSIGNATURE_TYPE,
    NoteInvalid,
    VerifierKey,
    parse_verifier_key,
    verify_signature,
)

_TIME_BYTES: Final = 8
_TIME_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Cosignature:
    """Who cosigned a checkpoint, and when by its own clock (POSIX seconds)."""

    name: str
    time_s: int


def cosigned_message(body: str, time_s: int) -> bytes:
    """Return the exact bytes that a cosignature of a checkpoint's body covers."""
    return f"cosignature/v1\ntime {time_s}\n{body}".encode()


def format_cosignature(name: str, key_id_hex: str, time_s: int, signature: bytes) -> str:
    """Return the signature line of a cosignature, with its newline."""
    return format_signature(name, key_id_hex, time_s.to_bytes(_TIME_BYTES, "big") + signature)


def find_cosignature(signed: SignedCheckpoint, witness: VerifierKey) -> Cosignature | None:
    """Return a witness's verified cosignature; None when the checkpoint carries none of it.

    Raises:
        NoteInvalid: a line that claims to be of this witness is false.
    """
    for line in signed.lines:
        if line.name == witness.name and line.key_id.hex() == witness.key_id:
            time_s = int.from_bytes(line.signature[:_TIME_BYTES], "big")
            if time_s > _TIME_MAX:
                message = f"the cosignature of {witness.name} is of no time"
                raise NoteInvalid(message)
            message_bytes = cosigned_message(signed.body, time_s)
            verify_signature(witness, message_bytes, line.signature[_TIME_BYTES:])
            return Cosignature(witness.name, time_s)
    return None


@dataclass(frozen=True, slots=True)
class WitnessPolicy:
    """Whose cosignatures count, and how many of them a checkpoint must carry."""

    keys: tuple[VerifierKey, ...]
    quorum: int

    def verify(self, signed: SignedCheckpoint) -> list[Cosignature]:
        """Check a checkpoint's cosignatures; return those of the known witnesses.

        Raises:
            NoteInvalid: too few, or a false one.
        """
        found = [find_cosignature(signed, key) for key in self.keys]
        cosignatures = [each for each in found if each is not None]
        if len(cosignatures) < self.quorum:
            message = (
                f"{len(cosignatures)} of the known witnesses cosigned the checkpoint, "
                f"{self.quorum} must have"
            )
            raise NoteInvalid(message)
        return cosignatures


NO_WITNESSES: Final = WitnessPolicy((), 0)


def make_policy(witness_keys: Sequence[str], quorum: int) -> WitnessPolicy:
    """Read witnesses' verifier keys and put them under a quorum.

    Raises:
        NoteInvalid: a key cannot be read, two are the same, or there are fewer than the quorum.
    """
    keys = tuple(parse_verifier_key(text, kind=COSIGNATURE_TYPE) for text in witness_keys)
    if len({key.public_key for key in keys}) < len(keys):
        message = "a witness is named twice"
        raise NoteInvalid(message)
    if not 0 <= quorum <= len(keys):
        message = f"{quorum} cosignatures cannot come from {len(keys)} witnesses"
        raise NoteInvalid(message)
    return WitnessPolicy(keys, quorum)
