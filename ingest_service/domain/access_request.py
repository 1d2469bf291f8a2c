"""Subject access requests and their statutory clock: one month, extendable by two more.

UK GDPR, article 12(3); the Information Commissioner's guidance counts from the day of receipt to
the corresponding date of the next month, and to the month's last day where there is none.
"""

import calendar
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, Literal
from uuid import UUID

from ingest_service.domain.custody import format_time
from ingest_service.domain.disclosure import hash_name

Outcome = Literal["disclosed", "nothing_held", "refused"]
RequestState = Literal["open", "overdue", "fulfilled"]

MONTHS: Final = 1
EXTENSION_MONTHS_MAX: Final = 2


def add_months(day: date, months: int) -> date:
    """Return the corresponding date so many months later, or that month's last day.

    Raises:
        ValueError, OverflowError: beyond the calendar.
    """
    years, month_index = divmod(day.month - 1 + months, 12)
    year, month = day.year + years, month_index + 1
    return date(year, month, min(day.day, calendar.monthrange(year, month)[1]))


def find_due_on(received_at: datetime, extension_months: int = 0) -> date:
    """Return the last day on which a request is answered in time.

    All months are counted from the receipt: 31 January, extended, is due on 30 April and not on
    the 28th. The day is that of UTC, which begins no later than the day in London: nobody is given
    a day too many. That a weekend would add days is left out for the same reason.
    """
    return add_months(received_at.astimezone(UTC).date(), MONTHS + extension_months)


def find_deadline(due_on: date) -> datetime:
    """Return the moment from which on a request is overdue: the end of its last day."""
    return datetime.combine(due_on, time(), UTC) + timedelta(days=1)


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """One subject access request, as the ledger has it.

    reference  the force's; it goes into the log
    subject    a pseudonym; in the log only a hash with the salt
    due_on     last day of the statutory clock, extension included
    """

    request_id: UUID
    reference: str
    subject: str
    salt: bytes
    received_at: datetime
    due_on: date
    made_by: str
    made_at: datetime
    extension_months: int = 0
    extension_reason: str | None = None
    extended_by: str | None = None
    extended_at: datetime | None = None
    outcome: Outcome | None = None
    disclosure_id: UUID | None = None
    fulfilled_by: str | None = None
    fulfilled_at: datetime | None = None

    @property
    def hold_authority(self) -> str:
        """What its holds are placed for."""
        return f"SAR/{self.request_id}"

    def state_at(self, moment: datetime) -> RequestState:
        """Return how it stands at a moment."""
        if self.fulfilled_at is not None:
            return "fulfilled"
        return "open" if moment < find_deadline(self.due_on) else "overdue"

    def describe(self) -> dict[str, Any]:
        """Return the facts that all of its events have."""
        return {
            "access_request_id": str(self.request_id),
            "reference": self.reference,
            "subject_sha256": hash_name(self.salt, self.subject),
            "received_at": format_time(self.received_at),
            "due_on": self.due_on.isoformat(),
        }
