"""The station's own bearer token: the server holds no secret of the station."""

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ingest_service.dock.failures import TargetUnusable

StationKey: TypeAlias = Ed25519PrivateKey | ec.EllipticCurvePrivateKey

AUDIENCE: Final = "ingest"
LIFETIME_S: Final = 300
# A token is not used in its last minute: a chunk on a slow uplink is judged when it arrives.
RENEW_BEFORE_S: Final = 60


def load_station_key(pem: bytes) -> StationKey:
    """Read a PEM private key: Ed25519, or ECDSA on P-256.

    Raises:
        TargetUnusable: it is not such a key.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        message = f"the station key cannot be read: {error}"
        raise TargetUnusable(message) from error
    if isinstance(key, Ed25519PrivateKey):
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    message = "the station key must be Ed25519 or ECDSA P-256"
    raise TargetUnusable(message)


class StationToken:
    """Signs and renews the token; times are the server's, as far as they are known."""

    def __init__(
        self, station_id: str, key: StationKey, *, now: Callable[[], float] = time.time
    ) -> None:
        self._station_id = station_id
        self._key = key
        self._now = now
        self._offset_s = 0.0
        self._token = ""
        self._expires_at = 0.0

    def set_offset(self, offset_s: float) -> None:
        """Say how far the server's clock is ahead of ours; the next token is a new one."""
        self._offset_s = offset_s
        self._expires_at = 0.0

    def get(self) -> str:
        """Return a token that is valid for another minute at least."""
        server_now = self._now() + self._offset_s
        if self._expires_at - server_now < RENEW_BEFORE_S:
            # Rounding down keeps `iat` out of the server's future.
            issued_at = int(server_now)
            self._expires_at = issued_at + LIFETIME_S
            self._token = self._sign(issued_at)
        return self._token

    def _sign(self, issued_at: int) -> str:
        is_ed25519 = isinstance(self._key, Ed25519PrivateKey)
        header: dict[str, str | int] = {
            "alg": "EdDSA" if is_ed25519 else "ES256",
            "kid": make_thumbprint(self._key),
            "typ": "JWT",
        }
        claims: dict[str, str | int] = {
            "iss": self._station_id,
            "sub": self._station_id,
            "aud": AUDIENCE,
            "iat": issued_at,
            "exp": issued_at + LIFETIME_S,
            "jti": secrets.token_hex(16),
        }
        signing_input = f"{_encode_json(header)}.{_encode_json(claims)}".encode()
        return f"{signing_input.decode()}.{_base64url(_sign_bytes(self._key, signing_input))}"


def make_thumbprint(key: StationKey) -> str:
    """Return the `kid`: the SHA-256 thumbprint of the public key, base64url (RFC 7638)."""
    members: dict[str, str]
    if isinstance(key, Ed25519PrivateKey):
        raw = key.public_key().public_bytes_raw()
        members = {"crv": "Ed25519", "kty": "OKP", "x": _base64url(raw)}
    else:
        numbers = key.public_key().public_numbers()
        members = {
            "crv": "P-256",
            "kty": "EC",
            "x": _base64url(numbers.x.to_bytes(32, "big")),
            "y": _base64url(numbers.y.to_bytes(32, "big")),
        }
    canonical = json.dumps(members, sort_keys=True, separators=(",", ":")).encode()
    return _base64url(hashlib.sha256(canonical).digest())


def _sign_bytes(key: StationKey, message: bytes) -> bytes:
    if isinstance(key, Ed25519PrivateKey):
        return key.sign(message)
    # JWS wants the two integers side by side (RFC 7518, section 3.4), not the DER of X.509.
    r, s = utils.decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _encode_json(value: Mapping[str, str | int]) -> str:
    return _base64url(json.dumps(value, separators=(",", ":")).encode())


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
