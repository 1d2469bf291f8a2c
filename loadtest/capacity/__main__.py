"""What the fleet's day asks of the service: pods, cores, memory, rates, time to secure.

Simulates the traffic model of 22,000 cameras, holds it against the published table, sizes the
service from measured costs, then lets a pod die, the store slow down and the service be away at
the worst moment. Writes docs/capacity.md and docs/pictures/day.svg. About a minute.

    python -m loadtest.capacity [--costs FILE] [--docs FILE] [--shift-run RUN.json]
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Final

import psutil
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from loadtest.capacity.costs import MEASURED, load_costs
from loadtest.capacity.picture import draw_day
from loadtest.capacity.report import make_document
from loadtest.capacity.study import STEPS, Study, make_study
from loadtest.capacity.truth import compare_to_run

DOCS: Final = Path("docs/capacity.md")
PICTURE: Final = Path("docs/pictures/day.svg")


def main() -> int:
    """Compute, print and write; return 1 if the model is too far from what it is held against."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.capacity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--costs", type=Path, default=MEASURED, help="measured figures (TOML)")
    parser.add_argument("--docs", type=Path, default=DOCS, help=f"default {DOCS}")
    parser.add_argument("--picture", type=Path, default=PICTURE, help=f"default {PICTURE}")
    parser.add_argument("--seed", type=int, default=1, help="another day (default 1)")
    parser.add_argument(
        "--shift-run", type=Path, help="JSON of `loadtest run shift`, to hold the model against"
    )
    asked = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    costs = load_costs(asked.costs)
    with Progress(
        TextColumn("{task.description:>24}"), BarColumn(), TimeElapsedColumn(), console=console
    ) as progress:
        task = progress.add_task("capacity", total=STEPS)

        def advance(what: str) -> None:
            progress.update(task, advance=1, description=what)

        study: Study = make_study(costs, asked.seed, advance)
    run_checks = []
    if asked.shift_run is not None:
        document = json.loads(asked.shift_run.read_text())
        run_checks = compare_to_run(document, costs, cores=psutil.cpu_count() or 1)
    text = make_document(study, run_checks, asked.picture.name)
    asked.docs.write_text(text, encoding="utf-8")
    asked.picture.parent.mkdir(parents=True, exist_ok=True)
    asked.picture.write_text(draw_day("S1", study.days["S1"]), encoding="utf-8")
    console.print(text, markup=False)
    console.print(f"written: {asked.docs}, {asked.picture}")
    deviations = [*study.deviations(), *run_checks]
    for each in deviations:
        if not each.is_within:
            console.print(f"too far off: {each.what}: {each.modelled:.4g}, not {each.expected:.4g}")
    return 0 if all(each.is_within for each in deviations) else 1


if __name__ == "__main__":
    sys.exit(main())
