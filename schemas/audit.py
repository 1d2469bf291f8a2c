"""Answers to auditors."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from schemas.announcement import Sha256Hex


class AuditActor(BaseModel):
    """Who did it; pseudonymous."""

    kind: str
    id: str
    role: str | None


class AuditEvent(BaseModel):
    """One custody event: what, when, where, by whom, why, and what came of it."""

    event_id: UUID
    log_index: int | None = Field(description="null: not in the log yet.")
    recorded_at: datetime
    occurred_at: datetime
    type: str
    verb: (
        Literal["collection", "alteration", "consultation", "disclosure", "combination", "erasure"]
        | None
    ) = Field(description="Of the data-protection log; null: nobody's data is processed by it.")
    outcome: str
    reason: str | None
    integrity: str | None
    actor: AuditActor
    purpose: str | None
    clip_id: UUID | None
    clip_seq: int | None
    device_serial: str | None
    facts: dict[str, Any]
    request_id: str | None
    software_version: str
    leaf_hash: Sha256Hex


class AuditAnswer(BaseModel):
    """Every event that was asked for. Streamed: it is whole only with its last member."""

    asked: dict[str, Any] = Field(description="What was asked for.")
    asked_at: datetime
    events: list[AuditEvent]
    event_count: int


class SecurityEvent(BaseModel):
    """Refusals of one kind within a minute."""

    security_event_id: int
    recorded_at: datetime
    principal_kind: str | None = Field(description="null: a stranger.")
    principal_id: str | None
    method: str
    route: str = Field(description="'*': several.")
    problem: str
    denial_count: int
    first_at: datetime
    last_at: datetime
    last_request_id: str | None
    last_source: str | None = Field(description="Address that the last of them came from.")


class SecurityPage(BaseModel):
    """The security log in order."""

    events: list[SecurityEvent]
    next_after: int | None = Field(description="Pass as `after` for the next page; null: the end.")
