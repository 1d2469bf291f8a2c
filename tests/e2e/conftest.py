"""Processes of the service that tests may kill, on real servers."""

import os
import signal
from contextlib import suppress

import pytest

from tests.e2e.stage import Nursery, open_stage


@pytest.fixture(scope="session")
def nursery(tmp_path_factory):
    """Forks processes of the service in some 50 ms each."""
    opened = Nursery(tmp_path_factory.mktemp("nursery"))
    yield opened
    opened.close()


@pytest.fixture
async def stage(tmp_path, nursery, postgres, ledger_database, seaweed):
    """A ledger of this test's own, a vault that it shares, and processes that end with it."""
    async with open_stage(
        tmp_path, nursery, postgres=postgres, database=ledger_database, seaweed=seaweed
    ) as opened:
        yield opened
        end_processes(opened)


def end_processes(stage):
    for pid in stage.pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
