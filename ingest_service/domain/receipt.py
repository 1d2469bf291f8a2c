"""The release receipt: a leaf of the custody log with its proof, and how a dock checks it."""

import base64
import json
from typing import Any, Final

from pydantic import ValidationError

from ingest_service.domain.checkpoint import LogProof, parse_proof, verify_proof
from ingest_service.domain.cosignature import NO_WITNESSES, WitnessPolicy
from ingest_service.domain.custody import hash_leaf
from ingest_service.domain.merkle import ProofInvalid
from ingest_service.domain.note import (
    NoteInvalid,
    VerifierKey,
    parse_verifier_key,
    verify_signature,
)
from schemas.certificate import ErasedFacts
from schemas.receipt import Receipt, SecuredFacts

SECURED_TYPE: Final = "clip.secured"
ERASED_TYPE: Final = "erase.executed"

# Separates receipts from whatever else the same key signs: no checkpoint is ever a receipt.
_PREFIX: Final = b"ingest release receipt v1\n"
_CERTIFICATE_PREFIX: Final = b"ingest erasure certificate v1\n"


class ReceiptInvalid(ValueError):
    """The receipt proves nothing; the camera keeps its copy. The message says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def signed_message(leaf: bytes) -> bytes:
    """Return the exact bytes that the signature beside a proof covers."""
    return _PREFIX + leaf


def certified_message(leaf: bytes) -> bytes:
    """Return the exact bytes that the signature of an erasure certificate covers."""
    return _CERTIFICATE_PREFIX + leaf


def make_receipt(
    leaf: bytes, log_index: int, proof: str, *, signer_name: str, key_id: str, signature: bytes
) -> Receipt:
    """Put a leaf, its tlog-proof@v1 and the signature over `signed_message(leaf)` into one body."""
    return Receipt(
        leaf=leaf.decode(),
        log_index=log_index,
        proof=proof,
        key_name=signer_name,
        key_id=key_id,
        signature=base64.b64encode(signature).decode(),
    )


def format_leaf_proof(leaf: bytes, proof: str) -> str:
    """Return a leaf's exact bytes on one line, and its proof: what RFC 8785 never breaks."""
    return f"{leaf.decode()}\n{proof}"


def parse_leaf_proof(text: str) -> tuple[bytes, str]:
    """Return the leaf and the proof of such a text; nothing is verified yet."""
    leaf, _, proof = text.partition("\n")
    return leaf.encode(), proof


def verify_receipt(
    receipt: Receipt, verifier_key: str, witnesses: WitnessPolicy = NO_WITNESSES
) -> SecuredFacts:
    """Check a receipt under a pinned verifier key and return what it proves. Needs no network.

    Whoever erases compares `sha256` and `size_bytes` with its own file afterwards: a receipt
    proves that a clip is safe, not that it is this clip.

    Raises:
        ReceiptInvalid: another key, a changed byte, a leaf that is not in the log, too few
            cosignatures, or a statement of something else.
    """
    leaf = receipt.leaf.encode("utf-8", "surrogatepass")
    _verify_signed(receipt, signed_message(leaf), verifier_key, witnesses)
    return read_secured_facts(leaf)


def verify_certificate(
    certificate: Receipt, verifier_key: str, witnesses: WitnessPolicy = NO_WITNESSES
) -> ErasedFacts:
    """Check an erasure certificate under a pinned verifier key and return what it proves.

    Raises:
        ReceiptInvalid: as `verify_receipt`.
    """
    leaf = certificate.leaf.encode("utf-8", "surrogatepass")
    _verify_signed(certificate, certified_message(leaf), verifier_key, witnesses)
    return read_erased_facts(leaf)


def _verify_signed(
    receipt: Receipt, message_bytes: bytes, verifier_key: str, witnesses: WitnessPolicy
) -> None:
    leaf = receipt.leaf.encode("utf-8", "surrogatepass")
    try:
        signature = base64.b64decode(receipt.signature, validate=True)
    except ValueError as error:  # not base64, or not even ASCII
        message = "the signature is not base64"
        raise ReceiptInvalid(message) from error
    try:
        key = parse_verifier_key(verifier_key)
        if (receipt.key_name, receipt.key_id) != (key.name, key.key_id):
            message = f"signed by {receipt.key_name}+{receipt.key_id}, which is not the pinned key"
            raise ReceiptInvalid(message)
        verify_signature(key, message_bytes, signature)
    except NoteInvalid as error:
        raise ReceiptInvalid(str(error)) from error
    proof = verify_logged(leaf, receipt.proof, key, witnesses)
    if proof.index != receipt.log_index:
        message = f"the proof is of index {proof.index}, not {receipt.log_index}"
        raise ReceiptInvalid(message)


def verify_logged(
    leaf: bytes, proof: str, key: VerifierKey, witnesses: WitnessPolicy = NO_WITNESSES
) -> LogProof:
    """Check that the log of this key holds the leaf; return the proof that shows it.

    Raises:
        ReceiptInvalid: it does not, too few witnesses have seen that log, or the proof is of
            another log or cannot be read.
    """
    try:
        parsed = parse_proof(proof)
        verify_proof(parsed, hash_leaf(leaf), key)
        witnesses.verify(parsed.signed)
    except (NoteInvalid, ProofInvalid, UnicodeError) as error:
        raise ReceiptInvalid(str(error)) from error
    return parsed


def read_secured_facts(leaf: bytes) -> SecuredFacts:
    """Read the facts of a leaf that was verified.

    Raises:
        ReceiptInvalid: the leaf is no `clip.secured` event, or the read-back found other bytes.
    """
    event = _read_event(leaf, SECURED_TYPE)
    try:
        facts = SecuredFacts.model_validate(event.get("facts"))
    except ValidationError as error:
        message = "the leaf does not hold the facts of a secured clip"
        raise ReceiptInvalid(message) from error
    if event.get("clip_id", str(facts.clip_id)) != str(facts.clip_id):
        message = "the leaf names two clips"
        raise ReceiptInvalid(message)
    if facts.sha256 != facts.sha256_readback:
        message = "the bytes read back from storage are not the bytes received"
        raise ReceiptInvalid(message)
    return facts


def read_erased_facts(leaf: bytes) -> ErasedFacts:
    """Read the facts of a leaf that was verified.

    Raises:
        ReceiptInvalid: the leaf is no `erase.executed` event.
    """
    event = _read_event(leaf, ERASED_TYPE)
    try:
        facts = ErasedFacts.model_validate(event.get("facts"))
    except ValidationError as error:
        message = "the leaf does not hold the facts of an erased clip"
        raise ReceiptInvalid(message) from error
    if event.get("clip_id", str(facts.clip_id)) != str(facts.clip_id):
        message = "the leaf names two clips"
        raise ReceiptInvalid(message)
    return facts


def _read_event(leaf: bytes, event_type: str) -> dict[str, Any]:
    try:
        event = json.loads(leaf)
    except (ValueError, RecursionError) as error:
        message = "the leaf is not JSON"
        raise ReceiptInvalid(message) from error
    if not isinstance(event, dict) or event.get("type") != event_type:
        message = f"the leaf is not a {event_type} event"
        raise ReceiptInvalid(message)
    return event
