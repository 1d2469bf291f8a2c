"""The release receipt, checked offline by code that shares nothing with the service's own.

Only the published forms are known here: schemas/receipt.py, the C2SP verifier key, checkpoint and
tlog-proof@v1, and RFC 6962's tree.
"""

import base64
import hashlib
import json
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import ValidationError

from schemas.receipt import Receipt, SecuredFacts

_PREFIX: Final = b"ingest release receipt v1\n"
_ED25519: Final = b"\x01"
_TYPED_KEY_BYTES: Final = 33
_KEY_ID_BYTES: Final = 4
_HEADER: Final = "c2sp.org/tlog-proof@v1"


class BadReceipt(Exception):
    """The receipt proves nothing; the message says why."""


class ReceiptCheck:
    """Checks receipts under one pinned verifier key, `<name>+<8 hex>+<base64>`."""

    def __init__(self, verifier_key: str) -> None:
        """Pin a key.

        Raises:
            BadReceipt: it is no Ed25519 verifier key, or its id is another key's.
        """
        self._name, self._key_id, encoded = verifier_key.strip().split("+", 2)
        typed_key = base64.b64decode(encoded, validate=True)
        made = hashlib.sha256(self._name.encode() + b"\n" + typed_key).hexdigest()[:8]
        if len(typed_key) != _TYPED_KEY_BYTES or typed_key[:1] != _ED25519 or made != self._key_id:
            message = "not an Ed25519 verifier key"
            raise BadReceipt(message)
        self._key = Ed25519PublicKey.from_public_bytes(typed_key[1:])

    def read(self, text: str | bytes) -> SecuredFacts:
        """Return what a receipt proves.

        Raises:
            BadReceipt: another key, a changed byte, no receipt, or it contradicts itself.
        """
        try:
            receipt = Receipt.model_validate_json(text)
            if (receipt.key_name, receipt.key_id) != (self._name, self._key_id):
                message = f"signed by {receipt.key_name}+{receipt.key_id}"
                raise BadReceipt(message)
            leaf = receipt.leaf.encode()
            self._key.verify(base64.b64decode(receipt.signature, validate=True), _PREFIX + leaf)
            self._check_logged(leaf, receipt.log_index, receipt.proof)
            event = json.loads(leaf)
            if event["type"] != "clip.secured":
                message = f"signs a {event['type']} event"
                raise BadReceipt(message)
            facts = SecuredFacts.model_validate(event["facts"])
        except InvalidSignature as error:
            message = "the signature does not belong to these bytes"
            raise BadReceipt(message) from error
        except (ValidationError, ValueError, KeyError, TypeError) as error:
            message = f"not a receipt: {type(error).__name__}"
            raise BadReceipt(message) from error
        if facts.sha256 != facts.sha256_readback:
            message = "what was read back is not what was received"
            raise BadReceipt(message)
        return facts

    def _check_logged(self, leaf: bytes, log_index: int, proof: str) -> None:
        """Raise unless the proof leads from the leaf to a root that the pinned key signed."""
        head, _, note = proof.partition("\n\n")
        first, index_line, *encoded = head.split("\n")
        if (first, index_line) != (_HEADER, f"index {log_index}"):
            message = "not a proof of this leaf's index"
            raise BadReceipt(message)
        size, root = self._read_checkpoint(note)
        path = [base64.b64decode(each, validate=True) for each in encoded]
        hashed = hashlib.sha256(b"\x00" + leaf).digest()
        if not 0 <= log_index < size or _climb(hashed, log_index, size, path) != root:
            message = "the log does not hold this leaf"
            raise BadReceipt(message)

    def _read_checkpoint(self, note: str) -> tuple[int, bytes]:
        """Return size and root of a checkpoint that the pinned key signed as its own log's."""
        body, _, signatures = note.partition("\n\n")
        origin, size, root = body.split("\n")[:3]
        for line in signatures.splitlines():
            _, name, encoded = line.split(" ")
            blob = base64.b64decode(encoded, validate=True)
            if name == origin == self._name and blob[:_KEY_ID_BYTES].hex() == self._key_id:
                self._key.verify(blob[_KEY_ID_BYTES:], f"{body}\n".encode())
                return int(size), base64.b64decode(root, validate=True)
        message = "the checkpoint is not signed by the pinned key"
        raise BadReceipt(message)


def _climb(node: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """Return the root that a leaf's path leads to, by RFC 6962's definition, from the top down.

    Empty: the path has another length than the tree asks for.
    """
    if size == 1:
        return b"" if path else node
    if not path:
        return b""
    left_count = 1 << (size - 1).bit_length() - 1
    if index < left_count:
        below = _climb(node, index, left_count, path[:-1])
        pair = below + path[-1]
    else:
        below = _climb(node, index - left_count, size - left_count, path[:-1])
        pair = path[-1] + below
    return hashlib.sha256(b"\x01" + pair).digest() if below else b""
