"""One day of a fleet, simulated in segments of clips: docks, uplinks, service, read-back.

A clip is sent in segments. The rate of a segment is fixed when it begins: the least of what the
camera can send, its share of the site's uplink and its share of the service. Chunks (8 MiB) are not
simulated one by one; a broken connection costs the chunk that was in flight.
"""

import math
import random
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import simpy

from loadtest.capacity.traffic import Docking

CHUNK_MB: Final = 8 * 1024**2 / 1e6
MINUTE_S: Final = 60.0
SEGMENT_MAX_S: Final = 60.0
# As the reference dock does (ingest_service/dock/patience.py): 0.5 s doubling up to a minute, the
# upper half by chance.
BACKOFF_FIRST_S: Final = 0.5
BACKOFF_MAX_S: Final = 60.0
# A sealed clip is read back within a second; the dock asks for its receipt about as often.
JOB_INTERVAL_S: Final = 1.0
RECEIPT_POLL_S: Final = 2.0
# Read-back yields to ingest, but is never starved: a tenth of the store.
READ_BACK_FLOOR: Final = 0.1

Steps = Generator[simpy.Event, Any, None]


@dataclass(frozen=True, slots=True)
class Outage:
    """The whole service is away: nothing is accepted, open uploads break."""

    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True)
class PodLost:
    """One of so many pods dies; another takes its place after a while."""

    at_s: float
    pods: int
    replaced_after_s: float = 90.0


@dataclass(frozen=True, slots=True)
class Service:
    """What the docks send to.

    ingest_mb_s     what all API pods take together
    store_mb_s      what the store moves, written and read together
    read_back_mb_s  what all jobs read together
    read_backs_at_once
    clip_cost_mb    what opening and sealing a clip costs, as bytes that would cost the same
    """

    ingest_mb_s: float = math.inf
    store_mb_s: float = math.inf
    read_back_mb_s: float = math.inf
    read_backs_at_once: int = 10_000
    clip_cost_mb: float = 0.0


@dataclass(slots=True)
class Day:
    """What came of it; times in seconds, sizes in MB (10^6 bytes).

    received_s   per clip: from docking to its last byte
    emptied_s    per camera: from docking to the last byte of its last clip
    secured_s    per clip: from docking to its receipt in the dock's hands
    read_back_s  per clip: from its last byte to its receipt
    mb_by_minute, sealed_by_minute, uploads_by_minute, docked_by_minute
                 by minute since midnight; the last two are the most at once in that minute
    repeated_mb  sent again after a break
    """

    clips_mb: list[float] = field(default_factory=list)
    received_s: list[float] = field(default_factory=list)
    emptied_s: list[float] = field(default_factory=list)
    secured_s: list[float] = field(default_factory=list)
    read_back_s: list[float] = field(default_factory=list)
    mb_by_minute: Counter[int] = field(default_factory=Counter)
    sealed_by_minute: Counter[int] = field(default_factory=Counter)
    uploads_by_minute: dict[int, int] = field(default_factory=dict)
    docked_by_minute: dict[int, int] = field(default_factory=dict)
    repeated_mb: float = 0.0
    breaks: int = 0
    read_back_queue_mb_max: float = 0.0

    @property
    def peak_mb_s(self) -> float:
        """The busiest minute."""
        return max(self.mb_by_minute.values(), default=0.0) / MINUTE_S

    @property
    def peak_clips_s(self) -> float:
        """Clips sealed a second in the busiest minute."""
        return max(self.sealed_by_minute.values(), default=0) / MINUTE_S

    @property
    def peak_uploads(self) -> int:
        """The most uploads at once."""
        return max(self.uploads_by_minute.values(), default=0)

    @property
    def peak_docked(self) -> int:
        """The most cameras at once that wait for a receipt, each on a connection."""
        return max(self.docked_by_minute.values(), default=0)


class _World:
    """The simulated state: who sends where, what the service takes now."""

    def __init__(
        self, service: Service, fleet_site_mb_s: float, stream_mb_s: float, seed: int
    ) -> None:
        self.env = simpy.Environment()
        self.service = service
        self.site_mb_s = fleet_site_mb_s
        self.stream_mb_s = stream_mb_s
        self.chance = random.Random(seed)
        self.day = Day()
        self.sending_at_site: Counter[int] = Counter()
        self.sending: dict[simpy.Process, None] = {}
        self.docked = 0
        self.pods_share = 1.0
        self.back: simpy.Event | None = None
        self.ingest_now_mb_s = 0.0
        self.slots = simpy.Resource(self.env, capacity=service.read_backs_at_once)
        self.queued_mb = 0.0

    def rate_mb_s(self, site: int) -> float:
        """Return what one upload gets if it sends its next segment now."""
        count = max(len(self.sending), 1)
        ingest = min(self.service.ingest_mb_s * self.pods_share, self.service.store_mb_s)
        return min(
            self.stream_mb_s,
            self.site_mb_s / max(self.sending_at_site[site], 1),
            ingest / count,
        )

    def read_back_rate_mb_s(self) -> float:
        """Return what one read-back gets if it begins now: it yields to ingest."""
        store = self.service.store_mb_s
        left = (
            store
            if math.isinf(store)
            else max(store - self.ingest_now_mb_s, store * READ_BACK_FLOOR)
        )
        return min(self.service.read_back_mb_s, left) / max(self.slots.count, 1)

    def backoff_s(self, attempt: int) -> float:
        """Return how long a dock waits before it tries again."""
        ceiling_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(attempt, 20))
        return ceiling_s / 2 + self.chance.random() * ceiling_s / 2

    def note_crowd(self) -> None:
        """Keep the most uploads and cameras of this minute."""
        minute = int(self.env.now // MINUTE_S)
        day, sending = self.day, len(self.sending)
        if sending > day.uploads_by_minute.get(minute, 0):
            day.uploads_by_minute[minute] = sending
        if self.docked > day.docked_by_minute.get(minute, 0):
            day.docked_by_minute[minute] = self.docked

    def note_bytes(self, begun_s: float, rate_mb_s: float) -> None:
        """Spread what was sent since `begun_s` over the minutes that it took."""
        at_s, now = begun_s, self.env.now
        while at_s < now:
            minute = int(at_s // MINUTE_S)
            until_s = min(now, (minute + 1) * MINUTE_S)
            if until_s <= at_s:
                break
            # Counter of floats: megabytes.
            self.day.mb_by_minute[minute] += (until_s - at_s) * rate_mb_s  # type: ignore[assignment]
            at_s = until_s


def simulate(
    dockings: Sequence[Docking],
    service: Service,
    *,
    site_mb_s: float,
    stream_mb_s: float,
    segment_mb: float = 64.0,
    events: Sequence[Outage | PodLost] = (),
    seed: int = 1,
) -> Day:
    """Run a day to its end: every clip has its receipt.

    segment_mb  the largest segment; smaller ones follow a change of rates more closely
    """
    world = _World(service, site_mb_s, stream_mb_s, seed)
    for docking in dockings:
        world.env.process(_dock(world, docking, segment_mb))
    for event in events:
        if isinstance(event, Outage):
            world.env.process(_outage(world, event))
        else:
            world.env.process(_lose_pod(world, event))
    world.env.run()
    return world.day


def _dock(world: _World, docking: Docking, segment_mb: float) -> Steps:
    env = world.env
    yield env.timeout(max(docking.at_s, 0.0))
    world.docked += 1
    world.note_crowd()
    secured = []
    for clip_mb in docking.clips_mb:
        yield env.process(_upload(world, docking.site, clip_mb, segment_mb))
        world.day.clips_mb.append(clip_mb)
        world.day.received_s.append(env.now - docking.at_s)
        world.day.sealed_by_minute[int(env.now // MINUTE_S)] += 1
        secured.append(env.process(_read_back(world, clip_mb, docking.at_s)))
    world.day.emptied_s.append(env.now - docking.at_s)
    yield simpy.AllOf(env, secured)
    world.docked -= 1


def _upload(world: _World, site: int, clip_mb: float, segment_mb: float) -> Steps:
    env = world.env
    left_mb = clip_mb + world.service.clip_cost_mb
    attempt = 0
    me = env.active_process
    while left_mb > 1e-9:  # noqa: PLR2004 - what is left of floating point
        if world.back is not None:
            yield env.timeout(world.backoff_s(attempt))
            attempt += 1
            continue
        if me is not None and me not in world.sending:
            world.sending[me] = None
            world.sending_at_site[site] += 1
            world.note_crowd()
        rate_mb_s = world.rate_mb_s(site)
        # A slow segment is a short one: its rate is not kept for longer than a minute.
        longest_mb = max(CHUNK_MB, min(segment_mb, rate_mb_s * SEGMENT_MAX_S))
        wanted_mb = min(left_mb, longest_mb)
        begun_s = env.now
        world.ingest_now_mb_s += rate_mb_s
        try:
            yield env.timeout(wanted_mb / rate_mb_s)
        except simpy.Interrupt:
            sent_mb = (env.now - begun_s) * rate_mb_s
            # The chunk in flight is lost; what came before it is acknowledged.
            kept_mb = min(sent_mb // CHUNK_MB * CHUNK_MB, left_mb)
            left_mb -= kept_mb
            world.day.repeated_mb += sent_mb - kept_mb
            world.day.breaks += 1
            _stop_sending(world, me, site)
        else:
            left_mb -= wanted_mb
            attempt = 0
        world.ingest_now_mb_s -= rate_mb_s
        world.note_bytes(begun_s, rate_mb_s)
        if me not in world.sending:
            yield env.timeout(world.backoff_s(attempt))
            attempt += 1
    _stop_sending(world, me, site)


def _stop_sending(world: _World, process: simpy.Process | None, site: int) -> None:
    if process is not None and process in world.sending:
        del world.sending[process]
        world.sending_at_site[site] -= 1


def _read_back(world: _World, clip_mb: float, docked_at_s: float) -> Steps:
    env, received_at_s = world.env, world.env.now
    world.queued_mb += clip_mb
    world.day.read_back_queue_mb_max = max(world.day.read_back_queue_mb_max, world.queued_mb)
    yield env.timeout(world.chance.random() * JOB_INTERVAL_S)
    with world.slots.request() as slot:
        yield slot
        left_mb = clip_mb
        while left_mb > 1e-9:  # noqa: PLR2004 - what is left of floating point
            rate_mb_s = min(world.read_back_rate_mb_s(), 1e6)
            step_mb = min(left_mb, 512.0)
            yield env.timeout(step_mb / rate_mb_s)
            left_mb -= step_mb
    world.queued_mb -= clip_mb
    yield env.timeout(world.chance.random() * RECEIPT_POLL_S)
    world.day.secured_s.append(env.now - docked_at_s)
    world.day.read_back_s.append(env.now - received_at_s)


def _outage(world: _World, outage: Outage) -> Steps:
    yield world.env.timeout(outage.from_s)
    world.back = world.env.event()
    for process in list(world.sending):
        process.interrupt()
    yield world.env.timeout(outage.to_s - outage.from_s)
    world.back = None


def _lose_pod(world: _World, lost: PodLost) -> Steps:
    yield world.env.timeout(lost.at_s)
    for process in list(world.sending):
        if world.chance.random() < 1 / lost.pods:
            process.interrupt()
    world.pods_share = (lost.pods - 1) / lost.pods
    yield world.env.timeout(lost.replaced_after_s)
    world.pods_share = 1.0
