"""How fast the custody log is: events placed, checkpoints signed, proofs, and an audit.

On a ledger of its own, with the real jobs and SeaweedFS. Events are written as the service's own
statements write them: rows in `custody_events`, which a trigger queues for the sequencer.
"""

import asyncio
import hashlib
import json
import math
import os
import random
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg
import httpx

from loadtest.bench_runs import measure_hashlib
from loadtest.own_stack import Stack, running_stack

SUSTAINED_S: Final = 15.0
_WARM_UP_S: Final = 3.0
LATENCY_S: Final = 20.0
LATENCY_RATE_PER_S: Final = 200
PROOF_LEAVES: Final = 10_000_000
PROOFS: Final = 400
# So many events wait for the sequencer at most: it is never idle, and nothing piles up.
_BACKLOG_MAX: Final = 20_000
_FEED: Final = 1000
_POLL_S: Final = 0.004
_WAIT_S: Final = 120.0
_TILE: Final = 256
_COPY_TILES: Final = 512
# What a service that was just started may have in its log: a forecast, a policy.
_OWN_EVENTS_MAX: Final = 100
_LIST_PLACED: Final = """
    SELECT leaf_index, leaf_hash
      FROM log_leaves
      JOIN custody_events USING (event_id)
"""
_FILLINGS: Final = 64
_EVENT_COLUMNS: Final = (
    *("event_id", "type", "recorded_at", "actor_kind", "actor_id", "device_serial"),
    *("leaf", "leaf_hash"),
)
Say = Callable[[str], None]
Event = tuple[UUID, str, datetime, str, str, str, bytes, bytes]


class LogFailed(Exception):
    """The log could not be measured; the message says why."""


@dataclass(frozen=True, slots=True)
class LogFigures:
    """What was measured; times in milliseconds, from outside.

    hashlib_cpu_s_per_gib  SHA-256 alone, mean of right before and right after
    """

    placed_per_s: float
    checkpoint_p50_ms: float
    checkpoint_p99_ms: float
    audited_per_s: float
    proof_p50_ms: float
    proof_p99_ms: float
    proof_cpu_ms: float
    hashlib_cpu_s_per_gib: float


def measure_log(say: Say) -> LogFigures:
    """Measure all of it; takes about three minutes.

    Raises:
        StackFailed: the service did not start.
        LogFailed: the log stands still, or does not hold.
    """
    before = measure_hashlib()
    with (
        tempfile.TemporaryDirectory(prefix="ingest-bench-log-") as folder,
        running_stack(Path(folder), store="embedded") as stack,
    ):
        say("log: events as fast as they are placed ...")
        placed_per_s = asyncio.run(_measure_sustained(stack))
        say(f"log: {LATENCY_RATE_PER_S} events a second, from commit to checkpoint ...")
        waits_ms = asyncio.run(_measure_latency(stack))
        say("log: audit ...")
        audited_per_s = _measure_audit(Path(folder) / "data")
    with (
        tempfile.TemporaryDirectory(prefix="ingest-bench-log-") as folder,
        running_stack(Path(folder), store="embedded") as stack,
    ):
        say(f"log: a tree of {PROOF_LEAVES} leaves ...")
        proofs_ms, proof_cpu_ms = asyncio.run(_measure_proofs(stack))
    return LogFigures(
        placed_per_s=placed_per_s,
        checkpoint_p50_ms=_quantile(waits_ms, 0.5),
        checkpoint_p99_ms=_quantile(waits_ms, 0.99),
        audited_per_s=audited_per_s,
        proof_p50_ms=_quantile(proofs_ms, 0.5),
        proof_p99_ms=_quantile(proofs_ms, 0.99),
        proof_cpu_ms=proof_cpu_ms,
        hashlib_cpu_s_per_gib=(before + measure_hashlib()) / 2,
    )


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(math.ceil(share * len(values)), len(values)) - 1]


# --- events ----------------------------------------------------------------------------------


def make_events(count: int) -> list[Event]:
    """Return events of cameras at a dock, as long as the service's own."""
    now = datetime.now(UTC)
    return [_make_event(now) for _ in range(count)]


def _make_event(now: datetime) -> Event:
    event_id = _make_id(now)
    stamp = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    leaf = json.dumps(
        {
            "actor": {"id": "dock-bench", "kind": "station", "role": None},
            "clip_id": None,
            "clip_seq": None,
            "device_serial": "BWC-bench",
            "event_id": str(event_id),
            "facts": {"bay_no": 3, "note": secrets.token_hex(100)},
            "integrity": None,
            "occurred_at": stamp,
            "outcome": "success",
            "prev": None,
            "purpose": None,
            "reason": None,
            "recorded_at": stamp,
            "request_id": None,
            "salt": secrets.token_hex(12),
            "schema_version": 1,
            "software_version": "bench",
            "type": "device.docked",
        },
        sort_keys=True,
        separators=(",", ":"),
    ).encode()
    # A row says what its leaf says, to the microsecond.
    leaf_hash = hashlib.sha256(b"\x00" + leaf).digest()
    return event_id, "device.docked", now, "station", "dock-bench", "BWC-bench", leaf, leaf_hash


def _make_id(now: datetime) -> UUID:
    data = bytearray(int(now.timestamp() * 1000).to_bytes(6, "big") + os.urandom(10))
    data[6] = 0x70 | data[6] & 0x0F
    data[8] = 0x80 | data[8] & 0x3F
    return UUID(bytes=bytes(data))


async def _copy(connection: Any, events: list[Event]) -> None:  # noqa: ANN401 - asyncpg's
    await connection.copy_records_to_table("custody_events", records=events, columns=_EVENT_COLUMNS)


# --- the sequencer ---------------------------------------------------------------------------


async def _measure_sustained(stack: Stack) -> float:
    """Keep events waiting; return how many a second got their place."""
    feeder, watcher = await _other(stack), await _other(stack)
    stop = asyncio.Event()

    async def feed() -> None:
        while not stop.is_set():
            events = await asyncio.to_thread(make_events, _FEED)
            await _copy(feeder, events)
            while await _count_waiting(watcher) > _BACKLOG_MAX and not stop.is_set():  # noqa: ASYNC110 - Postgres sets no event
                await asyncio.sleep(0.02)

    feeding = asyncio.create_task(feed())
    asker = await _other(stack)
    try:
        await asyncio.sleep(_WARM_UP_S)
        size, began = await _get_size(asker), time.perf_counter()
        await asyncio.sleep(SUSTAINED_S)
        placed, spent_s = await _get_size(asker) - size, time.perf_counter() - began
    finally:
        stop.set()
        await feeding
    await _wait_until_placed(watcher)
    for connection in (asker, feeder, watcher):
        await connection.close()
    return placed / spent_s


async def _other(stack: Stack) -> Any:  # noqa: ANN401 - asyncpg's
    return await asyncpg.connect(stack.facts["database_url"])


async def _count_waiting(connection: Any) -> int:  # noqa: ANN401
    count: int = await connection.fetchval("SELECT count(*) FROM log_queue")
    return count


async def _get_size(connection: Any) -> int:  # noqa: ANN401
    size: int = await connection.fetchval("SELECT tree_size FROM log_state")
    return size


async def _wait_until_placed(connection: Any) -> None:  # noqa: ANN401
    """Return when nothing waits, and what is placed is published."""
    deadline = time.monotonic() + _WAIT_S
    while True:
        if time.monotonic() > deadline:
            message = f"events wait for more than {_WAIT_S:.0f} s"
            raise LogFailed(message)
        if not await connection.fetchval(
            """
            SELECT EXISTS (SELECT FROM log_queue)
                OR EXISTS (SELECT FROM log_checkpoints WHERE published_at IS NULL)
            """
        ):
            return
        await asyncio.sleep(0.05)


async def _measure_latency(stack: Stack) -> list[float]:
    """Commit events one by one; return for each how long its checkpoint took."""
    writers = [await _other(stack) for _ in range(4)]
    watcher = await _other(stack)
    committed: dict[UUID, float] = {}
    seen: list[tuple[float, int]] = []
    done = asyncio.Event()

    async def watch() -> None:
        while not done.is_set():
            # A size is visible when its signed checkpoint is: both are one commit.
            size = await _get_size(watcher)
            if not seen or seen[-1][1] != size:
                seen.append((time.perf_counter(), size))
            await asyncio.sleep(_POLL_S)

    async def write(number: int) -> None:
        began = time.perf_counter()
        step_s = len(writers) / LATENCY_RATE_PER_S
        for turn in range(int(LATENCY_S / step_s)):
            due = began + turn * step_s + number / LATENCY_RATE_PER_S
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            (event,) = make_events(1)
            await _copy(writers[number], [event])
            committed[event[0]] = time.perf_counter()

    watching = asyncio.create_task(watch())
    await asyncio.gather(*[write(number) for number in range(len(writers))])
    await _wait_until_placed(writers[0])
    done.set()
    await watching
    rows = await watcher.fetch(
        "SELECT event_id, leaf_index FROM log_leaves WHERE event_id = ANY($1)", list(committed)
    )
    for connection in (*writers, watcher):
        await connection.close()
    waits = []
    for row in rows:
        at = next(when for when, size in seen if size > row["leaf_index"])
        waits.append(1000 * max(at - committed[row["event_id"]], 0.0))
    return waits


# --- the audit -------------------------------------------------------------------------------


def _measure_audit(data: Path) -> float:
    """Audit what the runs before have left, three times; return leaves a second of the best."""
    best = 0.0
    for _ in range(3):
        ran = subprocess.run(
            [sys.executable, "-m", "ingest_service", "audit", "--dev", str(data), "--json", "-"],
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode != 0:
            message = f"the audit ended with {ran.returncode}: {ran.stdout[-500:]}{ran.stderr}"
            raise LogFailed(message)
        report = json.loads(ran.stdout)
        best = max(best, report["counts"]["leaves hashed"] / report["seconds"]["log"])
    return best


# --- proofs ----------------------------------------------------------------------------------


async def _measure_proofs(stack: Stack) -> tuple[list[float], float]:
    """Ask for proofs at random places of a large log.

    Returns how long the service took for each, and CPU-milliseconds of its process for one.

    The times are by its own request log, from the first byte of the request to the last of the
    answer: a client in Python takes longer for its part than the service for the proof.
    """
    owner = await asyncpg.connect(stack.facts["database_owner_url"])
    await _wait_until_placed(owner)
    chooser = random.Random(7)
    indices = sorted(chooser.sample(range(_OWN_EVENTS_MAX, PROOF_LEAVES), PROOFS))
    await _plant_tree(owner, dict(zip(indices, make_events(PROOFS), strict=True)))
    # One real event more: the sequencer signs a checkpoint over all of it.
    await _copy(owner, make_events(1))
    await _wait_until_placed(owner)
    await owner.close()
    token = stack.facts["tokens"]["auditor"]
    async with httpx.AsyncClient(
        base_url=stack.facts["base_url"], headers={"Authorization": f"Bearer {token}"}
    ) as client:
        chooser.shuffle(indices)
        before_s = stack.cpu_s("serve")
        for index in indices:
            response = await client.get(f"/v1/events/{index}/proof")
            response.raise_for_status()
        cpu_ms = 1000 * (stack.cpu_s("serve") - before_s) / PROOFS
    return _read_request_log(stack.logs / "serve.log"), cpu_ms


def _read_request_log(file: Path) -> list[float]:
    lines = [json.loads(line) for line in file.read_text().splitlines() if '"route"' in line]
    spent_ms = [line["ms"] for line in lines if str(line["route"]).endswith("/proof")]
    # The line of the last one may come after its answer.
    if len(spent_ms) < PROOFS - 1:
        message = f"{file} tells of {len(spent_ms)} proofs"
        raise LogFailed(message)
    return spent_ms


async def _plant_tree(owner: Any, real: dict[int, Event]) -> None:  # noqa: ANN401
    """Write the tiles of a log of random leaves, with real events at some places.

    The first leaves are those that the service has placed already.
    """
    async with owner.transaction():
        await owner.execute("SELECT tree_size FROM log_state FOR UPDATE")
        placed: dict[int, bytes] = dict(await owner.fetch(_LIST_PLACED))
        if len(placed) > _OWN_EVENTS_MAX:
            message = f"the log of a fresh service has {len(placed)} leaves"
            raise LogFailed(message)
        await owner.execute("ALTER TABLE log_tiles DISABLE TRIGGER USER")
        await owner.execute("DELETE FROM log_tiles")
        await owner.execute("ALTER TABLE log_tiles ENABLE TRIGGER USER")
        await owner.execute("ALTER TABLE custody_events DISABLE TRIGGER USER")
        await _copy(owner, list(real.values()))
        await owner.execute("ALTER TABLE custody_events ENABLE TRIGGER USER")
        await owner.copy_records_to_table(
            "log_leaves",
            records=[(index, event[0]) for index, event in real.items()],
            columns=("leaf_index", "event_id"),
        )
        batch: list[tuple[int, int, bytes]] = []
        for tile in _make_tiles(placed | {index: event[7] for index, event in real.items()}):
            batch.append(tile)
            if len(batch) == _COPY_TILES:
                await _copy_tiles(owner, batch)
                batch = []
        await _copy_tiles(owner, batch)
        await owner.execute("UPDATE log_state SET tree_size = $1", PROOF_LEAVES)
        # What stands before the next checkpoint counts as published: nobody asks for it here.
        await owner.execute(
            """
            INSERT INTO log_checkpoints (tree_size, note, signed_at, published_at)
            VALUES ($1, 'not signed: planted by a bench', now(), now())
            """,
            PROOF_LEAVES,
        )


async def _copy_tiles(owner: Any, tiles: list[tuple[int, int, bytes]]) -> None:  # noqa: ANN401
    await owner.copy_records_to_table(
        "log_tiles", records=tiles, columns=("level", "tile_index", "hashes")
    )


def _make_tiles(real: dict[int, bytes]) -> Iterator[tuple[int, int, bytes]]:
    """Yield (level, index, hashes) of every tile, full or not.

    Tiles of leaves that are not asked for are a few, over and over: to the service each is as good
    as any other, and to hash ten million leaves would take longer than all proofs.
    """
    by_tile: dict[int, list[int]] = {}
    for index in real:
        by_tile.setdefault(index // _TILE, []).append(index)
    filling = [os.urandom(32 * _TILE) for _ in range(_FILLINGS)]
    roots = {hashes: _hash_tile(hashes) for hashes in filling}
    level, width, below = 0, PROOF_LEAVES, b""
    while width:
        above = bytearray()
        for at in range(math.ceil(width / _TILE)):
            count = min(_TILE, width - at * _TILE)
            if level == 0:
                hashes = filling[at % _FILLINGS][: 32 * count]
                for index in by_tile.get(at, ()):
                    start = 32 * (index % _TILE)
                    hashes = hashes[:start] + real[index] + hashes[start + 32 :]
            else:
                hashes = below[at * _TILE * 32 : (at * _TILE + count) * 32]
            if count == _TILE:
                above += roots.get(hashes) or _hash_tile(hashes)
            yield level, at, hashes
        below, width, level = bytes(above), width // _TILE, level + 1


def _hash_tile(hashes: bytes) -> bytes:
    sha256 = hashlib.sha256
    while len(hashes) > 32:  # noqa: PLR2004 - one hash
        hashes = b"".join(
            [sha256(b"\x01" + hashes[at : at + 64]).digest() for at in range(0, len(hashes), 64)]
        )
    return hashes
