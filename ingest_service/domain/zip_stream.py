"""A zip file as a stream: no seeking back, nothing kept but what was not taken yet.

Entries are stored, not compressed: footage does not shrink. Sizes and checksums follow the bytes,
in zip64 form where they need it.
"""

import zipfile
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final

_CREATED_ON_UNIX: Final = 3
_READABLE: Final = 0o100644 << 16
_YEAR_MIN: Final = 1980


class _Pipe:
    """What zipfile writes to: it cannot seek, and gives away what it was given."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing: there is no buffer below."""

    def take(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


class ZipStream:
    """Makes a zip file piece by piece; every piece is to be sent in order."""

    def __init__(self, made_at: datetime) -> None:
        self._pipe = _Pipe()
        # A stream that cannot seek: typeshed wants more of a file than zipfile does.
        self._zip = zipfile.ZipFile(self._pipe, "w", zipfile.ZIP_STORED)  # type: ignore[call-overload]
        moment = max(made_at.timetuple()[:6], (_YEAR_MIN, 1, 1, 0, 0, 0))
        self._date_time = (moment[0], moment[1], moment[2], moment[3], moment[4], moment[5])

    def add(self, name: str, data: bytes) -> bytes:
        """Add a small file; return the next piece."""
        self._zip.writestr(self._describe(name, len(data)), data)
        return self._pipe.take()

    async def stream(
        self, name: str, size_bytes: int, blocks: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        """Add a file of about this size as it comes in; yield the pieces."""
        with self._zip.open(self._describe(name, size_bytes), "w") as member:
            async for block in blocks:
                member.write(block)
                yield self._pipe.take()
        yield self._pipe.take()

    def finish(self) -> bytes:
        """Return the last piece: the directory."""
        self._zip.close()
        return self._pipe.take()

    def _describe(self, name: str, size_bytes: int) -> zipfile.ZipInfo:
        info = zipfile.ZipInfo(name, self._date_time)
        info.create_system = _CREATED_ON_UNIX
        info.external_attr = _READABLE
        # By this zipfile decides on zip64 before the first byte.
        info.file_size = size_bytes
        return info
