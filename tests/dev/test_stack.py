"""`ingest dev` as people run it: one command, nothing left behind, everything found again."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from ingest_service.domain.principal import ROLE_SCOPES

pytestmark = pytest.mark.e2e

START_TIMEOUT_S = 90


class RunningDev:
    """An `ingest dev` on free ports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._output = folder.with_name(f"{folder.name}.out")
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ingest_service", "dev", f"--data={folder}", "--port=0"],
                stdout=output,
                stderr=output,
            )

    def facts(self) -> dict[str, Any]:
        return json.loads((self.folder / "dev.json").read_bytes())

    def has_facts(self) -> bool:
        # A killed run leaves its dev.json behind, which the next one removes as it starts.
        try:
            return self.facts()["pids"]["dev"] == self.process.pid
        except FileNotFoundError:
            return False

    def wait_until_ready(self) -> None:
        self.wait_for(self.has_facts)

    def wait_for(self, is_so) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not is_so():
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.05)

    def is_api_ready(self) -> bool:
        try:
            return httpx.get(f"{self.facts()['base_url']}/readyz", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def output(self) -> str:
        return self._output.read_text(encoding="utf-8")


@contextmanager
def running_dev(folder: Path) -> Iterator[RunningDev]:
    dev = RunningDev(folder)
    try:
        dev.wait_until_ready()
        yield dev
    finally:
        dev.process.terminate()
        dev.process.wait(60)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not (state := Path(f"/proc/{pid}/stat")).exists() or " Z " not in state.read_text(
        "ascii"
    )


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDev]:
    with running_dev(tmp_path_factory.mktemp("with space") / "my data") as running:
        yield running


def test_scripts_find_everything_in_dev_json(dev: RunningDev) -> None:
    facts = dev.facts()

    assert set(facts["tokens"]) == set(ROLE_SCOPES)
    assert set(facts) >= {
        "base_url", "database_url", "s3_endpoint", "s3_access_key", "s3_secret_key", "bucket",
        "log_verifier_key", "tokens", "database_owner_url", "station_id", "station_key_file",
        "jwks_file", "pids",
    }  # fmt: skip
    assert (dev.folder / "dev.json").stat().st_mode & 0o077 == 0


def test_tokens_open_what_their_role_may_see(dev: RunningDev) -> None:
    facts = dev.facts()
    url = f"{facts['base_url']}/v1/clips"

    seen = {
        role: httpx.get(url, headers={"Authorization": f"Bearer {token}"}).status_code
        for role, token in facts["tokens"].items()
    }

    may = {role: 200 if "clips:read" in scopes else 403 for role, scopes in ROLE_SCOPES.items()}
    assert seen == may


@pytest.mark.parametrize("part", ["serve", "work", "postgres", "seaweed"])
def test_part_that_was_killed_is_started_again(dev: RunningDev, part: str) -> None:
    before = dev.facts()["pids"][part]

    os.kill(before, signal.SIGKILL)

    dev.wait_for(lambda: dev.facts()["pids"][part] not in {before, None})
    dev.wait_for(dev.is_api_ready)
    assert f"{part} ended by SIGKILL; starting it again" in dev.output()


def test_folder_in_use_is_a_clear_error(dev: RunningDev) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "ingest_service", "dev", f"--data={dev.folder}", "--port=0"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert second.returncode == 1
    assert f"in use by another `ingest dev` (process {dev.process.pid})" in second.stderr


def test_taken_port_is_a_clear_error_that_names_the_remedy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        refused = subprocess.run(
            [sys.executable, "-m", "ingest_service", "dev", f"--data={tmp_path}", f"--port={port}"],
            capture_output=True,
            text=True,
            check=False,
        )

    assert refused.returncode == 1
    assert f"port {port} on 127.0.0.1 is taken" in refused.stderr
    assert "--port 0" in refused.stderr


def test_everything_is_found_again_after_a_kill_and_ends_in_order(tmp_path: Path) -> None:
    """One story, since each start takes seconds: kill, start again, compare, stop."""
    first = RunningDev(tmp_path / "data")
    first.wait_until_ready()
    before = first.facts()
    first.process.kill()
    first.process.wait()

    with running_dev(tmp_path / "data") as second:
        second.wait_for(second.is_api_ready)
        after = second.facts()
    kept = {"database_url", "s3_endpoint", "s3_secret_key", "log_verifier_key", "station_key_file"}

    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert second.process.returncode == 0
    assert not (tmp_path / "data" / "dev.json").exists()
    pids = {*before["pids"].values(), *after["pids"].values()}
    assert [pid for pid in pids if is_running(pid)] == []
