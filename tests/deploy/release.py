"""The release before this tree, as `deploy/previous-release` names it."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def read_release() -> dict[str, str]:
    lines = (ROOT / "deploy" / "previous-release").read_text(encoding="utf-8").splitlines()
    return dict(line.split() for line in lines if line and not line.startswith("#"))


def unpack_release(folder: Path) -> Path:
    """Lay its code into a folder; skips the test where git does not have it (a shallow clone)."""
    commit = read_release()["commit"]
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("the previous release is not here: no git, or no clone")
    archived = subprocess.run(
        [git, "archive", "--format=tar", commit, "ingest_service", "migrations", "schemas"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if archived.returncode:
        pytest.skip(f"the previous release is not in this clone: {archived.stderr.decode()[:200]}")
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archived.stdout, check=True)
    return folder
