"""The previous release and this tree work on one ledger, on one bucket, at one time."""

import asyncio

import pytest

from tests.deploy.release import unpack_release
from tests.e2e.honest_dock import NativeDock, Patience, TusDock, make_recording
from tests.e2e.own_process import dial, make_bucket, run_process, run_release
from tests.e2e.stage import PART_BYTES
from tests.e2e.test_rolling_restart import judge, until_released

pytestmark = [pytest.mark.e2e, pytest.mark.s3]

SECURED_WITHIN_S = 120


def make_docks():
    def patience():
        return Patience(wait_s=0.3, tries=100)

    return [
        NativeDock(make_recording(2 * PART_BYTES + 1), patience=patience()),
        TusDock(make_recording(PART_BYTES + 900_000), [600_000, PART_BYTES], patience=patience()),
        NativeDock(make_recording(1000), patience=patience()),
    ]


async def begin(dock, http):
    """Send the first of what there is."""
    if isinstance(dock, TusDock):
        await dock.open(http)
        await dock.send_piece(http)
    else:
        await dock.announce(http)
        await dock.send_chunk(http, 0)


async def test_two_releases_side_by_side_bring_in_what_the_other_began(stage, tmp_path):
    code = unpack_release(tmp_path / "previous")
    settings = {"job_interval_s": 0.2, "vault_bucket": await make_bucket(stage)}
    begun_by_old, begun_by_new = make_docks(), make_docks()
    async with (
        run_process("serve", stage, **settings) as new,
        run_process("work", stage, **settings) as new_jobs,
        run_release("serve", stage, code, **settings) as old,
        run_release("work", stage, code, **settings) as old_jobs,
        dial(new, stage) as to_new,
        dial(old, stage) as to_old,
    ):
        await asyncio.gather(*(begin(dock, to_old) for dock in begun_by_old))
        await asyncio.gather(*(begin(dock, to_new) for dock in begun_by_new))
        await asyncio.gather(
            *(dock.bring_in(to_new) for dock in begun_by_old),
            *(dock.bring_in(to_old) for dock in begun_by_new),
        )
        async with asyncio.timeout(SECURED_WITHIN_S):
            for dock, http in (
                *((dock, to_old) for dock in begun_by_old),
                *((dock, to_new) for dock in begun_by_new),
            ):
                receipt = await until_released(http, stage, dock)
                await judge(stage, dock, receipt, settings["vault_bucket"])

        for process in (new, new_jobs, old, old_jobs):
            assert not process.logged("job_failed")
            assert not process.logged("request_failed")
