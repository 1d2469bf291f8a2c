"""Secrets that the ledger keeps for others, sealed so that whoever reads it cannot use them.

A sealed secret is AES-256-GCM under one of the keys, bound to what it belongs to:

    1 byte    the form, 1
    4 bytes   which key: the beginning of its SHA-256
    12 bytes  nonce, random
    the rest  ciphertext and tag

Where no key is set secrets stand in clear; both are told apart by their length.
"""

import base64
import binascii
import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PLAIN_BYTES: Final = 32
KEY_BYTES: Final = 32
_FORM: Final = b"\x01"
_NAME_BYTES: Final = 4
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_HEAD_BYTES: Final = len(_FORM) + _NAME_BYTES
SEALED_BYTES: Final = _HEAD_BYTES + _NONCE_BYTES + PLAIN_BYTES + _TAG_BYTES


class SecretUnreadable(ValueError):
    """None of the keys opens it, or it is another's; the message names no secret."""


@dataclass(frozen=True, slots=True)
class SecretBox:
    """Seals and opens secrets of 32 bytes.

    keys  32 bytes each; the first one seals, the others open what was sealed before
    """

    keys: tuple[bytes, ...] = field(default=(), repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read keys in Base64, separated by commas, the newest first.

        Raises:
            ValueError: one of them is not 32 bytes in Base64; the message does not show it.
        """
        keys = [_parse_key(number, each) for number, each in enumerate(text.split(","), 1)]
        return cls(tuple(keys))

    def seal(self, secret: bytes, owner: bytes) -> bytes:
        """Return a secret as the ledger keeps it; `owner` must be brought to open it."""
        if not self.keys:
            return secret
        nonce = secrets.token_bytes(_NONCE_BYTES)
        head = _FORM + _name(self.keys[0])
        return head + nonce + AESGCM(self.keys[0]).encrypt(nonce, secret, head + owner)

    def open(self, kept: bytes, owner: bytes) -> bytes:
        """Return a secret that was kept, sealed or not.

        Raises:
            SecretUnreadable: its key is not among ours, or it was changed, or is another's.
        """
        if len(kept) == PLAIN_BYTES:
            return kept
        head, nonce = kept[:_HEAD_BYTES], kept[_HEAD_BYTES : _HEAD_BYTES + _NONCE_BYTES]
        for key in self.keys:
            if len(kept) == SEALED_BYTES and head == _FORM + _name(key):
                sealed = kept[_HEAD_BYTES + _NONCE_BYTES :]
                try:
                    return AESGCM(key).decrypt(nonce, sealed, head + owner)
                except InvalidTag as error:
                    message = "a sealed secret was changed, or belongs to another"
                    raise SecretUnreadable(message) from error
        message = "the key that a secret was sealed with is not set"
        raise SecretUnreadable(message)

    def is_current(self, kept: bytes) -> bool:
        """Tell whether a secret is kept as it would be now: by the first key, or in clear."""
        if not self.keys:
            return True
        return len(kept) == SEALED_BYTES and kept[:_HEAD_BYTES] == _FORM + _name(self.keys[0])


def _name(key: bytes) -> bytes:
    return hashlib.sha256(b"secret-box\x00" + key).digest()[:_NAME_BYTES]


def _parse_key(number: int, text: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        message = f"key {number} is not {KEY_BYTES} bytes in Base64 (`openssl rand -base64 32`)"
        raise ValueError(message)
    return key
