"""The feed of custody events, as CloudEvents 1.0."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, RootModel

from schemas.announcement import Sha256Hex


class CloudEvent(BaseModel):
    """A custody event. `source` and `id` together name it for ever; unknown attributes are absent.

    New types and attributes may be added: ignore those that you do not know.
    """

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "specversion": "1.0",
                    "id": "0199c0de-5f0a-7b7c-8d1e-2f3a4b5c6d7e",
                    "source": "ingest.local/custody",
                    "type": "local.ingest.clip.sealed",
                    "subject": "0199c0de-0000-7b7c-8d1e-2f3a4b5c6d7e",
                    "time": "2026-11-21T23:02:10.000000Z",
                    "recordedtime": "2026-11-21T23:02:10.000000Z",
                    "datacontenttype": "application/json",
                    "sequence": "00000000000000000041",
                    "logindex": "41",
                    "clipseq": 1,
                    "deviceserial": "BWC-1",
                    "borough": "Camden",
                    "actorkind": "station",
                    "actorid": "dock-12",
                    "outcome": "success",
                    "leafhash": "0" * 64,
                    "data": {"size_bytes": 209715200},
                }
            ]
        },
    )

    specversion: Literal["1.0"] = "1.0"
    id: UUID = Field(description="event_id")
    source: str = Field(description="Origin of the custody log, as in its checkpoints.")
    type: str = Field(description="Type of the custody event behind `local.ingest.`.")
    subject: UUID | None = Field(default=None, description="clip_id; absent: of no clip.")
    time: datetime = Field(description="When it happened, as whoever did it says.")
    recordedtime: datetime = Field(description="When it was recorded, by the server's clock.")
    datacontenttype: Literal["application/json"] = "application/json"
    sequence: str = Field(description="Log index in 20 digits: sorts as text.")
    logindex: str = Field(description="Log index: the cursor.")
    clipseq: int | None = Field(default=None, description="Place in the clip's own chain, from 0.")
    deviceserial: str | None = None
    borough: str | None = None
    actorkind: Literal["person", "device", "station", "service", "policy"]
    actorid: str = Field(description="Pseudonymous.")
    outcome: str
    reason: str | None = None
    integrity: Literal["match", "mismatch", "not_verifiable"] | None = None
    purpose: str | None = None
    leafhash: Sha256Hex = Field(description="Of the event's leaf in the custody log (RFC 6962).")
    data: dict[str, Any] = Field(description="The event's facts.")


class CloudEventBatch(RootModel[list[CloudEvent]]):
    """Batched content mode: application/cloudevents-batch+json."""
