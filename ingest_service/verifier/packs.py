"""What the checks of a custody pack found, in the words of the other checks."""

from ingest_service.verifier.findings import Findings
from schemas.verify_pack import FAILS, HOLDS, Result


def read_pack_result(result: Result) -> Findings:
    """Return the findings of `schemas.verify_pack.verify_pack`; an empty result fails."""
    findings = Findings()
    tell = {HOLDS: findings.holds, FAILS: findings.fails}
    for line in result.lines:
        tell.get(line.verdict, findings.not_verifiable)(line.what, line.detail)
    if not result.lines:
        findings.fails("the pack", "nothing in it could be checked")
    return findings
