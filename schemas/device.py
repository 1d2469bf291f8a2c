"""What a camera says it holds."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from schemas.announcement import (
    Count,
    Identifier,
    Integer,
    Moment,
    Number,
    SegmentNumber,
    ShortText,
)


class HeldRecording(BaseModel):
    """One recording that is still on the camera."""

    model_config = ConfigDict(extra="allow")

    recording_id: Identifier
    segment_no: SegmentNumber = 0
    device_recording_seq: Count | None = None
    size_bytes: Count | None = None


class DeviceManifest(BaseModel):
    """Reported at dock contact: completeness and evidence at risk are computed from it."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "docked_at": "2026-11-21T23:02:10Z",
                    "bay_no": 4,
                    "storage_used_pct": 61.5,
                    "clock_offset_ms": -420,
                    "clock_uncertainty_ms": 15,
                    "first_recording_seq": 118,
                    "last_recording_seq": 121,
                    "recordings": [
                        {
                            "recording_id": "20261121-2214-0031",
                            "device_recording_seq": 121,
                            "size_bytes": 209715200,
                        }
                    ],
                }
            ]
        },
    )

    docked_at: Moment | None = None
    bay_no: Number | None = Field(default=None, ge=0, le=100_000)
    firmware_version: ShortText | None = None
    storage_used_pct: float | None = Field(default=None, ge=0, le=100)
    clock_offset_ms: Integer | None = None
    clock_uncertainty_ms: Count | None = None
    first_recording_seq: Count | None = None
    last_recording_seq: Count | None = None
    recordings: Annotated[list[HeldRecording], Field(max_length=10_000)] = []


class ReportedManifest(BaseModel):
    """The manifest was recorded."""

    manifest_id: UUID
    reported_at: datetime
    unknown: list[HeldRecording] = Field(description="Held by the camera, not announced here yet.")
