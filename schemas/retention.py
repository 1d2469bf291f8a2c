"""Retention: policies, why a clip has its date, what will be erased, and what stands in the way."""

from datetime import date, datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from schemas.announcement import ClipState, EvidentialState, Identifier, Moment
from schemas.hold import Hold, Reason

PolicyId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]


class RetentionRule(BaseModel):
    """One line of a policy."""

    model_config = ConfigDict(extra="forbid")

    category: Identifier | None = Field(default=None, description="null: every category.")
    evidential_state: EvidentialState | None = Field(default=None, description="null: every state.")
    days: int | None = Field(
        ge=1, le=36_500, description="From the corroborated start; null: no automatic date."
    )


class NewPolicy(BaseModel):
    """The next version of a policy; in force once another person has approved it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "policy_id": "crime",
                    "rules": [
                        {"category": "drugs", "days": 365},
                        {"category": "homicide", "days": None},
                    ],
                    "reason": "Decision 12/2026 of the retention board.",
                }
            ]
        },
    )

    policy_id: PolicyId
    rules: list[RetentionRule] = Field(
        max_length=500, description="The longest of all that apply wins; none: nothing applies."
    )
    effective_from: Moment | None = Field(default=None, description="null: once it is approved.")
    reason: Reason = Field(description="Recorded for ever: no names.")


class RetentionPolicy(BaseModel):
    """One version of a policy."""

    policy_id: str
    version: int
    rules: list[RetentionRule]
    effective_from: datetime
    reason: str
    made_by: str
    made_at: datetime
    approved_by: str | None
    approved_at: datetime | None
    is_in_force: bool


class PolicyList(BaseModel):
    """Every version of every policy."""

    policies: list[RetentionPolicy]


class ConsideredRule(BaseModel):
    """A rule or a floor that applies to a clip."""

    name: str = Field(description="Policy and version, or 'floor/secured', 'floor/restored'.")
    category: str | None
    evidential_state: str | None
    days: float | None
    erase_due_at: datetime | None = Field(description="null: it keeps the clip.")


class RetentionInputs(BaseModel):
    """Everything that the date was made from."""

    category: str | None
    evidential_state: EvidentialState
    clock_state: str
    started_at: datetime | None
    started_at_corrected: datetime | None
    announced_at: datetime
    secured_at: datetime | None
    restored_at: datetime | None
    counted_from_before: datetime | None = Field(description="Never undercut by a later one.")


class ErasureState(BaseModel):
    """How far the clip's erasure is."""

    phase: str = Field(description="notice, intended or executed.")
    scheduled_at: datetime
    erase_after: datetime = Field(description="Until then POST .../restore takes it back.")
    intended_at: datetime | None


class RetentionAnswer(BaseModel):
    """Why a clip is erased on its date."""

    clip_id: UUID
    state: ClipState
    is_held: bool = Field(description="A held clip is not erased, whatever its date.")
    holds: list[Hold] = Field(description="Those that stand.")
    erase_due_at: datetime | None = Field(description="null: kept, or not secured yet.")
    reason: str
    basis: str | None = Field(description="What the days are counted from.")
    basis_at: datetime | None
    basis_reason: str | None
    policy: str | None = Field(description="By whose rule, the longest: policy and version.")
    won: ConsideredRule | None = Field(description="What decides the date: a rule, or a floor.")
    lost: list[ConsideredRule]
    inputs: RetentionInputs
    policies_in_force: list[str]
    recorded_at: datetime | None = Field(
        description="When the date was recorded; null: a second ago or not secured yet."
    )
    warned_at: datetime | None = Field(description="When the unclassified clip was chased.")
    erasure: ErasureState | None


class ForecastLine(BaseModel):
    """What will be announced for erasure on one day (UTC) of one category in one borough."""

    due_on: date
    category: str | None
    borough: str
    clip_count: int
    total_bytes: int


class Forecast(BaseModel):
    """A dry run: nothing is done."""

    until: datetime
    clip_count: int
    total_bytes: int
    lines: list[ForecastLine]


class Halt(BaseModel):
    """Erasing stands still until two people have released it."""

    halt_id: UUID
    halted_at: datetime
    reason: str
    excess: dict[str, int] = Field(description="What was too much, and is allowed by a release.")
    first_released_by: str | None
    first_released_at: datetime | None
    released_by: str | None
    released_at: datetime | None
    is_released: bool


class HaltList(BaseModel):
    """The halt that stands, and those of the last weeks; newest first."""

    halts: list[Halt]
