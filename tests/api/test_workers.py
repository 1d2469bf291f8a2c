"""The processes of `ingest serve`, with an application that does nothing."""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

SERVE = """
import sys
from uvicorn import Config
from ingest_service.api.workers import Workers

if __name__ == "__main__":
    config = Config(
        "tests.api.idle_app:app", port=0, workers=2, log_config=None, lifespan="off",
        timeout_worker_healthcheck=int(sys.argv[1]),
    )
    Workers(config, [config.bind_socket()]).run()
"""
SOON_S = 40
ROOT = Path(__file__).parents[2]


@pytest.fixture
def start(tmp_path):
    """Start a parent of two workers, each silent for so many seconds at most."""
    script = tmp_path / "serve.py"
    script.write_text(SERVE)
    family: list[psutil.Process] = []

    def run(silent_s: int) -> psutil.Popen:
        command = [sys.executable, str(script), str(silent_s)]
        parent = psutil.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
        family.append(parent)
        until(lambda: len(workers_of(parent)) == 2)
        family.extend(workers_of(parent))
        return parent

    yield run
    for each in [*(child for one in family[:1] for child in children_of(one)), *family]:
        with suppress(psutil.Error):
            each.kill()
    for each in family[:1]:
        each.wait(SOON_S)


def children_of(parent):
    with suppress(psutil.Error):
        return parent.children()
    return []


def workers_of(parent):
    """Those that serve: they have threads beside the main one, which wait for the parent."""
    return [each for each in children_of(parent) if is_serving(each)]


def is_serving(process):
    # One that has just died has no command line any more.
    with suppress(psutil.Error):
        return "spawn_main" in " ".join(process.cmdline()) and process.num_threads() > 1
    return False


def until(is_so):
    deadline = time.monotonic() + SOON_S
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_a_killed_worker_is_replaced_at_once_although_another_is_silent(start):
    parent = start(60)
    silent, killed = workers_of(parent)
    silent.suspend()
    time.sleep(1.2)  # by then the parent has asked it
    killed.kill()

    until(lambda: {each.pid for each in workers_of(parent)} - {silent.pid, killed.pid})
    assert silent.is_running()


def test_a_worker_that_is_silent_for_too_long_is_replaced(start):
    parent = start(6)
    silent = workers_of(parent)[0]
    silent.suspend()

    until(lambda: len({each.pid for each in workers_of(parent)} - {silent.pid}) == 2)
    assert not silent.is_running()


def test_workers_end_when_their_parent_was_killed(start):
    parent = start(60)
    orphans = workers_of(parent)
    parent.send_signal(signal.SIGKILL)

    _, left = psutil.wait_procs(orphans, timeout=SOON_S)
    assert left == []
