"""This service beside other upload servers, in one run on the same machine. `make compare`.

Workloads: big (32 x 64 MiB in 8 MiB PATCHes, 16 at once), big1 (one PATCH a file), small
(2,000 x 256 KiB, 64 at once). Stores: the embedded SeaweedFS, then a null S3 that costs next to
nothing. What was stored is verified after every run. Everything listens on 127.0.0.1 and is ended
afterwards; about 25 GB of disk are used meanwhile. Exits 1 if this service failed or missed a goal.

    python -m loadtest.peers [--scale 0.1] [--only own tuspyserver] [--workloads small]
"""

import argparse
import asyncio
import shlex
import signal
import sys
import tempfile
from pathlib import Path
from typing import Final, NoReturn

import uvloop
from rich.console import Console

from loadtest.docs_block import write_block
from loadtest.peers.children import StartFailed
from loadtest.peers.comparison import OWN, SERVERS, Comparison, Plan
from loadtest.peers.report import BLOCK, DOCS, is_met, tables, write_json
from loadtest.peers.servers import free_bytes
from loadtest.peers.workload import WORKLOADS

RESULTS: Final = Path(__file__).parent.parent / "results"
STORES: Final = ("seaweed", "null")
# Twice the bytes: repeats, and what @tus/server writes to disk on the way.
_DISK_FACTOR: Final = 2.0


def parse_arguments() -> argparse.Namespace:
    """Return what to measure."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--scale", type=float, default=1.0, help="share of the files (default 1)")
    parser.add_argument("--only", nargs="+", choices=SERVERS, default=SERVERS, help="default: all")
    parser.add_argument(
        "--workloads", nargs="+", choices=WORKLOADS, default=tuple(WORKLOADS), help="default: all"
    )
    parser.add_argument("--stores", nargs="+", choices=STORES, default=STORES, help="default: both")
    parser.add_argument("--tries", type=int, default=2, help="of a noisy run (default 2)")
    parser.add_argument("--timeout", type=float, default=300, help="seconds a run (default 300)")
    parser.add_argument("--folder", type=Path, help="for data; default: a temporary one")
    parser.add_argument("--write-docs", action="store_true", help="tables in docs/performance.md")
    return parser.parse_args()


def make_plan(arguments: argparse.Namespace) -> Plan:
    """Return the plan that the arguments ask for; this service is always in it, and first."""
    chosen = set(arguments.only) | {OWN}
    return Plan(
        servers=tuple(name for name in SERVERS if name in chosen),
        workloads=tuple(WORKLOADS[name].scaled(arguments.scale) for name in arguments.workloads),
        on_null_s3=tuple(name == "null" for name in arguments.stores),
        tries=max(1, arguments.tries),
        timeout_s=arguments.timeout,
    )


def main() -> int:
    """Compare, print, and return 1 if this service failed or missed a goal, 2 if it cannot run."""
    arguments = parse_arguments()
    plan, console = make_plan(arguments), Console(highlight=False, soft_wrap=True)
    command = shlex.join(["python", "-m", "loadtest.peers", *sys.argv[1:]])
    # An orderly end: every server that was started is ended too.
    signal.signal(signal.SIGTERM, _leave)
    with tempfile.TemporaryDirectory(prefix="ingest-compare-", dir=arguments.folder) as name:
        folder = Path(name)
        on_disk = sum(workload.total_bytes for workload in plan.workloads) * len(plan.servers)
        needed_bytes = int(on_disk * _DISK_FACTOR)
        if not all(plan.on_null_s3) and free_bytes(folder) < needed_bytes:
            console.print(f"{needed_bytes / 1e9:.0f} GB must be free below {folder}; see --folder")
            return 2
        comparison = Comparison(plan, folder, console)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(comparison.make())
        except StartFailed as error:
            console.print(str(error), markup=False)
            return 2
        finally:
            # Whoever stops a long comparison keeps what it has found.
            if comparison.rows:
                lines = tables(comparison.rows, comparison.skipped, command)
                console.print("\n".join(lines), markup=False)
                file = write_json(comparison.rows, comparison.skipped, command, RESULTS)
                console.print(f"written: {file}")
    if arguments.write_docs:
        write_block(DOCS, BLOCK, lines)
    return 0 if is_met(comparison.rows) else 1


def _leave(_number: int, _frame: object) -> NoReturn:
    sys.exit(143)


if __name__ == "__main__":
    sys.exit(main())
