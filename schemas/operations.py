"""What operators are told of the whole service."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from schemas.health import Readiness

StationReason = Literal["stalled", "failing", "slow"]
QueueName = Literal["finishing", "read_back", "sequencing", "publishing", "manifests", "fixity"]


class LiveRate(BaseModel):
    """What all processes together do, a second; the mean of the last `over_s` seconds."""

    over_s: int
    received_bytes_s: float = Field(description="Bytes of footage made durable.")
    received_clips_s: float = Field(description="Clips whose bytes are complete and stored.")
    secured_bytes_s: float
    secured_clips_s: float = Field(description="Clips read back with the right hash.")
    quarantined_clips_s: float
    shed_requests_s: float = Field(description="Refused because too much was in work.")
    failed_requests_s: float = Field(description="Answered with 5xx for another reason.")


class BoroughUploads(BaseModel):
    """Active uploads of a borough."""

    borough: str
    active_count: int
    left_bytes: int = Field(description="Still to come, where the length is known.")


class UploadsNow(BaseModel):
    """Uploads; active: opened, or brought bytes, within the last minute."""

    active_count: int
    left_bytes: int
    open_count: int = Field(description="Also those that wait for their dock; up to 10,000.")
    boroughs: list[BoroughUploads] = Field(description="Most active first.")


class RiskNow(BaseModel):
    """Recordings known to be on cameras and not secured here; measured every ten seconds."""

    measured_at: datetime
    unsecured_count: int
    unsecured_bytes: int
    unsecured_since: datetime | None
    stalled_count: int = Field(description="Stations from which nothing has come for 30 minutes.")


class QueueNow(BaseModel):
    """Work that waits for `ingest work`."""

    name: QueueName
    waiting_count: int = Field(description="Counted up to 10,000.")
    is_more: bool = Field(description="More wait than were counted.")
    waiting_since: datetime | None = Field(description="Of the oldest, where that is known.")


class CheckpointNow(BaseModel):
    """The newest published checkpoint of the custody log."""

    tree_size: int
    signed_at: datetime
    published_at: datetime
    age_s: float


class LogNow(BaseModel):
    """The custody log."""

    tree_size: int
    lag_events: int = Field(description="Events that wait for their place; up to 10,000.")
    lag_s: float = Field(description="How long the oldest of them has waited.")
    halted_reason: str | None
    checkpoint: CheckpointNow | None


class WebhooksNow(BaseModel):
    """How far behind the subscribers are."""

    lag_events: int = Field(description="Of the one that is farthest behind.")
    failing_count: int
    disabled_count: int


class WorstStation(BaseModel):
    """A station that somebody should look at; counts are of the last 15 minutes."""

    station_id: str
    site_id: str
    borough: str
    reasons: list[StationReason]
    unsecured_bytes: int
    last_progress_at: datetime | None
    request_count: int
    failed_count: int = Field(description="Answered with 4xx or 5xx, or cut.")
    stream_bytes_s: float | None = Field(description="Mean rate of a request with a body.")


class HistoryPoint(BaseModel):
    """One step; gauges are its peak, null where no worker took a sample."""

    at: datetime
    received_bytes_s: float
    received_clips_s: float
    secured_clips_s: float
    shed_requests_s: float
    failed_requests_s: float
    active_count: int | None
    unsecured_bytes: int | None
    finishing_count: int | None
    read_back_count: int | None
    sequencing_count: int | None
    manifest_count: int | None
    log_lag_s: float | None


class History(BaseModel):
    """The last minutes, oldest first."""

    minutes: int
    step_s: int
    points: list[HistoryPoint]


class OperationsNow(BaseModel):
    """How the service stands: one measurement, at most two seconds old."""

    measured_at: datetime
    version: str
    rate: LiveRate
    uploads: UploadsNow
    at_risk: RiskNow
    queues: list[QueueNow]
    custody_log: LogNow
    webhooks: WebhooksNow
    stations: list[WorstStation]
    readiness: Readiness
    history: History
