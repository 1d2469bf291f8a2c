import asyncio
import contextlib
import os
from contextlib import asynccontextmanager

import pytest

from ingest_service.dock.failures import DockFailure
from ingest_service.dock.upload import Outcome
from ingest_service.dock.watch import FolderWatch, find_recordings
from tests.dock.fake_service import problem, until


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "bays" / "BWC-000001").mkdir(parents=True)
    (tmp_path / "bays" / "BWC-000002").mkdir(parents=True)
    return tmp_path / "bays"


@pytest.fixture
def results() -> list:
    return []


@pytest.fixture
def watching(folder, open_dock, results):
    @asynccontextmanager
    async def watch(**policy):
        async with open_dock(**policy) as dock:
            running = asyncio.create_task(
                FolderWatch(
                    folder,
                    dock=dock,
                    parallel_clips=2,
                    report=lambda path, result: results.append((path, result)),
                    say=lambda _: None,
                    settle_s=0.6,
                    interval_s=0.05,
                ).run()
            )
            try:
                yield
            finally:
                running.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await running

    return watch


def test_companions_and_hidden_files_are_no_recordings(folder):
    camera = folder / "BWC-000001"
    for name in (
        "a.mp4",
        "a.mp4.json",
        "a.mp4.ingest.json",
        "a.mp4.receipt.json",
        ".b.mp4",
        "c.tmp",
    ):
        (camera / name).write_bytes(b"x")
    (folder / ".trash").mkdir()
    (folder / ".trash" / "d.mp4").write_bytes(b"x")

    assert list(find_recordings(folder)) == [camera / "a.mp4"]


async def test_what_appears_is_brought_in(fake, folder, watching, results):
    async with watching():
        (folder / "BWC-000001" / "a.mp4").write_bytes(os.urandom(100_000))
        (folder / "BWC-000002" / "a.mp4").write_bytes(os.urandom(100_000))
        await until(lambda: len(results) == 2)

    assert {serial for serial, _, _ in fake.clips} == {"BWC-000001", "BWC-000002"}
    assert {clip.state for clip in fake.clips.values()} == {"secured"}


async def test_a_file_is_not_sent_while_it_grows(fake, folder, watching, results):
    path = folder / "BWC-000001" / "a.mp4"
    async with watching():
        for _ in range(10):
            with path.open("ab") as file:
                file.write(os.urandom(10_000))
            await asyncio.sleep(0.1)
        assert fake.count("POST") == 0
        await until(lambda: len(results) == 1)

    assert fake.clip.size_bytes == 100_000


async def test_a_recording_that_fails_holds_up_no_other(fake, folder, watching, results):
    fake.fail("POST /v1/clips$", lambda: problem(422, "invalid-request", "fix"), count=1)
    async with watching():
        for name in ("a.mp4", "b.mp4", "c.mp4"):
            (folder / "BWC-000001" / name).write_bytes(os.urandom(1_000))
        await until(lambda: len(results) == 3)

    assert [isinstance(result, DockFailure) for _, result in results].count(True) == 1
    assert len(fake.clips) == 2


async def test_each_recording_is_brought_in_once(fake, folder, watching, results):
    (folder / "BWC-000001" / "a.mp4").write_bytes(os.urandom(1_000))
    async with watching():
        await until(lambda: len(results) == 1)
        await asyncio.sleep(0.5)

    assert len(results) == 1


async def test_a_restarted_watch_asks_nothing_about_what_is_secured(
    fake, folder, watching, results
):
    (folder / "BWC-000001" / "a.mp4").write_bytes(os.urandom(1_000))
    async with watching():
        await until(lambda: len(results) == 1)
    fake.requests.clear()

    async with watching():
        await until(lambda: len(results) == 2)

    assert isinstance(results[1][1], Outcome)
    assert fake.count("clips") == 0


async def test_an_emptied_camera_holds_receipts_only(fake, folder, watching, results):
    (folder / "BWC-000001" / "a.mp4").write_bytes(os.urandom(1_000))
    async with watching(is_erasing=True):
        await until(lambda: len(results) == 1)

    assert [path.name for path in (folder / "BWC-000001").iterdir()] == ["a.mp4.receipt.json"]


# The watch is ended while a file is being opened in a thread: nobody is left to close it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_what_lies_here_is_reported_per_camera(fake, folder, watching):
    (folder / "BWC-000001" / "a.mp4").write_bytes(b"1" * 1_000)
    (folder / "BWC-000001" / "b.mp4").write_bytes(b"2" * 2_000)
    (folder / "BWC-000002" / "c.mp4").write_bytes(b"3" * 3_000)
    async with watching():
        await until(lambda: len(fake.manifests) >= 2)

    held = {
        serial: sorted(recording["size_bytes"] for recording in manifest["recordings"])
        for serial, manifest in fake.manifests
    }
    assert held == {"BWC-000001": [1_000, 2_000], "BWC-000002": [3_000]}
