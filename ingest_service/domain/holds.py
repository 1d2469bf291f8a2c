"""Holds: orders to keep a clip, each with its authority; what is held is never erased."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, get_args
from uuid import UUID

HoldKind = Literal["evidence", "case", "subject_access_request", "complaint", "legal"]
KINDS: Final[tuple[HoldKind, ...]] = get_args(HoldKind)


@dataclass(frozen=True, slots=True)
class Hold:
    """One order to keep one clip.

    authority  a reference (case, request, order), never a name: it goes into the log
    reason     free text; only its hash goes into the log
    group_id   of the bulk hold that it is part of
    """

    hold_id: UUID
    clip_id: UUID
    kind: HoldKind
    authority: str
    reason: str
    placed_by: str
    placed_at: datetime
    review_at: datetime | None = None
    group_id: UUID | None = None
    released_at: datetime | None = None
    released_by: str | None = None
    released_authority: str | None = None

    def describe(self) -> dict[str, Any]:
        """Return the facts of its `hold.placed` event: all that a rebuilt ledger needs."""
        # The id is random, so that the hash of a short reason cannot be guessed.
        salted = self.hold_id.bytes + self.reason.encode()
        return {
            "hold_id": str(self.hold_id),
            "kind": self.kind,
            "authority": self.authority,
            "reason_sha256": hashlib.sha256(salted).hexdigest(),
            "review_at": None if self.review_at is None else self.review_at.isoformat(),
            "group_id": None if self.group_id is None else str(self.group_id),
        }
