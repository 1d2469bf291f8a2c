"""The upload engine in this process: processes that can die, bodies that come piece by piece."""

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID, uuid4

from ingest_service.actions.announce_clip import Announced, announce_clip
from ingest_service.actions.append_bytes import append_bytes
from ingest_service.actions.end_upload import expire_upload, terminate_upload
from ingest_service.actions.finish_upload import finish_upload
from ingest_service.actions.open_upload import open_upload
from ingest_service.actions.read_back_clip import read_back_clip
from ingest_service.actions.seal_upload import seal_upload
from ingest_service.actions.store_chunk import Chunk, StoredChunk, store_chunk
from ingest_service.actions.store_whole import store_whole
from ingest_service.actions.take_upload import Holders, settle_upload
from ingest_service.domain.bytestream import Disconnected, ReplayBudget
from ingest_service.domain.clip import Clip
from ingest_service.domain.custody import Actor, Happening, chain_events
from ingest_service.domain.seal import SealedFacts
from ingest_service.domain.upload import Upload, UploadRules
from ingest_service.ledger import clips, uploads
from ingest_service.ledger.connection import Pool, reading, writing
from ingest_service.ledger.custody import append_events
from ingest_service.ledger.directory import Directory
from ingest_service.ledger.stations import Station
from ingest_service.vault import Body, OpenedMultipart, StoredObject, StoredPart
from schemas.announcement import Announcement
from tests.fakes import MemoryVault, Moment

PART_BYTES = 32
DOCK = Station("dock-1", "site-1", "Croydon")
OTHER_DOCK = Station("dock-2", "site-2", "Camden")
RULES = UploadRules(
    part_bytes=PART_BYTES,
    clip_bytes_max=10**9,
    expires_after=timedelta(days=1),
    take_over_wait_s=2.0,
    body_stall_timeout_s=5.0,
    finish_wait_s=5.0,
)


def make_footage(length_bytes: int, name: str = "footage") -> bytes:
    """Bytes that never repeat: a part in the wrong place shows."""
    return hashlib.shake_256(name.encode()).digest(length_bytes)


class Clock:
    """The service's clock: it goes with the real one, moved by the test."""

    def __init__(self) -> None:
        self.moved_by = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.moved_by


class Feed:
    """A request body: what it holds is read, then it ends, is cut, or the dock is waited for.

    `block_bytes`  the network hands over at most so many at once
    `is_deaf`      a request of a process that hears no interruption: a zombie
    """

    def __init__(
        self,
        data: bytes = b"",
        *,
        ending: Literal["end", "cut", "open"] = "end",
        block_bytes: int = 7,
        is_deaf: bool = False,
    ) -> None:
        self._data = deque([data] if data else [])
        self._ending: BaseException | str | None = None
        self._interruption: Exception | None = None
        self._block_bytes = block_bytes
        self.is_deaf = is_deaf
        self._changed = asyncio.Event()
        self.starving = asyncio.Event()
        self.read_bytes = 0
        if ending == "end":
            self.end()
        elif ending == "cut":
            self.cut()

    def send(self, data: bytes) -> None:
        if data:
            self._data.append(data)
        self.starving.clear()
        self._changed.set()

    def end(self) -> None:
        self._ending = "end"
        self.send(b"")

    def cut(self, reason: BaseException | None = None) -> None:
        self._ending = reason or Disconnected()
        self.send(b"")

    def interrupt(self, reason: Exception) -> None:
        if not self.is_deaf and self._interruption is None:
            self._interruption = reason
            self.send(b"")

    async def read(self, bytes_max: int) -> bytes:
        while True:
            if self._interruption is not None:
                raise self._interruption
            if self._data:
                return self._take(bytes_max)
            if isinstance(self._ending, BaseException):
                raise self._ending
            if self._ending is not None:
                return b""
            self._changed.clear()
            self.starving.set()
            await self._changed.wait()

    def _take(self, bytes_max: int) -> bytes:
        block = self._data.popleft()
        taken = block[: min(bytes_max, self._block_bytes)]
        if len(taken) < len(block):
            self._data.appendleft(block[len(taken) :])
        self.read_bytes += len(taken)
        return taken


class Halt:
    """Where calls of the vault stand still until they are let go: `vault.meet_at(call, halt)`."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.is_open = False
        self._go = asyncio.Event()

    async def wait(self) -> None:
        self.reached.set()
        await self._go.wait()

    def let_go(self) -> None:
        self.is_open = True
        self._go.set()


async def hold_at(
    vault: MemoryVault, call: str, request: Coroutine[Any, Any, Any], *, moment: Moment = "done"
) -> tuple["asyncio.Task[Any]", Halt]:
    """Start a request; return when it stands still in the vault, before or after this call.

    Later calls pass.
    """
    halt = Halt()
    vault.meet_at(call, halt, moment=moment)
    task = asyncio.create_task(request)
    await halt.reached.wait()
    vault.stop_meeting()
    return task, halt


class Crash(BaseException):
    """The process is gone: nothing of it runs on, no cleaning up either."""


@dataclass
class Mortality:
    """Whether a process lives, and at which of its steps it dies.

    A step is one call of the vault or one use of the ledger; `before` it takes effect or `after`.
    """

    is_dead: bool = False
    dies_at: tuple[str, Literal["before", "after"]] | None = None
    steps: list[str] = field(default_factory=list)

    def before(self, step: str) -> None:
        self.check()
        self.steps.append(step)
        if self.dies_at == (step, "before"):
            self.die()

    def after(self, step: str) -> None:
        if self.dies_at == (step, "after"):
            self.die()
        self.check()

    def die(self) -> None:
        self.is_dead = True
        self.check()

    def check(self) -> None:
        if self.is_dead:
            raise Crash


class MortalPool:
    """A process's way to the ledger: closed once it is dead."""

    def __init__(self, pool: Pool, mortality: Mortality) -> None:
        self._pool = pool
        self._mortality = mortality

    def get_idle_size(self) -> int:
        return self._pool.get_idle_size()

    @asynccontextmanager
    async def acquire(self, *, timeout: float | None = None) -> AsyncIterator[Any]:  # noqa: ASYNC109
        self._mortality.before("ledger")
        async with self._pool.acquire(timeout=timeout) as connection:
            yield connection
        self._mortality.after("ledger")


class MortalVault:
    """A process's way to the vault: closed once it is dead."""

    def __init__(self, vault: MemoryVault, mortality: Mortality) -> None:
        self._vault = vault
        self._mortality = mortality
        self.bucket = vault.bucket
        self.checks_sha256 = vault.checks_sha256

    async def _call(self, name: str, *arguments: Any, **options: Any) -> Any:
        self._mortality.before(name)
        answer = await getattr(self._vault, name)(*arguments, **options)
        self._mortality.after(name)
        return answer

    async def put_object(self, key: str, body: Body) -> StoredObject:
        return await self._call("put_object", key, body)

    async def find_first_key(self, prefix: str, *, after: str = "") -> str | None:
        return await self._call("find_first_key", prefix, after=after)

    async def put_new(self, key: str, data: bytes) -> StoredObject | None:
        return await self._call("put_new", key, data)

    async def open_multipart(self, key: str, *, with_sha256: bool = False) -> OpenedMultipart:
        return await self._call("open_multipart", key, with_sha256=with_sha256)

    async def put_part(self, key: str, multipart_id: str, number: int, body: Body) -> StoredPart:
        return await self._call("put_part", key, multipart_id, number, body)

    async def complete_multipart(
        self, key: str, multipart_id: str, parts: Sequence[StoredPart]
    ) -> StoredObject:
        return await self._call("complete_multipart", key, multipart_id, parts)

    async def abort_multipart(self, key: str, multipart_id: str) -> None:
        await self._call("abort_multipart", key, multipart_id)

    async def get_facts(self, key: str, version: str | None) -> StoredObject | None:
        return await self._call("get_facts", key, version)

    async def read(
        self, key: str, version: str | None, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[bytes]:
        self._mortality.before("read")
        async for block in self._vault.read(key, version, start, stop):
            self._mortality.check()
            yield block
        self._mortality.after("read")

    async def delete(self, key: str, version: str | None) -> None:
        await self._call("delete", key, version)

    async def sweep(self, prefix: str, *, keep_key: str | None, **kept: str | None) -> int:
        return await self._call("sweep", prefix, keep_key=keep_key, **kept)

    async def retain(self, key: str, version: str | None, **lock: Any) -> None:
        await self._call("retain", key, version, **lock)

    async def check(self) -> None:
        await self._call("check")


class Process:
    """One process of the service: a name, its requests, its memory, its ways to the stores."""

    def __init__(
        self,
        name: str,
        pool: Pool,
        vault: MemoryVault,
        *,
        rules: UploadRules = RULES,
        replay_bytes_max: int = 10**9,
        now: Clock | None = None,
    ) -> None:
        self.mortality = Mortality()
        self.pool: Any = MortalPool(pool, self.mortality)
        self.vault: Any = MortalVault(vault, self.mortality)
        self.holders = Holders(name)
        self.budget = ReplayBudget(replay_bytes_max)
        self.directory = Directory(fresh_s=0)
        self.rules = rules
        self.now = now or Clock()

    async def announce(
        self, announcement: dict[str, Any], station: Station = DOCK, **changes: Any
    ) -> Announced:
        raw = announcement | changes
        return await announce_clip(
            Announcement.model_validate(raw),
            raw,
            station,
            pool=self.pool,
            directory=self.directory,
            rules=self.rules,
            now=self.now,
        )

    async def open(
        self, length_bytes: int, metadata: str | None = None, station: Station = DOCK
    ) -> Announced:
        return await open_upload(
            length_bytes,
            metadata,
            station,
            pool=self.pool,
            directory=self.directory,
            rules=self.rules,
            now=self.now,
        )

    async def append(
        self,
        upload_id: UUID,
        offset_bytes: int,
        feed: Feed,
        length_bytes: int | None = None,
        *,
        wait_s: float | None = None,
        station: Station = DOCK,
    ) -> Upload:
        rules = self.rules
        if wait_s is not None:
            rules = replace(rules, take_over_wait_s=wait_s)
        return await append_bytes(
            upload_id,
            station.station_id,
            offset_bytes,
            length_bytes,
            feed,
            pool=self.pool,
            vault=self.vault,
            holders=self.holders,
            budget=self.budget,
            rules=rules,
            now=self.now,
        )

    async def append_all(self, upload_id: UUID, offset_bytes: int, data: bytes) -> Upload:
        return await self.append(upload_id, offset_bytes, Feed(data), len(data))

    async def head(self, upload_id: UUID, *, wait_s: float = 2.0) -> Upload:
        return await settle_upload(
            upload_id,
            DOCK.station_id,
            pool=self.pool,
            holders=self.holders,
            wait_s=wait_s,
            now=self.now,
        )

    async def store(
        self,
        clip_id: UUID,
        index: int,
        data: bytes,
        *,
        sha256: bytes | None = None,
        feed: Feed | None = None,
        station: Station = DOCK,
        seals: bool = False,
    ) -> StoredChunk:
        chunk = Chunk(index, len(data), sha256 or hashlib.sha256(data).digest())
        return await store_chunk(
            clip_id,
            station.station_id,
            chunk,
            feed or Feed(data),
            pool=self.pool,
            vault=self.vault,
            budget=self.budget,
            rules=self.rules,
            now=self.now,
            seals=seals,
        )

    async def open_whole(self, length_bytes: int) -> Announced:
        """Open an upload whose bytes come with it."""
        return await open_upload(
            length_bytes,
            None,
            DOCK,
            pool=self.pool,
            directory=self.directory,
            rules=self.rules,
            now=self.now,
            writes_at_once=True,
        )

    async def store_whole(self, announced: Announced, feed: Feed) -> Upload:
        return await store_whole(
            announced,
            feed,
            pool=self.pool,
            vault=self.vault,
            holders=self.holders,
            budget=self.budget,
            rules=self.rules,
            now=self.now,
        )

    async def seal(self, clip_id: UUID, station: Station = DOCK) -> SealedFacts:
        return await seal_upload(
            clip_id,
            station.station_id,
            pool=self.pool,
            vault=self.vault,
            rules=self.rules,
            now=self.now,
        )

    async def finish(self, upload_id: UUID) -> bool:
        return await finish_upload(upload_id, pool=self.pool, vault=self.vault, now=self.now)

    async def read_back(self, clip_id: UUID) -> str | None:
        return await read_back_clip(clip_id, pool=self.pool, vault=self.vault, now=self.now)

    async def terminate(self, upload_id: UUID) -> None:
        await terminate_upload(
            upload_id,
            DOCK.station_id,
            pool=self.pool,
            vault=self.vault,
            holders=self.holders,
            rules=self.rules,
            now=self.now,
        )

    async def expire(self, upload_id: UUID) -> bool:
        return await expire_upload(upload_id, pool=self.pool, vault=self.vault, now=self.now)


def describe_recording(data: bytes, **changes: Any) -> dict[str, Any]:
    """Return what a dock announces of these bytes."""
    return {
        "device_serial": "BWC-1",
        "recording_id": f"recording-{uuid4()}",
        "size_bytes": len(data),
        **changes,
    }


def cut_chunks(data: bytes, part_bytes: int = PART_BYTES) -> list[bytes]:
    return [data[start : start + part_bytes] for start in range(0, len(data), part_bytes)]


async def register_docks(pool: Pool) -> None:
    async with reading(pool) as connection:
        await connection.executemany(
            """
            INSERT INTO stations (station_id, site_id, borough)
            VALUES ($1, $2, $3)
            ON CONFLICT DO NOTHING
            """,
            [(dock.station_id, dock.site_id, dock.borough) for dock in (DOCK, OTHER_DOCK)],
        )


async def get_clip(pool: Pool, clip_id: UUID) -> Clip:
    async with reading(pool) as connection:
        clip = await clips.find_clip(connection, clip_id)
    assert clip is not None
    return clip


async def get_upload(pool: Pool, upload_id: UUID) -> Upload:
    async with reading(pool) as connection:
        upload = await uploads.find_upload(connection, upload_id)
    assert upload is not None
    return upload


async def list_event_types(pool: Pool, clip_id: UUID) -> list[str]:
    async with reading(pool) as connection:
        rows = await connection.fetch(
            "SELECT type FROM custody_events WHERE clip_id = $1 ORDER BY clip_seq", clip_id
        )
    return [row["type"] for row in rows]


async def append_event(
    pool: Pool, clip_id: UUID, *, before_commit: Callable[[], Awaitable[None]] | None = None
) -> None:
    """Let somebody look at the clip: its chain grows.

    before_commit  awaited while nobody else sees the event yet
    """
    clip = await get_clip(pool, clip_id)
    viewed = Happening("metadata.viewed", Actor("service", "viewer"))
    events = chain_events(clip.head, [viewed], now=datetime.now(UTC))
    async with writing(pool) as connection:
        assert await append_events(connection, clip_id, clip.event_count, events)
        if before_commit is not None:
            await before_commit()


async def wait_for_a_lock(pool: Pool) -> None:
    """Return when a statement of this ledger waits for a row that another one has changed."""
    async with pool.acquire() as connection, asyncio.timeout(10):
        while not await connection.fetchval(  # noqa: ASYNC110  Postgres tells nobody of a wait
            """
            SELECT count(*)
              FROM pg_stat_activity
             WHERE datname = current_database()
               AND wait_event_type = 'Lock'
            """
        ):
            await asyncio.sleep(0.01)


async def make_overdue(pool: Pool, upload_id: UUID) -> None:
    """Let the ledger's clock have passed the upload's expiry."""
    async with reading(pool) as connection:
        await connection.execute(
            "UPDATE uploads SET expires_at = now() - interval '1 second' WHERE upload_id = $1",
            upload_id,
        )


async def make_finish_due(pool: Pool, upload_id: UUID) -> None:
    """Let the present driver's claim have lapsed."""
    async with reading(pool) as connection:
        await connection.execute(
            "UPDATE uploads SET finish_after = now() WHERE upload_id = $1", upload_id
        )


async def read_stored(pool: Pool, vault: MemoryVault, upload_id: UUID) -> dict[int, bytes]:
    """Return the bytes that the ledger counts as the vault holds them, by their offset."""
    upload = await get_upload(pool, upload_id)
    async with reading(pool) as connection:
        parts = await uploads.list_parts(connection, upload_id)
        tails = await uploads.list_tails(connection, upload_id)
    pieces = {}
    for part in parts:
        if part.part_number == 0:
            data = read_version(vault, part.object_key or "", part.object_version)
        else:
            multipart = vault._multiparts[upload.multipart_id or ""]
            data, stored = multipart.parts[part.part_number]
            assert stored.etag == part.etag, "the recorded part was overwritten"
        pieces[part.part_index * upload.part_bytes] = data
    for tail in tails:
        assert tail.offset_bytes not in pieces, "a tail lies under a part"
        pieces[tail.offset_bytes] = read_version(vault, tail.object_key, tail.object_version)
    return pieces


def read_version(vault: MemoryVault, key: str, version: str | None) -> bytes:
    found = vault._find(key, version)
    assert found is not None, f"{key} is not in the vault"
    assert found.data is not None, f"{key} was deleted"
    return found.data


def read_object(vault: MemoryVault, clip: Clip | SealedFacts) -> bytes:
    return read_version(vault, clip.object_key or "", clip.object_version)
