import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey

from ingest_service.dock.failures import TargetUnusable
from ingest_service.dock.station_token import StationToken, load_station_key


def to_pem(key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


KEYS = [
    pytest.param(Ed25519PrivateKey.generate(), OKPKey, "EdDSA", id="ed25519"),
    pytest.param(ec.generate_private_key(ec.SECP256R1()), ECKey, "ES256", id="p256"),
]


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
@pytest.mark.parametrize(("key", "shape", "algorithm"), KEYS)
def test_a_jose_library_accepts_the_token(key, shape, algorithm):
    public = shape.import_key(to_pem(key))
    token = StationToken("st-1", load_station_key(to_pem(key)), now=lambda: 1_000.9).get()

    verified = jws.deserialize_compact(token, public, algorithms=[algorithm])

    claims = json.loads(verified.payload)
    assert len(claims.pop("jti")) == 32
    assert claims == {"iss": "st-1", "sub": "st-1", "aud": "ingest", "iat": 1_000, "exp": 1_300}
    assert verified.headers()["kid"] == public.thumbprint()


class Clock:
    now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def token(clock) -> StationToken:
    return StationToken("st-1", Ed25519PrivateKey.generate(), now=clock)


def test_a_token_serves_until_its_last_minute(token, clock):
    first = token.get()
    clock.now_s += 239

    assert token.get() == first


def test_a_token_is_renewed_in_its_last_minute(token, clock):
    first = token.get()
    clock.now_s += 241

    assert token.get() != first


def test_a_token_is_dated_by_the_servers_clock(token):
    token.set_offset(500_000)

    payload = jws.extract_compact(token.get().encode()).payload

    assert json.loads(payload)["iat"] == 501_000


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"-----BEGIN PRIVATE KEY-----\nnonsense\n-----END PRIVATE KEY-----\n",
        to_pem(rsa.generate_private_key(65537, 2048)),
        to_pem(ec.generate_private_key(ec.SECP384R1())),
    ],
)
def test_another_kind_of_key_is_refused(pem):
    with pytest.raises(TargetUnusable):
        load_station_key(pem)
