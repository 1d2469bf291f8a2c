import hashlib
import json
from uuid import uuid4

import pytest

from ingest_service.dock.failures import FileChanged, ReceiptRefused
from ingest_service.dock.release import erase_recording, verify_release
from ingest_service.domain.cosignature import make_policy
from ingest_service.domain.note import COSIGNATURE_TYPE, make_verifier_key
from tests.dock.fake_service import SIGNER_NAME, Signer, make_leaf
from tests.paper_log import PaperLog

CONTENT = b"footage"
SHA256_HEX = hashlib.sha256(CONTENT).hexdigest()
OTHER_HEX = hashlib.sha256(b"other").hexdigest()
CLIP_ID = uuid4()


@pytest.fixture
def signer() -> Signer:
    return Signer()


def verify(signer, receipt, **pinned):
    return verify_release(
        receipt,
        verifier_key=signer.verifier_key,
        clip_id=CLIP_ID,
        sha256_hex=SHA256_HEX,
        size_bytes=len(CONTENT),
        **pinned,
    )


def test_a_receipt_for_this_file_is_believed(signer):
    receipt = signer.sign_receipt(make_leaf(CLIP_ID, SHA256_HEX, len(CONTENT)))

    assert verify(signer, receipt).sha256_readback == SHA256_HEX


@pytest.mark.parametrize(
    ("leaf", "reason"),
    [
        (make_leaf(uuid4(), SHA256_HEX, 7), "about clip"),
        (make_leaf(CLIP_ID, SHA256_HEX, 8), "8 bytes"),
        (make_leaf(CLIP_ID, OTHER_HEX, 7), "SHA-256 received"),
        (make_leaf(CLIP_ID, SHA256_HEX, 7, sha256_readback=OTHER_HEX), "read back"),
        (make_leaf(CLIP_ID, SHA256_HEX, 7) | {"type": "clip.sealed"}, "clip.secured"),
        ({"type": "clip.secured"}, "facts"),
    ],
)
def test_a_genuine_receipt_for_something_else_is_refused(signer, leaf, reason):
    with pytest.raises(ReceiptRefused, match=reason):
        verify(signer, signer.sign_receipt(leaf))


def test_a_receipt_signed_by_another_key_is_refused(signer):
    receipt = Signer().sign_receipt(make_leaf(CLIP_ID, SHA256_HEX, len(CONTENT)))

    with pytest.raises(ReceiptRefused):
        verify(signer, receipt)


def test_a_key_that_borrows_the_pinned_name_and_id_is_refused(signer):
    forged = Signer().sign_receipt(make_leaf(CLIP_ID, SHA256_HEX, len(CONTENT)))
    key_id = signer.verifier_key.split("+", 2)[1]

    with pytest.raises(ReceiptRefused):
        verify(signer, forged.model_copy(update={"key_id": key_id}))


def test_a_signed_statement_that_is_not_in_the_log_is_refused(signer):
    """The key alone is not enough: what it signs must stand in the log."""
    leaf = json.dumps(make_leaf(CLIP_ID, SHA256_HEX, len(CONTENT))).encode()
    others = PaperLog(SIGNER_NAME, signer.key, [b"before", b"and", b"another", b"after"])

    with pytest.raises(ReceiptRefused, match="does not lead to the root"):
        verify(signer, signer.make_receipt(leaf, others.proof(2)))


def test_a_proof_under_another_logs_checkpoint_is_refused(signer):
    """A log of the thief's own, whose checkpoint he signs himself."""
    leaf = json.dumps(make_leaf(CLIP_ID, SHA256_HEX, len(CONTENT))).encode()
    thiefs = PaperLog(SIGNER_NAME, Signer().key, [b"before", b"and", leaf, b"after"])

    with pytest.raises(ReceiptRefused, match="carries no signature"):
        verify(signer, signer.make_receipt(leaf, thiefs.proof(2)))


@pytest.mark.parametrize("signature", ["", "é", "AAAA", "!!"])
def test_a_garbled_signature_is_refused(signer, signature):
    receipt = signer.sign_receipt(make_leaf(CLIP_ID, SHA256_HEX, len(CONTENT)))

    with pytest.raises(ReceiptRefused):
        verify(signer, receipt.model_copy(update={"signature": signature}))


def test_a_receipt_that_no_pinned_witness_cosigned_is_refused(signer):
    receipt = signer.sign_receipt(make_leaf(CLIP_ID, SHA256_HEX, len(CONTENT)))
    witness = make_verifier_key("witness.example", Signer().public_key, kind=COSIGNATURE_TYPE)

    with pytest.raises(ReceiptRefused, match="1 must have"):
        verify(signer, receipt, witnesses=make_policy([witness], 1))
    assert verify(signer, receipt, witnesses=make_policy([witness], 0)).segment_no == 0


async def test_a_file_that_was_secured_is_erased_with_its_sidecar(tmp_path, signer):
    path, sidecar_path = tmp_path / "clip.mp4", tmp_path / "clip.mp4.ingest.json"
    path.write_bytes(CONTENT)
    sidecar_path.write_text("{}")
    facts = verify(signer, signer.sign_receipt(make_leaf(CLIP_ID, SHA256_HEX, len(CONTENT))))

    await erase_recording(path, sidecar_path, facts=facts)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"FOOTAGE", b"footage and more", b""])
async def test_a_file_that_is_not_what_was_secured_is_kept(tmp_path, signer, content):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    facts = verify(signer, signer.sign_receipt(make_leaf(CLIP_ID, SHA256_HEX, len(CONTENT))))

    with pytest.raises(FileChanged):
        await erase_recording(path, tmp_path / "clip.mp4.ingest.json", facts=facts)

    assert path.read_bytes() == content
