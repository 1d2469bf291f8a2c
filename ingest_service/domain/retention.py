"""For how long the store itself refuses to delete what was secured."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

LockMode = Literal["governance", "compliance"]


@dataclass(frozen=True, slots=True)
class ObjectLock:
    """The lock that is set on an object before its clip is secured.

    mode  'governance': who has the right for it may still delete; 'compliance': nobody may, not
          even by a lawful order
    """

    mode: LockMode
    lasts: timedelta

    def until(self, moment: datetime) -> datetime:
        """Return the end of a lock that begins now; whole seconds, as stores keep them."""
        return (moment + self.lasts).replace(microsecond=0) + timedelta(seconds=1)
