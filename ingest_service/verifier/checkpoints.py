"""Check a checkpoint, and that nothing before an older one was rewritten."""

from ingest_service.domain.checkpoint import SignedCheckpoint
from ingest_service.domain.cosignature import WitnessPolicy
from ingest_service.domain.merkle import ProofInvalid, verify_consistency
from ingest_service.domain.note import VerifierKey
from ingest_service.verifier.documents import DocumentUnreadable, read_checkpoint, read_growth
from ingest_service.verifier.findings import Findings
from ingest_service.verifier.receipts import check_checkpoint, check_witnesses


def check_growth(
    newer: bytes,
    *,
    key: VerifierKey,
    witnesses: WitnessPolicy,
    older: bytes | None,
    growth: bytes | None,
) -> Findings:
    """Check a checkpoint, and that an older one is of the same history.

    newer, older  a checkpoint, or a proof or receipt that holds one
    growth        the consistency proof between them; None = there is none at hand
    """
    findings = Findings()
    new = _open(newer, "checkpoint", key, findings)
    if new is not None:
        check_witnesses(new, witnesses, findings)
    if older is None:
        findings.not_checked("history", "no older checkpoint was given (--older)")
        return findings
    old = _open(older, "older checkpoint", key, findings)
    if new is None or old is None:
        findings.not_verifiable("history", "two checkpoints of this log are needed")
    else:
        _compare(old, new, growth, findings)
    return findings


def _open(
    content: bytes, subject: str, key: VerifierKey, findings: Findings
) -> SignedCheckpoint | None:
    try:
        signed = read_checkpoint(content)
    except DocumentUnreadable as error:
        findings.fails(subject, str(error))
        return None
    return signed if check_checkpoint(signed, key, findings, subject=subject) else None


def _compare(
    old: SignedCheckpoint, new: SignedCheckpoint, growth: bytes | None, findings: Findings
) -> None:
    old_size, new_size = old.checkpoint.size, new.checkpoint.size
    if old_size > new_size:
        findings.fails(
            "history",
            f"the older one has {old_size} leaves, the newer one {new_size}: a log never shrinks, "
            "or the two files are swapped",
        )
        return
    if growth is None and 0 < old_size < new_size:
        findings.not_verifiable(
            "history",
            "the proof is missing (--consistency); the log gives it out at "
            f"/log/consistency?from={old_size}&to={new_size}",
        )
        return
    try:
        path = [] if growth is None else read_growth(growth)
        verify_consistency(old_size, old.checkpoint.root, new_size, new.checkpoint.root, path)
    except DocumentUnreadable as error:
        findings.fails("history", str(error))
    except ProofInvalid as error:
        if old_size == new_size and growth is None:
            findings.fails(
                "history",
                f"two histories of {old_size} leaves, both signed by the log: keep both files",
            )
        else:
            findings.fails("history", str(error))
    else:
        findings.holds("history", f"the first {old_size} leaves are the same in both")
