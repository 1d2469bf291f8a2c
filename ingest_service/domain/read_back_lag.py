"""How long a dock has to be patient for its receipt: as long as others had to, just now."""

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Final

WAIT_MAX_S: Final = 60
_WEIGHT: Final = 0.1
_FRESH: Final = timedelta(minutes=2)
# A question in vain costs as much as a receipt; somewhat later costs nobody anything. While more
# comes in than is read back, who seals now will wait longer than those whose receipts are there.
_MARGIN: Final = 1.3
# Who was told too little asks again after a share of the whole wait.
_SHARE: Final = 0.25


class ReadBackLag:
    """The time from seal to read-back, as the docks' own questions show it to this process.

    chance   uniform in [0, 1)
    """

    def __init__(self, *, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._lag_s = 0.0

    def note_secured(self, took: timedelta, since: timedelta) -> None:
        """Learn from a clip whose receipt is there.

        took    from its seal to its read-back
        since   then; what was long ago tells nothing of now
        """
        if since < _FRESH:
            self._lag_s += _WEIGHT * (took.total_seconds() - self._lag_s)

    def choose_first_wait(self) -> int:
        """Return after how many seconds a dock that seals now is to ask for the first time.

        0 while receipts come within a second: who asks at once then loses nothing.
        """
        return self._choose(self._lag_s * _MARGIN) if self._lag_s >= 1 else 0

    def choose_wait(self, waited: timedelta) -> int:
        """Return after how many seconds to ask again about a clip that is not yet read back.

        waited   since its seal; 0 for a clip that is not sealed
        """
        waited_s = max(waited.total_seconds(), 0.0)
        self._lag_s = max(self._lag_s, waited_s)
        return self._choose(max(self._lag_s - waited_s, self._lag_s * _SHARE))

    def _choose(self, wait_s: float) -> int:
        # By chance, or all who asked together would ask together again.
        return int(min(max(wait_s * (1 + self._chance() / 4) + self._chance(), 1), WAIT_MAX_S))
