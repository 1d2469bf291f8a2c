"""Register a derivative: what was made from a clip points at the clip's own hash."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import Actor, Happening
from ingest_service.domain.derivative import Derivative, DerivativeKind, Lineage, Role
from ingest_service.domain.ids import make_id
from ingest_service.domain.principal import Principal
from ingest_service.domain.retention import LivingClip
from ingest_service.errors import (
    ANOTHER_BOROUGH,
    ClipNotFound,
    DerivativeConflict,
    InvalidRequest,
)
from ingest_service.ledger import derivatives
from ingest_service.ledger.connection import Connection, Pool, reading, writing
from ingest_service.ledger.lifecycle import advance_alike, lock_clips

_SECURED: Final = frozenset({"secured", "erase_pending"})


@dataclass(frozen=True, slots=True)
class DerivativeOrder:
    """What somebody has made from a clip.

    content  the clip as which it was brought in, or its SHA-256 (32 bytes) and its length in bytes
    """

    content: UUID | tuple[bytes, int]
    kind: DerivativeKind
    tool: str
    parameters: Mapping[str, str | int | bool]
    made_by: str


async def register_derivative(
    master_clip_id: UUID,
    order: DerivativeOrder,
    principal: Principal,
    *,
    pool: Pool,
    now: Clock,
    request_id: str | None = None,
) -> Derivative:
    """Record a derivative in the chain of its master, and in its own if it is a clip.

    Raises:
        ClipNotFound: one of the two is not visible to this principal.
        InvalidRequest: it has the very bytes of the master.
        DerivativeConflict: one of the two is not secured, it was registered before, or the master
            was made from it. Nothing was recorded.
    """
    own = order.content if isinstance(order.content, UUID) else None
    async with writing(pool) as connection:
        wanted = {master_clip_id} if own is None else {master_clip_id, own}
        locked = {clip.clip_id: clip for clip in await lock_clips(connection, sorted(wanted))}
        master, master_sha256, _ = _check(locked.get(master_clip_id), master_clip_id, principal)
        derived: LivingClip | None = None
        if isinstance(order.content, UUID):
            derived, sha256, size_bytes = _check(
                locked.get(order.content), order.content, principal
            )
            if await derivatives.is_ancestor(connection, order.content, master_clip_id):
                reason = f"clip {master_clip_id} is, or was made from, clip {order.content}"
                raise DerivativeConflict(reason)
        else:
            sha256, size_bytes = order.content
        if sha256 == master_sha256:
            reason = "body: it has the very bytes of the master"
            raise InvalidRequest(reason)
        moment = now()
        made = Derivative(
            make_id(moment),
            master_clip_id,
            master_sha256,
            own,
            sha256,
            size_bytes,
            order.kind,
            order.tool,
            order.parameters,
            made_by=order.made_by,
            registered_by=principal.id,
            registered_at=moment,
        )
        if not await derivatives.insert_derivative(connection, made):
            reason = f"clip {master_clip_id} has a derivative of this SHA-256"
            raise DerivativeConflict(reason)
        await _tell(connection, master, made, "master", principal, request_id)
        if derived is not None:
            await _tell(connection, derived, made, "derivative", principal, request_id)
    return made


def _check(
    clip: LivingClip | None, clip_id: UUID, principal: Principal
) -> tuple[LivingClip, bytes, int]:
    """Return a clip with its SHA-256 and length, if it is visible and secured."""
    if clip is None:
        raise ClipNotFound(str(clip_id))
    if not principal.may_see_borough(clip.borough):
        raise ClipNotFound(str(clip_id)).hiding(ANOTHER_BOROUGH)
    if clip.state not in _SECURED or clip.sha256 is None or clip.size_bytes is None:
        reason = f"clip {clip_id} is {clip.state}"
        raise DerivativeConflict(reason)
    return clip, clip.sha256, clip.size_bytes


async def _tell(
    connection: Connection,
    clip: LivingClip,
    made: Derivative,
    role: Role,
    principal: Principal,
    request_id: str | None,
) -> None:
    registered = Happening(
        "derivative.registered",
        Actor.of(principal),
        made.describe_event(role),
        request_id=request_id,
    )
    await advance_alike(connection, [clip], registered, made.registered_at)


async def find_lineage(clip_id: UUID, *, pool: Pool) -> Lineage:
    """Return what a clip was made from, and what was made from it."""
    async with reading(pool) as connection:
        return await derivatives.find_lineage(connection, clip_id)
