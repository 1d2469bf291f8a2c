"""Who is let in when more is asked than can be done, and when the others are to come back.

A queue that is longer than what is served before its callers lose patience does harm only: all of
it is worked off in vain. So the queue is short, and who finds it full is told when to come.
"""

import random
import time
from collections.abc import Callable, Mapping
from typing import Final, Literal

# `bytes` goes on with what was accepted (chunk, seal, offset), `ask` wants to know what became of
# it (receipt), `new` begins something (announcement) or serves nobody who holds evidence (queries).
# `urgent` begins something that is said to matter more than the rest.
Kind = Literal["bytes", "ask", "urgent", "new"]

# How full the house may be for each. What was begun is ended before anything is begun: whoever is
# let in with an announcement will want room for the chunk and the seal as well.
FULLNESS_MAX: Final[Mapping[Kind, float]] = {"bytes": 1.0, "ask": 0.8, "urgent": 0.6, "new": 0.4}
# Of all places, how many those may have who were let in only because they said that it is urgent.
# At the door that is anybody's word: where all say it, it is worth no more than this.
URGENT_SHARE: Final = 0.1

RETRY_AFTER_MIN_S: Final = 1.0
# Nobody knows what will be in a minute: who is told more leaves room empty when the service is
# faster again, and who is told less asks in vain. That costs little, unless very many do it.
RETRY_AFTER_MAX_S: Final = 120.0
_HORIZON_MIN_S: Final = 60.0
# More refusals than this a second (a hundredth of a core) make the horizon wider, up to the limit.
_REFUSED_MAX_PER_S: Final = 100.0
_HORIZON_STEP: Final = 1.03
# Before anything was measured; too many who come back too soon cost less than too few too late.
_RATE_FIRST: Final = 100.0
_RATE_MIN: Final = 1.0
_WINDOW_S: Final = 1.0
# How much the newest window counts.
_WEIGHT: Final = 0.5
# In a window in which fewer were refused than this, as many came in as wanted to.
_REFUSED_SHARE_MIN: Final = 0.2
# More are told to come than were seen to get in, and some of them in vain: what is told too late
# leaves room empty, and a rate that is never exceeded would never be found too low.
_OVERBOOKED: Final = 1.5


class Appointments:
    """When those who were refused are to come back: one after the other, as fast as is served.

    A waiting room of which only the length is kept: every refusal makes it longer by one, and time
    makes it shorter at the rate at which others were let in. So a thousand who are refused at once
    are spread over the time that a thousand take, whatever the service is able to do just now.

    monotonic   seconds
    chance      uniform in [0, 1)
    """

    def __init__(
        self,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._monotonic = monotonic
        self._chance = chance
        self._rate = _RATE_FIRST
        self._horizon_s = _HORIZON_MIN_S
        self._waiting = 0.0
        self._seen_at = self._window_began_at = monotonic()
        self._admitted = self._refused = 0

    @property
    def rate_per_s(self) -> float:
        """How many are let in per second when more than that want in."""
        return self._rate

    def admit(self) -> None:
        """Note that somebody was let in."""
        self._measure()
        self._admitted += 1

    def refuse(self) -> int:
        """Return after how many seconds somebody who is refused now is to come back."""
        self._measure()
        self._refused += 1
        self._waiting += 1
        told_per_s = self._rate * _OVERBOOKED
        wait_s = self._waiting / told_per_s
        if wait_s > self._horizon_s:
            # Too far off to be told: spread them, so that they do not come back as one.
            wait_s = self._horizon_s * (1 + self._chance()) / 2
            self._waiting = self._horizon_s * told_per_s
        # Whole seconds would gather those of a second in one instant: each is rounded by chance.
        return int(min(max(wait_s + self._chance(), RETRY_AFTER_MIN_S), RETRY_AFTER_MAX_S))

    def _measure(self) -> None:
        now = self._monotonic()
        told_per_s = self._rate * _OVERBOOKED
        self._waiting = max(0.0, self._waiting - told_per_s * (now - self._seen_at))
        self._seen_at = now
        took_s = now - self._window_began_at
        if took_s < _WINDOW_S:
            return
        refused_per_s = self._refused / took_s
        if refused_per_s > _REFUSED_MAX_PER_S:
            self._horizon_s = min(self._horizon_s * _HORIZON_STEP, RETRY_AFTER_MAX_S)
        elif refused_per_s < _REFUSED_MAX_PER_S / 2:
            self._horizon_s = max(self._horizon_s / _HORIZON_STEP, _HORIZON_MIN_S)
        measured = self._admitted / took_s
        is_full = (
            # Longer: nobody came at all for a while.
            took_s < 2 * _WINDOW_S
            and self._refused >= _REFUSED_SHARE_MIN * (self._refused + self._admitted)
        )
        if measured > self._rate or is_full:
            self._rate = max(self._rate + _WEIGHT * (measured - self._rate), _RATE_MIN)
        self._window_began_at, self._admitted, self._refused = now, 0, 0


# Nobody takes this much of what is shared: whoever comes late, and has little, finds room.
RESERVE_SHARE: Final = 0.1


def is_within_share(amount: int, *, own: int, used: int, limit: int, owner_count: int) -> bool:
    """Tell whether somebody who has `own` of what is shared may take so much more.

    While there is plenty anybody may; of the rest only who has less than an equal share.

    used         by all, `own` included
    owner_count  how many have something, he included
    """
    after = used + amount
    if after > limit:
        return False
    return after <= limit * (1 - RESERVE_SHARE) or (own + amount) * owner_count <= limit


class Bodies:
    """How many request bodies are on their way into this process, and whose; who may bring more.

    A station of two hundred cameras does not keep out one of two: once most places are taken, who
    has more than an equal share of them is told to come back, and who has less is let in.

    Concurrency: any number of tasks of one event loop.

    bodies_max  of all stations together; 0: any number
    """

    def __init__(
        self,
        bodies_max: int = 0,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.bodies_max = bodies_max
        self.count = 0
        self._of: dict[str, int] = {}
        self._appointments = Appointments(monotonic=monotonic, chance=chance)

    def find_wait(self, station_id: str) -> int | None:
        """Return after how many seconds a station may bring one more body; None: now."""
        if not (self.bodies_max and self.count):
            return None
        own = self._of.get(station_id, 0)
        # One place at least is always for somebody else.
        owner_count = max(2, len(self._of) + (not own))
        if is_within_share(
            1, own=own, used=self.count, limit=self.bodies_max, owner_count=owner_count
        ):
            return None
        return self._appointments.refuse()

    def enter(self, station_id: str) -> None:
        """Count one body, until `leave`."""
        self._appointments.admit()
        self.count += 1
        self._of[station_id] = self._of.get(station_id, 0) + 1

    def leave(self, station_id: str) -> None:
        """Count one body less; a station that has none is forgotten."""
        self.count -= 1
        left = self._of[station_id] - 1
        if left:
            self._of[station_id] = left
        else:
            del self._of[station_id]


class Door:
    """How many requests a process has in work, and whether one more is taken.

    A request that waits for its dock's bytes (or sends an answer as fast as its caller reads) is
    not in work: a slow uplink takes no place from anybody.

    Concurrency: any number of tasks of one event loop.

    in_work_max   requests
    pressure      how full the rest of the house is, 0 to 1 (or more): the queue for the ledger
    """

    def __init__(
        self,
        in_work_max: int,
        *,
        pressure: Callable[[], float] = lambda: 0.0,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.in_work_max = in_work_max
        self._pressure = pressure
        self._appointments: dict[Kind, Appointments] = {
            kind: Appointments(monotonic=monotonic, chance=chance) for kind in FULLNESS_MAX
        }
        self._urgent_max = max(1, int(in_work_max * URGENT_SHARE))
        self.in_work = 0
        self.urgent_in_work = 0

    def is_closed_to(self, kind: Kind) -> bool:
        """Tell whether a request of this kind would be refused now."""
        if kind == "urgent" and self.urgent_in_work >= self._urgent_max:
            return True
        fullness_max = FULLNESS_MAX[kind]
        return self.in_work >= fullness_max * self.in_work_max or self._pressure() >= fullness_max

    def enter(self, kind: Kind) -> int | None:
        """Take a request in work, or return after how many seconds its caller is to come back.

        None: it is in work until `leave`.
        """
        if self.is_closed_to(kind):
            return self._appointments[kind].refuse()
        self._appointments[kind].admit()
        self.resume(kind)
        return None

    def leave(self, kind: Kind) -> None:
        """Note that a request is done, or that it waits for its caller from now on."""
        self.in_work -= 1
        self.urgent_in_work -= kind == "urgent"

    def resume(self, kind: Kind) -> None:
        """Note that a request goes on that had waited for its caller; it is never refused."""
        self.in_work += 1
        self.urgent_in_work += kind == "urgent"
