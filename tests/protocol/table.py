"""Which line of the protocol checklist holds, was decided otherwise, or fails.

A test says by its name which line it is for: `test_a12_...`. A decision is a list item of ADR 13
that begins with the line in bold. Run: python -m tests.protocol.table
"""

import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).parents[2]
CHECKLIST = Path(__file__).with_name("checklist.txt")
DECISIONS = ROOT / "docs" / "adr" / "0013-where-we-differ-from-the-upload-protocols.md"
TESTS = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("test_tus_*.py", "test_ietf_*.py", "test_upload_faults.py")
    for path in (ROOT / "tests" / "api").glob(pattern)
)
# The native interface's tests are named for their promise, file by file.
NATIVE = {
    "S1": "test_announce",
    "S2": "test_send_chunk",
    "S3": "test_send_chunk",
    "S4": "test_seal",
    "S5": "test_seal",
    "S6": "test_store_chunk",
    "S7": "test_finish_upload",
}
NATIVE_FILES = [
    "tests/api/test_announce.py",
    "tests/api/test_send_chunk.py",
    "tests/api/test_seal.py",
    "tests/actions/test_store_chunk.py",
    "tests/actions/test_finish_upload.py",
]
CHARS_MAX = 88


def read_lines() -> dict[str, str]:
    lines = (line.split(" ", 1) for line in CHECKLIST.read_text().splitlines() if line)
    return {number: " ".join(text.split()) for number, text in lines}


def read_decisions() -> dict[str, str]:
    found = re.findall(r"^- \*\*([A-S]\d+)\*\*:? (.+)$", DECISIONS.read_text(), re.MULTILINE)
    return dict(found)


def run_tests() -> dict[str, list[bool]]:
    """Run the tests; returns whether each passed, by line."""
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        command = [sys.executable, "-m", "pytest", "-q", "-n", "2", f"--junitxml={report.name}"]
        subprocess.run([*command, *TESTS, *NATIVE_FILES], cwd=ROOT, check=False)
        cases = list(ET.parse(report.name).iter("testcase"))  # noqa: S314 - pytest's own
    results: dict[str, list[bool]] = defaultdict(list)
    for case in cases:
        has_passed = all(case.find(tag) is None for tag in ("failure", "error", "skipped"))
        module = case.get("classname", "").rsplit(".", 1)[-1]
        if matched := re.match(r"test_([a-s])(\d\d)_", case.get("name", "")):
            results[f"{matched[1].upper()}{int(matched[2])}"].append(has_passed)
        for line, native in NATIVE.items():
            if module == native:
                results[line].append(has_passed)
    return results


def main() -> int:
    lines, decisions, results = read_lines(), read_decisions(), run_tests()
    counts: dict[str, int] = defaultdict(int)
    for number, text in lines.items():
        verdicts = results.get(number, [])
        if verdicts:
            verdict = "holds" if all(verdicts) else "fails"
        else:
            verdict = "decided" if number in decisions else "missing"
        counts[verdict] += 1
        shown = decisions[number] if verdict == "decided" else text
        sys.stdout.write(f"{number:4} {verdict:8} {len(verdicts):3}  {shown[:CHARS_MAX]}\n")
    total = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    sys.stdout.write(f"{total}\n")
    return 1 if counts["fails"] or counts["missing"] else 0


if __name__ == "__main__":
    sys.exit(main())
