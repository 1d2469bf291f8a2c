"""Check a time authority's word on a checkpoint."""

from ingest_service.domain.custody import format_time
from ingest_service.domain.note import VerifierKey
from ingest_service.domain.timestamp import (
    Roots,
    TimestampInvalid,
    read_claimed_time,
    verify_timestamp,
)
from ingest_service.verifier.documents import DocumentUnreadable, find_token, read_checkpoint
from ingest_service.verifier.findings import Findings
from ingest_service.verifier.receipts import check_checkpoint


def check_timestamp(
    content: bytes, *, token: bytes | None, key: VerifierKey, roots: Roots | None
) -> Findings:
    """Check that a checkpoint is the log's, and that it existed at a time.

    content  a checkpoint, or what `/log/timestamp` answered
    token    the authority's answer (DER), where it is a file of its own
    roots    certificates of authorities that are trusted; None = none is
    """
    findings = Findings()
    try:
        signed = read_checkpoint(content)
        answer = token if token is not None else find_token(content)
    except DocumentUnreadable as error:
        findings.fails("checkpoint", str(error))
        return findings
    check_checkpoint(signed, key, findings)
    if answer is None:
        findings.not_verifiable("time", "no time stamp was given (--token)")
        return findings
    try:
        if roots is None:
            moment = format_time(read_claimed_time(answer))
            findings.not_verifiable(
                "time", f"it says {moment}; without the authority's root (--tsa-ca) nobody vouches"
            )
            return findings
        moment = format_time(verify_timestamp(answer, signed.body.encode(), roots))
    except TimestampInvalid as error:
        findings.fails("time", str(error))
        return findings
    findings.holds("time", f"this checkpoint existed at {moment}, on the authority's word")
    return findings
