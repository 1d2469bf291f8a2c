"""docs/operations.md: its commands run as they stand there, and it explains what is shown."""

import json
import re
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import pytest

from tests.docs.documents import ROOT, find_blocks, run
from tests.e2e.take_pictures import draw_terminal

pytestmark = pytest.mark.e2e

DOCUMENT: Final = ROOT / "docs/operations.md"
PAGE: Final = ROOT / "ingest_service/api/pages/ops.html"


def test_the_commands_print_the_figures(desk: Path):
    (commands,) = find_blocks(DOCUMENT, "sh")

    line, lag_s = run(commands, desk).splitlines()
    assert "received=" in line
    assert float(lag_s) >= 0


async def test_the_picture_of_the_terminal_can_be_taken_anew(desk: Path):
    drawn = await draw_terminal(json.loads((desk / "data/dev.json").read_bytes()))

    picture = ET.fromstring(drawn)  # noqa: S314 - made just now
    assert picture.tag.endswith("svg")
    assert "receiving" in drawn
    assert "prefers-color-scheme: dark" in drawn
    # It loads nothing from anywhere.
    assert "url(http" not in drawn
    assert "@import" not in drawn


def test_every_figure_of_the_page_is_explained():
    text = DOCUMENT.read_text()
    shown = re.findall(r"<dt>(.*?)</dt>", PAGE.read_text())

    assert len(shown) == 8
    assert [name for name in shown if f"| {name} |" not in text] == []
