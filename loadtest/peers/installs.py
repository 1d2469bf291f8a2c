"""Peers from npm and PyPI, in exactly the versions of the lock files, below build/peers/."""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent
_BUILD: Final = _HERE.parent.parent / "build" / "peers"
_TIMEOUT_S: Final = 600


class NotInstalled(Exception):
    """A peer cannot be measured here; the message says why."""


def install_node() -> Path:
    """Install @tus/server and its S3 store; return the folder with server.mjs.

    Raises:
        NotInstalled: no node or npm here, or the registry cannot be reached.
    """
    folder = install_npm("tus-node", _HERE / "node")
    shutil.copy(_HERE / "node" / "server.mjs", folder)
    return folder


def install_npm(name: str, source: Path) -> Path:
    """Install what package-lock.json in a folder names, below build/; return where.

    Raises:
        NotInstalled: no node or npm here, or the registry cannot be reached.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        reason = "node and npm are not on PATH"
        raise NotInstalled(reason)
    sources = [source / each for each in ("package.json", "package-lock.json")]
    with _prepared(name, sources) as (folder, is_made):
        if not is_made:
            for each in sources:
                shutil.copy(each, folder)
            _run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], folder)
            _mark(folder, sources)
    return folder


def install_tuspyserver() -> Path:
    """Install tuspyserver into a venv of its own; return the venv's Python.

    Raises:
        NotInstalled: the package index cannot be reached.
    """
    locked = _HERE / "tuspyserver" / "requirements.txt"
    with _prepared("tuspyserver", [locked]) as (folder, is_made):
        python = folder / "venv" / "bin" / "python"
        if not is_made:
            _run([sys.executable, "-m", "venv", "--clear", str(folder / "venv")], folder)
            install = [str(python), "-m", "pip", "install", "--quiet", "--require-hashes"]
            _run([*install, "--disable-pip-version-check", "--requirement", str(locked)], folder)
            _mark(folder, [locked])
    return python


@contextmanager
def _prepared(name: str, sources: list[Path]) -> Iterator[tuple[Path, bool]]:
    """Yield the folder and whether all is in it; one process at a time, tests run in several."""
    folder = _BUILD / name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        mark = folder / ".installed"
        yield folder, mark.exists() and mark.read_text() == _digest(folder, sources)


def _mark(folder: Path, sources: list[Path]) -> None:
    (folder / ".installed").write_text(_digest(folder, sources))


def _digest(folder: Path, sources: list[Path]) -> str:
    # A venv holds its own path: in a moved folder it is made anew.
    contents = str(folder.absolute()).encode() + b"".join(file.read_bytes() for file in sources)
    return hashlib.sha256(contents).hexdigest()


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(str(error)) from error
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        reason = f"{Path(command[0]).name} failed: {''.join(last)}"
        raise NotInstalled(reason)
