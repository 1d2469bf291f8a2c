"""Holds: orders to keep clips."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from schemas.announcement import ClipState, EvidentialState, Identifier, Moment

HoldKind = Literal["evidence", "case", "subject_access_request", "complaint", "legal"]
# It goes into the custody log, which is for ever: no room for sentences about people.
Reference = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._:/#()+-]{0,99}$")]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=r"^[^\x00]+$")]


class HoldOrder(BaseModel):
    """What a hold is placed for."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "kind": "complaint",
                    "authority": "COMPLAINT-2026/77",
                    "reason": "A complaint was made about the stop and search.",
                    "review_at": "2027-01-01T09:00:00Z",
                }
            ]
        },
    )

    kind: HoldKind
    authority: Reference = Field(
        description="Case, request or order, e.g. 'CASE-2026/114'. Recorded for ever: no names."
    )
    reason: Reason = Field(description="In words; only its hash goes into the custody log.")
    review_at: Moment | None = Field(default=None, description="When somebody looks at it again.")


class HoldFilter(BaseModel):
    """Which clips; all given ones must hold. As the filters of GET /v1/clips."""

    model_config = ConfigDict(extra="forbid")

    device: Identifier | None = None
    officer: Identifier | None = None
    station: Identifier | None = None
    site: Identifier | None = None
    borough: Identifier | None = None
    category: Identifier | None = None
    evidential_state: EvidentialState | None = None
    state: ClipState | None = None
    crime_ref: Identifier | None = None
    incident: Identifier | None = None
    recorded_after: Moment | None = None
    recorded_before: Moment | None = None
    received_after: Moment | None = None
    received_before: Moment | None = None
    held: bool | None = None
    erase_due_before: Moment | None = None


class BulkHoldOrder(HoldOrder):
    """A hold on every clip that matches. Without `token`: a dry run, which holds nothing."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "kind": "legal",
                    "authority": "ORDER-2026/9",
                    "reason": "Preserve everything of the incident.",
                    "filter": {"incident": "CAD-4711"},
                }
            ]
        },
    )

    filter: HoldFilter
    token: str | None = Field(
        default=None,
        max_length=100,
        description="From the dry run of exactly this order: holds what that has counted.",
    )
    confirm_count: int | None = Field(
        default=None,
        ge=0,
        description="The dry run's clip_count; needed where the filter matches every clip.",
    )


class BulkHoldPreview(BaseModel):
    """What the dry run has counted; nothing is held yet."""

    is_dry_run: Literal[True] = True
    clip_count: int
    total_bytes: int
    announced_until: datetime = Field(description="Clips that were announced later are not in it.")
    token: str = Field(description="Send the same body with it to place the holds.")
    expires_at: datetime


class BulkHoldResult(BaseModel):
    """How far a bulk hold is."""

    is_dry_run: Literal[False] = False
    group_id: UUID
    clip_count: int = Field(description="As many were counted by the dry run.")
    placed_count: int = Field(description="As many are held by now.")
    is_complete: bool = Field(description="False: send the same request again; it goes on.")
    refused: list[UUID] = Field(
        description="Clips that could not be held: their deletion had begun. The first hundred."
    )


class ReleaseOrder(BaseModel):
    """By whose authority something ends."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"authority": "CASE-2026/114"}]}
    )

    authority: Reference = Field(description="Recorded for ever: no names.")


class Hold(BaseModel):
    """One order to keep one clip."""

    hold_id: UUID
    clip_id: UUID
    kind: HoldKind
    authority: str
    reason: str
    placed_by: str
    placed_at: datetime
    review_at: datetime | None
    group_id: UUID | None = Field(description="Of the bulk hold that it is part of.")
    released_at: datetime | None
    released_by: str | None
    released_authority: str | None


class HoldList(BaseModel):
    """A clip's holds, released ones too; oldest first."""

    clip_id: UUID
    is_held: bool
    holds: list[Hold]
