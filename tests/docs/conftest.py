"""A desk as the documents' readers have it."""

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

START_TIMEOUT_S: Final = 120


@pytest.fixture(scope="module")
def desk() -> Iterator[Path]:
    """A folder with `.venv`, and `data` of a running `ingest dev`; nobody was here before."""
    with tempfile.TemporaryDirectory(prefix="ingest-readme-") as name:
        folder = Path(name)
        (folder / ".venv").symlink_to(sys.prefix)
        log_file = folder / "dev.log"
        command = [sys.executable, "-m", "ingest_service", "dev", "--data", "data", "--port", "0"]
        with log_file.open("wb") as log:
            dev = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not (folder / "data/dev.json").exists():
                assert dev.poll() is None, log_file.read_text()
                assert time.monotonic() < deadline, log_file.read_text()
                time.sleep(0.1)
            yield folder
        finally:
            dev.send_signal(signal.SIGTERM)
            dev.wait(60)
