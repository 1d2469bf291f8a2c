"""Check a custody pack, and say what was found in the words of the other checks."""

from pathlib import Path

from ingest_service.domain.custody import format_time
from ingest_service.domain.timestamp import Roots, TimestampInvalid, verify_timestamp
from ingest_service.verifier.findings import Findings
from schemas.verify_pack import (
    FAILS,
    HOLDS,
    STAMP_SIGNED,
    STAMPED,
    TOKEN,
    Line,
    Result,
    open_pack,
    verify_pack,
)


def check_pack(path: Path, *, key: str, witness_keys: list[str], roots: Roots | None) -> Findings:
    """Check a pack by the code that goes into every one, and by its roots the time authority.

    Raises:
        OSError: there is nothing to read.
    """
    result = verify_pack(path, [key], witness_keys)
    if roots is not None:
        result = Result([_check_signed(path, roots, line) for line in result.lines])
        if not any(line.what.endswith(STAMP_SIGNED) for line in result.lines):
            result.lines.append(Line(FAILS, STAMP_SIGNED, "no time stamp in the pack holds"))
    return read_pack_result(result)


def _check_signed(path: Path, roots: Roots, line: Line) -> Line:
    if not line.what.endswith(STAMP_SIGNED):
        return line
    with open_pack(path) as opened:
        # In a pack of many clips: "clip <id>: ...", each with its own stamp.
        clip_id = line.what.removesuffix(STAMP_SIGNED).removeprefix("clip ").removesuffix(": ")
        pack = opened.within(clip_id) if clip_id else opened
        try:
            moment = verify_timestamp(pack.read(TOKEN), pack.read(STAMPED), roots)
        except TimestampInvalid as error:
            return Line(FAILS, line.what, str(error))
    return Line(HOLDS, line.what, f"the stamped log existed at {format_time(moment)}")


def read_pack_result(result: Result) -> Findings:
    """Return the findings of `schemas.verify_pack.verify_pack`; an empty result fails."""
    findings = Findings()
    tell = {HOLDS: findings.holds, FAILS: findings.fails}
    for line in result.lines:
        tell.get(line.verdict, findings.not_verifiable)(line.what, line.detail)
    if not result.lines:
        findings.fails("the pack", "nothing in it could be checked")
    return findings
