"""What is said of a clip after it was announced: who, when, from where; nothing is overwritten."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from schemas.announcement import EvidentialState, Identifier, Integer, Moment

FIELDS_ALL = (
    "officer_id",
    "category",
    "evidential_state",
    "incident_id",
    "crime_ref",
    "exhibit_ref",
    "title",
    "tags",
    "clock_offset_ms",
)
ITEMS_MAX = 500
TAGS_MAX = 50

AssertedField = Literal[
    "officer_id",
    "category",
    "evidential_state",
    "incident_id",
    "crime_ref",
    "exhibit_ref",
    "title",
    "tags",
    "clock_offset_ms",
]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]
Tags = Annotated[list[Tag], Field(max_length=TAGS_MAX), AfterValidator(lambda t: sorted(set(t)))]
Source = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,49}$")]
BatchKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,99}$")]


class AssertedFields(BaseModel):
    """The fields that are asserted; one that is left out stays as it is, null withdraws it."""

    model_config = ConfigDict(extra="forbid")

    officer_id: Identifier | None = Field(default=None, description="Pseudonymous, never a name.")
    category: Identifier | None = None
    evidential_state: EvidentialState = "unclassified"
    incident_id: Identifier | None = None
    crime_ref: Identifier | None = None
    exhibit_ref: Identifier | None = None
    title: Identifier | None = None
    tags: Tags = Field(default_factory=list, description="The whole set; order does not count.")
    clock_offset_ms: Integer | None = Field(
        default=None,
        description="Server time minus device time; corrects the interval, the raw one is kept.",
    )

    @model_validator(mode="after")
    def _say_something(self) -> "AssertedFields":
        if not self.model_fields_set:
            message = "name at least one field"
            raise ValueError(message)
        return self

    def said(self) -> dict[str, Any]:
        """Return what is asserted, by field."""
        return {name: getattr(self, name) for name in FIELDS_ALL if name in self.model_fields_set}


class NewAssertions(BaseModel):
    """Assertions of one clip: all of them are recorded, or none."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "fields": {"category": "domestic_abuse", "evidential_state": "evidential"},
                    "source": "custodian",
                }
            ]
        },
    )

    fields: AssertedFields
    source: Source | None = Field(
        default=None, description="Where it was learnt, e.g. cad; by default the token's kind."
    )
    corrects: list[UUID] = Field(
        default_factory=list,
        max_length=len(FIELDS_ALL),
        description="Earlier assertions of this clip that were wrong, at most one per field.",
    )


class Assertion(BaseModel):
    """One assertion; the first of each field is what the dock announced."""

    assertion_id: UUID
    field: AssertedField
    value: str | int | list[str] | None
    source: str = Field(description="dock: it came with the announcement.")
    asserted_by_kind: Literal["person", "service", "policy", "station"]
    asserted_by_id: str
    asserted_at: datetime
    corrects: UUID | None = None
    clip_seq: int = Field(description="The custody event that records it.")


class Assertions(BaseModel):
    """All that was ever said of a clip, oldest first."""

    clip_id: UUID
    assertions: list[Assertion]


class RecordedAssertions(Assertions):
    """What one request recorded, and what is odd about it."""

    flags: list[str] = Field(description="The clip's flags as they are now, e.g. officer_unknown.")


class BatchItem(BaseModel):
    """Clips, and what is asserted of each: one by id, or those of a camera in an interval."""

    model_config = ConfigDict(extra="forbid")

    clip_id: UUID | None = None
    device_serial: Identifier | None = None
    recorded_from: Moment | None = Field(
        default=None, description="Clips that overlap the interval, by corrected time where known."
    )
    recorded_to: Moment | None = Field(default=None, description="Exclusive.")
    fields: AssertedFields

    @model_validator(mode="after")
    def _name_clips(self) -> "BatchItem":
        interval = (self.device_serial, self.recorded_from, self.recorded_to)
        if self.clip_id is not None:
            if interval != (None, None, None):
                message = "name clip_id or an interval of a device, not both"
                raise ValueError(message)
        elif self.device_serial is None or self.recorded_from is None or self.recorded_to is None:
            message = "name clip_id, or device_serial with recorded_from and recorded_to"
            raise ValueError(message)
        elif not self.recorded_from < self.recorded_to:
            message = "recorded_from must be before recorded_to"
            raise ValueError(message)
        return self


class AssertionBatch(BaseModel):
    """A shift's assertions; the same key with the same content may be sent again at any time."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "key": "cad-2026-11-21-late",
                    "source": "cad",
                    "items": [
                        {
                            "device_serial": "BWC-0042",
                            "recorded_from": "2026-11-21T22:00:00Z",
                            "recorded_to": "2026-11-21T22:45:00Z",
                            "fields": {"incident_id": "CAD-7731", "officer_id": "P1042"},
                        }
                    ],
                }
            ]
        },
    )

    key: BatchKey
    source: Source | None = None
    items: list[BatchItem] = Field(min_length=1, max_length=ITEMS_MAX)


class BatchOutcome(BaseModel):
    """What became of one clip of one item: all of its fields were recorded, or none."""

    item: int = Field(description="Index of the item, from 0.")
    clip_id: UUID | None = Field(description="null: no clip was found.")
    outcome: Literal["asserted", "repeated", "clip_not_found", "no_clip", "too_many", "busy"] = (
        Field(description="repeated: an earlier request of this key recorded it. busy: send again.")
    )
    assertion_ids: list[UUID]
    flags: list[str]


class BatchOutcomes(BaseModel):
    """The outcome of every clip of a batch."""

    key: str
    asserted_count: int
    repeated_count: int
    refused_count: int
    outcomes: list[BatchOutcome]
