"""What a process that was told to end still lets happen."""

from dataclasses import dataclass
from typing import Final, Protocol, Self

# Who comes over a connection that was kept is told so, not cut off; and balancers that do not ask
# /readyz learn it from the closed port soon after.
_REFUSING_MAX_S: Final = 1.0
# For the prefixes of bodies that were cut, and for closing the pool.
_RESERVE_MAX_S: Final = 5.0
_RESERVE_SHARE: Final = 0.2
# Where another process hands the signal on, it may be so late.
_HANDED_ON_WITHIN_S: Final = 1.0


class Cuttable(Protocol):
    """A request body that can be told to stop."""

    def interrupt(self, reason: Exception) -> None:
        """Make the present (or next) read raise `reason`."""
        ...


class Drain:
    """How far the end of this process has come; nothing here goes back.

    Concurrency: one event loop.

    is_leaving    told to end: balancers are to look elsewhere, and each answer is its
                  connection's last
    is_refusing   nothing new is begun any more
    in_flight     requests that were let in and are not answered yet
    """

    def __init__(self) -> None:
        self.is_leaving = False
        self.is_refusing = False
        self.in_flight = 0
        self._bodies: set[Cuttable] = set()
        self._reason: Exception | None = None

    def leave(self) -> None:
        """Note that the process was told to end."""
        self.is_leaving = True

    def refuse(self) -> None:
        """Let nothing new begin."""
        self.is_leaving = self.is_refusing = True

    def cut(self, reason: Exception) -> int:
        """Interrupt every body that still comes, and those to come; return how many there were."""
        self.refuse()
        self._reason = reason
        for body in self._bodies:
            body.interrupt(reason)
        return len(self._bodies)

    def enter(self, body: Cuttable) -> None:
        """Note that footage comes in; it is cut at once where all was cut already."""
        self._bodies.add(body)
        if self._reason is not None:
            body.interrupt(self._reason)

    def forget(self, body: Cuttable) -> None:
        """Note that it comes no more."""
        self._bodies.discard(body)


@dataclass(frozen=True, slots=True)
class DrainTimes:
    """When what happens; seconds after the signal.

    refuse_at     nothing new is begun from here on
    close_at      the port is closed; sooner when nobody is left
    cut_at        bodies that still come are cut, and their prefixes stored
    cancel_at     answers that are still not sent are given up
    end_at        the process is gone
    """

    refuse_at: float
    close_at: float
    cut_at: float
    cancel_at: float
    end_at: float

    @classmethod
    def plan(cls, *, notice_s: float, timeout_s: float) -> Self:
        """Return the times of a process that is gone after `timeout_s`."""
        notice_s = min(notice_s, timeout_s / 2)
        draining_s = timeout_s - notice_s
        reserve_s = min(_RESERVE_MAX_S, _RESERVE_SHARE * draining_s)
        return cls(
            refuse_at=notice_s,
            close_at=notice_s + min(_REFUSING_MAX_S, draining_s / 8),
            cut_at=timeout_s - reserve_s,
            cancel_at=timeout_s - reserve_s / 2,
            end_at=timeout_s,
        )

    @property
    def server_patience_s(self) -> float:
        """How long uvicorn waits for the last answers, once its port is closed."""
        return max(0.0, self.cancel_at - self.close_at)


def plan_drain(*, notice_s: float, timeout_s: float, workers: int) -> DrainTimes:
    """Return the times of each API process; the one that started several of them ends last."""
    if workers > 1:
        timeout_s -= min(_HANDED_ON_WITHIN_S, timeout_s / 2)
    return DrainTimes.plan(notice_s=notice_s, timeout_s=timeout_s)
