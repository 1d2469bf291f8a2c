"""Counts of clips."""

from datetime import date
from typing import Literal

from pydantic import BaseModel, Field

from schemas.announcement import ClipState, EvidentialState

CountGroup = Literal["day", "borough", "category", "state", "evidential_state"]


class ClipCount(BaseModel):
    """Clips and bytes of one group; members that were not asked for are null."""

    day: date | None = Field(description="Day of announcement, UTC.")
    borough: str | None
    category: str | None = Field(description="Also null where nobody has said a category.")
    state: ClipState | None
    evidential_state: EvidentialState | None
    clip_count: int
    total_bytes: int


class ClipCounts(BaseModel):
    """The groups that have clips, in order, and their sum."""

    counts: list[ClipCount]
    clip_count: int
    total_bytes: int
