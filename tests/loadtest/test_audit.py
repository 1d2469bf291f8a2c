"""The audit sees every byte that is not the one that was sent."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ingest_service.domain.note import make_verifier_key, parse_verifier_key
from ingest_service.domain.receipt import make_receipt, signed_message
from loadtest.audit import Findings, Store, check_receipts, read_objects
from loadtest.dock import Outcome
from loadtest.receipt_check import BadReceipt, ReceiptCheck
from loadtest.reel import Reel
from schemas.receipt import SecuredFacts
from tests.paper_log import PaperLog

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
VERIFIER_KEY = make_verifier_key("load.test/custody", KEY.public_key().public_bytes_raw())
REEL = Reel("audit", 7, 100_000)
SERIAL = "BWC-000007"
MOMENT = "2026-11-22T10:00:00Z"


def make_facts(**changes):
    facts = {
        "clip_id": "0199c0de-5f0a-7b7c-8d1e-2f3a4b5c6d7e",
        "device_serial": SERIAL,
        "recording_id": REEL.recording_id,
        "segment_no": 0,
        "size_bytes": REEL.size_bytes,
        "sha256": REEL.sha256().hex(),
        "sha256_readback": REEL.sha256().hex(),
        "bucket": "evidence",
        "object_key": "audit/7",
        "object_version": None,
        "announced_at": MOMENT,
        "sealed_at": MOMENT,
        "secured_at": MOMENT,
    }
    return facts | changes


def sign(facts, kind="clip.secured", proof=None):
    leaf = json.dumps({"type": kind, "facts": facts}).encode()
    key_id = parse_verifier_key(VERIFIER_KEY).key_id
    return make_receipt(
        leaf,
        1,
        proof or PaperLog("load.test/custody", KEY, [b"first", leaf, b"third"]).proof(1),
        signer_name="load.test/custody",
        key_id=key_id,
        signature=KEY.sign(signed_message(leaf)),
    ).model_dump_json()


def audit_receipt(receipt):
    findings = Findings()
    outcome = Outcome(REEL.number, SERIAL, REEL.size_bytes, receipt=receipt)
    proved = check_receipts([REEL], {REEL.number: outcome}, ReceiptCheck(VERIFIER_KEY), findings)
    return findings, proved


def test_good_receipt_proves_its_clip():
    findings, proved = audit_receipt(sign(make_facts()))

    assert findings.is_clean
    assert proved[REEL.number].object_key == "audit/7"


@pytest.mark.parametrize(
    "changes",
    [
        {"recording_id": "audit-000008"},
        {"device_serial": "BWC-000008"},
        {"size_bytes": REEL.size_bytes - 1},
        {"sha256": "00" * 32, "sha256_readback": "00" * 32},
        {"sha256_readback": "00" * 32},
    ],
)
def test_receipt_for_anything_else_is_bad(changes):
    findings, proved = audit_receipt(sign(make_facts(**changes)))

    assert len(findings.bad_receipts) == 1
    assert not proved


def test_changed_receipt_is_bad():
    findings, _ = audit_receipt(sign(make_facts()).replace("audit/7", "audit/8"))

    assert len(findings.bad_receipts) == 1


def test_signature_over_another_event_is_no_receipt():
    findings, _ = audit_receipt(sign(make_facts(), kind="clip.sealed"))

    assert len(findings.bad_receipts) == 1


def test_receipt_whose_leaf_is_not_in_the_log_is_bad():
    others = PaperLog("load.test/custody", KEY, [b"first", b"another", b"third"])

    findings, _ = audit_receipt(sign(make_facts(), proof=others.proof(1)))

    assert len(findings.bad_receipts) == 1


def test_receipt_under_a_checkpoint_of_another_key_is_bad():
    thief = Ed25519PrivateKey.generate()
    leaf = json.dumps({"type": "clip.secured", "facts": make_facts()}).encode()
    thiefs = PaperLog("load.test/custody", thief, [b"first", leaf, b"third"])

    findings, _ = audit_receipt(sign(make_facts(), proof=thiefs.proof(1)))

    assert len(findings.bad_receipts) == 1


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8, 100])
def test_every_leaf_of_a_log_is_found_in_it(size):
    leaf = json.dumps({"type": "clip.secured", "facts": make_facts()}).encode()
    log = PaperLog("load.test/custody", KEY, [leaf] * size)
    check = ReceiptCheck(VERIFIER_KEY)

    for index in range(size):
        receipt = json.loads(sign(make_facts(), proof=log.proof(index))) | {"log_index": index}
        assert check.read(json.dumps(receipt)).object_key == "audit/7"


def test_clip_without_receipt_is_lost():
    findings, _ = audit_receipt(None)

    assert len(findings.lost) == 1


def test_two_recordings_cannot_share_a_clip():
    findings, check = Findings(), ReceiptCheck(VERIFIER_KEY)
    other = Reel("audit", 8, 10)
    digest = other.sha256().hex()
    second = make_facts(
        recording_id=other.recording_id,
        device_serial="BWC-000008",
        size_bytes=10,
        sha256=digest,
        sha256_readback=digest,
    )
    outcomes = {
        7: Outcome(7, SERIAL, REEL.size_bytes, receipt=sign(make_facts())),
        8: Outcome(8, "BWC-000008", 10, receipt=sign(second)),
    }

    check_receipts([REEL, other], outcomes, check, findings)

    assert len(findings.bad_receipts) == 1


@pytest.mark.parametrize("text", ["", "name+00000000+AAAA", VERIFIER_KEY.replace("load", "lord")])
def test_key_that_is_none_is_refused(text):
    with pytest.raises((BadReceipt, ValueError)):
        ReceiptCheck(text)


def test_key_of_another_kind_is_refused():
    name, key_id, encoded = VERIFIER_KEY.split("+", 2)
    other = base64.b64encode(b"\x04" + base64.b64decode(encoded)[1:]).decode()
    with pytest.raises(BadReceipt):
        ReceiptCheck(f"{name}+{key_id}+{other}")


# --- the stored bytes ---------------------------------------------------------------------------


async def audit_object(seaweed, body):
    """Store a body where the clip should be and audit it."""
    store = Store(
        {
            "s3_endpoint": seaweed.endpoint,
            "s3_access_key": seaweed.access_key,
            "s3_secret_key": seaweed.secret_key,
        }
    )
    if body is not None:
        link = await store.open_link()
        stored = await store.ask(link, "PUT", "/evidence/audit/7", body=body)
        assert stored.status == 200, stored.body
        link.close()
    findings = Findings()
    key = "audit/7" if body is not None else "audit/never"
    facts = SecuredFacts.model_validate(make_facts(object_key=key))
    await read_objects([REEL], {REEL.number: facts}, store, findings)
    return findings


FOOTAGE = b"".join(REEL.blocks(0, REEL.size_bytes))


@pytest.mark.s3
async def test_right_bytes_are_clean(seaweed):
    findings = await audit_object(seaweed, FOOTAGE)

    assert findings.is_clean
    assert (findings.objects_read, findings.bytes_read) == (1, REEL.size_bytes)


@pytest.mark.s3
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (FOOTAGE[:50_000] + b"\x00" + FOOTAGE[50_001:], "wrong"),
        (FOOTAGE[:-1], "wrong"),
        (FOOTAGE + b"\x00", "wrong"),
        (None, "lost"),
    ],
)
async def test_other_bytes_are_found(seaweed, body, kind):
    findings = await audit_object(seaweed, body)

    assert len(getattr(findings, kind)) == 1
    assert findings.objects_read == 0
