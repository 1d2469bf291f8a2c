"""Peers from npm and PyPI, in exactly the versions of the lock files, below build/peers/."""

import hashlib
import shutil
import subprocess
import sys
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
    if shutil.which("node") is None or shutil.which("npm") is None:
        reason = "node and npm are not on PATH"
        raise NotInstalled(reason)
    sources = [_HERE / "node" / name for name in ("package.json", "package-lock.json")]
    folder, is_made = _prepare("tus-node", sources)
    if not is_made:
        for source in sources:
            shutil.copy(source, folder)
        _run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], folder)
        _mark(folder, sources)
    shutil.copy(_HERE / "node" / "server.mjs", folder)
    return folder


def install_tuspyserver() -> Path:
    """Install tuspyserver into a venv of its own; return the venv's Python.

    Raises:
        NotInstalled: the package index cannot be reached.
    """
    locked = _HERE / "tuspyserver" / "requirements.txt"
    folder, is_made = _prepare("tuspyserver", [locked])
    python = folder / "venv" / "bin" / "python"
    if not is_made:
        _run([sys.executable, "-m", "venv", "--clear", str(folder / "venv")], folder)
        install = [str(python), "-m", "pip", "install", "--quiet", "--require-hashes"]
        _run([*install, "--disable-pip-version-check", "--requirement", str(locked)], folder)
        _mark(folder, [locked])
    return python


def _prepare(name: str, sources: list[Path]) -> tuple[Path, bool]:
    folder = _BUILD / name
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / ".installed"
    return folder, mark.exists() and mark.read_text() == _digest(folder, sources)


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
