"""The line of those who wait for a connection: short, first come first served."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from ingest_service import telemetry
from ingest_service.domain.admission import Appointments
from ingest_service.errors import LedgerBusy

# A new measurement of how long a connection is held counts for so much.
_WEIGHT: Final = 0.05
_HELD_FIRST_S: Final = 0.005
# One statement that hangs says nothing about the others.
_HELD_MAX_S: Final = 1.0
_HELD: Final = telemetry.tally(telemetry.LEDGER_HELD_SECONDS)
_WAITED: Final = telemetry.tally(telemetry.LEDGER_WAIT_SECONDS)
# The door closes at a part of the wait at which the line does: who was let in is to be served, or
# what was done for him so far was done in vain.
_DOOR_SHARE: Final = 0.25


class Line:
    """Lends a number of places; whoever would wait too long is refused at once.

    Too long is known in two ways: from the number of those in front and how long a place is
    usually held, and from how long the first of them waits already (when nothing moves at all).

    Concurrency: any number of tasks of one event loop.

    places      connections of the pool
    wait_max_s  longest wait that somebody is let into the line for; the door closes earlier
    """

    def __init__(
        self, places: int, *, wait_max_s: float, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._places = places
        self._free = places
        self._wait_max_s = wait_max_s
        self._monotonic = monotonic
        self._held_s = _HELD_FIRST_S
        self._waiting: OrderedDict[asyncio.Future[None], float] = OrderedDict()
        self._urgent: OrderedDict[asyncio.Future[None], float] = OrderedDict()
        self._appointments = Appointments(monotonic=monotonic)

    @property
    def places(self) -> int:
        """How many there are."""
        return self._places

    @property
    def taken_count(self) -> int:
        """How many are taken."""
        return self._places - self._free

    @property
    def waiting_count(self) -> int:
        """How many wait."""
        return len(self._waiting) + len(self._urgent)

    @property
    def waiting_max(self) -> int:
        """How many may wait: as many as are served in time; each place may have one in any case."""
        return max(self._places, int(self._places * self._wait_max_s / self._held_s))

    def fullness(self) -> float:
        """Return how full the line is: 0 = nobody waits, 1 = who comes now is refused."""
        if not self._waiting:
            return 0.0
        first_waits_s = self._monotonic() - next(iter(self._waiting.values()))
        return max(len(self._waiting) / self.waiting_max, first_waits_s / self._wait_max_s)

    def pressure(self) -> float:
        """Return how much of it the door should mind: at 1 nobody more is let in."""
        return self.fullness() / _DOOR_SHARE

    async def enter(self, *, timeout_s: float, is_urgent: bool = False) -> float:
        """Take a place and return when it was taken, for `leave`.

        is_urgent   goes first, and is never refused

        Raises:
            LedgerBusy: the line is full; nothing was waited for.
            TimeoutError: nobody left a place in time.
        """
        if self._free and not self.waiting_count:
            self._free -= 1
            self._appointments.admit()
            return self._monotonic()
        if is_urgent:
            await self._wait(timeout_s, is_urgent=True)
        elif self.fullness() >= 1:
            raise LedgerBusy(retry_after_s=self._appointments.refuse())
        else:
            await self._wait(timeout_s, is_urgent=False)
            self._appointments.admit()
        return self._monotonic()

    def leave(self, entered_at: float) -> None:
        """Give the place back."""
        took_s = self._monotonic() - entered_at
        _HELD.note(took_s)
        held_s = min(took_s, _HELD_MAX_S)
        self._held_s += _WEIGHT * (held_s - self._held_s)
        self._pass_on()

    async def _wait(self, timeout_s: float, *, is_urgent: bool) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._urgent if is_urgent else self._waiting
        began_at = waiting[turn] = self._monotonic()
        try:
            async with asyncio.timeout(timeout_s):
                await turn
            _WAITED.note(self._monotonic() - began_at)
        except BaseException:
            if turn.done() and not turn.cancelled():
                # The place was given to us in the very moment in which we gave up.
                self._pass_on()
            waiting.pop(turn, None)
            raise

    def _pass_on(self) -> None:
        for waiting in (self._urgent, self._waiting):
            while waiting:
                turn, _ = waiting.popitem(last=False)
                # Who was cancelled a moment ago has not yet left the line.
                if not turn.done():
                    turn.set_result(None)
                    return
        self._free += 1
