"""The release receipt, checked offline by code that shares nothing with the service's own.

Only the published form is known here: schemas/receipt.py and the C2SP verifier key.
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
