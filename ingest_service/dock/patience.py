"""When to try again, and when to give up."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from ingest_service.dock.failures import GaveUp, Trouble

BACKOFF_FIRST_S: Final = 0.5
BACKOFF_MAX_S: Final = 60.0
# A Retry-After beyond this is taken as this: a typo in a proxy must not park evidence for a year.
RETRY_AFTER_MAX_S: Final = 3600.0


def parse_http_date(text: str | None) -> datetime | None:
    """Read an HTTP date (RFC 9110, section 5.6.7); None if it is absent or malformed."""
    if not text:
        return None
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def parse_retry_after(value: str | None, *, date: str | None, now: datetime) -> float | None:
    """Return the seconds to wait that a Retry-After header asks for (RFC 9110, section 10.2.3).

    An HTTP date is compared with the answer's own Date header, because the dock's clock may be
    wrong; `now` serves only when that header is missing. None: absent or malformed.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), RETRY_AFTER_MAX_S)
    moment = parse_http_date(text)
    if moment is None:
        return None
    wait_s = (moment - (parse_http_date(date) or now)).total_seconds()
    return min(max(wait_s, 0.0), RETRY_AFTER_MAX_S)


def choose_wait(attempt: int, retry_after_s: float | None, *, chance: Callable[[], float]) -> float:
    """Return seconds to wait before the next attempt.

    Never less than what the service asked for, and up to a quarter more, so that docks told the
    same do not return together. Unasked: 0.5 s doubling up to a minute, the upper half by chance.
    """
    if retry_after_s is not None:
        return retry_after_s + chance() * max(0.25, retry_after_s / 4)
    ceiling_s = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(attempt, 30))
    return ceiling_s / 2 + chance() * ceiling_s / 2


class Patience:
    """How long one recording has been getting nowhere.

    give_up_after_s   None = never
    """

    def __init__(
        self,
        *,
        give_up_after_s: float | None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._give_up_after_s = give_up_after_s
        self._monotonic = monotonic
        self._sleep = sleep
        self._chance = chance
        self._progressed_at = monotonic()
        self._attempt = 0

    def progressed(self) -> None:
        """Note that the service took something: waits start small again."""
        self._progressed_at = self._monotonic()
        self._attempt = 0

    def plan(self, trouble: Trouble) -> float:
        """Return seconds until the next attempt.

        Raises:
            GaveUp: that would be later than give_up_after_s since the last progress.
        """
        wait_s = choose_wait(self._attempt, trouble.retry_after_s, chance=self._chance)
        self._attempt += 1
        if self._give_up_after_s is not None:
            idle_s = self._monotonic() - self._progressed_at
            if idle_s + wait_s > self._give_up_after_s:
                raise GaveUp(idle_s, trouble.reason) from trouble
        return wait_s

    async def sleep(self, wait_s: float) -> None:
        """Wait."""
        await self._sleep(wait_s)
