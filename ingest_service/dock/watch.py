"""A folder that recordings appear in: upload each one once it is whole."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

from ingest_service.dock.batch import Report, upload_reported
from ingest_service.dock.failures import DockFailure, FileInUse, FileUnusable, GaveUp, Trouble
from ingest_service.dock.manifest import collect_manifests, report_manifests
from ingest_service.dock.prepare import prepare_recording
from ingest_service.dock.recording import FileIdentity, hold_file, identify_file
from ingest_service.dock.sidecar import is_companion
from ingest_service.dock.upload import Dock, Outcome

# Time may heal these; for the rest somebody has to do something first.
RETRY_SOON_S: Final = 60.0
RETRY_LATE_S: Final = 900.0
_SOON: Final = (FileInUse, FileUnusable, GaveUp)


def find_recordings(folder: Path) -> dict[Path, FileIdentity]:
    """Return the recordings below a folder; companions and hidden files are none."""
    found = {}
    for path in sorted(folder.rglob("*")):
        is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if is_hidden or is_companion(path):
            continue
        try:
            found[path] = identify_file(path)
        except FileUnusable:
            # A folder, or gone since it was listed.
            continue
    return found


class FolderWatch:
    """What is known of a folder's files between two looks.

    settle_s    a file whose size and time stood still so long is whole
    interval_s  between two looks
    """

    def __init__(
        self,
        folder: Path,
        *,
        dock: Dock,
        parallel_clips: int,
        report: Report,
        say: Callable[[str], None],
        settle_s: float = 3.0,
        interval_s: float = 1.0,
    ) -> None:
        self._folder = folder
        self._dock = dock
        self._report = report
        self._say = say
        self._settle_s = settle_s
        self._interval_s = interval_s
        self._lanes = asyncio.Semaphore(parallel_clips)
        self._disk = asyncio.Semaphore(1)
        self._seen: dict[Path, tuple[FileIdentity, float]] = {}
        self._running: set[Path] = set()
        self._unprepared: set[Path] = set()
        self._ended: dict[Path, FileIdentity] = {}
        self._retry_at: dict[Path, float] = {}
        self._reported: frozenset[Path] = frozenset()

    async def run(self) -> NoReturn:
        """Watch until cancelled; uploads in flight are left for the next run to go on with."""
        async with asyncio.TaskGroup() as uploads:
            while True:
                whole = self._look(await asyncio.to_thread(find_recordings, self._folder))
                for path, identity in whole.items():
                    if self._is_due(path, identity):
                        self._running.add(path)
                        self._unprepared.add(path)
                        uploads.create_task(self._bring_in(path, identity))
                await self._report_manifests(frozenset(whole))
                await asyncio.sleep(self._interval_s)

    def _look(self, found: dict[Path, FileIdentity]) -> dict[Path, FileIdentity]:
        """Return the files that stood still for settle_s."""
        now = time.monotonic()
        self._seen = {
            path: (identity, since if identity == known else now)
            for path, identity in found.items()
            for known, since in (self._seen.get(path, (None, now)),)
        }
        self._ended = {path: ended for path, ended in self._ended.items() if path in found}
        return {
            path: identity
            for path, (identity, since) in self._seen.items()
            if now - since >= self._settle_s
        }

    def _is_due(self, path: Path, identity: FileIdentity) -> bool:
        if path in self._running or time.monotonic() < self._retry_at.get(path, 0):
            return False
        return self._ended.get(path) != identity

    async def _bring_in(self, path: Path, identity: FileIdentity) -> None:
        try:
            await self._prepare(path)
            async with self._lanes:
                result = await upload_reported(path, dock=self._dock)
            if isinstance(result, Outcome):
                self._ended[path] = identity
            else:
                wait_s = RETRY_SOON_S if isinstance(result, _SOON) else RETRY_LATE_S
                self._retry_at[path] = time.monotonic() + wait_s
            self._report(path, result)
        finally:
            self._running.discard(path)

    async def _prepare(self, path: Path) -> None:
        # All new files are hashed before the first waits for a free lane, so that the manifest
        # says what is at risk while most of it is still to be sent. One at a time: it is a disk.
        try:
            async with self._disk:
                with hold_file(path):
                    await prepare_recording(
                        path,
                        options=self._dock.options,
                        state_dir=self._dock.policy.state_dir,
                    )
        except DockFailure:
            # The upload finds the same and reports it.
            pass
        finally:
            self._unprepared.discard(path)

    async def _report_manifests(self, whole: frozenset[Path]) -> None:
        """Tell the service what lies here, whenever that has changed; never in the way."""
        if whole == self._reported or self._unprepared:
            return
        try:
            manifests = collect_manifests(whole, state_dir=self._dock.policy.state_dir)
            await report_manifests(manifests, service=self._dock.service)
        except (Trouble, DockFailure) as failure:
            self._say(f"manifest not reported: {failure}")
            # Not asked again for this set: the uploads have their own retries.
        self._reported = whole
