"""Shows progress: bars on a terminal, plain lines elsewhere."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TextIO

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

from ingest_service.dock.progress import Step

QUIET_S: Final = 10.0
_NAME_CHARACTERS_MAX: Final = 40
_WITHOUT_SHARE: Final = frozenset({"announced", "sealing", "securing", "done", "failed"})


def printable(path: Path) -> str:
    """Return a path that any output can carry, whatever bytes are in its name."""
    text = os.fsencode(path).decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "?" for character in text)


class BarDisplay:
    """One bar per recording under way; what has ended scrolls away above."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[Path, tuple[TaskID, str]] = {}

    def observe(self, step: Step) -> None:
        """Move a recording's bar."""
        if step.stage in {"done", "failed"}:
            self.end(step.path)
        if step.stage in {"announced", "done", "failed"}:
            self.say(f"{printable(step.path)}: {step.note}")
            return
        note = step.note if step.stage in {"waiting", "securing"} else ""
        self.show(step.path, step.stage, step.done_bytes, step.size_bytes, note)

    def show(
        self, path: Path, label: str, done_bytes: int, size_bytes: int, note: str = ""
    ) -> None:
        """Move the bar of a file: what happens to it, and how far it is."""
        if path not in self._bars:
            name = printable(Path(path.name))[-_NAME_CHARACTERS_MAX:]
            self._bars[path] = (
                self._progress.add_task(label, name=name, note=note, total=size_bytes),
                label,
            )
        bar, last_label = self._bars[path]
        if label != last_label and "hashing" in {last_label, label}:
            # Reading the disk says nothing of the speed of the network.
            self._progress.reset(bar, total=size_bytes)
        self._bars[path] = (bar, label)
        self._progress.update(bar, completed=done_bytes, description=label, note=note)

    def end(self, path: Path) -> None:
        """Take the bar of a file away."""
        if path in self._bars:
            self._progress.remove_task(self._bars.pop(path)[0])

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(text, markup=False, highlight=False)


class LineDisplay:
    """A line per change of stage, and now and then one while a long transfer goes on."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: dict[Path, tuple[str, float]] = {}

    def observe(self, step: Step) -> None:
        """Print a line if there is news."""
        self.show(step.path, step.stage, step.done_bytes, step.size_bytes, step.note)
        if step.stage in {"done", "failed"}:
            self.end(step.path)

    def show(
        self, path: Path, label: str, done_bytes: int, size_bytes: int, note: str = ""
    ) -> None:
        """Print what happens to a file, when it changes or has long been silent."""
        now = time.monotonic()
        last_label, said_at = self._last.get(path, ("", 0.0))
        if not note and label == last_label and now - said_at < QUIET_S:
            return
        self._last[path] = (label, now)
        parts = [printable(path), label]
        if size_bytes and label not in _WITHOUT_SHARE:
            parts.append(f"{100 * done_bytes // size_bytes} % of {size_bytes} bytes")
        if note:
            parts.append(note)
        self.say(": ".join(parts))

    def end(self, path: Path) -> None:
        """Forget a file."""
        self._last.pop(path, None)

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def open_display(stream: TextIO | None = None) -> Iterator[BarDisplay | LineDisplay]:
    """Choose by what the stream is; standard error by default, as results go to standard output."""
    output = stream or sys.stderr
    console = Console(file=output)
    if not output.isatty():
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
