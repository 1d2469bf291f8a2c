"""What every server is sent: the three workloads, and how a file goes through each protocol."""

import asyncio
import base64
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from loadtest.footage import PATTERN_BYTES, make_chunk, make_stamp
from loadtest.peers.wire import Answer, Link, open_link

MIB: Final = 1024**2
APPEND_TYPE: Final = "application/offset+octet-stream"

_STATUS_CREATED: Final = 201
_STATUSES_APPENDED: Final = frozenset({200, 201, 204})

Advance = Callable[[int], None]


class Refused(Exception):
    """A server answered otherwise than a finished upload does."""

    def __init__(self, *, step: str, answer: Answer) -> None:
        said = bytes(answer.body[:300]).decode("utf-8", "replace")
        super().__init__(f"{step}: {answer.status} {said}".strip())
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Workload:
    """So many files of one size, so many at once.

    patch_bytes  length of one PATCH; at least file_bytes means one for the whole file
    may_be_one_request
                 the body may go with the creation, where the server takes it
    """

    name: str
    files: int
    file_bytes: int
    patch_bytes: int
    at_once: int
    may_be_one_request: bool = False

    @property
    def total_bytes(self) -> int:
        """Bytes of all files."""
        return self.files * self.file_bytes

    def scaled(self, share: float) -> "Workload":
        """Return the same with a share of the files, at least one."""
        files = max(1, round(self.files * share))
        return Workload(
            self.name,
            files,
            self.file_bytes,
            self.patch_bytes,
            min(self.at_once, files),
            self.may_be_one_request,
        )


BIG: Final = Workload("big", 32, 64 * MIB, 8 * MIB, 16)
BIG1: Final = Workload("big1", 32, 64 * MIB, 64 * MIB, 16)
SMALL: Final = Workload("small", 2000, MIB // 4, MIB // 4, 64, may_be_one_request=True)
# Sent before the clock runs: imports, connections to the store, and what compiles as it runs.
WARM_UP: Final = (
    Workload("warm-up", 4, 16 * MIB, 8 * MIB, 4),
    Workload("warm-up", 128, MIB // 4, MIB // 4, 16, may_be_one_request=True),
)
WORKLOADS: Final = {workload.name: workload for workload in (BIG, BIG1, SMALL)}


@dataclass(frozen=True, slots=True)
class File:
    """One file: a stamp of its own at the start of every 8 MiB, then the common pattern."""

    name: str
    size_bytes: int
    stamp: bytes

    def cut(self, offset_bytes: int, length_bytes: int) -> list[memoryview]:
        """Return a piece that starts on a multiple of 8 MiB, as buffers to be sent in order."""
        buffers: list[memoryview] = []
        stop = min(offset_bytes + length_bytes, self.size_bytes)
        for at in range(offset_bytes, stop, PATTERN_BYTES):
            buffers += make_chunk(self.stamp, min(PATTERN_BYTES, stop - at))
        return buffers

    def sha256_hex(self) -> str:
        """Hash the whole file."""
        digest = hashlib.sha256()
        for buffer in self.cut(0, self.size_bytes):
            digest.update(buffer)
        return digest.hexdigest()


def make_files(workload: Workload, run: str) -> list[File]:
    """Return files that no other run sends: a SHA-256 found in the store tells them apart."""
    first = int.from_bytes(hashlib.sha256(run.encode()).digest()[:6])
    return [
        File(f"{run}-{number}", workload.file_bytes, make_stamp(first + number))
        for number in range(workload.files)
    ]


@dataclass(frozen=True, slots=True)
class Server:
    """A running upload server as its clients see it.

    protocol    'tus', or 'post' (one POST per file, nothing else)
    path        where an upload is created
    names_in_path
                the file's name is appended to the path
    takes_body_with_creation
                tus creation-with-upload works; found out by trying
    pids        of the server's processes, by role; 'server' is what is compared
    """

    name: str
    host: str
    port: int
    path: str
    pids: dict[str, int]
    protocol: str = "tus"
    names_in_path: bool = False
    takes_body_with_creation: bool = False
    headers: dict[str, str] = field(default_factory=dict)

    def requests_of(self, workload: Workload) -> str:
        """Say which requests make up one upload."""
        if self.protocol == "post":
            return "POST"
        if workload.may_be_one_request and self.takes_body_with_creation:
            return "POST with body"
        count = -(-workload.file_bytes // workload.patch_bytes)
        return f"POST + {count} PATCH" if count > 1 else "POST + PATCH"


async def send_all(
    server: Server, workload: Workload, files: Iterator[File], advance: Advance
) -> None:
    """Send every file, `at_once` connections wide; who is busy (503) is asked again.

    Raises:
        ExceptionGroup: of Refused, LinkBroken, OSError: the first failure stops the run.
    """
    links = [await open_link(server.host, server.port) for _ in range(workload.at_once)]

    async def send_some(place: int) -> None:
        for file in files:
            while not await _try_to_send(links[place], server, workload, file, advance):
                links[place] = await open_link(server.host, server.port)

    try:
        async with asyncio.TaskGroup() as group:
            for place in range(len(links)):
                group.create_task(send_some(place))
    finally:
        for link in links:
            link.close()


async def _try_to_send(
    link: Link, server: Server, workload: Workload, file: File, advance: Advance
) -> bool:
    """Send one file; False once the time has passed after which the server wants it again."""
    try:
        await send_file(link, server, workload, file, advance)
    except Refused as refused:
        if refused.answer.status != HTTPStatus.SERVICE_UNAVAILABLE:
            raise
        # A refusal comes before the body was read, so its connection is of no more use.
        link.close()
        await asyncio.sleep(float(refused.answer.headers.get("retry-after", 1)))
        return False
    return True


async def send_file(
    link: Link, server: Server, workload: Workload, file: File, advance: Advance
) -> None:
    """Send one file in the way of the server's protocol."""
    if server.protocol == "post":
        await _post(link, server, file)
        advance(file.size_bytes)
    elif workload.may_be_one_request and server.takes_body_with_creation:
        await create_with_body(link, server, file)
        advance(file.size_bytes)
    else:
        await _create_and_append(link, server, workload, file, advance)


async def _post(link: Link, server: Server, file: File) -> None:
    body = file.cut(0, file.size_bytes)
    headers = {"Content-Type": "application/octet-stream", **server.headers}
    answer = await link.ask("POST", f"{server.path}/{file.name}", headers, body)
    if answer.status != _STATUS_CREATED:
        raise Refused(step="POST", answer=answer)


async def create_with_body(link: Link, server: Server, file: File) -> None:
    """Send a whole file with its creation (tus creation-with-upload).

    Raises:
        Refused: the server did not take all of it.
    """
    headers = {**_creation_headers(server, file), "Content-Type": APPEND_TYPE}
    body = file.cut(0, file.size_bytes)
    answer = await link.ask("POST", _creation_path(server, file), headers, body)
    is_whole = answer.headers.get("upload-offset") == str(file.size_bytes)
    if answer.status != _STATUS_CREATED or not is_whole:
        raise Refused(step="POST with body", answer=answer)


async def _create_and_append(
    link: Link, server: Server, workload: Workload, file: File, advance: Advance
) -> None:
    answer = await link.ask("POST", _creation_path(server, file), _creation_headers(server, file))
    if answer.status != _STATUS_CREATED or "location" not in answer.headers:
        raise Refused(step="POST", answer=answer)
    path = urlsplit(answer.headers["location"]).path
    headers = {"Tus-Resumable": "1.0.0", "Content-Type": APPEND_TYPE, **server.headers}
    for offset_bytes in range(0, file.size_bytes, workload.patch_bytes):
        headers["Upload-Offset"] = str(offset_bytes)
        body = file.cut(offset_bytes, workload.patch_bytes)
        answer = await link.ask("PATCH", path, headers, body)
        end = min(offset_bytes + workload.patch_bytes, file.size_bytes)
        if answer.status not in _STATUSES_APPENDED or answer.headers.get("upload-offset") != str(
            end
        ):
            raise Refused(step=f"PATCH at {offset_bytes}", answer=answer)
        advance(end - offset_bytes)


def _creation_path(server: Server, file: File) -> str:
    return f"{server.path}/{file.name}" if server.names_in_path else server.path


def _creation_headers(server: Server, file: File) -> dict[str, str]:
    def encode(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    # Each file comes from a camera of its own, as it would from a force.
    serial = encode(f"BWC-{file.name}")
    metadata = f"device_serial {serial},recording_id {encode(file.name)}"
    return {
        "Tus-Resumable": "1.0.0",
        "Upload-Length": str(file.size_bytes),
        "Upload-Metadata": metadata,
        **server.headers,
    }
