"""Ask whether anything that is locked has a known vulnerability; run it by `make check`.

The service asked is OSV (https://osv.dev), or another of its form, named by OSV_URL. It is told
names and versions, nothing else. Where it cannot be reached one line says so, and nothing fails:
the check is also run where there is no network. A finding fails, unless requirements/accepted.txt
takes it on:

    <id> <YYYY-MM-DD: until when> <why>
"""

import http.client
import json
import os
import re
import sys
import urllib.request
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent
URL: Final = os.environ.get("OSV_URL", "https://api.osv.dev")
TIMEOUT_S: Final = 10
UNANSWERED: Final = (
    OSError,
    http.client.HTTPException,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
)
_BATCH: Final = 500
_PINNED: Final = re.compile(r"^([\w.-]+)==([^\s;\\]+)", re.MULTILINE)


def read_locked() -> list[tuple[str, str]]:
    """Return names and versions of every lock file, each once."""
    locked = set()
    for lock in FOLDER.glob("*.txt"):
        locked |= set(_PINNED.findall(lock.read_text(encoding="utf-8")))
    return sorted(locked)


def read_accepted(today: date) -> set[str]:
    """Return the ids that somebody has taken on, and whose date has not passed."""
    file = FOLDER / "accepted.txt"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    accepted = [line.split(maxsplit=2) for line in lines if line and not line.startswith("#")]
    return {each for each, until, _why in accepted if date.fromisoformat(until) >= today}


def find_vulnerabilities(locked: list[tuple[str, str]]) -> list[tuple[str, str, str]]:
    """Return (name, version, id of the vulnerability).

    Raises:
        One of UNANSWERED: the service cannot be reached, or answers nonsense.
    """
    found = []
    for start in range(0, len(locked), _BATCH):
        batch = locked[start : start + _BATCH]
        queries = [
            {"package": {"ecosystem": "PyPI", "name": name}, "version": version}
            for name, version in batch
        ]
        request = urllib.request.Request(  # noqa: S310 - http only where OSV_URL says so
            f"{URL}/v1/querybatch",
            json.dumps({"queries": queries}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
            results: list[dict[str, Any]] = json.load(response)["results"]
        for (name, version), result in zip(batch, results, strict=True):
            found += [(name, version, each["id"]) for each in result.get("vulns", [])]
    return found


def main() -> int:
    """Return the exit code: 1 where something was found."""
    locked = read_locked()
    try:
        found = find_vulnerabilities(locked)
    except UNANSWERED as error:
        sys.stdout.write(f"note: vulnerabilities were not looked for: {URL}: {error}\n")
        return 0
    accepted = read_accepted(datetime.now(UTC).date())
    open_ones = [each for each in found if each[2] not in accepted]
    for name, version, vulnerability in open_ones:
        sys.stdout.write(f"error: {name} {version} has {vulnerability}\n")
    if not open_ones:
        sys.stdout.write(f"No known vulnerability in {len(locked)} locked packages\n")
    return 1 if open_ones else 0


if __name__ == "__main__":
    sys.exit(main())
