"""Several recordings at once: clips side by side, each clip's chunks in order."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from ingest_service.dock.failures import DockFailure
from ingest_service.dock.progress import Step
from ingest_service.dock.upload import Dock, Outcome, upload_recording

Report: TypeAlias = Callable[[Path, Outcome | DockFailure], None]


async def upload_recordings(
    paths: Sequence[Path], *, dock: Dock, parallel_clips: int, report: Report
) -> bool:
    """Bring recordings in, at most parallel_clips at a time; tell whether all went well.

    One that fails holds up no other: `report` hears of each as it ends.
    """
    lanes = asyncio.Semaphore(parallel_clips)

    async def upload_one(path: Path) -> bool:
        async with lanes:
            result = await upload_reported(path, dock=dock)
        report(path, result)
        return isinstance(result, Outcome)

    return all(await asyncio.gather(*(upload_one(path) for path in paths)))


async def upload_reported(path: Path, *, dock: Dock) -> Outcome | DockFailure:
    """Bring one recording in; its failure is told and returned, not raised."""
    try:
        return await upload_recording(path, dock=dock)
    except DockFailure as failure:
        dock.observe(Step(path, "failed", 0, 0, str(failure)))
        return failure
