"""How far a long command is: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

_SAY_EVERY_S: Final = 10.0


@contextmanager
def telling() -> Iterator[Callable[[str, int, int | None], None]]:
    """Show a bar on a terminal; elsewhere a line now and then."""
    if not sys.stderr.isatty():
        yield _PlainTeller()
        return
    columns = (
        TextColumn("{task.description:>10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=4) as progress:

        def tell(step: str, done: int, total: int | None) -> None:
            if step not in tasks:
                tasks[step] = progress.add_task(step, total=total)
            progress.update(tasks[step], completed=done, total=total)

        yield tell


class _PlainTeller:
    def __init__(self) -> None:
        self._said_at = float("-inf")
        self._step: str | None = None

    def __call__(self, step: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        is_end = total is not None and done >= total
        if step == self._step and now - self._said_at < _SAY_EVERY_S and not is_end:
            return
        self._step, self._said_at = step, now
        typer.echo(f"{step}: {done}{'' if total is None else f' of {total}'}", err=True)
