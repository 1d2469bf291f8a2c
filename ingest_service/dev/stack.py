"""The whole service on one machine: started in order, watched, stopped in reverse order."""

import asyncio
import http.client
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Final, Protocol
from urllib.parse import urlsplit, urlunsplit

from ingest_service.actions.register_station import register_station
from ingest_service.dev.folder import (
    STATION_ID,
    TOKEN_ISSUER,
    TOKEN_LIFETIME,
    DevKeys,
    claimed_folder,
    prepare_keys,
    read_signing_key,
    sign_tokens,
)
from ingest_service.dev.foreign_s3 import ForeignS3
from ingest_service.dev.ports import LOOPBACK, find_free_port, is_port_free
from ingest_service.dev.postgres import EmbeddedPostgres
from ingest_service.dev.private_file import write_private
from ingest_service.dev.process import Child, StartFailed, end_leftover
from ingest_service.dev.seaweed import REGION, EmbeddedSeaweed
from ingest_service.errors import IngestError
from ingest_service.ledger.connection import open_pool
from ingest_service.ledger.migrations import MigrationFailed, migrate
from ingest_service.ledger.stations import Station
from ingest_service.signer import SigningKeyUnusable, open_local_signer
from ingest_service.telemetry import METRICS_DIR_VARIABLE, forget_process

STATION: Final = Station(STATION_ID, site_id="site-01", borough="Westminster")
SIGNING_KEY_NAME: Final = "ingest.dev/custody"

_ROLES: Final = ("work", "serve")
_READY_TIMEOUT_S: Final = 60.0
_REQUEST_TIMEOUT_S: Final = 5.0
_POLL_S: Final = 0.1
_STEADY_AFTER_S: Final = 30.0
_BACKOFF_FIRST_S: Final = 0.2
_BACKOFF_MAX_S: Final = 10.0
_DRAIN_TIMEOUT_S: Final = 5
_ORPHAN_GRACE_S: Final = 2.0
_STOP_GRACE_S: Final = 15.0
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _StopRequested(BaseException):
    """A signal asked us to stop; not an error, so no `except Exception` may keep it."""


class _Part(Protocol):
    """A server that can be started again: Postgres, SeaweedFS, or a child of our own program."""

    @property
    def pid(self) -> int | None: ...

    def is_alive(self) -> bool: ...

    def start(self) -> None: ...

    def ending(self) -> str: ...

    def failure(self, what: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Detour:
    """Ports of 127.0.0.1 by which the API and the jobs reach Postgres and S3, through others."""

    ledger_port: int
    vault_port: int


def run_dev(
    folder: Path,
    *,
    port: int,
    say: Callable[[str], None],
    foreign_s3: ForeignS3 | None = None,
    detour: Detour | None = None,
) -> None:
    """Run everything until SIGINT, SIGTERM or SIGHUP, then stop it all.

    folder   holds every state; made if missing
    port     of the API on 127.0.0.1; 0 = any free one
    say      takes lines for the person at the terminal
    foreign_s3  a store to use in place of the embedded one
    detour   leads the API and the jobs through somebody who may harm what passes

    Raises:
        StartFailed: with a reason and a remedy; nothing is left running.
    """
    with claimed_folder(folder), ExitStack() as started, _stop_on_signals():
        store = foreign_s3 or EmbeddedSeaweed(folder.absolute() / "seaweed")
        stack = DevStack(
            folder.absolute(), port=port, say=say, started=started, store=store, detour=detour
        )
        try:
            stack.start()
            stack.watch()
        except _StopRequested:
            say("stopping ...")
        finally:
            # A second Ctrl-C must not leave half of it running; every stop has its own limit.
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_IGN)
    say("stopped; the same command goes on with the same data")


class DevStack:
    """Postgres, S3, the API and the jobs, with what they need to know of each other.

    started   collects what must be stopped, in order
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int,
        say: Callable[[str], None],
        started: ExitStack,
        store: EmbeddedSeaweed | ForeignS3,
        detour: Detour | None = None,
    ) -> None:
        self._folder = folder
        self._detour = detour
        self._port = port
        self._say = say
        self._started = started
        self._dev_file = folder / "dev.json"
        self._postgres = EmbeddedPostgres(folder / "postgres")
        self._store = store
        self._roles: dict[str, Child] = {}
        self._facts: dict[str, object] = {}

    def start(self) -> None:
        """Start all parts in order; return when the API says that it is ready.

        Raises:
            StartFailed: one did not start; what was started is stopped by the ExitStack.
        """
        self._dev_file.unlink(missing_ok=True)
        for role in _ROLES:
            # Its database and its store are gone with the dev before: little is left to drain.
            end_leftover(
                self._pid_file(role),
                self._marker(),
                name=role,
                stop_signal=signal.SIGTERM,
                grace_s=_ORPHAN_GRACE_S,
            )
        self._choose_port()
        self._start_servers()
        keys = prepare_keys(self._folder / "keys")
        asyncio.run(_register_station(self._postgres.service_dsn(), keys))
        self._start_roles(keys)
        self._facts = self._gather_facts(keys)
        self._started.callback(self._dev_file.unlink, missing_ok=True)
        self._write_dev_file()
        self._tell_what_runs()

    def watch(self) -> None:
        """Start again what dies, for ever.

        Raises:
            StartFailed: Postgres or S3 cannot be started again where they were.
        """
        parts: dict[str, _Part] = {"postgres": self._postgres, "seaweed": self._store}
        parts |= self._roles
        started_at = dict.fromkeys(parts, time.monotonic())
        backoff_s = dict.fromkeys(parts, _BACKOFF_FIRST_S)
        pids = {name: part.pid for name, part in parts.items()}
        while True:
            time.sleep(_POLL_S)
            for name, part in parts.items():
                if part.is_alive():
                    continue
                if time.monotonic() - started_at[name] > _STEADY_AFTER_S:
                    backoff_s[name] = _BACKOFF_FIRST_S
                self._say(f"{name} {part.ending()}; starting it again in {backoff_s[name]:.1f} s")
                time.sleep(backoff_s[name])
                forget_process(pids[name] or 0)
                self._restart(part)
                started_at[name] = time.monotonic()
                backoff_s[name] = min(2 * backoff_s[name], _BACKOFF_MAX_S)
                pids[name] = part.pid
                self._write_dev_file()

    def _choose_port(self) -> None:
        if self._port == 0:
            self._port = find_free_port()
        elif not is_port_free(self._port):
            message = (
                f"port {self._port} on {LOOPBACK} is taken (or not for us to use): stop what "
                "listens there, or name another with --port; --port 0 takes any free one"
            )
            raise StartFailed(message)

    def _start_servers(self) -> None:
        self._say("starting Postgres and S3 ...")
        self._started.callback(self._postgres.stop)
        self._postgres.start()
        self._started.callback(self._store.stop)
        self._store.start()
        self._postgres.make_database()
        try:
            applied = migrate(self._postgres.owner_dsn())
        except MigrationFailed as error:
            message = f"the ledger could not be migrated: {error}"
            raise StartFailed(message) from error
        if applied:
            self._say(f"migrated the ledger: {', '.join(applied)}")
        self._postgres.make_service_login()

    def _start_roles(self, keys: DevKeys) -> None:
        self._say("starting the API and the jobs ...")
        logs = self._folder / "logs"
        logs.mkdir(mode=0o700, exist_ok=True)
        self._share_metrics()
        environment = self._environment(keys)
        for role in _ROLES:
            child = Child(
                role,
                # Python ignores this -X; it marks the process as ours for a later run.
                [sys.executable, "-X", self._marker(), "-m", "ingest_service", role],
                environment=environment,
                log_file=logs / f"{role}.log",
                pid_file=self._pid_file(role),
            )
            self._roles[role] = child
            self._started.callback(child.stop, grace_s=_STOP_GRACE_S)
            child.start()
        self._wait_until_ready()

    def _share_metrics(self) -> None:
        # One folder for the metrics of API and jobs: /metrics adds them up. What an earlier run
        # left would be added too, and its process ids are given out again.
        folder = self._folder / "metrics"
        folder.mkdir(mode=0o700, exist_ok=True)
        for file in folder.glob("*.db"):
            file.unlink()
        os.environ[METRICS_DIR_VARIABLE] = str(folder)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while True:
            status, answer = _get(self._port, "/readyz")
            if status == http.HTTPStatus.OK:
                return
            for child in self._roles.values():
                if not child.is_alive():
                    raise StartFailed(child.failure("did not start"))
            if time.monotonic() > deadline:
                last = f"/readyz says {status}: {answer}" if status else "/readyz does not answer"
                raise StartFailed(
                    self._roles["serve"].failure(
                        f"was not ready within {_READY_TIMEOUT_S:.0f} s; {last}"
                    )
                )
            time.sleep(_POLL_S)

    def _restart(self, part: _Part) -> None:
        before = self._addresses()
        part.start()
        if self._addresses() != before:
            raise StartFailed(part.failure("lost its port to another program; start again"))

    def _addresses(self) -> tuple[str, str]:
        return self._postgres.service_dsn(), self._store.endpoint

    def _environment(self, keys: DevKeys) -> dict[str, str]:
        """Return the children's environment: knobs may be set from outside, the wiring not."""
        knobs = {
            "INGEST_DRAIN_TIMEOUT_S": str(_DRAIN_TIMEOUT_S),
            "INGEST_STATION_TOKEN_LIFETIME_MAX_S": str(int(TOKEN_LIFETIME.total_seconds())),
        }
        ledger_dsn, vault_endpoint = self._addresses()
        if self._detour is not None:
            ledger_dsn = _through(ledger_dsn, self._detour.ledger_port)
            vault_endpoint = _through(vault_endpoint, self._detour.vault_port)
        wiring = {
            "INGEST_BASE_URL": self._base_url(),
            "INGEST_HOST": LOOPBACK,
            "INGEST_PORT": str(self._port),
            "INGEST_LEDGER_DSN": ledger_dsn,
            "INGEST_VAULT_ENDPOINT": vault_endpoint,
            "INGEST_VAULT_REGION": REGION,
            "INGEST_VAULT_BUCKET": self._store.bucket,
            "INGEST_VAULT_ACCESS_KEY": self._store.access_key,
            "INGEST_VAULT_SECRET_KEY": self._store.secret_key,
            "INGEST_SIGNING_KEY_FILE": str(keys.custody_key_file),
            "INGEST_SIGNING_KEY_NAME": SIGNING_KEY_NAME,
            "INGEST_JWKS": str(keys.jwks_file),
            "INGEST_TOKEN_ISSUER": TOKEN_ISSUER,
        }
        return {**knobs, **os.environ, **wiring}

    def _gather_facts(self, keys: DevKeys) -> dict[str, object]:
        try:
            signer = open_local_signer(keys.custody_key_file, SIGNING_KEY_NAME)
        except SigningKeyUnusable as error:
            raise StartFailed(str(error)) from error
        return {
            "base_url": self._base_url(),
            "database_url": self._postgres.service_dsn(),
            "database_owner_url": self._postgres.owner_dsn(),
            "s3_endpoint": self._store.endpoint,
            "s3_access_key": self._store.access_key,
            "s3_secret_key": self._store.secret_key,
            "bucket": self._store.bucket,
            "log_verifier_key": signer.verifier_key,
            "log_signing_key_file": str(keys.custody_key_file),
            "tokens": sign_tokens(keys, now=datetime.now(UTC)),
            "station_id": STATION.station_id,
            "station_key_file": str(keys.station_key_file),
            "jwks_file": str(keys.jwks_file),
        }

    def _write_dev_file(self) -> None:
        pids: dict[str, int | None] = {
            "dev": os.getpid(),
            "postgres": self._postgres.pid,
            "seaweed": self._store.pid,
        }
        pids |= {role: child.pid for role, child in self._roles.items()}
        write_private(self._dev_file, json.dumps({**self._facts, "pids": pids}, indent=2) + "\n")

    def _tell_what_runs(self) -> None:
        upload = shlex.join([*_our_command(), "dock", "upload", "--dev", _short(self._folder)])
        self._say(
            f"\n"
            f"ready:   {self._base_url()}\n"
            f"data:    {self._folder}\n"
            f"tokens:  {self._dev_file}  (addresses, keys, one bearer token per role)\n"
            f"logs:    {self._folder / 'logs'}\n"
            f"upload:  {upload} FILE\n"
            f"Ctrl-C stops it all.\n"
        )

    def _base_url(self) -> str:
        return f"http://{LOOPBACK}:{self._port}"

    def _marker(self) -> str:
        return f"ingest-dev={self._folder}"

    def _pid_file(self, role: str) -> Path:
        return self._folder / f"{role}.pid"


async def _register_station(dsn: str, keys: DevKeys) -> None:
    public_jwk = read_signing_key(keys.station_key_file).verifying_key.public_jwk
    try:
        pool = await open_pool(dsn, connections_max=2, statement_timeout_s=10)
        async with pool:
            await register_station(STATION, public_jwk, pool=pool)
    except IngestError as error:
        message = f"the station {STATION.station_id} could not be registered: {error}"
        raise StartFailed(message) from error


@contextmanager
def _stop_on_signals() -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        raise _StopRequested

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _through(address: str, port: int) -> str:
    parts = urlsplit(address)
    login, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{login}{at}{LOOPBACK}:{port}"))


def _get(port: int, path: str) -> tuple[int, str]:
    """Return status (0: no answer) and body of a request to ourselves."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=_REQUEST_TIMEOUT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read(2_000).decode("utf-8", errors="replace")
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


def _our_command() -> list[str]:
    """Return how this program is started from where the person is."""
    script = Path(sys.executable).with_name("ingest")
    if script.exists():
        return [_short(script)]
    return [_short(Path(sys.executable)), "-m", "ingest_service"]


def _short(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
