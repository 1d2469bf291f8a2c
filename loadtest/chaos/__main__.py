"""Faults of every kind while docks upload: `python -m loadtest.chaos --minutes 10`.

Exit codes: 0 nothing was lost, wrong, unproved or left over; 1 something was; 2 nothing could be
judged. The timetable of faults comes from --seed, which is printed.
"""

import argparse
import asyncio
import json
import random
import resource
import secrets
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from loadtest.chaos.run import DocksFailed, Order, Tell, run_chaos
from loadtest.chaos.timetable import Fault, draw_timetable, list_kinds
from loadtest.chaos.verdict import Line, show_lines
from loadtest.own_stack import StackFailed
from loadtest.plant import FAULTS, PlantFailed

RESULTS: Final = Path(__file__).parents[1] / "results"
_COULD_NOT_RUN: Final = 2
_FIRST_FAULT_S: Final = 10.0
_HERD: Final = 3_300
_TELL_EVERY_S: Final = 10.0


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what to do."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=10, help="of faults (default: 10)")
    parser.add_argument("--docks", type=int, default=200, help="that upload throughout")
    parser.add_argument(
        "--herd", type=int, default=_HERD, help="docks that come back at once; 0: none"
    )
    parser.add_argument("--seed", help="of timetable and footage (default: a new one)")
    parser.add_argument("--every", type=float, default=6, metavar="S", help="a fault so often")
    parser.add_argument("--rest", type=float, default=20, metavar="S", help="of a dock, at most")
    parser.add_argument("--settle", type=float, default=300, metavar="S", help="time for the rest")
    parser.add_argument("--only", metavar="WORD", help="only faults with this in name or place")
    parser.add_argument("--no-standby", action="store_true", help="no second Postgres, no failover")
    parser.add_argument("--plant", choices=FAULTS, help="harm one stored object before the verdict")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON report")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what was asked and return the exit code."""
    asked = parse_arguments(arguments)
    console = Console(highlight=False, soft_wrap=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        return _run(asked, console)
    except (OSError, ValueError, StackFailed, DocksFailed, PlantFailed) as error:
        console.print(f"error: {error}", markup=False)
    except asyncio.CancelledError:
        console.print("stopped by SIGTERM", markup=False)
    return _COULD_NOT_RUN


def _run(asked: argparse.Namespace, console: Console) -> int:
    seed = asked.seed or secrets.token_hex(4)
    seconds = asked.minutes * 60
    timetable = _draw(asked, seed, seconds)
    console.print(f"seed {seed}: {len(timetable)} faults in {seconds:.0f} s", markup=False)
    for fault in timetable:
        console.print(f"  {fault}", markup=False)
    with (
        tempfile.TemporaryDirectory(prefix="ingest-chaos-") as name,
        _telling(console, seconds) as tell,
    ):
        folder = Path(name)
        order = Order(
            run=f"chaos-{seed}",
            seed=seed,
            folder=folder,
            seconds=seconds,
            docks=asked.docks,
            herd=asked.herd,
            rest_s=(asked.rest / 10, asked.rest),
            timetable=timetable,
            has_replica=not asked.no_standby,
            settle_s=asked.settle,
            plant=asked.plant,
            tell=tell,
        )
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                document = runner.run(run_chaos(order))
        except (StackFailed, DocksFailed):
            _keep_logs(folder, asked.results / f"chaos-{seed}.logs", console)
            raise
        json_file = _write(document, asked.results)
        if document["verdict"] != "met":
            # The folder goes with the service; what it logged is what one wants to read now.
            _keep_logs(folder, json_file.with_suffix(".logs"), console)
    _show(document, console)
    console.print(str(json_file), markup=False)
    return 0 if document["verdict"] == "met" else 1


def _draw(asked: argparse.Namespace, seed: str, seconds: float) -> list[Fault]:
    kinds = list_kinds(has_replica=not asked.no_standby, has_herd=asked.herd > 0)
    if asked.only:
        kinds = [kind for kind in kinds if asked.only in f"{kind.name}: {kind.where}"]
    if not kinds:
        message = f"no fault is called {asked.only}"
        raise ValueError(message)
    return draw_timetable(
        kinds,
        first_s=min(_FIRST_FAULT_S, seconds * 0.1),
        last_s=seconds * 0.95,
        every_s=asked.every,
        seeded=random.Random(f"{seed}/timetable"),
    )


def _keep_logs(folder: Path, kept: Path, console: Console) -> None:
    shutil.copytree(folder / "data" / "logs", kept, dirs_exist_ok=True)
    for name in ("dev.log", "standby.log", "outcomes.jsonl"):
        if (folder / name).exists():
            shutil.copy(folder / name, kept / name)
    for name in ("postgres", "seaweed"):
        shutil.copy(folder / "data" / name / f"{name}.log", kept / f"{name}.log")
    console.print(f"what the service logged: {kept}", markup=False)


def _write(document: Mapping[str, Any], results: Path) -> Path:
    results.mkdir(parents=True, exist_ok=True)
    stamp = str(document["at"]).translate(str.maketrans("", "", "-:"))[:15]
    json_file = results / f"chaos-{stamp}.json"
    json_file.write_text(json.dumps(document, indent=1) + "\n")
    return json_file


def _show(document: Mapping[str, Any], console: Console) -> None:
    faults = Counter(f"{each['name']}: {each['where']}" for each in document["faults"])
    done = Table("fault", "where", "times", title="What was done")
    for each, times in sorted(faults.items()):
        done.add_row(*each.split(": ", 1), str(times))
    verdict = Table("must not be more", "found", "allowed", "", title="What is left")
    lines = [
        Line(each["what"], each["figure"], each["limit"], each["found"])
        for each in document["lines"]
    ]
    for line in lines:
        mark = "ok" if line.is_met else "MISSED"
        verdict.add_row(line.what, f"{line.figure:,.0f}", f"{line.limit:,.0f}", mark)
    console.print(done, verdict)
    for said in show_lines(lines):
        console.print(said, markup=False)
    figures, docks = document["figures"], document["told_by_docks"]
    console.print(
        f"{figures['clips']:,} clips, {figures['acknowledged_bytes'] / 1e6:,.0f} MB acknowledged, "
        f"{figures['bytes_read'] / 1e6:,.0f} MB read again, {docks['retries']:,} retries, "
        f"{docks['resumes']:,} resumes, {docks['gave_up']:,} visits given up",
        f"verdict: {document['verdict']}",
        sep="\n",
        markup=False,
    )


@contextmanager
def _telling(console: Console, seconds: float) -> Iterator[Tell]:
    if not console.is_terminal:
        yield _make_quiet_tell(console)
        return
    columns = (
        TextColumn("{task.description:>9}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[told]}"),
    )
    with Progress(*columns, console=console, refresh_per_second=2) as progress:
        tasks = {
            "faults": progress.add_task("faults", total=seconds, told=""),
            "settling": progress.add_task("settling", total=1, told="", start=False),
            "reading": progress.add_task("reading", total=1, told="", start=False),
        }

        def tell(phase: str, facts: Mapping[str, Any]) -> None:
            if phase == "fault":
                progress.console.print(facts["fault"], markup=False)
            elif phase == "docks":
                done = min(facts["at"], seconds)
                progress.update(tasks["faults"], completed=done, told=_show_docks(facts))
            elif phase == "settling":
                progress.start_task(tasks["settling"])
                progress.update(tasks["settling"], completed=0, told=facts["left"])
            elif phase == "reading":
                progress.start_task(tasks["reading"])
                told = f"{facts['read']:,}/{facts['of']:,}"
                progress.update(
                    tasks["reading"], completed=facts["read"], total=facts["of"], told=told
                )

        yield tell


def _make_quiet_tell(console: Console) -> Tell:
    """A line for each fault, and one every ten seconds, for logs."""
    told_at = [-1.0]
    told_left = [""]

    def tell(phase: str, facts: Mapping[str, Any]) -> None:
        if phase == "fault":
            console.print(f"  {facts['fault']}", markup=False)
        elif phase == "docks" and facts["at"] // _TELL_EVERY_S > told_at[0]:
            told_at[0] = facts["at"] // _TELL_EVERY_S
            console.print(f"{facts['at']:6.0f} s  {_show_docks(facts)}", markup=False)
        elif phase == "settling" and facts["left"] != told_left[0]:
            told_left[0] = facts["left"]
            console.print(f"settling: {facts['left']}", markup=False)
        elif phase == "finishing":
            console.print("no more faults, no new clips", markup=False)

    return tell


def _show_docks(facts: Mapping[str, Any]) -> str:
    return (
        f"{facts['secured']:,} clips secured, {facts['open']:,} under way, "
        f"{facts['acknowledged_bytes'] / 1e6:,.0f} MB, {facts['retries']:,} retries, "
        f"{facts['gave_up']:,} given up"
    )


if __name__ == "__main__":
    sys.exit(main())
