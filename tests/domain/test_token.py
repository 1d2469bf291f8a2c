"""Which keys and claims are taken: every way to lie with a token is refused."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta

import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from ingest_service.dock.station_token import StationToken, load_station_key, make_thumbprint
from ingest_service.domain.principal import UPLOAD
from ingest_service.domain.token import (
    TokenRules,
    import_signing_key,
    import_station_key,
    import_verifying_key,
    judge_service_claims,
    judge_station_claims,
    make_private_key,
    read_key_file,
    read_key_id,
    sign_role_token,
    sign_station_token,
    sign_token,
    verify_token,
)
from ingest_service.errors import InvalidRequest, TokenExpired, Unauthorized

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
NOW_S = int(NOW.timestamp())
RULES = TokenRules(
    audience="ingest", issuer="https://idp.test", leeway_s=30, station_lifetime_max_s=3600
)
STATION_CLAIMS = {
    "iss": "dock-1",
    "sub": "dock-1",
    "aud": "ingest",
    "iat": NOW_S,
    "exp": NOW_S + 600,
}
SERVICE_CLAIMS = {
    "iss": "https://idp.test",
    "sub": "case-system",
    "aud": "ingest",
    "iat": NOW_S,
    "exp": NOW_S + 600,
    "scope": "clips:read events:read",
}


@pytest.fixture(params=["Ed25519", "P-256"])
def station_key(request):
    return import_signing_key(make_private_key(request.param))


def encode(part):
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


# --- keys --------------------------------------------------------------------------------


def test_a_key_id_is_the_thumbprint_of_rfc_8037():
    # RFC 8037, appendix A.3.
    key = import_verifying_key(
        {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    )

    assert key.key_id == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_a_private_key_is_recorded_without_its_secret(station_key):
    private_jwk = station_key.key.as_dict(private=True)

    assert "d" in private_jwk
    assert "d" not in import_station_key(private_jwk).public_jwk


@pytest.mark.parametrize(
    ("kind", "size"),
    [(OctKey, 256), (OKPKey, "X25519"), (OKPKey, "Ed448"), (ECKey, "secp256k1"), (RSAKey, 1024)],
)
@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
def test_a_key_of_a_kind_that_is_not_taken_is_refused(kind, size):
    jwk = kind.generate_key(size).as_dict(private=kind is OctKey)

    with pytest.raises(InvalidRequest):
        import_verifying_key(jwk)


@pytest.mark.parametrize(
    "key",
    [ECKey.generate_key("P-384"), RSAKey.generate_key(2048)],
    ids=["P-384", "RSA"],
)
def test_a_station_signs_with_ed25519_or_p256_only(key):
    with pytest.raises(InvalidRequest, match=r"Ed25519 or P-256"):
        import_station_key(key.as_dict(private=False))


@pytest.mark.parametrize(
    "jwk",
    [
        {},
        {"kty": "OKP"},
        {"kty": "OKP", "crv": "Ed25519", "x": "!"},
        {"kty": "OKP", "crv": "Ed25519", "x": ["a"]},
        {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"},
        {"kty": ["OKP"], "crv": "Ed25519", "x": "AAAA"},
        {"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"},
        {"kty": "EC", "crv": "P-256", "x": encode(bytes(32)), "y": encode(bytes(32))},
    ],
)
def test_a_malformed_key_is_refused(jwk):
    with pytest.raises(InvalidRequest):
        import_verifying_key(jwk)


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"hello", b"-----BEGIN PRIVATE KEY-----"])
def test_a_file_that_is_no_key_is_refused(content):
    with pytest.raises(InvalidRequest):
        import_signing_key(content)


def test_a_key_file_may_be_json_or_pem(station_key):
    as_json = json.dumps(station_key.key.as_dict(private=True)).encode()
    as_pem = station_key.key.as_pem(private=False)

    assert {import_station_key(read_key_file(content)).key_id for content in (as_json, as_pem)} == {
        station_key.verifying_key.key_id
    }


# --- signatures --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Ed25519", "P-256"])
def test_the_docks_own_token_is_understood(kind):
    pem = make_private_key(kind)
    dock_key = load_station_key(pem)
    token = StationToken("dock-1", dock_key, now=NOW.timestamp).get()

    key = import_signing_key(pem).verifying_key
    assert read_key_id(token) == make_thumbprint(dock_key) == key.key_id
    grant = judge_station_claims(verify_token(token, key), "dock-1", rules=RULES, now=NOW)
    assert (grant.principal.kind, grant.principal.id) == ("station", "dock-1")


def test_a_token_of_another_key_is_refused(station_key):
    token = sign_station_token(station_key, "dock-1", now=NOW)
    other = import_signing_key(make_private_key()).verifying_key

    with pytest.raises(Unauthorized):
        verify_token(token, other)


@pytest.mark.parametrize("alg", ["none", "HS256", "RS256", "ES256", "ES384", "Ed448", "", 7, None])
def test_the_header_does_not_choose_the_algorithm(alg):
    key = import_signing_key(make_private_key("Ed25519")).verifying_key
    signing_input = f"{encode({'alg': alg, 'kid': key.key_id})}.{encode(STATION_CLAIMS)}".encode()
    # The classic confusion: the public key as the secret of a MAC.
    public_bytes = key.key.as_pem(private=False)
    mac = hmac.new(public_bytes, signing_input, hashlib.sha256).digest()

    for signature in (b"", mac):
        with pytest.raises(Unauthorized):
            verify_token(f"{signing_input.decode()}.{encode(signature)}", key)


def test_a_token_may_name_its_algorithm_as_rfc_9864_does():
    signing_key = import_signing_key(make_private_key("Ed25519"))
    header = {"alg": "Ed25519", "kid": signing_key.verifying_key.key_id}
    signing_input = f"{encode(header)}.{encode(STATION_CLAIMS)}".encode()
    signature = signing_key.key.private_key.sign(signing_input)

    token = f"{signing_input.decode()}.{encode(signature)}"
    assert verify_token(token, signing_key.verifying_key) == STATION_CLAIMS


def test_a_changed_claim_is_refused(station_key):
    header, _, signature = sign_token(station_key, STATION_CLAIMS).split(".")
    forged = encode(STATION_CLAIMS | {"sub": "dock-2"})

    with pytest.raises(Unauthorized):
        verify_token(f"{header}.{forged}.{signature}", station_key.verifying_key)


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "\u00e9.\u00e9.\u00e9",
        "\ud800",
        encode([]) + ".e30.e30",
        encode(["alg"]) + ".e30.e30",
        encode({"alg": "EdDSA"}) + ".e30.e30",
        encode({"alg": "EdDSA", "kid": 7}) + ".e30.e30",
        encode({"alg": "EdDSA", "kid": ""}) + ".e30.e30",
        encode({"alg": "EdDSA", "kid": "a\x00"}) + ".e30.e30",
        encode(b'{"alg":"EdDSA","kid":"\\ud800"}') + ".e30.e30",
        encode({"alg": "EdDSA", "kid": "k" * 201}) + ".e30.e30",
        encode({"alg": "EdDSA", "kid": "k", "crit": ["b64"], "b64": False}) + ".e30.e30",
        encode(b"[" * 3000) + ".e30.e30",
        "e30." * 10_000,
    ],
)
def test_what_is_no_token_is_refused_before_any_key_is_looked_up(token):
    with pytest.raises(Unauthorized):
        read_key_id(token)


@pytest.mark.parametrize("payload", [b"", b"[]", b"7", b"{", b"[" * 5000, b"\xff"])
def test_signed_claims_that_are_no_object_are_refused(payload):
    signing_key = import_signing_key(make_private_key("Ed25519"))
    header = {"alg": "EdDSA", "kid": signing_key.verifying_key.key_id}
    signing_input = f"{encode(header)}.{encode(payload)}".encode()
    signature = signing_key.key.private_key.sign(signing_input)

    with pytest.raises(Unauthorized):
        verify_token(f"{signing_input.decode()}.{encode(signature)}", signing_key.verifying_key)


# --- claims ------------------------------------------------------------------------------


def test_a_station_is_granted_to_upload_and_nothing_else():
    grant = judge_station_claims(
        STATION_CLAIMS | {"scope": "operate clips:read", "kind": "person"},
        "dock-1",
        rules=RULES,
        now=NOW,
    )

    assert grant.principal.scopes == {UPLOAD}


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "dock-2"},
        {"sub": "dock-2"},
        {"sub": None},
        {"aud": "other"},
        {"aud": None},
        {"aud": ["other"]},
        {"aud": {"ingest": 1}},
        {"exp": None},
        {"exp": "soon"},
        {"exp": True},
        {"exp": float("nan")},
        {"exp": float("inf")},
        {"exp": 10**400},
        {"iat": None},
        {"iat": -1},
        {"iat": NOW_S + 31},
        {"nbf": NOW_S + 31},
        {"nbf": "later"},
        {"exp": NOW_S + 3601},
    ],
)
def test_a_station_that_claims_anything_else_is_refused(change):
    with pytest.raises(Unauthorized) as refusal:
        judge_station_claims(STATION_CLAIMS | change, "dock-1", rules=RULES, now=NOW)
    assert not isinstance(refusal.value, TokenExpired)


def test_a_station_cannot_live_longer_by_dating_back():
    claims = STATION_CLAIMS | {"iat": NOW_S - 3600, "exp": NOW_S + 600}

    with pytest.raises(Unauthorized, match="lives at most"):
        judge_station_claims(claims, "dock-1", rules=RULES, now=NOW)


@pytest.mark.parametrize(("late_s", "is_good"), [(29, True), (30, False), (31, False)])
def test_a_token_expires_after_the_leeway(late_s, is_good):
    now = NOW + timedelta(seconds=600 + late_s)

    if is_good:
        judge_station_claims(STATION_CLAIMS, "dock-1", rules=RULES, now=now)
    else:
        with pytest.raises(TokenExpired):
            judge_station_claims(STATION_CLAIMS, "dock-1", rules=RULES, now=now)


@pytest.mark.parametrize("claim", ["iat", "nbf"])
@pytest.mark.parametrize(("ahead_s", "is_good"), [(29, True), (30, True), (30.1, False)])
def test_a_clock_may_be_ahead_by_the_leeway_and_no_more(claim, ahead_s, is_good):
    claims = STATION_CLAIMS | {claim: NOW_S + ahead_s}

    if is_good:
        judge_station_claims(claims, "dock-1", rules=RULES, now=NOW)
    else:
        with pytest.raises(Unauthorized, match="from the future"):
            judge_station_claims(claims, "dock-1", rules=RULES, now=NOW)


@pytest.mark.parametrize(("lifetime_s", "is_good"), [(3600, True), (3600.1, False)])
def test_a_station_may_sign_for_the_longest_lifetime_and_no_longer(lifetime_s, is_good):
    claims = STATION_CLAIMS | {"iat": NOW_S, "exp": NOW_S + lifetime_s}

    if is_good:
        judge_station_claims(claims, "dock-1", rules=RULES, now=NOW)
    else:
        with pytest.raises(Unauthorized, match="lives at most"):
            judge_station_claims(claims, "dock-1", rules=RULES, now=NOW)


def test_a_service_is_granted_its_scopes_and_boroughs():
    grant = judge_service_claims(
        SERVICE_CLAIMS | {"boroughs": ["Croydon"], "role": "reader", "kind": "person"},
        rules=RULES,
        now=NOW,
    )

    principal = grant.principal
    assert (principal.kind, principal.id, principal.role) == ("person", "case-system", "reader")
    assert principal.scopes == {"clips:read", "events:read"}
    assert principal.boroughs == {"Croydon"}


def test_a_list_of_audiences_may_name_ours():
    judge_service_claims(SERVICE_CLAIMS | {"aud": ["other", "ingest"]}, rules=RULES, now=NOW)


def test_no_service_may_bring_footage_in():
    grant = judge_service_claims(
        SERVICE_CLAIMS | {"scope": "upload clips:read"}, rules=RULES, now=NOW
    )

    assert grant.principal.scopes == {"clips:read"}


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://other.test"},
        {"iss": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "a\nb"},
        {"kind": "station"},
        {"kind": ["person"]},
        {"scope": ["clips:read"]},
        {"scope": None},
        {"boroughs": "Croydon"},
        {"boroughs": [7]},
        {"boroughs": {}},
        {"boroughs": False},
        {"boroughs": None},
        {"role": 7},
    ],
)
def test_a_service_claim_that_is_not_understood_grants_nothing(change):
    with pytest.raises(Unauthorized):
        judge_service_claims(SERVICE_CLAIMS | change, rules=RULES, now=NOW)


def test_an_empty_list_of_boroughs_is_no_borough():
    grant = judge_service_claims(SERVICE_CLAIMS | {"boroughs": []}, rules=RULES, now=NOW)

    assert not grant.principal.may_see_borough("Croydon")


def test_a_role_token_grants_the_scopes_of_the_role():
    issuer = import_signing_key(make_private_key())
    token = sign_role_token(
        issuer, "auditor", now=NOW, lifetime=timedelta(hours=1), issuer="https://idp.test"
    )

    claims = verify_token(token, issuer.verifying_key)
    grant = judge_service_claims(claims, rules=RULES, now=NOW)
    assert "audit:read" in grant.principal.scopes
