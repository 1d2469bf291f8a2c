"""Verifier keys and signatures as outsiders check them (C2SP signed-note, Ed25519)."""

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

# C2SP signed-note, section "Signatures": the type byte of a plain Ed25519 signature.
ED25519_TYPE: Final = b"\x01"
# C2SP tlog-cosignature: the type byte of a witness's timestamped Ed25519 signature.
COSIGNATURE_TYPE: Final = b"\x04"
PUBLIC_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

_KINDS: Final = {ED25519_TYPE: "an Ed25519 key", COSIGNATURE_TYPE: "an Ed25519 witness's key"}
_NAME: Final = re.compile(r"[^\s+]+")
_KEY_ID: Final = re.compile(r"[0-9a-f]{8}")


class NoteInvalid(ValueError):
    """A verifier key or a signature cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """The public half of a signing key.

    name        who signs, e.g. `ingest.example.org/custody`: no spaces, no plus
    key_id      8 hex digits, derived from name and key
    public_key  32 raw bytes, Ed25519
    """

    name: str
    key_id: str
    public_key: bytes


def compute_key_id(name: str, public_key: bytes, *, kind: bytes = ED25519_TYPE) -> str:
    """Return the first 4 bytes of SHA-256(name || 0x0A || kind || key), as hex.

    Source: C2SP signed-note, section "Signatures".

    Raises:
        NoteInvalid: the name holds a space or a plus, or the key is not 32 bytes.
    """
    if not _NAME.fullmatch(name):
        message = "a key name is not empty and holds neither spaces nor '+'"
        raise NoteInvalid(message)
    if len(public_key) != PUBLIC_KEY_BYTES:
        message = f"an Ed25519 public key has {PUBLIC_KEY_BYTES} bytes, not {len(public_key)}"
        raise NoteInvalid(message)
    digest = hashlib.sha256(name.encode() + b"\n" + kind + public_key).digest()
    return digest[:4].hex()


def make_verifier_key(name: str, public_key: bytes, *, kind: bytes = ED25519_TYPE) -> str:
    """Return `<name>+<key id>+<base64(kind || key)>`, the form that is published and pinned.

    Raises:
        NoteInvalid: as `compute_key_id`.
    """
    key_id = compute_key_id(name, public_key, kind=kind)
    return f"{name}+{key_id}+{base64.b64encode(kind + public_key).decode()}"


def parse_verifier_key(text: str, *, kind: bytes = ED25519_TYPE) -> VerifierKey:
    """Read a verifier key; surrounding white space is forgiven.

    Raises:
        NoteInvalid: not the documented form, not of this kind, or its id belongs to another key.
    """
    # The base64 part may hold plus signs of its own, so only the first two separate.
    name, _, rest = text.strip().partition("+")
    key_id, _, encoded = rest.partition("+")
    if not _NAME.fullmatch(name) or not _KEY_ID.fullmatch(key_id):
        message = "a verifier key is <name>+<8 hex digits>+<base64>"
        raise NoteInvalid(message)
    try:
        typed_key = base64.b64decode(encoded, validate=True)
    except ValueError as error:  # not base64, or not even ASCII
        message = "the key in the verifier key is not base64"
        raise NoteInvalid(message) from error
    if typed_key[:1] != kind:
        message = f"the verifier key is not {_KINDS[kind]}"
        raise NoteInvalid(message)
    public_key = typed_key[1:]
    if compute_key_id(name, public_key, kind=kind) != key_id:
        message = "the id in the verifier key does not belong to its name and key"
        raise NoteInvalid(message)
    return VerifierKey(name, key_id, public_key)


def verify_signature(key: VerifierKey, message: bytes, signature: bytes) -> None:
    """Check an Ed25519 signature (64 raw bytes) over a message.

    Raises:
        NoteInvalid: the signature is not this key's signature of this message.
    """
    if len(signature) != SIGNATURE_BYTES:
        text = f"an Ed25519 signature has {SIGNATURE_BYTES} bytes, not {len(signature)}"
        raise NoteInvalid(text)
    try:
        Ed25519PublicKey.from_public_bytes(key.public_key).verify(signature, message)
    except InvalidSignature as error:
        text = f"the signature was not made by {key.name}+{key.key_id} over these bytes"
        raise NoteInvalid(text) from error


def decode_base64(text: str) -> bytes:
    """Read base64 in its one proper spelling (RFC 4648, section 3.5): no two texts, one meaning.

    Raises:
        NoteInvalid: another alphabet, no padding, or bits behind the last byte.
    """
    try:
        decoded = base64.b64decode(text, validate=True)
    except ValueError:  # not base64, or not even ASCII
        decoded = b""
    if not decoded or base64.b64encode(decoded).decode() != text:
        message = "a hash or signature is not base64"
        raise NoteInvalid(message)
    return decoded
