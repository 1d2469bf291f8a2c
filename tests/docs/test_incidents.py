"""Every incident that the design learnt from has its row and its tests, and those tests exist."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.docs.documents import ROOT

INCIDENTS: Final = ROOT / "docs/incidents.md"
_TEST: Final = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
ROWS: Final = [
    line.strip("| ").split(" | ")
    for line in INCIDENTS.read_text().splitlines()
    if _TEST.search(line)
]


def test_no_incident_is_missing():
    assert len(ROWS) == 8


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:40] for row in ROWS])
def test_an_incident_has_tests_that_tell_of_it(row: list[str]):
    """By its name, or by the words of the incident in its docstring."""
    [first, *others] = _TEST.findall(row[2])

    assert all(_find_test(path, name) for path, name in (first, *others))
    assert f"An incident elsewhere: {row[0]}" in " ".join(_find_test(*first).split())


def _find_test(path: str, name: str) -> str:
    """The text of a test from its name on; empty when there is none."""
    _, _, text = Path(ROOT / path).read_text().partition(f"def {name}(")
    return text.partition("\nasync def ")[0].partition("\ndef ")[0]
