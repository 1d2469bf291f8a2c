"""A standby of an embedded Postgres: `python -m ingest_service.dev.replica PRIMARY STANDBY`.

Both are folders of `EmbeddedPostgres`. The standby is copied from the running primary and follows
it; from then on the primary acknowledges nothing that the standby has not written too. The file
`replica.json` in its folder then tells port and process id. It runs until SIGTERM, started again
when it dies. `SELECT pg_promote()` makes it a primary.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from ingest_service.dev.postgres import EmbeddedPostgres, clean_environment, find_binaries
from ingest_service.dev.private_file import write_private
from ingest_service.dev.process import StartFailed, is_root, launch_prefix

NAME: Final = "replica"

_STATE: Final = "postgres.json"
_FACTS: Final = "replica.json"
_FOLLOWS_WITHIN_S: Final = 30.0
_POLL_S: Final = 0.1
# Without it the primary would acknowledge what only it has.
_WAIT_FOR_STANDBY: Final = f"ALTER SYSTEM SET synchronous_standby_names = '{NAME}'"
_FOLLOWS: Final = (
    f"SELECT count(*) FROM pg_stat_replication WHERE application_name = '{NAME}'"  # noqa: S608 - our own
    " AND sync_state = 'sync'"
)


def clone_postgres(primary: EmbeddedPostgres, folder: Path) -> EmbeddedPostgres:
    """Return a started standby of a running primary, which waits for it from now on.

    Its passwords are the primary's.

    Raises:
        StartFailed: it was not copied, did not start or does not follow.
    """
    folder.mkdir(mode=0o700, parents=True)
    state = json.loads((primary.folder / _STATE).read_text(encoding="utf-8"))
    write_private(folder / _STATE, json.dumps({**state, "port": 0}) + "\n")
    cluster = folder.absolute() / "cluster"
    cluster.mkdir(mode=0o700)
    if is_root():
        shutil.chown(cluster, "nobody")
    # By the environment, so that no secret shows in `ps`; the standby's settings get it too.
    password = str(state["owner_password"])
    bare_dsn = primary.owner_dsn("postgres").replace(password, "")
    copied = subprocess.run(  # noqa: S603 - our own binary, no shell
        [
            *launch_prefix(signal.SIGTERM, is_unprivileged=True),
            str(find_binaries() / "pg_basebackup"),
            f"--pgdata={cluster}",
            f"--dbname={bare_dsn}&application_name={NAME}",
            "--checkpoint=fast",
            "--wal-method=stream",
            "--write-recovery-conf",
            "--no-sync",
        ],
        env={**clean_environment(), "PGPASSWORD": password},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    if copied.returncode != 0:
        message = f"the standby could not be copied: {copied.stderr.strip()}"
        raise StartFailed(message)
    standby = EmbeddedPostgres(folder)
    standby.start()
    primary.run_sql(_WAIT_FOR_STANDBY)
    primary.run_sql("SELECT pg_reload_conf()")
    deadline = time.monotonic() + _FOLLOWS_WITHIN_S
    while primary.run_sql(_FOLLOWS).strip() != "1":
        if time.monotonic() > deadline:
            standby.stop()
            raise StartFailed(standby.failure("does not follow its primary"))
        time.sleep(_POLL_S)
    return standby


def open_running(folder: Path) -> EmbeddedPostgres:
    """Return an embedded Postgres that another process has started, for its statements only."""
    running = EmbeddedPostgres(folder)
    running.adopt()
    return running


def main(arguments: Sequence[str] | None = None) -> None:
    """Copy the primary, and keep the standby up until SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m ingest_service.dev.replica", description=__doc__
    )
    parser.add_argument("primary", type=Path, help="folder of the running primary")
    parser.add_argument("standby", type=Path, help="folder to make")
    asked = parser.parse_args(arguments)

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    try:
        standby = clone_postgres(open_running(asked.primary), asked.standby)
    except StartFailed as error:
        sys.exit(str(error))
    try:
        while True:
            _tell(asked.standby, standby)
            while standby.is_alive():
                time.sleep(_POLL_S)
            standby.start()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        standby.stop()


def _tell(folder: Path, standby: EmbeddedPostgres) -> None:
    facts = {
        "port": standby.port,
        "pid": standby.pid,
        "database_owner_url": standby.owner_dsn(),
        "database_url": standby.service_dsn(),
    }
    write_private(folder / _FACTS, json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
