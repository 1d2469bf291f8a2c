"""What a clip's bytes are, as far as a parser can tell, and what is odd about them.

Nothing here refuses anything: footage that cannot be played is evidence too.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ingest_service.domain.clip import Clip
from ingest_service.domain.custody import WORKER, Happening, format_time

# Goes up with whatever makes the same bytes give another answer.
PROBER: Final = "probe 1"
MEDIA_FLAGS: Final = (
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
)
# These say that the probe did not get to the end; the others, what the footage is like.
_NOT_DONE: Final = frozenset(flag for flag in MEDIA_FLAGS if flag.startswith("probe_"))
# What a parser may say after the bytes it needed were withheld says nothing of the clip.
_OF_THE_WHOLE: Final = frozenset({"not_a_video", "unplayable", "truncated", "no_video_stream"})
_WORD_CHARS_MAX: Final = 40
_SIDE_MAX: Final = 2**31 - 1
_DURATION_MAX_MS: Final = 2**53 - 1
_FPS_MAX: Final = 1000.0
# Before this day there was no such format: a clock that was never set.
_FIRST_CREATION: Final = datetime(1990, 1, 1, tzinfo=UTC)
_DURATION_TOLERANCE_MS: Final = 5000
_DURATION_TOLERANCE_SHARE: Final = 0.05
# Some cameras write the time when a recording is closed, and both round as they like.
_TIME_TOLERANCE: Final = timedelta(minutes=2)


class ReportInvalid(ValueError):
    """What the parser says has no form that it could have."""


@dataclass(frozen=True, slots=True)
class MediaFacts:
    """What one probe has found; None = not said, or not readable.

    prober         what it was found with
    fps            frames per second, on average
    creation_time  as written in the file, by the camera's clock
    bytes_read     of the stored object
    """

    probed_at: datetime
    prober: str
    container: str | None
    codec: str | None
    width: int | None
    height: int | None
    fps: float | None
    duration_ms: int | None
    audio_present: bool | None
    creation_time: datetime | None
    flags: list[str]
    bytes_read: int


def judge_media(
    clip: Clip,
    report: Mapping[str, Any] | None,
    failure: str | None,
    *,
    prober: str,
    bytes_read: int,
    now: datetime,
) -> MediaFacts:
    """Return the facts of a clip, flags for what is odd included.

    report   as the parser sent it; hostile footage may have made it say anything
    failure  the flag that says why the probe did not get to the end

    Raises:
        ReportInvalid: no parser of ours says such a thing.
    """
    said = report or {}
    found = set(_read_flags(said.get("flags", [])))
    if failure is not None:
        found = (found - _OF_THE_WHOLE) | {failure}
    facts = MediaFacts(
        probed_at=now,
        prober=prober,
        container=_read_word(said.get("container")),
        codec=_read_word(said.get("codec")),
        width=_read_count(said.get("width"), _SIDE_MAX),
        height=_read_count(said.get("height"), _SIDE_MAX),
        fps=_read_rate(said.get("fps")),
        duration_ms=_read_count(said.get("duration_ms"), _DURATION_MAX_MS),
        audio_present=_read_truth(said.get("audio_present")),
        creation_time=_read_time(said.get("creation_time")),
        flags=[],
        bytes_read=bytes_read,
    )
    if _differs_in_duration(clip, facts.duration_ms):
        found.add("duration_differs_from_announced")
    if _differs_in_time(clip, facts.creation_time):
        found.add("media_time_differs")
    facts.flags.extend(flag for flag in MEDIA_FLAGS if flag in found)
    return facts


def describe_probe(facts: MediaFacts) -> Happening:
    """Return the custody event of a probe."""
    failures = [flag for flag in facts.flags if flag in _NOT_DONE]
    created = facts.creation_time
    return Happening(
        "media.probed",
        WORKER,
        {
            "prober": facts.prober,
            "container": facts.container,
            "codec": facts.codec,
            "width": facts.width,
            "height": facts.height,
            "fps": facts.fps,
            "duration_ms": facts.duration_ms,
            "audio_present": facts.audio_present,
            "creation_time": None if created is None else format_time(created),
            "flags": facts.flags,
            "bytes_read": facts.bytes_read,
        },
        outcome="failed" if failures else "success",
        reason=failures[0] if failures else None,
    )


def _differs_in_duration(clip: Clip, duration_ms: int | None) -> bool:
    announced_ms = _announced_duration_ms(clip)
    if duration_ms is None or announced_ms is None:
        return False
    tolerance_ms = max(_DURATION_TOLERANCE_MS, announced_ms * _DURATION_TOLERANCE_SHARE)
    return abs(duration_ms - announced_ms) > tolerance_ms


def _announced_duration_ms(clip: Clip) -> int | None:
    announced = clip.announcement.get("duration_ms")
    if isinstance(announced, int) and not isinstance(announced, bool):
        return announced
    if clip.started_at is None or clip.ended_at is None or clip.ended_at < clip.started_at:
        return None
    return round((clip.ended_at - clip.started_at) / timedelta(milliseconds=1))


def _differs_in_time(clip: Clip, creation_time: datetime | None) -> bool:
    """The camera's clock wrote both; a dock may have set the file's time right meanwhile."""
    if creation_time is None or clip.started_at is None:
        return False
    starts = [clip.started_at]
    if clip.started_at_corrected is not None:
        starts.append(clip.started_at_corrected)
    length_ms = _announced_duration_ms(clip) or 0
    return not any(
        -_TIME_TOLERANCE
        <= creation_time - start
        <= _TIME_TOLERANCE + timedelta(milliseconds=length_ms)
        for start in starts
    )


def _read_flags(value: object) -> list[str]:
    if not isinstance(value, list) or not all(flag in MEDIA_FLAGS for flag in value):
        reason = "flags"
        raise ReportInvalid(reason)
    return value


def _read_word(value: object) -> str | None:
    if value is None:
        return None
    if (
        not isinstance(value, str)
        or not 0 < len(value) <= _WORD_CHARS_MAX
        or not value.isascii()
        or not value.isprintable()
    ):
        reason = "a name of a format"
        raise ReportInvalid(reason)
    return value


def _read_count(value: object, most: int) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        reason = "a number"
        raise ReportInvalid(reason)
    return value


def _read_rate(value: object) -> float | None:
    if value is None:
        return None
    if (
        not isinstance(value, float | int)
        or isinstance(value, bool)
        or not math.isfinite(value)
        or not 0 < value <= _FPS_MAX
    ):
        reason = "a rate"
        raise ReportInvalid(reason)
    return float(value)


def _read_truth(value: object) -> bool | None:
    if value is not None and not isinstance(value, bool):
        reason = "true or false"
        raise ReportInvalid(reason)
    return value


def _read_time(value: object) -> datetime | None:
    """Return a time that stands in the file: text that anybody wrote there, so it may be none."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        # Formats that know no zone mean UTC.
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return moment if moment >= _FIRST_CREATION else None
