"""Bytes on their way from the dock to the vault: counted, hashed, kept for a second try."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from ingest_service.domain.admission import DEVICE_SHARE, Device, is_within_share, name_device
from ingest_service.errors import ChunkCorrupted, ChunkMisshapen


class Disconnected(Exception):
    """The dock went away in the middle of a body."""


class ReplayBudget:
    """Memory of this process for bytes that are kept until the vault has them.

    The last of it is for stations that have less than an equal share. No camera has more than
    half of it: the others of its station find some.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.used_bytes = 0
        self._of: dict[str, int] = {}
        self._of_device: dict[Device, int] = {}

    def take(self, length_bytes: int, station_id: str, device_serial: str | None = None) -> bool:
        """Reserve memory for one body; False when the budget, or a share of it, is spent."""
        device = name_device(station_id, device_serial)
        if device is not None:
            held = self._of_device.get(device, 0)
            if held and held + length_bytes > self.bytes_max * DEVICE_SHARE:
                return False
        own = self._of.get(station_id, 0)
        if not is_within_share(
            length_bytes,
            own=own,
            used=self.used_bytes,
            limit=self.bytes_max,
            owner_count=len(self._of) + (not own),
        ):
            return False
        self.used_bytes += length_bytes
        self._of[station_id] = own + length_bytes
        if device is not None:
            self._of_device[device] = held + length_bytes
        return True

    def give_back(
        self, length_bytes: int, station_id: str, device_serial: str | None = None
    ) -> None:
        """Return what was taken."""
        self.used_bytes -= length_bytes
        left = self._of.get(station_id, 0) - length_bytes
        if left > 0:
            self._of[station_id] = left
        else:
            self._of.pop(station_id, None)
        device = name_device(station_id, device_serial)
        if device is None:
            return
        left = self._of_device.get(device, 0) - length_bytes
        if left > 0:
            self._of_device[device] = left
        else:
            self._of_device.pop(device, None)


class Source(Protocol):
    """The body of one request: blocks in order, each read once."""

    async def read(self, bytes_max: int) -> bytes:
        """Return the next 1..bytes_max bytes, or b'' at the end.

        Raises:
            Disconnected: the dock went away.
            BodyStalled: no byte came in time.
            TakenOver: a newer request interrupts this one.
            ShuttingDown: this process ends.
        """
        ...


class Hash(Protocol):
    """Whatever hashes bytes: hashlib's objects and `domain.sha256`'s."""

    def update(self, block: bytes, /) -> None:
        """Add bytes."""
        ...

    def digest(self) -> bytes:
        """Return the digest so far."""
        ...


class PieceBody:
    """One piece of a request body, on its way to one part or object of known length.

    Bytes already stored elsewhere (`prefix`, the tail) go first and are not hashed again; then
    the piece's own bytes are drawn from the source, counted and hashed once as they pass.

    hashes      fed with each own byte once
    sha256      that the piece is declared to have
    checked_by  the one of the hashes whose digest must be `sha256`; None leaves it to the store
    keep        keep the bytes in memory, for a second try
    """

    def __init__(
        self,
        source: Source,
        length_bytes: int,
        *,
        hashes: Sequence[Hash] = (),
        sha256: bytes | None = None,
        checked_by: Hash | None = None,
        keep: bool = False,
        prefix: Callable[[], AsyncIterator[bytes]] | None = None,
        prefix_bytes: int = 0,
    ) -> None:
        self._source = source
        self._own_bytes = length_bytes
        self._hashes = hashes
        self._checked_by = checked_by
        self._kept: list[bytes] | None = [] if keep else None
        self._prefix = prefix
        self._prefix_bytes = prefix_bytes
        self._sha256 = sha256
        self.received_bytes = 0

    @property
    def length_bytes(self) -> int:
        """Bytes for the store: the prefix and the piece."""
        return self._prefix_bytes + self._own_bytes

    @property
    def sha256(self) -> bytes | None:
        """Digest of all bytes for the store, when it is known."""
        return None if self._prefix_bytes else self._sha256

    @property
    def may_replay(self) -> bool:
        """Whether the bytes are still in memory (or none was drawn yet)."""
        return self._kept is not None or self.received_bytes == 0

    @property
    def kept(self) -> list[bytes] | None:
        """The received bytes, where they were kept."""
        return self._kept

    async def blocks(self) -> AsyncIterator[bytes]:
        """Yield prefix, kept bytes, then new bytes from the source.

        Raises:
            ChunkMisshapen: the source ended early.
            ChunkCorrupted: the last byte came and the digest is another; nothing is stored,
                because the last block is held back until the digest was checked. A second try
                lacks it too.
        """
        if self._prefix is not None:
            async for block in self._prefix():
                yield block
        for block in self._kept or ():
            yield block
        while self.received_bytes < self._own_bytes:
            block = await self._source.read(self._own_bytes - self.received_bytes)
            if not block:
                raise ChunkMisshapen(self._own_bytes, self.received_bytes)
            self.received_bytes += len(block)
            for each in self._hashes:
                each.update(block)
            if self.received_bytes == self._own_bytes:
                self._verify()
            if self._kept is not None:
                self._kept.append(block)
            yield block

    def _verify(self) -> None:
        if self._checked_by is not None and self._checked_by.digest() != self._sha256:
            raise ChunkCorrupted


class BytesBody:
    """Bytes that are in memory."""

    def __init__(self, blocks: list[bytes], *, sha256: bytes | None = None) -> None:
        self._blocks = blocks
        self.length_bytes = sum(map(len, blocks))
        self.sha256 = sha256
        self.may_replay = True

    async def blocks(self) -> AsyncIterator[bytes]:
        """Yield the bytes."""
        for block in self._blocks:
            yield block
