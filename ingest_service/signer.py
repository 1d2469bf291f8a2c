"""Signs receipts and checkpoints: a Protocol, and a key in a local file."""

import os
import stat
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from ingest_service.domain.note import compute_key_id, make_verifier_key

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_KEY_FILE_BYTES_MAX: Final = 64 * 1024


class SigningKeyUnusable(ValueError):
    """The signing key cannot be used; the message says why and what to do. Nothing started."""


class Signer(Protocol):
    """The service's own key, wherever it lives.

    Ed25519 signatures are deterministic: signing twice gives the same bytes, so a receipt may
    be made again at any time and stays the same receipt.
    """

    @property
    def name(self) -> str:
        """Name in the verifier key."""
        ...

    @property
    def key_id(self) -> str:
        """8 hex digits, as in the verifier key."""
        ...

    @property
    def verifier_key(self) -> str:
        """What verifiers pin: `<name>+<key id>+<base64>` (C2SP signed-note)."""
        ...

    @property
    def second(self) -> "Signer | None":
        """The key that signs checkpoints beside this one while keys are changed; else None."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the Ed25519 signature (64 bytes) over the message."""
        ...


class LocalSigner:
    """A `Signer` whose key is in this process."""

    __slots__ = ("_private_key", "key_id", "name", "second", "verifier_key")

    def __init__(
        self, private_key: Ed25519PrivateKey, name: str, second: Signer | None = None
    ) -> None:
        public_key = private_key.public_key().public_bytes_raw()
        self._private_key = private_key
        self.name = name
        self.second = second
        self.key_id = compute_key_id(name, public_key)
        self.verifier_key = make_verifier_key(name, public_key)

    def sign(self, message: bytes) -> bytes:
        """Return the Ed25519 signature (64 bytes) over the message."""
        return self._private_key.sign(message)


def list_verifier_keys(signer: Signer) -> list[str]:
    """Return the verifier keys under which this signer's checkpoints hold, its own first."""
    keys = [signer.verifier_key]
    return keys if signer.second is None else [*keys, signer.second.verifier_key]


def open_local_signer(path: Path, name: str, second_path: Path | None = None) -> LocalSigner:
    """Read the private key (PEM, PKCS #8) that `make_signing_key` wrote.

    second_path  of the key that signs checkpoints too while keys are changed: under the same name

    Raises:
        SigningKeyUnusable: no such file, others may read it, or it is not an Ed25519 key.
        NoteInvalid: the name holds a space or a plus.
    """
    pem = _read_private_file(path)
    try:
        private_key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        message = f"{path} is not an unencrypted PEM private key"
        raise SigningKeyUnusable(message) from error
    if not isinstance(private_key, Ed25519PrivateKey):
        message = f"{path} does not hold an Ed25519 key"
        raise SigningKeyUnusable(message)
    second = None if second_path is None else open_local_signer(second_path, name)
    return LocalSigner(private_key, name, second)


def make_signing_key(path: Path) -> None:
    """Write a new Ed25519 private key (PEM, PKCS #8) that only its owner may read.

    Raises:
        FileExistsError: there is a file already; a key is never overwritten.
    """
    pem = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
        file.flush()
        # Receipts are worthless without the key that made them: it survives a power cut.
        os.fsync(file.fileno())


def _read_private_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            # The open file is checked, not the path: what is read is what was checked.
            mode = os.fstat(file.fileno()).st_mode
            if mode & _OTHERS:
                message = f"others may read {path}: run 'chmod 600' on it"
                raise SigningKeyUnusable(message)
            return file.read(_KEY_FILE_BYTES_MAX)
    except OSError as error:
        message = f"cannot read the signing key {path}: {error.strerror}"
        raise SigningKeyUnusable(message) from error
