"""The data folder of `ingest dev`: who uses it, and the keys in it."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from ingest_service.dev.private_file import write_private
from ingest_service.dev.process import StartFailed
from ingest_service.domain.principal import ROLE_SCOPES
from ingest_service.domain.token import (
    SigningKey,
    import_signing_key,
    make_private_key,
    sign_role_token,
    sign_station_token,
)
from ingest_service.errors import InvalidRequest

TOKEN_LIFETIME: Final = timedelta(days=30)
TOKEN_ISSUER: Final = "ingest-dev"  # noqa: S105 - a name
STATION_ID: Final = "station-01"

_LOCK: Final = ".ingest-dev.lock"


@dataclass(frozen=True, slots=True)
class DevKeys:
    """Where the keys are; they stay the same from start to start.

    station_key_file  private key of the one station (PEM)
    custody_key_file  signs receipts (PEM)
    issuer_key_file   signs the tokens of services and people (PEM)
    jwks_file         its public half, as the service wants it
    """

    station_key_file: Path
    custody_key_file: Path
    issuer_key_file: Path
    jwks_file: Path


@contextmanager
def claimed_folder(folder: Path) -> Iterator[None]:
    """Make the folder if missing and keep every other `ingest dev` out of it.

    The claim ends with the process, however that ends.

    Raises:
        StartFailed: it is in use, cannot be written, or holds somebody else's files.
    """
    lock = folder / _LOCK
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        foreign = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
        if not lock.exists() and foreign:
            message = (
                f"{folder} holds files that `ingest dev` did not make ({min(foreign)}, ...): "
                "name an empty or a new folder with --data"
            )
            raise StartFailed(message)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        message = f"the data folder {folder} cannot be used: {error.strerror}"
        raise StartFailed(message) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 20).decode("ascii", errors="replace").strip() or "unknown"
            message = (
                f"the data folder {folder} is in use by another `ingest dev` (process {holder}): "
                "stop that one, or name another folder with --data"
            )
            raise StartFailed(message) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def prepare_keys(folder: Path) -> DevKeys:
    """Make the keys that are missing, and the key set that service tokens are checked against.

    Raises:
        StartFailed: a key file is there but cannot be used.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    keys = DevKeys(
        station_key_file=folder / f"{STATION_ID}.pem",
        custody_key_file=folder / "custody.pem",
        issuer_key_file=folder / "issuer.pem",
        jwks_file=folder / "jwks.json",
    )
    for file in (keys.station_key_file, keys.custody_key_file, keys.issuer_key_file):
        if not file.exists():
            write_private(file, make_private_key().decode("ascii"))
    issuer = read_signing_key(keys.issuer_key_file).verifying_key
    jwk = {**issuer.public_jwk, "kid": issuer.key_id, "use": "sig", "alg": "EdDSA"}
    write_private(keys.jwks_file, json.dumps({"keys": [jwk]}, indent=2) + "\n")
    return keys


def read_signing_key(file: Path) -> SigningKey:
    """Return the private key in a file.

    Raises:
        StartFailed: there is no usable key in it.
    """
    try:
        return import_signing_key(file.read_bytes())
    except (OSError, InvalidRequest) as error:
        message = f"{file} holds no usable key ({error}): remove it to get a new one"
        raise StartFailed(message) from error


def sign_tokens(keys: DevKeys, *, now: datetime) -> dict[str, str]:
    """Return one bearer token per role, good for `TOKEN_LIFETIME`."""
    issuer = read_signing_key(keys.issuer_key_file)
    station = read_signing_key(keys.station_key_file)
    tokens = {
        role: sign_role_token(issuer, role, now=now, lifetime=TOKEN_LIFETIME, issuer=TOKEN_ISSUER)
        for role in ROLE_SCOPES
        if role != "station"
    }
    tokens["station"] = sign_station_token(station, STATION_ID, now=now, lifetime=TOKEN_LIFETIME)
    return tokens
