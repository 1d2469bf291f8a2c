"""Read the feed: events in log order, from any index, as far as the log is published.

An event is shown when a checkpoint that covers it is published outside the database: from then on
no restored backup can give its index to another event, so a cursor means the same for ever.
"""

import asyncio
import bisect
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from ingest_service import telemetry
from ingest_service.domain.feed import FeedEvent, FeedFilter
from ingest_service.errors import CursorBeyondLog, FeedFull
from ingest_service.ledger.connection import Pool, reading
from ingest_service.ledger.feed import get_published_size, scan_feed

# One statement looks at so many leaves at most, one request goes on for so long.
WINDOW: Final = 2_000
SCAN_S: Final = 1.0
# The newest events are read once for all who wait for them, and kept: some 2 KiB each.
KEPT_MAX: Final = 2_000
# What is said while the ear is deaf is not heard: then it is seen so much later.
LOOK_AGAIN_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class FeedPage:
    """What was found, and how far was looked.

    scanned_to  log index up to which nothing more is to be found; the next `after`
    log_size    events in the published log
    """

    events: list[FeedEvent]
    scanned_to: int
    log_size: int

    @property
    def is_at_end(self) -> bool:
        """Tell whether all there is was looked at."""
        return self.scanned_to >= self.log_size - 1


class FeedTail:
    """The end of the log, as everybody in this process who waits there shares it.

    However many follow, a new event is read from the ledger once. Who is slow holds no queue, only
    a cursor: what has left the tail meanwhile is read from the ledger again.

    Concurrency: any number of tasks of one event loop.

    seats_max   how many may wait at once, streams and long polls
    """

    def __init__(
        self,
        *,
        pool: Pool,
        seats_max: int,
        kept_max: int = KEPT_MAX,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool = pool
        self.seats_max = seats_max
        self._monotonic = monotonic
        self._kept: list[FeedEvent] = []
        self._kept_max = kept_max
        self._loading = asyncio.Lock()
        self._grown = asyncio.Event()
        self.seats = 0
        self.log_size = 0

    def ring(self, log_size: int) -> None:
        """Note that the log was published up to a size, and wake who waits for that."""
        if log_size > self.log_size:
            self.log_size = log_size
            self._grown.set()
            self._grown = asyncio.Event()

    @property
    def is_full(self) -> bool:
        """Tell whether as many wait as may."""
        return self.seats >= self.seats_max

    @contextmanager
    def take_seat(self) -> Iterator[None]:
        """Be one of those who may wait.

        Raises:
            FeedFull: as many wait as may.
        """
        if self.is_full:
            raise FeedFull(self.seats_max)
        self.seats += 1
        telemetry.FEED_SEATS.inc()
        try:
            yield
        finally:
            self.seats -= 1
            telemetry.FEED_SEATS.dec()

    async def look(self) -> int:
        """Ask the ledger how far the log is published.

        Raises:
            LedgerUnavailable, LedgerBusy: nothing is known.
        """
        async with reading(self._pool) as connection:
            self.ring(await get_published_size(connection))
        return self.log_size

    async def wait_beyond(self, log_size: int, *, timeout_s: float) -> bool:
        """Wait until the log is longer than that; False: it is not, yet.

        Raises:
            LedgerUnavailable, LedgerBusy: nobody rang, and the ledger could not be asked.
        """
        until = self._monotonic() + timeout_s
        while self.log_size <= log_size:
            left_s = until - self._monotonic()
            if left_s <= 0:
                return False
            grown = self._grown
            try:
                async with asyncio.timeout(min(left_s, LOOK_AGAIN_S)):
                    await grown.wait()
            except TimeoutError:
                if left_s > LOOK_AGAIN_S:
                    await self.look()
        return True

    async def read_on(self, asked: FeedFilter, after: int, limit: int) -> FeedPage:
        """Read at most one window on.

        Raises:
            LedgerUnavailable, LedgerBusy: nothing was read.
        """
        size = self.log_size
        if after + 1 >= size:
            return FeedPage([], after, size)
        if size - after <= self._kept_max:
            await self._load(size)
        if self._kept and self._kept[0].log_index <= after + 1:
            found, scanned_to = self._pick(asked, after, size, limit)
        else:
            stop = min(after + 1 + WINDOW, size)
            if asked.clip_id is not None or asked.device is not None:
                stop = size
            async with reading(self._pool) as connection:
                found = await scan_feed(connection, asked, after=after, stop=stop, limit=limit)
            scanned_to = found[-1].log_index if len(found) == limit else stop - 1
        return FeedPage(found, scanned_to, size)

    async def _load(self, size: int) -> None:
        async with self._loading:
            last = self._kept[-1].log_index if self._kept else -1
            if last >= size - 1:
                return
            if size - 1 - last > self._kept_max:
                self._kept = []
                last = size - 1 - self._kept_max
            async with reading(self._pool) as connection:
                fresh = await scan_feed(
                    connection, _EVERYTHING, after=last, stop=size, limit=self._kept_max
                )
            self._kept = [*self._kept, *fresh][-self._kept_max :]

    def _pick(
        self, asked: FeedFilter, after: int, size: int, limit: int
    ) -> tuple[list[FeedEvent], int]:
        start = bisect.bisect_right(self._kept, after, key=lambda event: event.log_index)
        found: list[FeedEvent] = []
        for event in self._kept[start:]:
            if event.log_index >= size:
                break
            if asked.admits(event):
                found.append(event)
                if len(found) == limit:
                    return found, event.log_index
        return found, size - 1


_EVERYTHING: Final = FeedFilter(hidden=frozenset())


async def read_feed(
    asked: FeedFilter,
    *,
    after: int,
    limit: int,
    tail: FeedTail,
    monotonic: Callable[[], float] = time.monotonic,
) -> FeedPage:
    """Return the next events after an index; possibly none, if many are of no interest.

    Raises:
        CursorBeyondLog: this log has no such event.
        LedgerUnavailable, LedgerBusy: nothing was read; the cursor stays good.
    """
    size = await tail.look()
    if after >= size and after != -1:
        raise CursorBeyondLog(after, size)
    until = monotonic() + SCAN_S
    found: list[FeedEvent] = []
    while True:
        page = await tail.read_on(asked, after, limit - len(found))
        found += page.events
        after = page.scanned_to
        if page.is_at_end or len(found) == limit or monotonic() >= until:
            return FeedPage(found, after, page.log_size)


async def await_events(
    asked: FeedFilter, page: FeedPage, *, limit: int, wait_s: float, tail: FeedTail
) -> FeedPage:
    """Go on from an empty page at the log's end until there is something, or the time is up.

    Raises:
        LedgerUnavailable, LedgerBusy: the cursor stays good.
    """
    until = time.monotonic() + wait_s
    while not page.events:
        if page.is_at_end:
            left_s = until - time.monotonic()
            if not await tail.wait_beyond(page.log_size, timeout_s=left_s):
                return page
        page = await tail.read_on(asked, page.scanned_to, limit)
    return page


async def follow_feed(
    asked: FeedFilter,
    *,
    after: int,
    limit: int,
    beat_s: float,
    last_s: float,
    tail: FeedTail,
    ending: asyncio.Event,
) -> AsyncIterator[FeedPage]:
    """Yield pages as they come; an empty one after beat_s of silence, or when much was skipped.

    Comes to an end after last_s, and when the process drains (`ending`).

    Raises:
        LedgerUnavailable, LedgerBusy: the last page's cursor stays good.
    """
    until = time.monotonic() + last_s
    drain = asyncio.create_task(ending.wait())
    try:
        while not drain.done() and (left_s := until - time.monotonic()) > 0:
            page = await tail.read_on(asked, after, limit)
            after = page.scanned_to
            if page.events or not page.is_at_end:
                yield page
                continue
            waiting = asyncio.create_task(
                tail.wait_beyond(page.log_size, timeout_s=min(beat_s, left_s))
            )
            await asyncio.wait([waiting, drain], return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                waiting.cancel()
                with suppress(asyncio.CancelledError):
                    await waiting
            elif not waiting.result():
                yield page
    finally:
        drain.cancel()
