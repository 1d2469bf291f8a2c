"""How each server of a comparison is started on a store, one process each."""

import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from loadtest.peers.children import (
    LOOPBACK,
    StartFailed,
    pick_port,
    running,
    wait_for_file,
    wait_for_http,
)
from loadtest.peers.installs import NotInstalled, install_node, install_tuspyserver
from loadtest.peers.stores import S3Store
from loadtest.peers.wire import LinkBroken, open_link
from loadtest.peers.workload import MIB, File, Refused, Server, create_with_body

PART_BYTES: Final = 8 * MIB
_UVICORN: Final = ["-m", "uvicorn", "--host", LOOPBACK, "--no-access-log", "--log-level=warning"]


@dataclass(frozen=True, slots=True)
class Own:
    """This service as `ingest dev` runs it, with the store that it writes to."""

    server: Server
    store: S3Store
    bucket: str
    reader_token: str
    filer_port: int | None


@contextmanager
def running_own(folder: Path, *, on_null_s3: bool) -> Iterator[Own]:
    """Run this service, all of it: API, jobs, Postgres, and the store that peers share.

    Raises:
        StartFailed: with the end of what it said.
    """
    folder.mkdir()
    if not on_null_s3:
        with _dev(folder, []) as told:
            ports = json.loads((folder / "data" / "seaweed" / "seaweed.json").read_text())["ports"]
            yield _describe(told, "SeaweedFS", told["pids"]["seaweed"], ports["filer"])
        return
    port_file, log_file = folder / "null.port", folder / "null.log"
    command = [sys.executable, "-m", "loadtest.peers.null_store", "--port-file", str(port_file)]
    with running(command, log_file=log_file) as null:
        wait_for_file(port_file, null, log_file)
        s3 = f"http://null:null@{LOOPBACK}:{port_file.read_text().strip()}/evidence"
        with _dev(folder, [f"--s3={s3}"]) as told:
            yield _describe(told, "null S3", null.pid, None)


@contextmanager
def _dev(folder: Path, extra: list[str]) -> Iterator[dict[str, Any]]:
    data, log_file = folder / "data", folder / "dev.log"
    command = [sys.executable, "-m", "ingest_service", "dev", "--data", str(data), "--port=0"]
    with running([*command, *extra], log_file=log_file) as process:
        wait_for_file(data / "dev.json", process, log_file)
        yield json.loads((data / "dev.json").read_text())


def _describe(told: dict[str, Any], name: str, store_pid: int, filer_port: int | None) -> Own:
    url = urlsplit(told["base_url"])
    pids = told["pids"]
    server = Server(
        name="this service",
        host=url.hostname or LOOPBACK,
        port=url.port or 80,
        path="/files",
        pids={"server": pids["serve"], "jobs": pids["work"], "postgres": pids["postgres"]},
        headers={"Authorization": f"Bearer {told['tokens']['station']}"},
    )
    store = S3Store(
        name,
        told["s3_endpoint"],
        told["s3_access_key"],
        told["s3_secret_key"],
        keeps_bytes=filer_port is not None,
        pids={"store": store_pid},
    )
    return Own(server, store, told["bucket"], told["tokens"]["reader"], filer_port)


@contextmanager
def running_tus_node(folder: Path, store: S3Store, bucket: str) -> Iterator[Server]:
    """Run @tus/server with @tus/s3-store.

    Raises:
        NotInstalled, StartFailed: it cannot be measured here.
    """
    installed, port = install_node(), pick_port()
    command = ["node", "server.mjs", str(port), str(PART_BYTES)]
    environment = {
        **store.environment(bucket),
        # Its S3 store writes each part to a file first.
        "TMPDIR": str(folder),
        "NODE_ENV": "production",
    }
    log_file = folder / "tus-node.log"
    with running(command, log_file=log_file, environment=environment, folder=installed) as process:
        wait_for_http(port, process, log_file)
        yield Server("@tus/server", LOOPBACK, port, "/files", {"server": process.pid})


@contextmanager
def running_tuspyserver(folder: Path, store: S3Store, bucket: str) -> Iterator[Server]:
    """Run tuspyserver with its S3 storage.

    Raises:
        NotInstalled, StartFailed: it cannot be measured here.
    """
    python, port = install_tuspyserver(), pick_port()
    here = Path(__file__).parent / "tuspyserver"
    environment = {**store.environment(bucket), "PART_BYTES": str(PART_BYTES)}
    log_file = folder / "tuspyserver.log"
    command = [str(python), *_UVICORN, "--port", str(port), "server:app"]
    with running(command, log_file=log_file, environment=environment, folder=here) as process:
        wait_for_http(port, process, log_file)
        yield Server("tuspyserver", LOOPBACK, port, "/files", {"server": process.pid})


@contextmanager
def running_by_hand(folder: Path, store: S3Store, bucket: str) -> Iterator[Server]:
    """Run the handler that people write by hand.

    Raises:
        StartFailed: it cannot be measured here.
    """
    port, log_file = pick_port(), folder / "by-hand.log"
    command = [sys.executable, *_UVICORN, "--port", str(port), "loadtest.peers.by_hand:app"]
    with running(command, log_file=log_file, environment=store.environment(bucket)) as process:
        wait_for_http(port, process, log_file)
        pids = {"server": process.pid}
        yield Server("by hand", LOOPBACK, port, "/files", pids, protocol="post")


@contextmanager
def running_tusd(folder: Path, store: S3Store, bucket: str) -> Iterator[Server]:
    """Run tusd, the reference server in Go, if somebody has installed it.

    Raises:
        NotInstalled, StartFailed: it cannot be measured here.
    """
    if (program := shutil.which("tusd")) is None:
        reason = "tusd is not on PATH (github.com/tus/tusd releases have it)"
        raise NotInstalled(reason)
    port, log_file = pick_port(), folder / "tusd.log"
    command = [program, f"-host={LOOPBACK}", f"-port={port}", "-base-path=/files/"]
    command += [f"-s3-bucket={bucket}", f"-s3-endpoint={store.endpoint}", "-verbose=false"]
    command += [f"-s3-part-size={PART_BYTES}", "-s3-disable-content-hashes"]
    environment = {**store.environment(bucket), "TMPDIR": str(folder)}
    with running(command, log_file=log_file, environment=environment) as process:
        wait_for_http(port, process, log_file)
        yield Server("tusd", LOOPBACK, port, "/files/", {"server": process.pid})


Starter = Callable[[Path, S3Store, str], AbstractContextManager[Server]]
PEERS: Final[dict[str, Starter]] = {
    "tusd": running_tusd,
    "tus-node": running_tus_node,
    "tuspyserver": running_tuspyserver,
    "by-hand": running_by_hand,
}


def filer_tus(own: Own, bucket: str) -> Server:
    """Return SeaweedFS's own tus endpoint: server and store in one process, no S3 between them.

    Raises:
        StartFailed: this store is no SeaweedFS.
    """
    if own.filer_port is None:
        message = "the store has no tus endpoint of its own"
        raise StartFailed(message)
    return Server(
        name="SeaweedFS filer's tus",
        host=LOOPBACK,
        port=own.filer_port,
        path=f"/.tus/buckets/{bucket}",
        pids={"server": own.store.pids["store"]},
        names_in_path=True,
    )


async def find_cheapest_way(server: Server) -> Server:
    """Try whether a tus server takes a small file with its creation; say so in the result."""
    if server.protocol != "tus":
        return server
    link = await open_link(server.host, server.port)
    file = File(f"probe-{secrets.token_hex(4)}", 1000, secrets.token_bytes(32))
    try:
        await create_with_body(link, server, file)
    except (Refused, LinkBroken):
        return server
    finally:
        link.close()
    return replace(server, takes_body_with_creation=True)


def free_bytes(folder: Path) -> int:
    """Return how much may be written below a folder."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
