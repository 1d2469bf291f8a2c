"""A disk without space under SeaweedFS, while docks upload and the log is published."""

import asyncio
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ingest_service.dev.seaweed import EmbeddedSeaweed
from tests.actions.test_custody_log import record
from tests.e2e.conftest import end_processes
from tests.e2e.honest_dock import Dock, NativeDock, Patience, TusDock, make_recording
from tests.e2e.stage import PART_BYTES, open_stage
from tests.e2e.test_crash_of_sequencers import assert_one_history
from tests.e2e.test_crash_of_servers import (
    jobs_of,
    make_probe,
    until_acknowledged,
    until_published,
    until_secured,
)

pytestmark = [pytest.mark.e2e, pytest.mark.s3]

DISK_MIB = 256
FULL_S = 4.0
REFUSED_WITHIN_S = 30


@dataclass
class Disk:
    """A small disk of a test's own."""

    folder: Path

    def fill(self) -> None:
        with (self.folder / "others").open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(65_536))
            except OSError:
                return

    def make_room(self) -> None:
        (self.folder / "others").unlink()


@pytest.fixture
def disk(tmp_path) -> Iterator[Disk]:
    # Under what SeaweedFS keeps, not under what it logs.
    folder = tmp_path / "seaweed" / "objects"
    folder.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("a disk of its own takes the right to mount one")
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
async def full_stage(tmp_path, nursery, postgres, ledger_database, disk):
    seaweed = EmbeddedSeaweed(disk.folder.parent)
    seaweed.start()
    async with open_stage(
        tmp_path, nursery, postgres=postgres, database=ledger_database, seaweed=seaweed
    ) as opened:
        yield opened, seaweed
        end_processes(opened)
    seaweed.kill()


def make_docks() -> list[Dock]:
    def patience() -> Patience:
        return Patience(wait_s=0.2, tries=600, pace_s=0.15)

    return [
        NativeDock(make_recording(4 * PART_BYTES + 12_345), patience=patience()),
        TusDock(make_recording(3 * PART_BYTES + 500_000), patience=patience(), is_chunked=True),
        *(NativeDock(make_recording(100_000), patience=patience()) for _ in range(3)),
    ]


async def test_a_full_store_loses_no_event_no_clip_and_no_receipt(full_stage, disk: Disk):
    stage, seaweed = full_stage
    docks = make_docks()
    process = await stage.start()
    async with stage.dial(process) as http, jobs_of(stage):
        probe = make_probe(native=True)
        await probe.prepare(http)
        uploads = [asyncio.create_task(dock.bring_in(http)) for dock in docks]
        await until_acknowledged(docks, uploads, 0.3)

        disk.fill()
        async with asyncio.timeout(REFUSED_WITHIN_S):
            while not probe.refused or probe.refused[-1].is_success:
                await probe.ask(http)
        # Cameras dock and doors open all the same: their events wait for their place outside.
        await record(stage.opened.pool, 20)
        await asyncio.sleep(FULL_S)
        disk.make_room()
        # SeaweedFS keeps the names of objects in LevelDBs. One whose journal met the full disk
        # refuses every write from then on, space or not: "update entry ... filerldb2/01/000001.log:
        # no space left on device" half a minute after there was some. A new start cures it, and
        # docs/custody-operations.md asks for one. Not in a thread: the server would die with it.
        seaweed.stop()
        seaweed.start()
        await asyncio.gather(*uploads)
        await probe.dock.bring_in(http)

        (refused,) = probe.refused[-1:]
        assert refused.status_code in {503, 507}
        assert refused.json()["action"] == "retry"
        assert "ended" not in process.said()
        every = [*docks, probe.dock]
        for dock in every:
            await until_secured(stage, dock)
        await until_published(stage)
        await assert_one_history(stage, None, objects_share=1.0)
        for dock in every:
            await stage.judge(dock, http)
