"""Time comes in as an argument, never from the air."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeAlias

Clock: TypeAlias = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the present instant, aware, in UTC: the clock of every running process."""
    return datetime.now(UTC)
