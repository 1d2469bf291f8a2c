"""Subject access requests: who asks for footage of themselves, and until when they are answered."""

from datetime import date, datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.announcement import Moment
from schemas.hold import Reason, Reference

Outcome = Literal["disclosed", "nothing_held", "refused"]
State = Literal["open", "overdue", "fulfilled"]


class AccessRequestOrder(BaseModel):
    """A request as it came in."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "reference": "SAR-2026/881",
                    "subject": "subject-5f2c",
                    "received_at": "2026-11-20T10:00:00Z",
                }
            ]
        },
    )

    reference: Reference = Field(description="The force's own. Recorded for ever: no names.")
    subject: Reference = Field(
        description="A pseudonym of the person; in the custody log only a salted hash of it."
    )
    received_at: Moment = Field(description="From here the clock runs.")


class ExtensionOrder(BaseModel):
    """More time, for a complex request."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"months": 2, "reason": "Forty clips with bystanders to be redacted."}]
        },
    )

    months: int = Field(ge=1, le=2)
    reason: Reason = Field(description="In words; only its hash goes into the custody log.")


class LinkOrder(BaseModel):
    """Clips that show the person, or may."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"clip_ids": ["0199c0de-5f0a-7b7c-8d1e-2f3a4b5c6d7e"]}]},
    )

    clip_ids: Annotated[list[UUID], Field(min_length=1, max_length=10_000)]


class FulfilOrder(BaseModel):
    """What the request was answered with."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "outcome": "disclosed",
                    "disclosure_id": "0199c0de-5f0a-7b7c-8d1e-2f3a4b5c6d7e",
                }
            ]
        },
    )

    outcome: Outcome
    disclosure_id: UUID | None = Field(
        default=None, description="By which the person gets the clips; with 'disclosed' alone."
    )

    @model_validator(mode="after")
    def _is_disclosed_by_something(self) -> Self:
        if (self.outcome == "disclosed") != (self.disclosure_id is not None):
            message = "name a disclosure_id if the outcome is 'disclosed', and only then"
            raise ValueError(message)
        return self


class AccessRequest(BaseModel):
    """One subject access request."""

    access_request_id: UUID
    state: State
    reference: str
    subject: str
    received_at: datetime
    due_on: date = Field(description="The last day, in UTC, on which it is answered in time.")
    made_by: str
    made_at: datetime
    extension_months: int
    extension_reason: str | None
    extended_by: str | None
    extended_at: datetime | None
    outcome: Outcome | None
    disclosure_id: UUID | None
    fulfilled_by: str | None
    fulfilled_at: datetime | None


class LinkedClip(BaseModel):
    """A clip of a request, and the hold that keeps it."""

    clip_id: UUID
    hold_id: UUID
    linked_by: str
    linked_at: datetime


class AccessRequestDetail(AccessRequest):
    """One subject access request with its clips."""

    clips: list[LinkedClip]


class AccessRequestPage(BaseModel):
    """A page of requests, those first that are due first."""

    access_requests: list[AccessRequest]
    next_after: UUID | None = Field(description="Pass as `after` for the next page; null: the end.")
