"""The plan of an upload: how a clip's bytes fall on a fixed grid of parts."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from ingest_service.domain.custody import ChainHead

MIB: Final = 1024 * 1024
# S3 numbers parts 1..10,000. Each grid index owns four numbers, so that a stale writer's part
# lands under a number that the present writer does not complete with.
ATTEMPTS_PER_PART: Final = 4
PARTS_MAX: Final = 10_000 // ATTEMPTS_PER_PART

Surface = Literal["undecided", "native", "tus"]
# whole: a clip by appends; partial: a piece for finals to come; final: a clip joined from partials.
UploadKind = Literal["whole", "partial", "final"]
UploadState = Literal["open", "finishing", "finished", "expired", "terminated", "failed"]


@dataclass(frozen=True, slots=True)
class Upload:
    """One resumable attempt to bring one clip in, as the ledger has it.

    offset_bytes  durable bytes: by tus the contiguous prefix, natively the sum of all chunks
    hashed_bytes  the prefix that `sha256_state` covers; falls behind when chunks come unordered
    epoch         fencing number of the present writer; each take-over adds one
    leased_by     who is writing now; None = nobody
    length_bytes  None until the client tells it
    concat        Upload-Concat as received
    is_ietf       opened by the IETF protocol: complete only when the client says so
    device_serial of its clip; told to who takes the upload to write, and else None
    """

    upload_id: UUID
    clip_id: UUID | None
    station_id: str
    surface: Surface
    state: UploadState
    length_bytes: int | None
    part_bytes: int
    offset_bytes: int
    hashed_bytes: int
    sha256_state: bytes | None
    epoch: int
    leased_by: str | None
    multipart_key: str | None
    multipart_id: str | None
    tus_metadata: str | None
    expires_at: datetime
    kind: UploadKind = "whole"
    concat: str | None = None
    partial_ids: list[UUID] | None = None
    is_ietf: bool = False
    device_serial: str | None = None

    @property
    def own_clip_id(self) -> UUID:
        """The clip that this upload brings in.

        Raises:
            ValueError: a partial brings none in.
        """
        if self.clip_id is None:
            message = f"upload {self.upload_id} is a partial"
            raise ValueError(message)
        return self.clip_id

    @property
    def part_count(self) -> int:
        """Parts of the grid; 0 for an empty or not yet known length."""
        return -(-(self.length_bytes or 0) // self.part_bytes)

    @property
    def fits_one_part(self) -> bool:
        """Whether the clip is stored by one PutObject, without multipart.

        A length that was told late may find the one part in a multipart upload already.
        """
        if self.length_bytes is None or self.multipart_id is not None:
            return False
        return self.length_bytes <= self.part_bytes

    def length_max(self, clip_bytes_max: int) -> int:
        """Return how long the upload may become: the grid is fixed before its length is known."""
        return min(clip_bytes_max, self.part_bytes * PARTS_MAX)

    def part_length(self, part_index: int) -> int:
        """Return the length of a grid part in bytes; the last one may be short."""
        start = part_index * self.part_bytes
        if self.length_bytes is None:
            return self.part_bytes
        return max(0, min(self.part_bytes, self.length_bytes - start))


@dataclass(frozen=True, slots=True)
class UploadRules:
    """The knobs of the upload engine; `settings.py` says what each is for.

    urgent_categories  of clips that may claim priority
    """

    part_bytes: int
    clip_bytes_max: int
    expires_after: timedelta
    take_over_wait_s: float
    body_stall_timeout_s: float
    finish_wait_s: float
    body_bytes_s_min: int = 0
    urgent_categories: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Sealable:
    """An upload and what a seal must know of its clip.

    chain  where the clip's chain of custody ended when this was read
    """

    upload: Upload
    chain: ChainHead
    device_serial: str
    sha256_device: bytes | None


@dataclass(frozen=True, slots=True)
class Part:
    """One stored grid part.

    part_number  as S3 counts it; 0 for an object of its own
    sha256       of this part alone; None when only the whole-clip hash ran over it
    """

    part_index: int
    part_number: int
    length_bytes: int
    sha256: bytes | None
    etag: str
    object_key: str | None = None
    object_version: str | None = None


@dataclass(frozen=True, slots=True)
class Tail:
    """Acknowledged bytes that do not fill a part yet, as one small object."""

    offset_bytes: int
    length_bytes: int
    object_key: str
    object_version: str | None


def choose_part_bytes(length_bytes: int | None, part_bytes: int) -> int:
    """Return the grid for a clip: part_bytes, or as many whole MiB as PARTS_MAX parts need."""
    needed = -(-(length_bytes or 0) // PARTS_MAX)
    return part_bytes if needed <= part_bytes else -(-needed // MIB) * MIB


def number_part(part_index: int, attempt: int) -> int:
    """Return the S3 part number of a grid index for a writer's attempt (or epoch)."""
    return part_index * ATTEMPTS_PER_PART + attempt % ATTEMPTS_PER_PART + 1


Writer = Literal["chunk", "append", "opening", "empty"]


def object_key_for(
    clip_id: UUID, upload_id: UUID, writer: Writer | None = None, attempt: int = 0
) -> str:
    """Return the key of a clip's object.

    Where one PutObject stores it, each kind of writer has keys of its own, one per attempt (or
    epoch): a bucket without versions keeps the last object that was put under a key.
    """
    key = f"clips/{clip_id}/{upload_id}"
    return key if writer is None else f"{key}.{writer}-{attempt}"


def clip_prefix(clip_id: UUID) -> str:
    """Return the prefix under which everything of a clip is stored."""
    return f"clips/{clip_id}/"


def partial_prefix(upload_id: UUID) -> str:
    """Return the prefix of a partial's parts, each an object of its own."""
    return f"partials/{upload_id}/"


def partial_key_for(upload_id: UUID, epoch: int, part_index: int) -> str:
    """Return the key of one part of a partial; the epoch keeps a stale writer off it."""
    return f"{partial_prefix(upload_id)}{part_index}.{epoch}"


def tail_prefix(upload_id: UUID) -> str:
    """Return the prefix of an upload's tail objects."""
    return f"tails/{upload_id}/"


def tail_key_for(upload_id: UUID, epoch: int, offset_bytes: int, length_bytes: int) -> str:
    """Return the key of a tail object; the epoch keeps a stale writer off the present one's."""
    return f"{tail_prefix(upload_id)}{offset_bytes}-{length_bytes}.{epoch}"


def missing_ranges(
    stored: set[int], part_count: int, limit: int
) -> tuple[list[tuple[int, int]], int, bool]:
    """Return (ranges of missing indices, how many are missing, whether ranges were left out)."""
    ranges: list[tuple[int, int]] = []
    missing_count = part_count - len(stored)
    start: int | None = None
    for index in range(part_count + 1):
        absent = index < part_count and index not in stored
        if absent and start is None:
            start = index
        elif not absent and start is not None:
            if len(ranges) == limit:
                return ranges, missing_count, True
            ranges.append((start, index - 1))
            start = None
    return ranges, missing_count, False
