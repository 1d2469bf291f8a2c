"""The clock of the simulated year: it stands still until it is moved."""

from datetime import UTC, datetime, time, timedelta

DAY = timedelta(days=1)
_TICK = timedelta(microseconds=1)


class MovedClock:
    """A `Clock` that the simulation moves; no two readings are the same, and none goes back.

    The year begins tomorrow: what Postgres compares with its own clock (leases, expiries) is then
    never over before it began.
    """

    def __init__(self) -> None:
        tomorrow = datetime.now(UTC).date() + DAY
        self.start = datetime.combine(tomorrow, time.min, UTC)
        self._moment = self.start

    def __call__(self) -> datetime:
        """Return the present instant of the simulation."""
        self._moment += _TICK
        return self._moment

    def move_to(self, day: int, hour: float) -> None:
        """Move to an hour of a day of the year, both counted from 0; never back."""
        self._moment = max(self._moment, self.start + day * DAY + timedelta(hours=hour))
