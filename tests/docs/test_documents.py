"""What the documents say of the tree is true of the tree."""

import functools
import os
import re
import subprocess
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import pytest

from ingest_service.cli.settings_table import replace_table
from tests.docs.documents import README, ROOT, find_blocks, list_documents, name_of, without_blocks

DECISIONS: Final = sorted((ROOT / "docs/adr").glob("0*.md"))
HEADINGS: Final = ["Context", "Decision", "Consequences", "Alternatives", "What enforces it"]
ROOMS: Final = "ingest_service|schemas|migrations|loadtest|tests|docs|requirements"
SOURCES: Final = ("ingest_service/**/*.py", "schemas/*.py", "tests/**/*.py", "migrations/*.sql")

# Being written; its readers are sent there already.
AWAITED: Final = {ROOT / "docs/crash-proof.md"}

_LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
_CODE: Final = re.compile(r"`([^`\n]+)`")
_PATH: Final = re.compile(rf"(?:{ROOMS})/[\w./-]*")
_TEST: Final = re.compile(r"test_[a-z0-9_]+")
_DEFINED: Final = re.compile(r"^(?:async )?def (test_\w+)\(", re.MULTILINE)
# A constant or a name with an underscore: something that can be looked for.
_NAME: Final = re.compile(r"_?[A-Z]+(?:_[A-Z0-9]+)+|_?[a-z0-9]+(?:_[a-z0-9]+)+")


@pytest.mark.parametrize("document", list_documents(), ids=name_of)
def test_every_link_leads_somewhere(document: Path):
    links = [link for link in _LINK.findall(without_blocks(document)) if "://" not in link]
    targets = {(document.parent / link.partition("#")[0]).resolve() for link in links}

    assert [target for target in sorted(targets - AWAITED) if not target.exists()] == []


@pytest.mark.parametrize("document", list_documents(), ids=name_of)
def test_every_path_that_is_named_exists(document: Path):
    named = {code for code in _CODE.findall(without_blocks(document)) if _PATH.fullmatch(code)}

    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


@functools.cache
def list_tests() -> frozenset[str]:
    return frozenset(
        name for path in ROOT.glob("tests/**/*.py") for name in _DEFINED.findall(path.read_text())
    )


@pytest.mark.parametrize("document", list_documents(), ids=name_of)
def test_every_test_that_is_named_is_one(document: Path):
    """What is said to be shown by a test is shown by it still."""
    named = {code for code in _CODE.findall(without_blocks(document)) if _TEST.fullmatch(code)}

    assert sorted(named - list_tests()) == []


@pytest.mark.parametrize("document", DECISIONS, ids=name_of)
def test_every_name_in_a_decision_is_in_the_source(document: Path):
    source = "\n".join(path.read_text() for glob in SOURCES for path in ROOT.glob(glob))
    named = {code for code in _CODE.findall(document.read_text()) if _NAME.fullmatch(code)}

    # Settings are fields: INGEST_PART_BYTES is part_bytes.
    missing = [
        name
        for name in sorted(named)
        if name not in source and name.removeprefix("INGEST_").lower() not in source
    ]

    assert missing == []


@pytest.mark.parametrize("document", DECISIONS, ids=name_of)
def test_every_decision_has_its_five_parts_and_one_sentence_to_quote(document: Path):
    title, *parts = re.split(r"^## ", document.read_text(), flags=re.MULTILINE)

    assert title.startswith(f"# {int(document.name[:4])}. ")
    assert [part.partition("\n")[0] for part in parts] == HEADINGS
    assert re.fullmatch(r"Decision\n\*\*(?:(?!\*\*).)+\*\*\s*", parts[1], re.DOTALL)


def test_decisions_are_numbered_without_gap_and_all_listed():
    index = (ROOT / "docs/adr/README.md").read_text()

    assert [int(path.name[:4]) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))
    assert [path.name for path in DECISIONS if f"({path.name})" not in index] == []


def test_the_readme_has_the_settings_as_they_are():
    shown = README.read_text()

    assert replace_table(shown) == shown


@pytest.mark.parametrize("picture", sorted(ROOT.glob("docs/pictures/*.svg")), ids=name_of)
def test_every_picture_can_be_read_aloud_and_in_the_dark(picture: Path):
    svg = ET.fromstring(picture.read_text())  # noqa: S314 - a file of our own

    said = [svg.findtext(f"{{http://www.w3.org/2000/svg}}{name}") for name in ("title", "desc")]
    assert all(said)
    assert "prefers-color-scheme: dark" in picture.read_text()


def _list_make_targets() -> list[str]:
    blocks = [block for path in list_documents() for block in find_blocks(path, "sh")]
    prose = [code for path in list_documents() for code in _CODE.findall(without_blocks(path))]
    lines = [line for block in blocks for line in block.splitlines()] + prose
    return sorted({found[1] for line in lines if (found := re.match(r"make ([a-z]+)\b", line))})


@pytest.mark.parametrize("target", _list_make_targets())
def test_every_make_target_that_is_named_exists(target: str):
    # Not as a part of the make that runs this test.
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    tried = subprocess.run(
        ["make", "--dry-run", target],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert tried.returncode == 0, tried.stderr
