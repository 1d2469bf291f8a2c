"""Bearer tokens (JWT): which keys are taken, and which claims make which principal. Pure."""

import json
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import uuid4

from cryptography.exceptions import UnsupportedAlgorithm
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, Key, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from joserfc.util import json_b64decode

from ingest_service.domain.principal import ROLE_SCOPES, UPLOAD, Principal
from ingest_service.errors import InvalidRequest, TokenExpired, Unauthorized

# Longer ones are not read at all: real tokens are some hundred bytes.
TOKEN_BYTES_MAX: Final = 8 * 1024
RSA_BITS_MIN: Final = 2048
AUDIENCE: Final = "ingest"

# One text for a forged signature and an unknown key: a stranger learns nothing about keys.
NOT_OURS: Final = "the token was not signed by a key known here"

_CHARS_MAX: Final = 200
_TIME_MAX: Final = 2**53
_EC_ALGORITHMS: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_RSA_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
# The members that make a public key (RFC 7518 section 6, RFC 8037); all others are dropped.
_PUBLIC_MEMBERS: Final = {"OKP": ("crv", "x"), "EC": ("crv", "x", "y"), "RSA": ("n", "e")}


class _FixedAlgorithms(JWSRegistry):
    """Takes only the algorithms that fit one key, whatever a token's header says.

    RFC 9864 calls the name `EdDSA` deprecated, for it leaves the curve open. Docks sign with it
    all the same, so it is read here as `Ed25519`, which fixes the curve.
    """

    def get_alg(self, name: str) -> Any:  # noqa: ANN401 - the library does not export the type
        return super().get_alg("Ed25519" if name == "EdDSA" else name)


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key, together with the only algorithms it is used with.

    key_id      RFC 7638 thumbprint (SHA-256, base64url): a key cannot carry another's name
    public_jwk  the members that make the key, nothing else
    """

    key_id: str
    public_jwk: dict[str, str]
    key: Key
    registry: JWSRegistry


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The private key of a station (or, in tests and `ingest dev`, of a token issuer)."""

    algorithm: str
    key: Key = field(repr=False)
    verifying_key: VerifyingKey


@dataclass(frozen=True, slots=True)
class Grant:
    """What a verified token gives, and until when: seconds since 1970, leeway included."""

    principal: Principal
    expires_at_s: float


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What every token must satisfy.

    audience                required in `aud`
    issuer                  required `iss` of service tokens; None = whoever holds a known key
    leeway_s                clock difference that is forgiven
    station_lifetime_max_s  longest `exp - iat` that a station may sign for itself
    """

    audience: str
    issuer: str | None
    leeway_s: int
    station_lifetime_max_s: int


# --- keys --------------------------------------------------------------------------------


def import_verifying_key(jwk: Mapping[str, Any]) -> VerifyingKey:
    """Take the public half of a JSON Web Key: Ed25519, P-256/384/521, or RSA of 2048 bits.

    Raises:
        InvalidRequest: another kind of key, too short, or not a point on its curve.
    """
    members = _PUBLIC_MEMBERS.get(str(jwk.get("kty")), ())
    public_jwk = {name: value for name in members if isinstance(value := jwk.get(name), str)}
    if not members or len(public_jwk) != len(members):
        reason = "the key is not a JSON Web Key of type OKP, EC or RSA"
        raise InvalidRequest(reason)
    public_jwk["kty"] = str(jwk["kty"])
    try:
        key = JWKRegistry.import_key(dict(public_jwk))
        algorithms = _algorithms_of(key, jwk.get("alg"))
        key_id = key.thumbprint()
    except (JoseError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        reason = "the key cannot be read"
        raise InvalidRequest(reason) from error
    if not algorithms:
        reason = "the key is of a kind that is not taken: use Ed25519 or P-256"
        raise InvalidRequest(reason)
    registry = _FixedAlgorithms(algorithms=algorithms, strict_check_header=False)
    return VerifyingKey(key_id, public_jwk, key, registry)


def import_station_key(jwk: Mapping[str, Any]) -> VerifyingKey:
    """Take a station's public key: Ed25519 or P-256 (ES256), nothing else.

    Raises:
        InvalidRequest: another kind of key.
    """
    verifying_key = import_verifying_key(jwk)
    if verifying_key.public_jwk.get("crv") not in {"Ed25519", "P-256"}:
        reason = "a station's key is Ed25519 or P-256"
        raise InvalidRequest(reason)
    return verifying_key


def read_key_file(content: bytes) -> dict[str, Any]:
    """Return the JWK in a key file: JSON (JWK) or PEM, private or public, Ed25519 or P-256.

    Raises:
        InvalidRequest: the file is neither.
    """
    if content.lstrip().startswith(b"{"):
        try:
            jwk = json.loads(content)
        except (ValueError, RecursionError) as error:
            reason = "the key file is not JSON"
            raise InvalidRequest(reason) from error
        return dict(jwk)
    for kind in (OKPKey, ECKey):
        try:
            key = kind.import_key(content)
            return dict(key.as_dict(private=key.is_private))
        except (JoseError, ValueError, TypeError, UnsupportedAlgorithm):
            continue
    reason = "the key file is neither a JSON Web Key nor PEM of an Ed25519 or P-256 key"
    raise InvalidRequest(reason)


def import_signing_key(content: bytes) -> SigningKey:
    """Take a private key file: JWK or PEM, Ed25519 or P-256.

    Raises:
        InvalidRequest: not such a key, or only its public half.
    """
    jwk = read_key_file(content)
    verifying_key = import_station_key(jwk)
    if not isinstance(jwk.get("d"), str):
        reason = "the key file holds only a public key"
        raise InvalidRequest(reason)
    try:
        key = JWKRegistry.import_key({**verifying_key.public_jwk, "d": jwk["d"]})
    except (JoseError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        reason = "the private key cannot be read"
        raise InvalidRequest(reason) from error
    algorithm = "EdDSA" if isinstance(key, OKPKey) else "ES256"
    return SigningKey(algorithm, key, verifying_key)


def make_private_key(kind: Literal["Ed25519", "P-256"] = "Ed25519") -> bytes:
    """Return a new private key as PEM (PKCS #8); the caller keeps it from other eyes."""
    key = OKPKey.generate_key("Ed25519") if kind == "Ed25519" else ECKey.generate_key("P-256")
    return key.as_pem(private=True)


def _algorithms_of(key: Key, wanted: object) -> tuple[str, ...]:
    """Return the algorithms that this kind of key signs with; `alg` of the JWK narrows them."""
    if isinstance(key, OKPKey):
        return ("Ed25519",) if key.curve_name == "Ed25519" else ()
    if isinstance(key, ECKey):
        algorithm = _EC_ALGORITHMS.get(key.curve_name)
        return (algorithm,) if algorithm else ()
    if isinstance(key, RSAKey) and key.public_key.key_size >= RSA_BITS_MIN:
        return tuple(name for name in _RSA_ALGORITHMS if wanted in {None, name})
    return ()


# --- making tokens -----------------------------------------------------------------------


def sign_station_token(
    signing_key: SigningKey,
    station_id: str,
    *,
    now: datetime,
    lifetime: timedelta = timedelta(minutes=10),
    audience: str = AUDIENCE,
) -> str:
    """Return a token with which a station speaks for itself (as private_key_jwt does)."""
    return sign_token(
        signing_key,
        {
            "iss": station_id,
            "sub": station_id,
            "aud": audience,
            "iat": int(now.timestamp()),
            "exp": int((now + lifetime).timestamp()),
            "jti": uuid4().hex,
        },
    )


def sign_role_token(
    signing_key: SigningKey,
    role: str,
    *,
    now: datetime,
    lifetime: timedelta,
    issuer: str,
) -> str:
    """Return a service token with the scopes of a role, as an identity provider would."""
    return sign_token(
        signing_key,
        {
            "iss": issuer,
            "sub": f"{role}@{issuer}",
            "aud": AUDIENCE,
            "iat": int(now.timestamp()),
            "exp": int((now + lifetime).timestamp()),
            "scope": " ".join(ROLE_SCOPES[role]),
            "role": role,
            "kind": "service",
        },
    )


def sign_token(signing_key: SigningKey, claims: Mapping[str, Any]) -> str:
    """Return a signed JWT over these claims."""
    key = signing_key.verifying_key
    return jws.serialize_compact(
        {"alg": signing_key.algorithm, "kid": key.key_id, "typ": "JWT"},
        json.dumps(claims, separators=(",", ":")),
        signing_key.key,
        registry=key.registry,
    )


# --- reading tokens ----------------------------------------------------------------------


def read_key_id(token: str) -> str:
    """Return the `kid` that a token names; nothing of the token is believed yet.

    Raises:
        Unauthorized: this is no signed JWT.
    """
    if len(token) > TOKEN_BYTES_MAX:
        reason = "the token is too long"
        raise Unauthorized(reason)
    try:
        header = json_b64decode(token.encode("ascii").split(b".", 1)[0])
    except (ValueError, Base64Error, RecursionError) as error:
        reason = "the token is not a signed JWT"
        raise Unauthorized(reason) from error
    # `crit` would ask for rules that are not kept here; RFC 7515 says to refuse it then.
    if not isinstance(header, dict) or not isinstance(header.get("alg"), str) or "crit" in header:
        reason = "the token is not a signed JWT"
        raise Unauthorized(reason)
    key_id = header.get("kid")
    return _read_name("the header's kid", key_id)


def verify_token(token: str, key: VerifyingKey) -> dict[str, Any]:
    """Check a token's signature and return its claims, which are to be judged next.

    Raises:
        Unauthorized: forged, or signed with an algorithm that is not this key's.
    """
    try:
        signed = jws.deserialize_compact(token, key.key, registry=key.registry)
        claims = json.loads(signed.payload)
    except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise Unauthorized(NOT_OURS) from error
    if not isinstance(claims, dict):
        raise Unauthorized(NOT_OURS)
    return claims


def judge_station_claims(
    claims: Mapping[str, Any], station_id: str, *, rules: TokenRules, now: datetime
) -> Grant:
    """Return what a token signed by a station's key gives: to be that station, nothing else.

    Raises:
        TokenExpired: it was good once.
        Unauthorized: it speaks for another station, to another service, or for too long.
    """
    if claims.get("iss") != station_id or claims.get("sub") != station_id:
        reason = "iss and sub must both be the station that the key is registered for"
        raise Unauthorized(reason)
    issued_at_s, expires_at_s = _judge_times(claims, rules=rules, now=now)
    if expires_at_s - issued_at_s > rules.station_lifetime_max_s:
        reason = f"a station's token lives at most {rules.station_lifetime_max_s} seconds"
        raise Unauthorized(reason)
    principal = Principal("station", station_id, frozenset(ROLE_SCOPES["station"]), role="station")
    return Grant(principal, expires_at_s + rules.leeway_s)


def judge_service_claims(claims: Mapping[str, Any], *, rules: TokenRules, now: datetime) -> Grant:
    """Return what a token of the identity provider gives.

    Raises:
        TokenExpired: it was good once.
        Unauthorized: another issuer or audience, or a claim that cannot be read: a limit that
            is not understood must not become no limit.
    """
    if rules.issuer is not None and claims.get("iss") != rules.issuer:
        reason = "the token is of another issuer"
        raise Unauthorized(reason)
    _, expires_at_s = _judge_times(claims, rules=rules, now=now)
    kind = claims.get("kind", "service")
    if kind not in ("service", "person"):
        reason = "kind must be 'service' or 'person'"
        raise Unauthorized(reason)
    scopes = claims.get("scope", "")
    if not isinstance(scopes, str):
        reason = "scope must be names separated by spaces"
        raise Unauthorized(reason)
    role = claims.get("role")
    if role is not None:
        role = _read_name("role", role)
    principal = Principal(
        kind,
        _read_name("sub", claims.get("sub")),
        # Only a station brings footage in: attribution hangs on its key.
        frozenset(scopes.split()) - {UPLOAD},
        # Absent means every borough; anything else, null included, must be a list.
        _read_boroughs(claims["boroughs"]) if "boroughs" in claims else None,
        role,
    )
    return Grant(principal, expires_at_s + rules.leeway_s)


def _judge_times(
    claims: Mapping[str, Any], *, rules: TokenRules, now: datetime
) -> tuple[float, float]:
    """Check audience and times; return (iat, exp) in seconds since 1970."""
    audience = claims.get("aud")
    if audience != rules.audience and not (
        isinstance(audience, list) and rules.audience in audience
    ):
        reason = f"aud must be '{rules.audience}'"
        raise Unauthorized(reason)
    now_s = now.timestamp()
    issued_at_s = _read_time("iat", claims.get("iat"))
    expires_at_s = _read_time("exp", claims.get("exp"))
    not_before_s = _read_time("nbf", claims.get("nbf", issued_at_s))
    if expires_at_s <= now_s - rules.leeway_s:
        reason = "the token's exp has passed"
        raise TokenExpired(reason)
    if max(issued_at_s, not_before_s) > now_s + rules.leeway_s:
        reason = "the token is from the future: check the clock against GET /v1/time"
        raise Unauthorized(reason)
    return issued_at_s, expires_at_s


def _read_time(name: str, value: object) -> float:
    # bool is an int. NaN is in no range: as an exp it would never pass.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _TIME_MAX:
        reason = f"{name} must be a number of seconds since 1970"
        raise Unauthorized(reason)
    return value


def _read_name(claim: str, value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _CHARS_MAX or not value.isprintable():
        reason = f"{claim} must be 1 to {_CHARS_MAX} printable characters"
        raise Unauthorized(reason)
    return value


def _read_boroughs(value: object) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        reason = "boroughs must be a list of names"
        raise Unauthorized(reason)
    return frozenset(value)
