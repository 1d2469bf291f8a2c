"""A fake service in a thread, and a dock that waits in no time."""

import os
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ingest_service.dock.patience import Patience
from ingest_service.dock.progress import Step
from ingest_service.dock.service import open_service
from ingest_service.dock.upload import Dock, Outcome, Policy, upload_recording
from tests.dock.fake_service import CHUNK_BYTES, FakeService


@pytest.fixture
def fake():
    service = FakeService()
    service.start()
    yield service
    service.stop()


@pytest.fixture
def recording(tmp_path) -> Path:
    """Five and a half chunks."""
    folder = tmp_path / "BWC-000001"
    folder.mkdir()
    path = folder / "clip one.mp4"
    path.write_bytes(os.urandom(5 * CHUNK_BYTES + CHUNK_BYTES // 2))
    return path


class Waits(list):
    """Sleeps for nothing, and keeps what was asked for."""

    async def sleep(self, wait_s: float) -> None:
        self.append(wait_s)


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
def steps() -> list[Step]:
    return []


@pytest.fixture
def open_dock(fake, steps):
    @asynccontextmanager
    async def open_it(*, port: int | None = None, options: dict | None = None, **policy):
        target = fake.target(port=port)
        async with open_service(target, connections_max=8) as service:
            yield Dock(
                service,
                Policy(**{"verifier_key": target.verifier_key, "give_up_after_s": 30} | policy),
                options or {},
                steps.append,
            )

    return open_it


@pytest.fixture
def bring_in(open_dock, waits) -> Callable:
    async def run(path: Path, *, give_up_after_s: float | None = 30, **dock) -> Outcome:
        patience = Patience(give_up_after_s=give_up_after_s, sleep=waits.sleep)
        async with open_dock(**dock) as opened:
            return await upload_recording(path, dock=opened, patience=patience)

    return run
