"""Which clips a bulk hold is for; lists of clips are read by `ledger/search.py`."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ClipFilter:
    """Which clips are asked for; None = any. Times are aware; `before` is exclusive.

    boroughs  None = every borough; else only these exist for the asker
    """

    device: str | None = None
    officer: str | None = None
    station: str | None = None
    site: str | None = None
    borough: str | None = None
    category: str | None = None
    evidential_state: str | None = None
    state: str | None = None
    crime_ref: str | None = None
    incident: str | None = None
    recorded_after: datetime | None = None
    recorded_before: datetime | None = None
    received_after: datetime | None = None
    received_before: datetime | None = None
    held: bool | None = None
    erase_due_before: datetime | None = None
    boroughs: list[str] | None = None
