"""What a dock says of a clip before it sends the first byte, and what it is answered."""

from datetime import MAXYEAR, MINYEAR, UTC, datetime
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

_FIRST_MOMENT = datetime(MINYEAR, 1, 1, tzinfo=UTC)
_LAST_MOMENT = datetime(MAXYEAR, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)


def _refuse_truth(value: object) -> object:
    # Python counts with True as with 1; a camera that says true has not said a number.
    if isinstance(value, bool):
        message = "must be a number"
        raise ValueError(message)  # noqa: TRY004 - pydantic wants a ValueError
    return value


def _clamp_time(moment: datetime) -> datetime:
    # A clock that was never set may stand at year 1, which in UTC is before all years. The raw
    # announcement keeps what was said.
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return _FIRST_MOMENT if moment.year == MINYEAR else _LAST_MOMENT


Identifier = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")
]
ShortText = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00]*$")]
Sha256Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Number = Annotated[int, BeforeValidator(_refuse_truth)]
Integer = Annotated[Number, Field(ge=-(2**53) + 1, le=2**53 - 1)]
Count = Annotated[Number, Field(ge=0, le=2**53 - 1)]
SegmentNumber = Annotated[Number, Field(ge=0, le=1_000_000)]
Moment = Annotated[AwareDatetime, AfterValidator(_clamp_time)]

ClipState = Literal[
    "receiving",
    "finishing",
    "sealed",
    "secured",
    "quarantined",
    "expired",
    "erase_pending",
    "erased",
]
ClockState = Literal["synced", "free_running", "not_set", "implausible"]
EvidentialState = Literal["unclassified", "non_evidential", "evidential", "policing_purpose"]

# What docks claim priority for, and what the service lets claim it, where nobody says otherwise.
URGENT_CATEGORIES: Final = ("firearms", "use_of_force")


class Location(BaseModel):
    """Where the recording started, WGS 84 degrees."""

    model_config = ConfigDict(extra="allow")

    lat: float = Field(ge=-90, le=90)
    lon: float = Field(ge=-180, le=180)
    accuracy_m: float | None = Field(default=None, ge=0)


class Announcement(BaseModel):
    """A clip as the dock knows it. Unknown members are kept and flagged, never refused."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "device_serial": "BWC-004217",
                    "recording_id": "20261121-2214-0031",
                    "segment_no": 0,
                    "size_bytes": 209715200,
                    "sha256_device": "9f86d081884c7d659a2feaa0c55ad015"
                    "a3bf4f1b2b0b822cd15d6c15b0f00a08",
                    "started_at": "2026-11-21T22:14:05Z",
                    "ended_at": "2026-11-21T22:31:40Z",
                    "clock_offset_ms": -420,
                    "officer_id": "P1042",
                    "category": "stop_and_search",
                }
            ]
        },
    )

    # identity
    device_serial: Identifier = Field(description="The camera.")
    recording_id: Identifier = Field(description="The camera's own name for the recording.")
    segment_no: SegmentNumber = Field(default=0, description="Part of a split recording.")
    device_recording_seq: Count | None = Field(
        default=None, description="The camera's running number, for completeness."
    )
    size_bytes: Count = Field(description="Exact length of the clip.")
    sha256_device: Sha256Hex | None = Field(
        default=None, description="SHA-256 of the whole clip as the camera or dock computed it."
    )
    # device
    device_model: ShortText | None = None
    firmware_version: ShortText | None = None
    bay_no: Number | None = Field(default=None, ge=0, le=100_000)
    # person and incident: first assertions, corrected later without touching the clip
    officer_id: ShortText | None = None
    incident_id: ShortText | None = None
    crime_ref: ShortText | None = None
    category: ShortText | None = None
    evidential_state: EvidentialState = "unclassified"
    title: ShortText | None = None
    # time, by the device's clock
    started_at: Moment | None = Field(default=None, description="By the device's clock.")
    ended_at: Moment | None = None
    clock_state: ClockState | None = Field(
        default=None, description="As the device says; the service may judge it implausible."
    )
    clock_offset_ms: Integer | None = Field(
        default=None, description="Server time minus device time, measured at dock contact."
    )
    clock_uncertainty_ms: Count | None = None
    # media
    container: ShortText | None = None
    content_type: ShortText | None = None
    filename: ShortText | None = None
    duration_ms: Count | None = None
    start_location: Location | None = None


class AnnouncedClip(BaseModel):
    """The plan: cut the clip into chunks of chunk_bytes; only the last one is shorter."""

    clip_id: UUID
    state: ClipState
    size_bytes: int
    chunk_bytes: int
    chunk_count: int = Field(description="0 for an empty clip: seal it at once.")
    chunks_url: str
    tus_url: str
    seal_url: str
    receipt_url: str
    expires_at: datetime | None = Field(description="Without progress until then it is abandoned.")
    flags: list[str] = Field(description="What is odd about the metadata; nothing to fix now.")


class StoredChunk(BaseModel):
    """One chunk that is durable: the dock need not send it again."""

    clip_id: UUID
    index: int
    size_bytes: int
    received_bytes: int = Field(description="Durable bytes of the clip so far.")
    sealed: "SealedClip | None" = Field(
        default=None,
        description="The seal, where `?seal=true` asked for it and nothing is missing.",
    )


class MissingChunks(BaseModel):
    """Ranges of chunk indices that are still to be sent, both ends included."""

    clip_id: UUID
    state: ClipState
    chunk_bytes: int
    chunk_count: int
    received_bytes: int
    missing_count: int
    missing: list[tuple[int, int]] = Field(description="At most 1,000 ranges, lowest first.")
    is_truncated: bool = Field(description="More ranges are missing than are listed.")


class SealedClip(BaseModel):
    """The clip after a seal request: 200 once nothing more can be written, 202 while finishing."""

    clip_id: UUID
    state: ClipState
    size_bytes: int | None
    sha256: Sha256Hex | None = Field(description="Whole-clip hash; null until it is known.")
    receipt_url: str
    receipt_after_s: int = Field(
        default=0, ge=0, description="When to ask for the receipt: sooner it will hardly be there."
    )
    quarantine_reason: str | None = None


class ServerTime(BaseModel):
    """The server's clock, for measuring the dock's offset."""

    now: datetime = Field(description="UTC, with microseconds.")
    unix_ms: int
