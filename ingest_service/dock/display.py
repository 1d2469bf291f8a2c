"""Shows progress: bars on a terminal, plain lines elsewhere."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ingest_service.dock.progress import Stage, Step

QUIET_S: Final = 10.0
_NAME_CHARACTERS_MAX: Final = 40


def printable(path: Path) -> str:
    """Return a path that any output can carry, whatever bytes are in its name."""
    text = os.fsencode(path).decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "?" for character in text)


class BarDisplay:
    """One bar per recording under way; what has ended scrolls away above."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[Path, tuple[TaskID, Stage]] = {}

    def observe(self, step: Step) -> None:
        """Move a recording's bar."""
        if step.stage in {"done", "failed"}:
            if step.path in self._bars:
                self._progress.remove_task(self._bars.pop(step.path)[0])
            self.say(f"{printable(step.path)}: {step.note}")
            return
        if step.stage == "announced":
            self.say(f"{printable(step.path)}: {step.note}")
        if step.path not in self._bars:
            name = printable(Path(step.path.name))[-_NAME_CHARACTERS_MAX:]
            bar = self._progress.add_task(step.stage, name=name, note="", total=step.size_bytes)
            self._bars[step.path] = (bar, step.stage)
        bar, stage = self._bars[step.path]
        if "hashing" in {stage, step.stage} and stage != step.stage:
            # Reading the disk says nothing of the speed of the network.
            self._progress.reset(bar, total=step.size_bytes)
        self._bars[step.path] = (bar, step.stage)
        note = step.note if step.stage in {"waiting", "securing"} else ""
        self._progress.update(bar, completed=step.done_bytes, description=step.stage, note=note)

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(text, markup=False, highlight=False)


class LineDisplay:
    """A line per change of stage, and now and then one while a long transfer goes on."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: dict[Path, tuple[Stage, float]] = {}

    def observe(self, step: Step) -> None:
        """Print a line if there is news."""
        now = time.monotonic()
        stage, said_at = self._last.get(step.path, (None, 0.0))
        if not step.note and step.stage == stage and now - said_at < QUIET_S:
            return
        self._last[step.path] = (step.stage, now)
        parts = [printable(step.path), step.stage]
        if step.size_bytes and step.stage in {"hashing", "sending", "waiting"}:
            share = 100 * step.done_bytes // step.size_bytes
            parts.append(f"{share} % of {step.size_bytes} bytes")
        if step.note:
            parts.append(step.note)
        self.say(": ".join(parts))
        if step.stage in {"done", "failed"}:
            self._last.pop(step.path, None)

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def open_display() -> Iterator[BarDisplay | LineDisplay]:
    """Choose by what standard error is: results belong to standard output."""
    console = Console(stderr=True)
    if not sys.stderr.isatty():
        yield LineDisplay(console)
        return
    progress = Progress(
        TextColumn("{task.fields[name]}", markup=False),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
        redirect_stdout=False,
    )
    with progress:
        yield BarDisplay(progress)
