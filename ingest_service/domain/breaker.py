"""What is known to be away is not asked: who needs it is refused at once, and one at a time looks.

Without it each request waits for its own timeout, with its place, its memory and its dock.
"""

import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final, Literal

BreakerState = Literal["closed", "half_open", "open"]

# Whether the request at work has bytes of its dock: it goes past every breaker. To refuse it would
# lose what has come; to try costs its own wait.
HOLDS_BYTES: Final[ContextVar[bool]] = ContextVar("holds_bytes", default=False)

# A probe may be a body that its dock sends slowly: others need not wait for its end.
_PROBE_MAX_S: Final = 10.0


class Breaker:
    """Opens after many failures in a short time with not one success between them.

    Slow is not away, nor is what works now and then: any success, whenever it was begun, closes it
    and forgets the failures. Open, it lets one through after a rest (half open), and the next one
    when that one has failed and the rest is over again.

    Concurrency: any number of tasks of one event loop.

    failures_max  so many open it; 0: nothing ever does
    window_s      within so many seconds
    rest_s        from a failure to the next probe
    tell          gets the states before and after each change
    is_closed     all that is looked at while all goes well
    """

    __slots__ = (
        "_failed_at",
        "_monotonic",
        "_probe_until",
        "_rest_s",
        "_rests_until",
        "_state",
        "_tell",
        "_window_s",
        "failures_max",
        "is_closed",
    )

    def __init__(
        self,
        failures_max: int = 0,
        *,
        window_s: float = 10.0,
        rest_s: float = 2.0,
        monotonic: Callable[[], float] = time.monotonic,
        tell: Callable[[BreakerState, BreakerState], None] = lambda _before, _after: None,
    ) -> None:
        self.failures_max = failures_max
        self.is_closed = True
        self._window_s = window_s
        self._rest_s = rest_s
        self._monotonic = monotonic
        self._tell = tell
        self._state: BreakerState = "closed"
        self._failed_at: deque[float] = deque(maxlen=failures_max)
        self._rests_until = self._probe_until = 0.0

    @property
    def state(self) -> BreakerState:
        """Return what it is: half open while a probe is under way."""
        return self._state

    def try_probe(self) -> bool:
        """Tell whether one may be let through that is not closed; it reports then as the probe."""
        now = self._monotonic()
        free_at = self._rests_until if self._state == "open" else self._probe_until
        if now < free_at:
            return False
        self._probe_until = now + _PROBE_MAX_S
        self._become("half_open")
        return True

    def succeed(self) -> None:
        """Note that it has answered."""
        if self._failed_at:
            self._failed_at.clear()
        if not self.is_closed:
            self._become("closed")

    def fail(self, *, was_probe: bool = False) -> None:
        """Note that it has not answered; of those begun before it opened nothing is learnt."""
        now = self._monotonic()
        if self.is_closed:
            if not self.failures_max:
                return
            self._failed_at.append(now)
            is_many = len(self._failed_at) == self.failures_max
            if not is_many or now - self._failed_at[0] > self._window_s:
                return
        elif not was_probe:
            return
        self._rests_until = now + self._rest_s
        self._become("open")

    def leave(self, *, was_probe: bool = False) -> None:
        """Note that somebody ended without having learnt whether it answers: the next one looks."""
        if was_probe and self._state == "half_open":
            self._probe_until = self._monotonic()

    def _become(self, state: BreakerState) -> None:
        before, self._state = self._state, state
        self.is_closed = state == "closed"
        if before != state:
            self._tell(before, state)
