"""Real footage, made by libav: small, and quick to make."""

import io
import random
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import av

SIDE = 64
FPS = 25
SOUND_HZ = 16_000


@dataclass
class Recording:
    """What is to be made. `noise`: pictures that do not compress; `bit_rate` of the video."""

    container: str = "mp4"
    codec: str = "libx264"
    seconds: float = 1
    has_video: bool = True
    has_sound: bool = False
    side: int = SIDE
    noise: bool = False
    bit_rate: int | None = None
    options: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)


def make_video(recording: Recording | None = None, /, **changes: object) -> bytes:
    """Return the bytes of a recording."""
    asked = recording or Recording(**changes)  # type: ignore[arg-type]
    if "faststart" in asked.options.get("movflags", ""):
        # The index is moved by reading the file again, so there must be one.
        with TemporaryDirectory(prefix="ingest-test-video-") as folder:
            path = Path(folder) / "video"
            _write(asked, str(path))
            return path.read_bytes()
    data = io.BytesIO()
    _write(asked, data)
    return data.getvalue()


def _write(asked: Recording, target: object) -> None:
    with av.open(target, "w", format=asked.container, options=asked.options) as opened:
        opened.metadata.update(asked.metadata)
        video = sound = None
        if asked.has_video:
            video = opened.add_stream(asked.codec, rate=FPS)
            video.width = video.height = asked.side
            video.pix_fmt = "yuv420p"
            if asked.bit_rate is not None:
                video.bit_rate = asked.bit_rate
        if asked.has_sound:
            sound = opened.add_stream("aac", rate=SOUND_HZ)
            sound.layout = "mono"
        if video is not None:
            for number in range(round(asked.seconds * FPS)):
                opened.mux(video.encode(_make_picture(asked, number)))
            opened.mux(video.encode(None))
        if sound is not None:
            for start in range(0, round(asked.seconds * SOUND_HZ), 1024):
                opened.mux(sound.encode(_make_silence(start)))
            opened.mux(sound.encode(None))


def _make_picture(asked: Recording, number: int) -> av.VideoFrame:
    frame = av.VideoFrame(asked.side, asked.side, "yuv420p")
    draw = random.Random(number)  # noqa: S311 - a picture, no secret
    for plane in frame.planes:
        size = plane.buffer_size
        plane.update(draw.randbytes(size) if asked.noise else bytes([number * 3 % 256]) * size)
    frame.pts, frame.time_base = number, Fraction(1, FPS)
    return frame


def _make_silence(start: int) -> av.AudioFrame:
    frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
    frame.sample_rate, frame.pts = SOUND_HZ, start
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    return frame


def grow_mp4(video: bytes, size_bytes: int) -> bytes:
    """Return an MP4 with its index at the end, grown to a size by footage nobody points at."""
    at = video.index(b"mdat") - 4
    length = int.from_bytes(video[at : at + 4], "big")
    filling = size_bytes - len(video)
    return (
        video[:at]
        + (length + filling).to_bytes(4, "big")
        + video[at + 4 : at + length]
        + bytes(filling)
        + video[at + length :]
    )
