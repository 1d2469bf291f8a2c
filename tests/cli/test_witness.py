"""`ingest witness`: one process on one folder, which may die at any time."""

import signal
import subprocess
import sys
import time

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ingest_service.dev.ports import find_free_port
from tests.paper_log import PaperLog

LOG = PaperLog("police.example/custody", Ed25519PrivateKey.generate(), [b"a", b"b", b"c"])


class Running:
    def __init__(self, folder, log=LOG.verifier_key):
        self.port = find_free_port()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "ingest_service", "witness", "--data", str(folder)),
                *("--name", "witness.example.org", "--log", log, "--port", str(self.port)),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait(self) -> "Running":
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                assert self.get("/livez").text == "alive\n"
            except httpx.TransportError:
                time.sleep(0.1)
            else:
                return self
        raise AssertionError(self.process.stderr.read() if self.process.poll() else "no answer")

    def get(self, path):
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", trust_env=False)

    def add(self, old: int, size: int) -> httpx.Response:
        url = f"http://127.0.0.1:{self.port}/add-checkpoint"
        body = f"old {old}\n\n{LOG.checkpoint(size)}".encode()
        return httpx.post(url, content=body, trust_env=False)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)
        self.process.stderr.close()


@pytest.fixture
def start(tmp_path):
    started: list[Running] = []

    def run(**options) -> Running:
        started.append(Running(tmp_path / "witness", **options))
        return started[-1]

    yield run
    for each in started:
        each.kill()


def test_a_killed_witness_keeps_its_key_and_what_it_has_seen(start):
    first = start().wait()
    key = first.get("/key").text
    assert first.add(0, 2).status_code == 200
    first.kill()

    second = start().wait()
    assert second.get("/key").text == key
    assert (second.add(0, 3).status_code, second.add(0, 3).text) == (409, "2\n")


def test_a_second_witness_on_the_same_folder_does_not_start(start):
    start().wait()
    second = start()

    assert second.process.wait(60) == 1
    assert "another witness" in second.process.stderr.read()


def test_a_key_that_is_none_is_told_before_anything_starts(start, tmp_path):
    wrong = start(log="nonsense")

    assert wrong.process.wait(60) == 2
    assert not (tmp_path / "witness").exists()


def test_it_stops_when_asked_to(start):
    running = start().wait()
    running.process.send_signal(signal.SIGTERM)

    assert running.process.wait(20) in {0, -signal.SIGTERM}
