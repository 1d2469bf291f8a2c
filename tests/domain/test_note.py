"""Verifier keys and signatures, against vectors made by openssl."""

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.domain.note import (
    NoteInvalid,
    make_verifier_key,
    parse_verifier_key,
    verify_signature,
)

VECTORS = Path(__file__).parent.parent / "vectors" / "receipt"
VERIFIER_KEY = (VECTORS / "verifier_key.txt").read_text().strip()
MESSAGE = b"ingest release receipt v1\n" + (VECTORS / "leaf.json").read_bytes()
SIGNATURE = base64.b64decode((VECTORS / "signature.txt").read_text())


def test_a_key_and_signature_made_by_openssl_are_accepted():
    verify_signature(parse_verifier_key(VERIFIER_KEY), MESSAGE, SIGNATURE)


def test_a_verifier_key_is_made_as_openssl_and_sha256sum_make_it():
    key = parse_verifier_key(VERIFIER_KEY)

    assert make_verifier_key("example.org/custody", key.public_key) == VERIFIER_KEY


@given(
    name=st.from_regex(r"[a-z0-9./-]{1,40}", fullmatch=True),
    public_key=st.binary(min_size=32, max_size=32),
)
def test_every_verifier_key_reads_back_as_it_was_made(name, public_key):
    key = parse_verifier_key(make_verifier_key(name, public_key))

    assert (key.name, key.public_key) == (name, public_key)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.org/custody",
        "example.org/custody+2cb981a2",
        VERIFIER_KEY.replace("example.org", "example.com"),
        VERIFIER_KEY.replace("custody", "cust ody"),
        VERIFIER_KEY.upper(),
        VERIFIER_KEY[:-4],
        VERIFIER_KEY + "\u00e9",
        # Another algorithm's type byte in front of the same key.
        "+".join([*VERIFIER_KEY.split("+", 2)[:2], base64.b64encode(b"\x04" + bytes(32)).decode()]),
    ],
)
def test_a_changed_verifier_key_is_refused(text):
    with pytest.raises(NoteInvalid):
        parse_verifier_key(text)


@given(position=st.integers(0, len(SIGNATURE) * 8 - 1))
def test_a_signature_with_one_bit_changed_is_refused(position):
    changed = bytearray(SIGNATURE)
    changed[position // 8] ^= 1 << position % 8

    with pytest.raises(NoteInvalid):
        verify_signature(parse_verifier_key(VERIFIER_KEY), MESSAGE, bytes(changed))


def test_a_signature_by_another_key_is_refused():
    with pytest.raises(NoteInvalid):
        verify_signature(
            parse_verifier_key(VERIFIER_KEY), MESSAGE, Ed25519PrivateKey.generate().sign(MESSAGE)
        )
