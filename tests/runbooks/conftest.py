"""An operator's desk: the embedded servers, their programs on the path, and the variables that the
procedures name."""

import asyncio
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from ingest_service.dev.ports import find_free_port
from ingest_service.dev.postgres import EmbeddedPostgres, clean_environment, find_binaries
from ingest_service.dev.process import launch_prefix
from ingest_service.ledger.migrations import migrate
from ingest_service.signer import make_signing_key
from tests.cli.conftest import Custody
from tests.docs.documents import ROOT, find_blocks

RUNBOOKS: Final = ROOT / "docs/runbooks"
PROGRAMS: Final = ("psql", "pg_basebackup", "pg_verifybackup", "pg_ctl")
RUN_TIMEOUT_S: Final = 120
# Each command is a new interpreter: without this it would compile everything anew.
_KEPT: Final = {
    name: value for name, value in clean_environment().items() if name != "PYTHONDONTWRITEBYTECODE"
}


@dataclass
class Desk:
    """Where a procedure's commands are typed."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, commands: str, *, status: int = 0) -> str:
        """Type commands; return what they print."""
        finished = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", commands],
            cwd=self.folder,
            env={**_KEPT, **self.environment},
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT_S,
            check=False,
        )
        assert finished.returncode == status, f"{finished.stdout}\n{finished.stderr}"
        return finished.stdout


def find_commands(procedure: str) -> list[str]:
    """The blocks of commands of a procedure."""
    return find_blocks(RUNBOOKS / f"{procedure}.md", "sh")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A desk with Postgres's programs and ours."""
    programs = tmp_path / "bin"
    programs.mkdir()
    # As root Postgres's programs run as another user, as everywhere.
    prefix = launch_prefix(signal.SIGTERM, is_unprivileged=True)
    for name in PROGRAMS:
        words = [*prefix, str(find_binaries() / name)]
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
    ours = shlex.join([sys.executable, "-m", "ingest_service"])
    (programs / "ingest").write_text(f'#!/bin/sh\nexec {ours} "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    return Desk(
        tmp_path,
        {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
    )


@pytest.fixture
def primary(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A Postgres of the test's own, to be lost."""
    server = EmbeddedPostgres(tmp_path / "primary", is_durable=False)
    server.start()
    server.make_database()
    migrate(server.owner_dsn())
    server.make_service_login()
    yield server
    server.stop()


@pytest.fixture
def make_custody(seaweed, tmp_path: Path) -> Callable[[EmbeddedPostgres, str], Custody]:
    """Fill a ledger and a bucket with clips and a published log."""

    def make(server: EmbeddedPostgres, bucket: str) -> Custody:
        status, _ = seaweed._ask("PUT", f"/{bucket}", {})
        assert status == 200
        key_file = tmp_path / "custody.pem"
        make_signing_key(key_file)
        made = Custody(server.service_dsn(), server.owner_dsn(), bucket, seaweed, key_file)
        asyncio.run(made.fill())
        return made

    return make


@pytest.fixture
def restored_port() -> int:
    return find_free_port()
