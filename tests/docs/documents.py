"""The documents, as the tests of this folder read them."""

import os
import re
import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
README: Final = ROOT / "README.md"
RUN_TIMEOUT_S: Final = 300
_BLOCK: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def list_documents() -> list[Path]:
    """Every document that people read, by its path."""
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def find_blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of a document that are marked as one language."""
    return [body for name, body in _BLOCK.findall(path.read_text()) if name == language]


def without_blocks(path: Path) -> str:
    """A document's prose."""
    return _BLOCK.sub("", path.read_text())


def name_of(path: Path) -> str:
    """A document's path from the root of the tree."""
    return str(path.relative_to(ROOT))


def run(script: str, desk: Path) -> str:
    """Do what a bash block says, at a desk; return what it prints."""
    # A proxy of this desk must not stand between curl and our own machine.
    environment = {**os.environ, "no_proxy": "127.0.0.1"}
    finished = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script],
        cwd=desk,
        env=environment,
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )
    assert finished.returncode == 0, f"{finished.stdout}\n{finished.stderr}"
    return finished.stdout
