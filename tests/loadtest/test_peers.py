"""The comparison must be fair to others and unforgiving to lost bytes."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from loadtest.docs_block import write_block
from loadtest.null_s3 import Store
from loadtest.peers.comparison import Row
from loadtest.peers.metering import Measured
from loadtest.peers.null_store import PeerNullS3
from loadtest.peers.report import BLOCK, is_met, tables
from loadtest.peers.stores import S3Store, WrongBytes
from loadtest.peers.wire import LinkBroken, open_link
from loadtest.peers.workload import SMALL, File, Server, Workload, make_files, send_all

PEERS = Path(__file__).parents[2] / "loadtest" / "peers"


@dataclass
class NullStore:
    kept: Store
    s3: S3Store


@pytest.fixture
async def null_store() -> AsyncIterator[NullStore]:
    kept = Store()
    whole: dict[str, tuple[bytes, str]] = {}
    server = await asyncio.get_running_loop().create_server(
        lambda: PeerNullS3(kept, whole), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    s3 = S3Store("null S3", f"http://127.0.0.1:{port}", "any", "any", keeps_bytes=False, pids={})
    yield NullStore(kept, s3)
    server.close()


async def put(store: NullStore, key: str, body: bytes, **headers: str) -> None:
    host, port = store.s3.endpoint.removeprefix("http://").split(":")
    link = await open_link(host, int(port))
    answer = await link.ask("PUT", f"/bucket/{key}", headers, [body])
    link.close()
    assert answer.status == 200


async def answer_with(raw: bytes) -> tuple[asyncio.Server, int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("raw", "status", "body"),
    [
        (b"HTTP/1.1 201 C\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 201, b"ok"),
        (b"HTTP/1.1 204 N\r\nUpload-Offset: 5\r\n\r\n", 204, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 O\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
    ],
    ids=["chunked", "no content", "after an interim answer"],
)
async def test_answers_of_every_framing_are_understood(
    raw: bytes, status: int, body: bytes
) -> None:
    server, port = await answer_with(raw)
    link = await open_link("127.0.0.1", port)

    answer = await link.ask("POST", "/files", {})

    assert (answer.status, bytes(answer.body)) == (status, body)
    server.close()


async def test_server_that_hangs_up_is_a_failure() -> None:
    server, port = await answer_with(b"")
    link = await open_link("127.0.0.1", port)

    with pytest.raises(LinkBroken):
        await link.ask("POST", "/files", {})

    server.close()


async def test_server_that_answers_less_than_all_is_refused() -> None:
    half = b"HTTP/1.1 201 C\r\nUpload-Offset: 131072\r\nContent-Length: 0\r\n\r\n"
    listener, port = await answer_with(half)
    server = Server("half", "127.0.0.1", port, "/files", {}, takes_body_with_creation=True)
    workload = SMALL.scaled(0.0001)

    with pytest.raises(ExceptionGroup) as raised:
        await send_all(server, workload, iter(make_files(workload, "run")), lambda _amount: None)

    assert "POST with body: 201" in str(raised.value.exceptions[0])
    listener.close()


@pytest.mark.parametrize("harm", ["lost", "other bytes", "cut short"])
async def test_file_that_is_not_stored_as_sent_is_found(null_store: NullStore, harm: str) -> None:
    files = make_files(Workload("few", 3, 5000, 5000, 1), "run")
    for file in files[1:]:
        await put(null_store, file.name, b"".join(file.cut(0, file.size_bytes)))
    if harm == "other bytes":
        await put(null_store, files[0].name, bytes(5000))
    elif harm == "cut short":
        await put(null_store, files[0].name, b"".join(files[0].cut(0, 4999)))

    with pytest.raises(WrongBytes, match="1 of 3 files"):
        await asyncio.to_thread(null_store.s3.verify, "bucket", files)


async def test_files_stored_as_sent_are_verified_beside_the_servers_own_records(
    null_store: NullStore,
) -> None:
    files = make_files(Workload("few", 3, 5000, 5000, 1), "run")
    await put(null_store, "run-0.info", b"{}")
    for file in files:
        await put(null_store, file.name, b"".join(file.cut(0, file.size_bytes)))

    await asyncio.to_thread(null_store.s3.verify, "bucket", files)


async def test_small_records_come_back_whole_with_their_metadata(null_store: NullStore) -> None:
    await put(null_store, "upload.info", b"x" * 200, **{"x-amz-meta-upload-id": "7"})
    host, port = null_store.s3.endpoint.removeprefix("http://").split(":")
    link = await open_link(host, int(port))

    answer = await link.ask("GET", "/bucket/upload.info", {})

    assert bytes(answer.body) == b"x" * 200
    assert answer.headers["x-amz-meta-upload-id"] == "7"
    link.close()


def test_two_runs_never_send_the_same_file() -> None:
    one, other = (make_files(SMALL.scaled(0.01), run) for run in ("a", "b"))

    assert {file.stamp for file in one}.isdisjoint(file.stamp for file in other)


def make_row(server: str, cpu_s: float, failure: str = "") -> Row:
    measured = Measured(wall_s=1.0, cpu_s={"server": cpu_s})
    return Row(server, "null S3", SMALL, "POST", measured, failure)


@pytest.mark.parametrize(
    ("own_s", "failure", "expected"),
    [(1.0, "", True), (4.0, "", False), (1.0, "WrongBytes: 1 of 3", False)],
    ids=["three times cheaper", "not three times cheaper", "failed itself"],
)
def test_verdict_is_about_this_service(own_s: float, failure: str, expected: bool) -> None:  # noqa: FBT001 - pytest's parameter
    rows = [
        make_row("this service", own_s, failure),
        make_row("@tus/server", 9.0),
        make_row("tuspyserver", 1.0, "Refused: POST"),
    ]

    assert is_met(rows) is expected


def test_peer_that_failed_is_named_with_its_reason(tmp_path: Path) -> None:
    docs = tmp_path / "performance.md"
    docs.write_text("before\n<!-- compare:begin -->\nold\n<!-- compare:end -->\nafter\n")
    rows = [make_row("this service", 1.0), make_row("tuspyserver", 1.0, "Refused: POST: 500")]

    write_block(docs, BLOCK, tables(rows, {"tusd": "not on PATH"}, "make compare"))

    text = docs.read_text()
    assert "failed: Refused: POST: 500" in text
    assert "Not measured: tusd: not on PATH." in text
    assert "old" not in text
    assert text.endswith("after\n")


def test_locks_name_no_package_registry() -> None:
    lock = json.loads((PEERS / "node" / "package-lock.json").read_text())
    requirements = (PEERS / "tuspyserver" / "requirements.txt").read_text()

    assert not any("resolved" in package for package in lock["packages"].values())
    assert "://" not in requirements
    assert requirements.count("==") <= requirements.count("--hash=")


def test_every_byte_of_a_file_is_sent_once_in_pieces() -> None:
    file = File("name", 20_000_000, b"s" * 32)

    pieces = b"".join(
        buffer
        for at in range(0, file.size_bytes, 8 * 1024**2)
        for buffer in file.cut(at, 8 * 1024**2)
    )

    assert pieces == b"".join(file.cut(0, file.size_bytes))
    assert len(pieces) == file.size_bytes
