"""Load tests: `python -m loadtest run fleet`, `list`, and what to do with the JSON of runs.

Exit codes of `run`: 0 every goal met; 1 a goal missed or the audit found something; 2 nothing could
be measured; 3 the generators were the bound, so the run proves nothing.
"""

import argparse
import asyncio
import json
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from loadtest import table as table_of_runs
from loadtest.compare import compare_runs, load_run
from loadtest.docs_block import write_block
from loadtest.judge import GeneratorFailed, Order, Tell, judge, show_goals
from loadtest.own_stack import Stack, StackFailed, running_stack, wire_of
from loadtest.plant import FAULTS, PlantFailed
from loadtest.report import make_page, make_picture, write_run
from loadtest.scenarios import KIB, SCENARIOS, Knobs, Scenario, make_knobs

RESULTS: Final = Path(__file__).parent / "results"
_EXIT_CODES: Final = {"met": 0, "missed": 1, "invalid": 3}
_COULD_NOT_RUN: Final = 2


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what to do."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the scenarios and their goals")
    run = commands.add_parser("run", help="run a scenario and judge it")
    run.add_argument("scenario", choices=SCENARIOS)
    run.add_argument("--devices", type=int, help="docks, each on its own connection")
    run.add_argument("--clip-kib", type=int, help="size of every clip, or the mean")
    run.add_argument("--over", type=float, metavar="S", help="length of the plan of starts")
    run.add_argument("--within", type=float, metavar="S", help="goal for the last receipt")
    run.add_argument("--processes", type=int, help="generators (default: at least 2)")
    run.add_argument("--workers", type=int, help="API processes of the own service")
    run.add_argument(
        "--service", type=Path, metavar="FILE", help="a running service: its dev.json, or the like"
    )
    run.add_argument("--plant", choices=FAULTS, help="harm one stored object before the audit")
    run.add_argument("--results", type=Path, default=RESULTS, help="folder for page and JSON")
    run.add_argument("--picture", type=Path, metavar="SVG", help="the main charts as a picture")
    compare = commands.add_parser("compare", help="two runs side by side")
    compare.add_argument("before", type=Path)
    compare.add_argument("after", type=Path)
    page = commands.add_parser("page", help="make the page of a run's JSON again")
    page.add_argument("run", type=Path)
    page.add_argument("--picture", type=Path, metavar="SVG", help="its main charts as a picture")
    table = commands.add_parser("table", help="what runs said, as a table in Markdown")
    table.add_argument("runs", type=Path, nargs="+", metavar="JSON")
    table.add_argument(
        "--write-docs", action="store_true", help=f"put it into {table_of_runs.DOCS}"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what was asked and return the exit code."""
    asked = parse_arguments(arguments)
    console = Console(highlight=False, soft_wrap=True)
    if asked.command == "list":
        for scenario in SCENARIOS.values():
            console.print(f"[bold]{scenario.name}[/bold]  {scenario.goal}")
        return 0
    try:
        if asked.command == "compare":
            console.print(compare_runs(load_run(asked.before), load_run(asked.after)))
            return 0
        if asked.command == "page":
            _make_page(asked, console)
            return 0
        if asked.command == "table":
            lines = table_of_runs.make_rows([load_run(file) for file in asked.runs])
            console.print("\n".join(lines), markup=False)
            if asked.write_docs:
                write_block(table_of_runs.DOCS, table_of_runs.BLOCK, lines)
            return 0
        return run_scenario(asked, console)
    except (OSError, ValueError, StackFailed, GeneratorFailed, PlantFailed) as error:
        console.print(f"error: {error}", markup=False)
        return _COULD_NOT_RUN


def _make_page(asked: argparse.Namespace, console: Console) -> None:
    document = load_run(asked.run)
    page = asked.run.with_suffix(".html")
    page.write_text(make_page(document))
    console.print(str(page))
    if asked.picture is not None:
        asked.picture.write_text(make_picture(document))


def run_scenario(asked: argparse.Namespace, console: Console) -> int:
    """Run, audit, judge and report."""
    scenario = SCENARIOS[asked.scenario]
    knobs = make_knobs(
        scenario,
        {
            "devices": asked.devices,
            "clip_bytes": asked.clip_kib and asked.clip_kib * KIB,
            "over_s": asked.over,
            "within_s": asked.within,
            "processes": asked.processes,
        },
    )
    console.print(f"{scenario.name}: {scenario.goal}")
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="ingest-load-")))
        stack = _open_service(scenario, asked, folder, opened, console)
        tell = opened.enter_context(_showing_progress(console, knobs, scenario))
        order = Order(
            scenario=scenario,
            knobs=knobs,
            run=f"{scenario.name}-{secrets.token_hex(4)}",
            stack=stack,
            folder=folder,
            is_own=asked.service is None,
            fault=asked.plant,
            tell=tell,
        )
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            document = runner.run(judge(order))
        json_file, page_file = write_run(document, asked.results)
        if document["verdict"] != "met" and asked.service is None:
            # The folder goes with the service; what it logged is what one wants to read now.
            logs = shutil.copytree(folder / "data" / "logs", json_file.with_suffix(".logs"))
            console.print(f"what the service logged: {logs}", markup=False)
    if asked.picture is not None:
        asked.picture.write_text(make_picture(document))
    for line in show_goals(document):
        console.print(line, markup=False)
    for kind in ("lost", "wrong", "bad_receipts"):
        for each in document["audit"][kind]["first"]:
            console.print(f"audit: {kind}: {each}", markup=False)
    console.print(f"{page_file}\n{json_file}", markup=False)
    return _EXIT_CODES[document["verdict"]]


def _open_service(
    scenario: Scenario,
    asked: argparse.Namespace,
    folder: Path,
    opened: ExitStack,
    console: Console,
) -> Stack:
    if asked.service is not None:
        facts = json.loads(asked.service.read_text())
        pids = {role: pid for role, pid in facts.get("pids", {}).items() if pid}
        return Stack(wire_of(facts), pids, facts)
    workers = asked.workers or scenario.workers
    console.print(f"starting Postgres, {scenario.store} S3, {workers} API processes, jobs ...")
    # One line per request would measure the disk.
    knobs = {"INGEST_LOG_LEVEL": "warning", **scenario.environment, "INGEST_WORKERS": str(workers)}
    return opened.enter_context(running_stack(folder, store=scenario.store, knobs=knobs))


@contextmanager
def _showing_progress(console: Console, knobs: Knobs, scenario: Scenario) -> Iterator[Tell]:
    clips = knobs.devices * scenario.make_load(knobs).clips_per_device
    if not console.is_terminal:
        yield _make_quiet_tell(console, clips)
        return
    columns = (
        TextColumn("{task.description:>6}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[told]}"),
    )
    # Few refreshes: the bar shares the machine with what is measured.
    with Progress(*columns, console=console, refresh_per_second=2) as progress:
        tasks = {
            "run": progress.add_task("run", total=clips, told=""),
            "audit": progress.add_task("audit", total=clips, told=""),
        }

        def tell(phase: str, counts: Mapping[str, float]) -> None:
            told = _show_counts(counts) if phase == "run" else ""
            done = counts.get("secured" if phase == "run" else "audited", 0)
            progress.update(tasks[phase], completed=done, told=told)

        yield tell


def _make_quiet_tell(console: Console, clips: int) -> Tell:
    """A line every ten seconds, for logs."""
    told_at = [-1]

    def tell(phase: str, counts: Mapping[str, float]) -> None:
        slot = int(counts.get("at", 0)) // 10
        if phase == "run" and slot > told_at[0]:
            told_at[0] = slot
            secured = counts.get("secured", 0)
            line = (
                f"{counts['at']:5.0f} s  {secured:,.0f}/{clips:,} secured  {_show_counts(counts)}"
            )
            console.print(line)
        elif phase == "audit" and not counts:
            console.print("audit ...")

    return tell


def _show_counts(counts: Mapping[str, float]) -> str:
    return (
        f"{counts.get('open', 0):,.0f} connected, {counts.get('announced', 0):,.0f} announced, "
        f"{counts.get('sealed', 0):,.0f} sealed, {counts.get('failed', 0):,.0f} failed, "
        f"{counts.get('retries', 0):,.0f} retries"
    )


if __name__ == "__main__":
    sys.exit(main())
