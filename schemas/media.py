"""What a clip's footage is, as far as a parser can tell."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

MediaFlag = Literal[
    "not_a_video",
    "unplayable",
    "truncated",
    "no_video_stream",
    "duration_differs_from_announced",
    "media_time_differs",
    "probe_timed_out",
    "probe_crashed",
    "probe_memory_exceeded",
    "probe_bytes_exceeded",
]


class MediaFacts(BaseModel):
    """What was found when the secured clip was looked into; null: not said, or not readable."""

    probed_at: datetime
    prober: str = Field(description="What it was found with: rules and library, with versions.")
    container: str | None = Field(description="mp4, mov, 3gp, matroska, avi, mpegts, ...")
    codec: str | None = Field(description="Of the first video stream: h264, hevc, ...")
    width: int | None = Field(description="Pixels, as coded.")
    height: int | None
    fps: float | None = Field(description="Frames per second, on average.")
    duration_ms: int | None
    audio_present: bool | None
    creation_time: datetime | None = Field(
        description="As written in the file, by the camera's clock."
    )
    flags: list[MediaFlag] = Field(description="What is odd about the footage; it is kept anyway.")
    bytes_read: int = Field(description="Of the stored object, for this.")
