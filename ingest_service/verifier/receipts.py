"""Check a receipt and a file against it; or the certificate of an erasure."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ingest_service.domain.checkpoint import (
    LogProof,
    SignedCheckpoint,
    parse_proof,
    verify_checkpoint,
)
from ingest_service.domain.cosignature import WitnessPolicy, find_cosignature
from ingest_service.domain.custody import format_time, hash_leaf
from ingest_service.domain.merkle import ProofInvalid, verify_inclusion
from ingest_service.domain.note import NoteInvalid, VerifierKey, verify_signature
from ingest_service.domain.receipt import (
    ReceiptInvalid,
    certified_message,
    read_erased_facts,
    read_secured_facts,
    signed_message,
)
from ingest_service.verifier.documents import DocumentUnreadable, KeptReceipt, read_receipt
from ingest_service.verifier.findings import Findings
from schemas.receipt import SecuredFacts

_BLOCK_BYTES: Final = 1024 * 1024


def check_receipt(
    content: bytes, *, key: VerifierKey, witnesses: WitnessPolicy, clip: Path | None
) -> Findings:
    """Check a receipt under a pinned key, and a file against it when one is given.

    clip  an existing file

    Raises:
        OSError: the clip cannot be read.
    """
    findings = Findings()
    try:
        receipt = read_receipt(content)
    except DocumentUnreadable as error:
        findings.fails("receipt", str(error))
        return findings
    _check_statement(receipt, key, findings, signed_message)
    _check_log(receipt, key, witnesses, findings)
    facts = _check_event(receipt, findings)
    if clip is None:
        findings.not_checked("clip", "no file was given to compare with (--clip)")
    elif facts is None:
        findings.not_verifiable("clip", "the receipt states no hash to compare the file with")
    else:
        _check_clip(clip, facts, findings)
    return findings


def check_certificate(content: bytes, *, key: VerifierKey, witnesses: WitnessPolicy) -> Findings:
    """Check the certificate of an erasure under a pinned key."""
    findings = Findings()
    try:
        certificate = read_receipt(content)
    except DocumentUnreadable as error:
        findings.fails("certificate", str(error))
        return findings
    _check_statement(certificate, key, findings, certified_message)
    _check_log(certificate, key, witnesses, findings)
    try:
        facts = read_erased_facts(certificate.leaf)
    except ReceiptInvalid as error:
        findings.fails("event", str(error))
        return findings
    findings.holds(
        "event",
        f"the leaf states: erased clip {facts.clip_id}, camera {facts.device_serial!a}, "
        f"{facts.size_bytes} bytes, SHA-256 {facts.sha256}",
    )
    findings.holds("rule", f"the leaf states: {facts.policy!a} ({facts.reason!a})")
    findings.not_checked(
        "statements",
        f"that no hold existed at {format_time(facts.no_hold_existed_at)}, and that the bytes are "
        "gone, are the service's word; the log shows that it was not changed since",
    )
    return findings


def _check_statement(
    receipt: KeptReceipt,
    key: VerifierKey,
    findings: Findings,
    make_message: Callable[[bytes], bytes],
) -> None:
    statement = receipt.statement
    if statement is None:
        return
    if (statement.key_name, statement.key_id) != (key.name, key.key_id):
        findings.fails(
            "statement",
            f"signed by {statement.key_name}+{statement.key_id}, which is not the given key",
        )
        return
    try:
        verify_signature(key, make_message(receipt.leaf), statement.signature)
    except NoteInvalid as error:
        findings.fails("statement", str(error))
        return
    findings.holds("statement", f"{key.name}+{key.key_id} signed the leaf itself, too")


def _check_log(
    receipt: KeptReceipt, key: VerifierKey, witnesses: WitnessPolicy, findings: Findings
) -> None:
    if receipt.proof is None:
        findings.not_verifiable("log", "this receipt carries no proof that the log has its leaf")
        return
    try:
        proof = parse_proof(receipt.proof)
    except (NoteInvalid, UnicodeError) as error:
        findings.fails("log", f"the proof cannot be read: {error}")
        return
    # A checkpoint that is not the log's says nothing: what follows from it is not looked at.
    if not check_checkpoint(proof.signed, key, findings):
        findings.not_verifiable("log", "without the log's own checkpoint nothing shows the leaf")
        return
    check_witnesses(proof.signed, witnesses, findings)
    _check_inclusion(receipt, proof, findings)


def check_checkpoint(
    signed: SignedCheckpoint, key: VerifierKey, findings: Findings, *, subject: str = "checkpoint"
) -> bool:
    """Say whether the given key signed a checkpoint as its own log's; return whether it did."""
    try:
        verify_checkpoint(signed, key)
    except (NoteInvalid, UnicodeError) as error:
        findings.fails(subject, str(error))
        return False
    checkpoint = signed.checkpoint
    findings.holds(
        subject,
        f"{checkpoint.size} leaves of {checkpoint.origin}, signed by {key.name}+{key.key_id}",
    )
    return True


def check_witnesses(signed: SignedCheckpoint, witnesses: WitnessPolicy, findings: Findings) -> None:
    """Say who else signed a checkpoint, and whether these are enough."""
    found_count = 0
    for key in witnesses.keys:
        try:
            cosignature = find_cosignature(signed, key)
        except NoteInvalid as error:
            findings.fails("witness", str(error))
            continue
        if cosignature is None:
            findings.not_checked("witness", f"{key.name} did not cosign this checkpoint")
        else:
            found_count += 1
            moment = format_time(datetime.fromtimestamp(cosignature.time_s, UTC))
            findings.holds("witness", f"{key.name} saw this log, and no other, at {moment}")
    if found_count < witnesses.quorum:
        findings.fails("witness", f"{witnesses.quorum} must have cosigned, {found_count} have")
    known = {key.name for key in witnesses.keys} | {signed.checkpoint.origin}
    for name in sorted({line.name for line in signed.lines} - known):
        findings.not_checked("witness", f"{name} signed, too; no key of it was given")


def _check_inclusion(receipt: KeptReceipt, proof: LogProof, findings: Findings) -> None:
    checkpoint = proof.signed.checkpoint
    if receipt.log_index is not None and receipt.log_index != proof.index:
        findings.fails("log", f"index {receipt.log_index} is stated, {proof.index} is proved")
    try:
        verify_inclusion(
            hash_leaf(receipt.leaf), proof.index, checkpoint.size, proof.path, checkpoint.root
        )
    except ProofInvalid as error:
        findings.fails("log", str(error))
        return
    findings.holds("log", f"the leaf is number {proof.index} of {checkpoint.size}, counted from 0")


def _check_event(receipt: KeptReceipt, findings: Findings) -> SecuredFacts | None:
    try:
        facts = read_secured_facts(receipt.leaf)
    except ReceiptInvalid as error:
        findings.fails("event", str(error))
        return None
    findings.holds(
        "event",
        f"the leaf states: secured clip {facts.clip_id}, camera {facts.device_serial!a}, recording "
        f"{facts.recording_id!a}, {facts.size_bytes} bytes, SHA-256 {facts.sha256}",
    )
    findings.holds(
        "read-back", "the leaf states one SHA-256 for the bytes received and those read back"
    )
    findings.not_checked(
        "statements",
        f"that this camera made it, and the time ({format_time(facts.secured_at)}), are the "
        "service's word; the log shows that it was not changed since",
    )
    return facts


def _check_clip(clip: Path, facts: SecuredFacts, findings: Findings) -> None:
    digest, size_bytes = hashlib.sha256(), 0
    with clip.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            size_bytes += len(block)
    name, found = ascii(clip.name), digest.hexdigest()
    if size_bytes != facts.size_bytes:
        findings.fails("clip", f"{name} has {size_bytes} bytes, {facts.size_bytes} were secured")
    elif found != facts.sha256:
        findings.fails("clip", f"{name} has SHA-256 {found}, that of the secured clip differs")
    else:
        findings.holds("clip", f"{name} is the secured clip: {size_bytes} bytes, SHA-256 {found}")
