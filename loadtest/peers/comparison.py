"""The comparison: every server, every workload, one after the other on the same store."""

import asyncio
import contextlib
import http.client
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from loadtest.peers.children import StartFailed
from loadtest.peers.installs import NotInstalled
from loadtest.peers.metering import Measured, metered, prime_page_cache
from loadtest.peers.servers import PEERS, Own, filer_tus, find_cheapest_way, running_own
from loadtest.peers.stores import WrongBytes
from loadtest.peers.wire import LinkBroken
from loadtest.peers.workload import (
    WARM_UP,
    Advance,
    Refused,
    Server,
    Workload,
    make_files,
    send_all,
)

OWN: Final = "own"
FILER: Final = "seaweed-tus"
SERVERS: Final = (OWN, *PEERS, FILER)

_SECURED_TIMEOUT_S: Final = 300.0
_SECURED_PAUSE_S: Final = 0.5
_UNSETTLED: Final = ("receiving", "finishing", "sealed")


@dataclass(slots=True)
class Row:
    """One server, one store, one workload.

    requests   what made up one upload
    failure    why there are no figures
    verified   what was found in the store afterwards
    settle_cpu_s  of this service's jobs and Postgres after the last answer, until every clip was
                  read back and released
    """

    server: str
    store: str
    workload: Workload
    requests: str = ""
    measured: Measured = field(default_factory=Measured)
    failure: str = ""
    verified: str = ""
    settle_cpu_s: dict[str, float] = field(default_factory=dict)

    @property
    def mb_per_s(self) -> float:
        """Megabytes (10^6) a second."""
        return self.workload.total_bytes / 1e6 / self.measured.wall_s

    @property
    def files_per_s(self) -> float:
        """Finished uploads a second."""
        return self.workload.files / self.measured.wall_s

    def cpu_s_per_gib(self, role: str = "server") -> float:
        """CPU-seconds per GiB sent."""
        return self.measured.cpu_s.get(role, 0.0) / (self.workload.total_bytes / 1024**3)

    def cpu_ms_per_file(self, role: str = "server") -> float:
        """CPU-milliseconds per file."""
        return 1000 * self.measured.cpu_s.get(role, 0.0) / self.workload.files


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure, and how patiently."""

    servers: tuple[str, ...]
    workloads: tuple[Workload, ...]
    on_null_s3: tuple[bool, ...]
    tries: int
    timeout_s: float


class Comparison:
    """Makes the runs and tells how far they are; a peer that fails is a row that says why."""

    def __init__(self, plan: Plan, folder: Path, console: Console) -> None:
        self._plan = plan
        self._folder = folder
        self._console = console
        self.rows: list[Row] = []
        self.skipped: dict[str, str] = {}

    async def make(self) -> None:
        """Make all runs.

        Raises:
            StartFailed: this service itself did not start.
        """
        for on_null_s3 in self._plan.on_null_s3:
            where = "null S3" if on_null_s3 else "SeaweedFS"
            self._console.print(f"starting this service on {where} ...")
            folder = self._folder / ("null" if on_null_s3 else "seaweed")
            with running_own(folder, on_null_s3=on_null_s3) as own:
                for name in self._plan.servers:
                    await self._measure_server(name, own, folder)

    async def _measure_server(self, name: str, own: Own, folder: Path) -> None:
        if name == FILER and own.filer_port is None:
            return
        bucket = own.bucket if name == OWN else f"peer-{name}"
        try:
            async with _started(name, own, folder, bucket) as server:
                await self._warm_up(server, own)
                for workload in self._plan.workloads:
                    self.rows.append(await self._measure(server, own, bucket, workload, folder))
        except (NotInstalled, StartFailed) as error:
            self.skipped[name] = str(error)
            self._console.print(f"{name}: skipped, {error}", markup=False)

    async def _warm_up(self, server: Server, own: Own) -> None:
        row = Row(server.name, own.store.name, WARM_UP[0])
        with contextlib.suppress(Refused, LinkBroken, OSError, TimeoutError, ExceptionGroup):
            # What fails here fails again, and is told, when it is measured.
            async with asyncio.timeout(self._plan.timeout_s):
                for workload in WARM_UP:
                    files = make_files(workload, f"warm-up-{secrets.token_hex(4)}")
                    await send_all(server, workload, iter(files), lambda _amount: None)
                if "jobs" in server.pids:
                    await _settle(own, row)

    async def _measure(
        self, server: Server, own: Own, bucket: str, workload: Workload, folder: Path
    ) -> Row:
        best: Row | None = None
        for _ in range(self._plan.tries):
            row = await self._measure_once(server, own, bucket, workload, folder)
            if best is None or row.measured.foreign_cpu_s < best.measured.foreign_cpu_s:
                best = row
            if row.failure or not row.measured.is_noisy:
                break
            self._console.print(f"noisy: others used {row.measured.foreign_cpu_s:.1f} CPU-s")
        if best is None:
            message = "tries must be at least 1"
            raise ValueError(message)
        return best

    async def _measure_once(
        self, server: Server, own: Own, bucket: str, workload: Workload, folder: Path
    ) -> Row:
        row = Row(server.name, own.store.name, workload, server.requests_of(workload))
        files = make_files(workload, f"{workload.name}-{secrets.token_hex(4)}")
        own.store.note(bucket)
        if own.store.keeps_bytes:
            prime_page_cache(folder, workload.total_bytes)
        pids = {**own.store.pids, **server.pids}
        try:
            with self._shown(f"{own.store.name}, {server.name}, {workload.name}", row) as advance:
                async with asyncio.timeout(self._plan.timeout_s):
                    async with metered(pids) as row.measured:
                        await send_all(server, workload, iter(files), advance)
                if "jobs" in server.pids:
                    await _settle(own, row)
            own.store.verify(bucket, files)
            row.verified = "every byte" if own.store.keeps_bytes else "length and first bytes"
        except* (Refused, LinkBroken, OSError, TimeoutError, WrongBytes) as failures:
            first = failures.exceptions[0]
            while isinstance(first, BaseExceptionGroup):
                first = first.exceptions[0]
            row.failure = f"{type(first).__name__}: {first}"
            self._console.print(row.failure, markup=False)
        return row

    @contextlib.contextmanager
    def _shown(self, label: str, row: Row) -> Iterator[Advance]:
        if not self._console.is_terminal:
            self._console.print(f"{label} ...", markup=False)
            yield lambda _amount: None
            return
        columns = (TextColumn("{task.description:>36}"), BarColumn(), TimeElapsedColumn())
        # Few refreshes: the bar shares the machine with what is measured.
        with Progress(*columns, console=self._console, refresh_per_second=4) as progress:
            task = progress.add_task(label, total=row.workload.total_bytes)
            yield lambda amount: progress.advance(task, amount)


@asynccontextmanager
async def _started(name: str, own: Own, folder: Path, bucket: str) -> AsyncIterator[Server]:
    """Start a server, if it is not there already, and find out its cheapest way."""
    if name == OWN:
        yield await find_cheapest_way(own.server)
        return
    own.store.make_bucket(bucket)
    if name == FILER:
        yield await find_cheapest_way(filer_tus(own, bucket))
        return
    with PEERS[name](folder, own.store, bucket) as server:
        yield await find_cheapest_way(server)


async def _settle(own: Own, row: Row) -> None:
    """Wait until this service has read every clip back; none may be quarantined.

    Raises:
        WrongBytes: a clip was quarantined.
        TimeoutError: clips are still unread.
    """
    async with metered(own.server.pids) as measured, asyncio.timeout(_SECURED_TIMEOUT_S):
        while await asyncio.to_thread(_count, own, _UNSETTLED):  # noqa: ASYNC110 - another process
            await asyncio.sleep(_SECURED_PAUSE_S)
    row.settle_cpu_s = measured.cpu_s
    if await asyncio.to_thread(_count, own, ("quarantined",)):
        message = "this service quarantined a clip"
        raise WrongBytes(message)


def _count(own: Own, states: tuple[str, ...]) -> int:
    """Return how many of the listed states have a clip."""
    found = 0
    connection = http.client.HTTPConnection(own.server.host, own.server.port, timeout=30)
    with contextlib.closing(connection):
        for state in states:
            headers = {"Authorization": f"Bearer {own.reader_token}"}
            connection.request("GET", f"/v1/clips?state={state}&limit=1", headers=headers)
            response = connection.getresponse()
            body = response.read()
            if response.status != http.client.OK:
                message = f"the list of clips answers {response.status}"
                raise OSError(message)
            found += len(json.loads(body)["clips"])
    return found
