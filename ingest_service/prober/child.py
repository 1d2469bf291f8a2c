"""The process in which footage is parsed: a hostile file meets libav here and nowhere else.

It has no secrets, opens no file and no socket (the kernel refuses it any new descriptor), and its
memory and processor time are bounded. Bytes are asked for over its two pipes:

    child    ready <name of the parser>
    child    read <offset> <length>
    parent   4 bytes, big endian: how many follow; then those
    child    done <report as JSON>
"""

import importlib
import json
import os
import pkgutil
import resource
import sys
from fractions import Fraction
from typing import Any, BinaryIO, Final

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from ingest_service.prober.shape import Shape, find_shape

# No playlist and nothing else that names other files is among them.
_FORMATS: Final = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,asf,flv,mxf,ogg,h264,hevc,mjpeg"
)
_OPTIONS: Final = {
    "format_whitelist": _FORMATS,
    # There is no such protocol: whatever a file refers to is not opened.
    "protocol_whitelist": "none",
    "probesize": "1000000",
    "analyzeduration": "5000000",
    "max_streams": "64",
}
_NOT_NEEDED: Final = frozenset({"av.__main__", "av.datasets"})
_BUFFER_BYTES: Final = 32 * 1024
_READ_BYTES_MAX: Final = 1024 * 1024
# On top of what the interpreter and the libraries take.
_MEMORY_BYTES: Final = 512 * 1024 * 1024
_FPS_MAX: Final = 1000
_NICE: Final = 10


class RemoteFile:
    """The clip, read over the pipes; what libav sees as a file.

    PyAV asks for read, seek and tell.
    """

    def __init__(self, size_bytes: int, asking: BinaryIO, answers: BinaryIO) -> None:
        self.size_bytes = size_bytes
        self._asking, self._answers = asking, answers
        self._offset = 0

    def read(self, length: int) -> bytes:
        """Return the next bytes; none at the end, or when no more may be read."""
        data = self.read_at(self._offset, length)
        self._offset += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to another place, and return it."""
        base = {0: 0, 1: self._offset, 2: self.size_bytes}[whence]
        self._offset = max(0, base + offset)
        return self._offset

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._offset

    def read_at(self, offset: int, length: int) -> bytes:
        """Ask the parent for bytes."""
        length = min(length, _READ_BYTES_MAX, self.size_bytes - offset)
        if length <= 0:
            return b""
        say(self._asking, f"read {offset} {length}")
        count = int.from_bytes(self._answers.read(4), "big")
        return self._answers.read(count)


def main() -> None:
    """Examine the clip that the parent has: argv is its size and seconds of processor time."""
    size_bytes, cpu_s = int(sys.argv[1]), int(sys.argv[2])
    file = RemoteFile(size_bytes, sys.stdout.buffer, sys.stdin.buffer)
    _import_all()
    _confine(cpu_s)
    say(sys.stdout.buffer, f"ready pyav {av.__version__}")
    try:
        report = examine(file)
    except MemoryError:
        report = {"flags": ["probe_memory_exceeded"]}
    say(sys.stdout.buffer, f"done {json.dumps(report)}")


def say(pipe: BinaryIO, line: str) -> None:
    """Send the parent a line."""
    pipe.write(line.encode() + b"\n")
    pipe.flush()


def _import_all() -> None:
    """Load what PyAV loads when it first meets a kind of stream: later it can open no file."""
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if module.name not in _NOT_NEEDED:
            importlib.import_module(module.name)


def _confine(cpu_s: int) -> None:
    """Give up what a parser does not need; there is no way back."""
    os.nice(_NICE)
    with open("/proc/self/statm", encoding="ascii") as sizes:  # noqa: PTH123 - no pathlib here
        pages = int(sizes.read().split()[0])
    memory_bytes = pages * resource.getpagesize() + _MEMORY_BYTES
    for kind, most in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        # What is open stays so; nothing else can be opened, not even in its place.
        (resource.RLIMIT_NOFILE, 0),
    ):
        resource.setrlimit(kind, (most, most))


def examine(file: RemoteFile) -> dict[str, Any]:
    """Return the report of a clip: facts by name, and flags."""
    shape = find_shape(file)
    try:
        with av.open(
            file,
            "r",
            options=dict(_OPTIONS),
            buffer_size=_BUFFER_BYTES,
            # A title in another alphabet makes nothing unplayable.
            metadata_errors="replace",
        ) as opened:
            report = _describe(opened)
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError, OverflowError):
        return {"flags": _flag_unreadable(shape)}
    if shape.is_cut:
        report["flags"].append("truncated")
    return report


def _flag_unreadable(shape: Shape) -> list[str]:
    if shape.kind is None:
        return ["not_a_video"]
    return ["unplayable", "truncated"] if shape.is_cut else ["unplayable"]


def _describe(opened: InputContainer) -> dict[str, Any]:
    videos = [
        stream
        for stream in opened.streams.video
        # The picture on the cover of a sound recording is no footage.
        if not stream.disposition & Disposition.attached_pic
    ]
    report: dict[str, Any] = {
        "container": _name_container(opened),
        "audio_present": bool(opened.streams.audio),
        "duration_ms": _find_duration_ms(opened),
        "creation_time": opened.metadata.get("creation_time"),
        "flags": [] if videos else ["no_video_stream"],
    }
    if videos:
        report |= _describe_video(videos[0])
    return report


def _name_container(opened: InputContainer) -> str:
    names = opened.format.name.split(",")
    if "mp4" not in names:
        return names[0]
    brand = opened.metadata.get("major_brand", "")
    if brand.startswith("3g"):
        return "3gp"
    return "mov" if brand.startswith("qt") else "mp4"


def _describe_video(stream: VideoStream) -> dict[str, Any]:
    # None where libav has no decoder for it, whatever the stubs say.
    context: Any = stream.codec_context
    if context is None:
        return {}
    rate = stream.average_rate or stream.guessed_rate
    is_plausible = rate is not None and 0 < rate <= _FPS_MAX
    return {
        "codec": context.codec.canonical_name,
        "width": context.width or None,
        "height": context.height or None,
        "fps": round(float(rate), 3) if rate is not None and is_plausible else None,
    }


def _find_duration_ms(opened: InputContainer) -> int | None:
    if opened.duration is not None:
        return max(0, round(opened.duration / 1000))
    lengths = [
        Fraction(stream.duration) * stream.time_base
        for stream in opened.streams
        if stream.duration is not None and stream.time_base is not None
    ]
    return round(max(lengths) * 1000) if lengths else None


if __name__ == "__main__":
    main()
