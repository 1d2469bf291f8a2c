"""The release receipt, against a vector made by openssl, and checked by openssl alone."""

import base64
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from ingest_service.domain.note import parse_verifier_key
from ingest_service.domain.receipt import (
    ReceiptInvalid,
    make_receipt,
    signed_message,
    verify_receipt,
)
from ingest_service.signer import make_signing_key, open_local_signer
from schemas.receipt import Receipt
from tests.paper_log import PaperLog

VECTORS = Path(__file__).parent.parent / "vectors" / "receipt"
VERIFIER_KEY = (VECTORS / "verifier_key.txt").read_text()
PROOF = (VECTORS / "receipt.tlog-proof").read_text()
LEAF = (VECTORS / "leaf.json").read_bytes()
# DER in front of the 32 bytes of an Ed25519 public key (RFC 8410, section 4).
ED25519_DER = bytes.fromhex("302a300506032b6570032100")


@pytest.fixture
def golden():
    key = parse_verifier_key(VERIFIER_KEY)
    return make_receipt(
        LEAF,
        5,
        (VECTORS / "receipt.tlog-proof").read_text(),
        signer_name=key.name,
        key_id=key.key_id,
        signature=base64.b64decode((VECTORS / "signature.txt").read_text()),
    )


@pytest.fixture
def signer(tmp_path):
    make_signing_key(tmp_path / "key.pem")
    return open_local_signer(tmp_path / "key.pem", "ingest.test/custody")


def sign(signer, event, *, proof=None, signature=None):
    """Return a receipt for a leaf that stands in a log of three under the signer's key."""
    leaf = event if isinstance(event, bytes) else json.dumps(event).encode()
    return make_receipt(
        leaf,
        1,
        proof or log_of(signer, leaf).proof(1),
        signer_name=signer.name,
        key_id=signer.key_id,
        signature=signature or signer.sign(signed_message(leaf)),
    )


def log_of(signer, leaf):
    return PaperLog(signer.name, signer._private_key, [b"first", leaf, b"third"])


def test_a_receipt_signed_by_openssl_is_accepted(golden):
    facts = verify_receipt(golden, VERIFIER_KEY)

    assert (facts.size_bytes, facts.sha256[:8]) == (209715200, "9f86d081")


def test_a_receipt_of_ours_is_verified_by_openssl_alone(signer, tmp_path):
    receipt = sign(signer, LEAF)

    # What an outsider does with the receipt's JSON and the published verifier key.
    document = json.loads(receipt.model_dump_json())
    raw_key = base64.b64decode(signer.verifier_key.split("+", 2)[2])[1:]
    (tmp_path / "key.der").write_bytes(ED25519_DER + raw_key)
    message = b"ingest release receipt v1\n" + document["leaf"].encode()
    (tmp_path / "message").write_bytes(message)
    (tmp_path / "signature").write_bytes(base64.b64decode(document["signature"]))
    verified = subprocess.run(
        shlex.split(
            "openssl pkeyutl -verify -pubin -keyform DER -inkey key.der"
            " -rawin -in message -sigfile signature"
        ),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_a_receipt_survives_its_way_as_json(golden):
    received = Receipt.model_validate_json(golden.model_dump_json())

    assert verify_receipt(received, VERIFIER_KEY).device_serial == "BWC-004217"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("leaf", LEAF.decode().replace("209715200", "209715201")),
        ("leaf", LEAF.decode() + " "),
        ("leaf", "\ud800"),
        ("key_name", "example.com/custody"),
        ("key_id", "00000000"),
        ("signature", base64.b64encode(bytes(64)).decode()),
        ("signature", "not base64!"),
        ("signature", "\u00e9"),
        ("signature", ""),
        ("log_index", 4),
        ("proof", ""),
        ("proof", "\ud800"),
        ("proof", PROOF.replace("index 5", "index 4")),
        ("proof", PROOF.replace("index 5", "index 05")),
        ("proof", PROOF.replace("index 5", "index 7")),
        ("proof", PROOF.replace("tlog-proof@v1", "tlog-proof@v2")),
        ("proof", re.sub(r"(?<=index 5\n)[^\n]*\n", "", PROOF)),
        ("proof", re.sub(r"(?<=index 5\n)([^\n]*\n)", r"\1\1", PROOF)),
        ("proof", PROOF.replace("\n7\n", "\n8\n")),
        ("proof", PROOF.replace("\nexample.org", "\nexample.com")),
        ("proof", PROOF.partition("\u2014")[0]),
    ],
)
def test_a_changed_receipt_is_refused(golden, field, value):
    with pytest.raises(ReceiptInvalid):
        verify_receipt(golden.model_copy(update={field: value}), VERIFIER_KEY)


def test_a_receipt_under_another_pinned_key_is_refused(golden, signer):
    with pytest.raises(ReceiptInvalid, match="not the pinned key"):
        verify_receipt(golden, signer.verifier_key)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"type": "clip.sealed"}, "not a clip.secured event"),
        ({"facts": {}}, "does not hold the facts"),
        ({"facts": None}, "does not hold the facts"),
        ({"clip_id": "0199c0de-0000-7000-8000-000000000000"}, "names two clips"),
    ],
)
def test_a_signed_statement_of_something_else_is_refused(signer, change, reason):
    with pytest.raises(ReceiptInvalid, match=reason):
        verify_receipt(sign(signer, json.loads(LEAF) | change), signer.verifier_key)


def test_a_signed_read_back_of_other_bytes_is_refused(signer):
    event = json.loads(LEAF)
    event["facts"]["sha256_readback"] = "0" * 64

    with pytest.raises(ReceiptInvalid, match="not the bytes received"):
        verify_receipt(sign(signer, event), signer.verifier_key)


@pytest.mark.parametrize("leaf", [b"", b"[]", b"null", b"[" * 100_000])
def test_a_signed_leaf_that_is_no_event_is_refused(signer, leaf):
    with pytest.raises(ReceiptInvalid):
        verify_receipt(sign(signer, leaf), signer.verifier_key)


def test_a_leaf_that_was_signed_but_never_logged_is_refused(signer):
    receipt = sign(signer, LEAF, proof=log_of(signer, b"another leaf").proof(1))

    with pytest.raises(ReceiptInvalid, match="does not lead to the root"):
        verify_receipt(receipt, signer.verifier_key)


def test_what_a_proof_carries_beside_is_not_believed(signer):
    proof = log_of(signer, LEAF).proof(1).replace("index", "extra AAAA\nindex", 1)

    assert verify_receipt(sign(signer, LEAF, proof=proof), signer.verifier_key).segment_no == 0


def test_the_same_key_over_a_bare_leaf_is_no_receipt(signer):
    receipt = sign(signer, LEAF, signature=signer.sign(LEAF))

    with pytest.raises(ReceiptInvalid):
        verify_receipt(receipt, signer.verifier_key)
