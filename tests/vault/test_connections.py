"""The hot path's HTTP, against a server of a few lines that does exactly what a test says."""

import asyncio
import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ingest_service.vault.connections import StoreConnection, StoreConnections
from ingest_service.vault.failures import StoreFailed
from tests.vault.bodies import Bytes

MIB = 1024 * 1024
HEAD = b"PUT /b/k HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n"
STORED = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 0\r\n\r\n'

Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def store(
    answering: Answering,
    *,
    connections_max: int = 4,
    timeout_s: float = 5.0,
    tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
) -> AsyncIterator[StoreConnections]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answering(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls[0] if tls else None)
    connections = StoreConnections(
        host="127.0.0.1",
        port=server.sockets[0].getsockname()[1],
        tls=tls[1] if tls else None,
        connections_max=connections_max,
        timeout_s=timeout_s,
    )
    yield connections
    connections.close()
    server.close()


async def take_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if b"content-length" in line)
    return await reader.readexactly(int(length.split(b":")[1]))


async def put(connections: StoreConnections, body: Bytes) -> tuple[int, bytes]:
    async with connections.lend("write") as connection:
        await connection.send(HEAD % body.length_bytes, body)
        return connection.status, await connection.read_small()


async def keep_storing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await take_request(reader)
        writer.write(STORED)


async def test_connection_is_used_again() -> None:
    made: list[int] = []

    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.append(1)
        await keep_storing(reader, writer)

    async with store(answering) as connections:
        for _ in range(5):
            assert await put(connections, Bytes(b"x" * 200_000)) == (200, b"")

    assert len(made) == 1


async def test_connection_closed_by_the_store_is_not_used_again() -> None:
    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take_request(reader)
        writer.write(STORED)

    async with store(answering) as connections:
        for _ in range(3):
            assert await put(connections, Bytes(b"x")) == (200, b"")
            await asyncio.sleep(0.05)


async def test_close_announced_by_the_store_is_respected() -> None:
    made: list[int] = []

    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.append(1)
        await take_request(reader)
        writer.write(STORED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        await reader.read()

    async with store(answering) as connections:
        for _ in range(2):
            assert await put(connections, Bytes(b"x")) == (200, b"")

    assert len(made) == 2


async def test_refusal_before_the_end_of_the_body_stops_the_body() -> None:
    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 4\r\n\r\nbusy")
        await reader.read()

    class Trickle(Bytes):
        sent_count = 0

        async def blocks(self) -> AsyncIterator[bytes]:
            for _ in range(1000):
                self.sent_count += 1
                yield b"x" * 1000
                await asyncio.sleep(0.005)

    body = Trickle(b"", length_bytes=1_000_000)
    async with store(answering) as connections:
        assert await put(connections, body) == (503, b"busy")

    assert body.sent_count < 100


async def test_success_before_the_end_of_the_body_is_a_failure() -> None:
    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(STORED)
        await reader.read()

    class Slow(Bytes):
        async def blocks(self) -> AsyncIterator[bytes]:
            yield b"x"
            await asyncio.sleep(0.1)
            yield b"x"

    async with store(answering) as connections:
        with pytest.raises(StoreFailed, match="before it had the whole body"):
            await put(connections, Slow(b"", length_bytes=2))


async def test_body_is_not_drawn_faster_than_the_store_takes_it() -> None:
    may_read = asyncio.Event()

    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await may_read.wait()
        await keep_storing(reader, writer)

    class Counting(Bytes):
        drawn_bytes = 0

        async def blocks(self) -> AsyncIterator[bytes]:
            async for block in super().blocks():
                self.drawn_bytes += len(block)
                yield block

    body = Counting(b"x" * (64 * MIB))
    async with store(answering) as connections:
        sending = asyncio.create_task(put(connections, body))
        await asyncio.sleep(0.5)
        drawn_bytes = body.drawn_bytes
        may_read.set()

        assert await sending == (200, b"")

    # What the kernel's socket buffers hold, and a few blocks.
    assert drawn_bytes < 16 * MIB


async def test_answer_is_not_read_faster_than_the_reader_takes_it() -> None:
    sent_bytes = 0

    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent_bytes
        await take_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * MIB))
        for _ in range(64):
            writer.write(b"y" * MIB)
            await writer.drain()
            sent_bytes += MIB
        await reader.read()

    async with store(answering) as connections, connections.lend("write") as connection:
        await connection.send(HEAD % 0)
        await asyncio.sleep(0.5)
        sent_unread = sent_bytes
        read_bytes = 0
        while block := await connection.read():
            read_bytes += len(block)

    assert sent_unread < 16 * MIB
    assert read_bytes == 64 * MIB


async def test_interim_answers_are_not_the_answer() -> None:
    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await take_request(reader)
            writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.write(STORED)

    async with store(answering) as connections:
        for _ in range(2):
            assert await put(connections, Bytes(b"x")) == (200, b"")


@pytest.mark.parametrize("answer", [b"\x16\x03\x01 no HTTP\r\n\r\n", b"HTTP/1.1 999999 ?\r\n\r\n"])
async def test_answer_that_is_not_http_is_a_failure(answer: bytes) -> None:
    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await take_request(reader)
        writer.write(answer)
        await reader.read()

    async with store(answering) as connections:
        with pytest.raises(StoreFailed, match="not HTTP"):
            await put(connections, Bytes(b"x"))


async def test_waiting_for_a_free_connection_ends() -> None:
    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with store(answering, connections_max=1, timeout_s=0.2) as connections:  # noqa: SIM117 - the order is the point
        async with connections.lend("write"):
            with pytest.raises(StoreFailed, match="busy"):
                await put(connections, Bytes(b"x"))


async def test_idle_connection_that_is_too_old_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ingest_service.vault.connections.IDLE_S_MAX", 0.05)
    used: list[StoreConnection] = []
    async with store(keep_storing) as connections:
        for _ in range(2):
            async with connections.lend("write") as connection:
                await connection.send(HEAD % 1, Bytes(b"x"))
                used.append(connection)
            await asyncio.sleep(0.1)

    assert used[0] is not used[1]


def make_certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "store")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    key_file, certificate_file = folder / "key.pem", folder / "certificate.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return key_file, certificate_file


async def test_tls_carries_a_big_body_to_a_trusted_store_only(tmp_path: Path) -> None:
    key_file, certificate_file = make_certificate(tmp_path)
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(certificate_file, key_file)
    trusting = ssl.create_default_context(cafile=str(certificate_file))

    async with store(keep_storing, tls=(served, trusting)) as connections:
        assert await put(connections, Bytes(b"x" * (3 * MIB + 1))) == (200, b"")
    async with store(keep_storing, tls=(served, ssl.create_default_context())) as connections:
        with pytest.raises(StoreFailed, match="certificate"):
            await put(connections, Bytes(b"x"))
