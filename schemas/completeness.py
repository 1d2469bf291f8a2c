"""What cameras recorded against what came in."""

from datetime import datetime

from pydantic import BaseModel, Field


class SequenceGap(BaseModel):
    """Numbers of recordings that nobody has seen; both ends are in it."""

    first_seq: int
    last_seq: int


class DeviceCompleteness(BaseModel):
    """One camera."""

    device_serial: str
    station_id: str = Field(description="Where it was last.")
    site_id: str
    borough: str
    first_seq: int | None = Field(description="Lowest number known; null: it numbers nothing.")
    last_seq: int | None
    received_count: int = Field(description="Recordings whose bytes arrived.")
    pending_count: int = Field(description="Recordings that come in, or are on the camera.")
    pending_bytes: int
    unaccounted_count: int = Field(
        description="Numbers between first_seq and last_seq that neither came in nor are pending."
    )
    gap_count: int
    gaps: list[SequenceGap] = Field(description="The first 100 of them.")
    unsecured_count: int = Field(description="Pending, or arrived and not read back yet.")
    unsecured_bytes: int
    unsecured_since: datetime | None
    last_received_at: datetime | None
    manifest_reported_at: datetime | None = Field(description="Of its newest manifest.")
    storage_used_pct: float | None
    computed_at: datetime


class CompletenessTotals(BaseModel):
    """All cameras that were asked for together."""

    device_count: int
    received_count: int
    pending_count: int
    pending_bytes: int
    unaccounted_count: int


class CompletenessPage(BaseModel):
    """Cameras in the order of their serials."""

    totals: CompletenessTotals
    devices: list[DeviceCompleteness]
    next_after: str | None = Field(description="Pass as `after` for the next page; null: the end.")


class StationAtRisk(BaseModel):
    """A station whose cameras hold what is not safe here."""

    station_id: str
    site_id: str
    borough: str
    device_count: int
    unsecured_count: int
    unsecured_bytes: int
    pending_count: int
    unsecured_since: datetime | None
    last_progress_at: datetime | None = Field(description="When bytes last came from it.")
    is_stalled: bool


class AtRisk(BaseModel):
    """Evidence that is known to be on cameras and not yet safe here."""

    measured_at: datetime
    unsecured_count: int
    unsecured_bytes: int
    unsecured_since: datetime | None = Field(
        description="Since when the oldest recording is known that is not secured."
    )
    stalled_count: int
    stations: list[StationAtRisk] = Field(description="Most bytes first.")
