"""Clips as downstream services see them."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from schemas.announcement import ClipState, ClockState, EvidentialState, Sha256Hex
from schemas.assertion import Assertion
from schemas.derivative import Derivative
from schemas.media import MediaFacts


class Clip(BaseModel):
    """Current metadata of one clip."""

    clip_id: UUID
    state: ClipState
    device_serial: str
    recording_id: str
    segment_no: int
    device_recording_seq: int | None
    duplicate_of: UUID | None
    station_id: str
    site_id: str
    borough: str
    size_bytes: int | None
    received_bytes: int | None = Field(description="Durable bytes while receiving.")
    flags: list[str]
    clock_state: ClockState
    clock_offset_ms: int | None
    clock_uncertainty_ms: int | None
    started_at: datetime | None = Field(description="By the device's clock, as received.")
    ended_at: datetime | None
    started_at_corrected: datetime | None = Field(
        description="started_at plus the measured offset."
    )
    announced_at: datetime
    sealed_at: datetime | None
    secured_at: datetime | None
    released_at: datetime | None
    last_fixity_at: datetime | None = None
    last_fixity_result: Literal["match", "mismatch", "not_verifiable"] | None = Field(
        default=None, description="What came of reading the stored object again."
    )
    officer_id: str | None
    incident_id: str | None
    crime_ref: str | None
    category: str | None
    evidential_state: EvidentialState
    exhibit_ref: str | None = None
    title: str | None
    tags: list[str] | None = None
    sha256: Sha256Hex | None
    sha256_device: Sha256Hex | None
    sha256_readback: Sha256Hex | None
    quarantine_reason: str | None
    is_held: bool
    erase_due_at: datetime | None


class ClockCorrection(BaseModel):
    """What the corrected times of a clip rest on."""

    offset_ms: int | None = Field(
        description="What was added to the device's times, in milliseconds; null: nothing is known."
    )
    uncertainty_ms: int | None = Field(description="Of that offset, where it was measured.")
    rests_on: Literal["dock_contact", "assertion"] | None = Field(
        description="'dock_contact': server minus device time, measured when the camera was "
        "docked. 'assertion': what somebody said of the camera's clock later; see the history."
    )


class ClipDetail(Clip):
    """One clip with everything that was received and how it is stored."""

    announcement: dict[str, Any] = Field(description="Raw metadata as received, never changed.")
    bucket: str | None
    object_key: str | None
    object_version: str | None
    manifest: dict[str, Any] | None = Field(description="Parts as stored; set at the seal.")
    event_count: int
    ended_at_corrected: datetime | None = Field(
        default=None, description="ended_at, moved as started_at_corrected is."
    )
    clock: ClockCorrection
    media: MediaFacts | None = Field(
        default=None, description="What the latest look into the footage has found; null: not yet."
    )
    as_of: datetime | None = Field(
        default=None, description="Asserted fields are as they were believed then; null: now."
    )
    history: list[Assertion] | None = Field(
        default=None, description="On request: all that was ever said of the clip, oldest first."
    )
    derived_from: list[Derivative] = Field(
        default=[], description="What it was made from: masters of a redacted copy."
    )
    derivatives: list[Derivative] = Field(default=[], description="What was made from it.")


class ClipPage(BaseModel):
    """A page of clips, in the order of the list."""

    clips: list[Clip]
    next_cursor: str | None = Field(
        description="Pass as `cursor` for the next page; null: the end. A page may have fewer "
        "clips than `limit`, or none, and a next one all the same: so with two ranges of time."
    )
    prev_cursor: str | None = Field(
        description="Pass as `cursor` for the page before; null: the start."
    )


class CustodyEvent(BaseModel):
    """One link of a clip's chain of custody."""

    event_id: UUID
    clip_id: UUID | None
    clip_seq: int | None
    type: str
    recorded_at: datetime
    leaf: dict[str, Any] = Field(description="The event, decoded.")
    leaf_text: str = Field(description="The exact bytes that are hashed and chained, as text.")
    leaf_hash: Sha256Hex = Field(description="SHA-256 of a zero byte and the leaf (RFC 6962).")


class CustodyTrail(BaseModel):
    """A clip's events in order; `prev` in each leaf is the hash of the one before."""

    clip_id: UUID
    events: list[CustodyEvent]
    next_after: int | None = Field(description="Pass as `after` for the next page; null: the end.")
