"""`python -m ingest_service.dev.year`: a year on a Postgres and a vault of its own.

Status 0: every clip is accounted for. 1: something must not be. 2: the year broke off.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import MutableMapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Literal, NoReturn

import structlog
import uvloop

from ingest_service.dev.postgres import EmbeddedPostgres
from ingest_service.dev.seaweed import EmbeddedSeaweed
from ingest_service.dev.year.file_vault import FileVault
from ingest_service.dev.year.life import Scenario
from ingest_service.dev.year.plants import PLANTS
from ingest_service.dev.year.report import Bar, format_outcome
from ingest_service.dev.year.run import Outcome, run_year
from ingest_service.dev.year.service import YearFailed
from ingest_service.ledger.migrations import migrate
from ingest_service.resources import open_vault
from ingest_service.vault import Vault

_DATABASE: Final = "year"
# Up to so many clips the store is a real S3; beyond, its milliseconds would be most of the time.
_SEAWEED_CLIPS_MAX: Final = 10_000
_CERTIFICATES_MAX: Final = 20_000
_BROKEN_OFF: Final = 2

Store = Literal["seaweed", "file"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, let the year pass, print the table."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.year", description=__doc__)
    parser.add_argument("--clips", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--plant", choices=PLANTS, action="append", default=[], help="a fault that must be found"
    )
    parser.add_argument(
        "--store",
        choices=("seaweed", "file"),
        help=f"by default a real S3 up to {_SEAWEED_CLIPS_MAX:,} clips",
    )
    parser.add_argument("--certificates", type=int, default=_CERTIFICATES_MAX)
    parser.add_argument("--folder", type=Path, help="kept afterwards; by default none is")
    asked = parser.parse_args(arguments)
    if asked.clips < 1:
        parser.error("a year has at least one clip")
    store: Store = asked.store or ("seaweed" if asked.clips <= _SEAWEED_CLIPS_MAX else "file")
    _silence_jobs()
    scenario = Scenario(asked.clips, asked.seed, tuple(asked.plant))
    with ExitStack() as stack:
        folder = asked.folder or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="ingest-year-"))
        )
        folder.mkdir(parents=True, exist_ok=True)
        print(f"a year of {asked.clips:,} clips; the vault is {_describe(store)}", file=sys.stderr)
        try:
            outcome = _run(scenario, store, folder, asked.certificates, stack)
        except YearFailed as error:
            print(f"the year broke off: {error}", file=sys.stderr)
            return _BROKEN_OFF
    print(format_outcome(outcome))
    return 0 if outcome.verdict.holds else 1


def _describe(store: Store) -> str:
    return "SeaweedFS" if store == "seaweed" else "a SQLite file with S3's rules"


def _run(
    scenario: Scenario, store: Store, folder: Path, certificates_max: int, stack: ExitStack
) -> Outcome:
    postgres = EmbeddedPostgres(folder / "postgres", is_durable=False)
    stack.callback(postgres.stop)
    postgres.start()
    postgres.make_database(_DATABASE)
    migrate(postgres.owner_dsn(_DATABASE))
    postgres.make_service_login()
    seaweed: EmbeddedSeaweed | None = None
    if store == "seaweed":
        seaweed = EmbeddedSeaweed(folder / "seaweed")
        stack.callback(seaweed.stop)
        seaweed.start()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_live(scenario, postgres, seaweed, folder, certificates_max))


async def _live(
    scenario: Scenario,
    postgres: EmbeddedPostgres,
    seaweed: EmbeddedSeaweed | None,
    folder: Path,
    certificates_max: int,
) -> Outcome:
    bar = Bar()
    try:
        if seaweed is None:
            vault = FileVault(folder / "vault.sqlite")
            try:
                return await _run_on(vault, scenario, postgres, folder, certificates_max, bar)
            finally:
                vault.close()
        async with open_vault(
            endpoint=seaweed.endpoint,
            bucket=seaweed.bucket,
            access_key=seaweed.access_key,
            secret_key=seaweed.secret_key,
        ) as opened:
            return await _run_on(opened, scenario, postgres, folder, certificates_max, bar)
    finally:
        bar.end()


async def _run_on(
    vault: Vault,
    scenario: Scenario,
    postgres: EmbeddedPostgres,
    folder: Path,
    certificates_max: int,
    bar: Bar,
) -> Outcome:
    return await run_year(
        scenario,
        service_dsn=postgres.service_dsn(_DATABASE),
        owner_dsn=postgres.owner_dsn(_DATABASE),
        vault=vault,
        folder=folder,
        certificates_max=certificates_max,
        tell=bar.tell,
        tell_judged=bar.tell_judged,
    )


def _silence_jobs() -> None:
    """Let the jobs' daily lines go: a year of them says nothing."""
    structlog.configure(processors=[_drop])


def _drop(_logger: object, _name: str, _event: MutableMapping[str, object]) -> NoReturn:
    raise structlog.DropEvent


if __name__ == "__main__":
    sys.exit(main())
