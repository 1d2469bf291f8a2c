"""Who is let in when more is asked than can be done, and when the others are to come back.

A queue that is longer than what is served before its callers lose patience does harm only: all of
it is worked off in vain. So the queue is short, and who finds it full is told when to come.
"""

import random
import time
from collections.abc import Callable, Mapping
from typing import Final, Literal
from uuid import UUID

from ingest_service.errors import Overloaded

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
# One camera's bodies are kept in so much of the memory at most, but for the first of them.
DEVICE_SHARE: Final = 0.5


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


# A camera of one station. Somebody elsewhere who uses its serial takes nothing from it.
Device = tuple[str, str]
# What stands for the serial of a camera that nobody has named: of many, and none of them.
UNKNOWN_DEVICE: Final = "unknown"
# One whose dock asks again is refused before the ledger is asked whose it is. So many are kept.
_CROWDED_MAX: Final = 10_000


def name_device(station_id: str, device_serial: str | None) -> Device | None:
    """Return whose limit counts; None: nobody knows which camera it is, its station's must do."""
    if device_serial is None or device_serial == UNKNOWN_DEVICE:
        return None
    return station_id, device_serial


class Bodies:
    """How many request bodies are on their way into this process, and whose; who may bring more.

    A station of two hundred cameras does not keep out one of two: once most places are taken, who
    has more than an equal share of them is told to come back, and who has less is let in. One
    camera that opens a hundred requests does not take its station's share: it has places enough
    for what it can send, and no more, however empty the house is.

    Concurrency: any number of tasks of one event loop.

    bodies_max     of all stations together; 0: any number
    of_device_max  of one camera; 0: any number
    """

    def __init__(
        self,
        bodies_max: int = 0,
        of_device_max: int = 0,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.bodies_max = bodies_max
        self.count = 0
        self.of_device_max = of_device_max
        self._of: dict[str, int] = {}
        self._of_device: dict[Device, int] = {}
        self._full: set[Device] = set()
        self._crowded: dict[UUID, Device] = {}
        self._appointments = Appointments(monotonic=monotonic, chance=chance)
        # A line of their own: a camera that asks without end lengthens nobody else's.
        self._device_appointments = Appointments(monotonic=monotonic, chance=chance)

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

    @property
    def has_full_devices(self) -> bool:
        """Whether some camera has as many as it may: only then is it worth asking which."""
        return bool(self._full)

    def find_device(self, upload_id: UUID) -> Device | None:
        """Return whose an upload (or clip) is that was refused for its camera's sake."""
        return self._crowded.get(upload_id)

    def find_device_wait(self, device: Device | None) -> int | None:
        """Return after how many seconds a camera may bring one more body; None: now."""
        return self._device_appointments.refuse() if device in self._full else None

    def enter_device(self, device: Device) -> None:
        """Count one body of a camera, until `leave_device`."""
        self._device_appointments.admit()
        count = self._of_device[device] = self._of_device.get(device, 0) + 1
        if 0 < self.of_device_max <= count:
            self._full.add(device)

    def leave_device(self, device: Device) -> None:
        """Count one body of a camera less; one that has none is forgotten."""
        count = self._of_device[device] - 1
        if count < self.of_device_max:
            self._full.discard(device)
        if count:
            self._of_device[device] = count
        else:
            del self._of_device[device]

    def note_crowded(self, upload_id: UUID, device: Device) -> None:
        """Remember whose an upload (or clip) is, so that its next request costs nothing."""
        self._crowded[upload_id] = device
        if len(self._crowded) > _CROWDED_MAX:
            del self._crowded[next(iter(self._crowded))]


class Place:
    """One body's place among the others: its station's, and its camera's once that is known.

    was_let_in   something was done for it already: it is counted, and refused no more
    was_refused  its camera had as many as it may
    """

    __slots__ = ("_bodies", "_device", "_station_id", "_was_let_in", "was_refused")

    def __init__(self, bodies: Bodies, station_id: str, *, was_let_in: bool = False) -> None:
        self._bodies = bodies
        self._station_id = station_id
        self._was_let_in = was_let_in
        self._device: Device | None = None
        self.was_refused = False
        bodies.enter(station_id)

    def name_device(self, device_serial: str | None, upload_id: UUID) -> None:
        """Say whose body it is, before the first byte of it is read.

        upload_id  or the clip's: what the next request of the kind will name

        Raises:
            Overloaded: this camera has as many on their way as it may.
        """
        device = name_device(self._station_id, device_serial)
        if device is None:
            return
        if not self._was_let_in:
            wait_s = self._bodies.find_device_wait(device)
            if wait_s is not None:
                self.was_refused = True
                self._bodies.note_crowded(upload_id, device)
                raise Overloaded(wait_s)
        self._device = device
        self._bodies.enter_device(device)

    def leave(self) -> None:
        """Leave."""
        self._bodies.leave(self._station_id)
        if self._device is not None:
            self._bodies.leave_device(self._device)


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
