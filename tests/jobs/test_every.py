"""The loop of every job: how it rests, and how it ends."""

import asyncio

from ingest_service.jobs.every import repeat


async def test_a_job_that_is_told_to_stop_ends_its_step_and_begins_no_other():
    stop, is_in_step, may_go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()
    steps = []

    async def run_once():
        steps.append("begun")
        is_in_step.set()
        await may_go_on.wait()
        steps.append("ended")
        return 1

    job = asyncio.create_task(repeat("test", run_once, interval_s=1, stop=stop))
    await is_in_step.wait()
    stop.set()
    may_go_on.set()
    await asyncio.wait_for(job, 5)

    assert steps == ["begun", "ended"]


async def test_a_job_that_rests_ends_at_once():
    stop, has_run = asyncio.Event(), asyncio.Event()

    async def run_once():
        has_run.set()
        return 0

    job = asyncio.create_task(repeat("test", run_once, interval_s=3600, stop=stop))
    await has_run.wait()
    stop.set()

    await asyncio.wait_for(job, 5)
