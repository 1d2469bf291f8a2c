"""What matters more than other footage: how a dock says so, and what is made of it.

The door sees no more than a header, so anybody may claim; afterwards the clip's category decides
whether the claim was right, and the clip's chain of custody says that it was made.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final

from ingest_service.domain.structured_fields import parse_dictionary

# RFC 9218: urgency is 0 to 7, 3 unless it is told. Browsers send 1 and more of their own accord.
PRIORITY: Final = "Priority"
URGENT: Final = 0
_URGENCY: Final = "u"
_CHARS_MAX: Final = 100


def claims_priority(field: str | None) -> bool:
    """Tell whether a Priority field claims the highest urgency; what is malformed claims nothing.

    field  its lines joined by commas (RFC 9110, section 5.2)
    """
    if field is None or len(field) > _CHARS_MAX:
        return False
    urgency = (parse_dictionary(field) or {}).get(_URGENCY)
    return urgency == URGENT and type(urgency) is int


@dataclass(frozen=True, slots=True)
class PriorityClaim:
    """A dock's word that a clip matters more than others.

    was_used  the door was closed to others at that moment
    """

    was_used: bool


@dataclass(frozen=True, slots=True)
class Priority:
    """A claim, and the category that it rests on; None: on none that may claim."""

    category: str | None
    was_used: bool

    @property
    def is_founded(self) -> bool:
        """Whether the clip's category may claim."""
        return self.category is not None

    def describe(self) -> dict[str, Any]:
        """Return what the custody event says; a category that may not claim is free text."""
        return {"urgency": URGENT, "category": self.category, "was_used": self.was_used}


def judge_claim(
    claim: PriorityClaim | None, category: str | None, urgent_categories: AbstractSet[str]
) -> Priority | None:
    """Hold a claim against the clip's category; None: nothing was claimed."""
    if claim is None:
        return None
    return Priority(category if category in urgent_categories else None, claim.was_used)
