"""Custody events: canonical leaves, chained per clip.

A leaf is the exact bytes that are hashed, signed and exported: RFC 8785 JSON. `clip_seq` and the
previous leaf's hash of the same clip are inside, so a clip's exported list is provably gapless.
Leaves are for ever: pseudonymous ids only, and a random salt so that public hashes tell nothing.
"""

import base64
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal
from uuid import UUID

from ingest_service import VERSION
from ingest_service.domain.canonical import dump_canonical
from ingest_service.domain.ids import make_id
from ingest_service.domain.principal import Principal

ActorKind = Literal["person", "device", "station", "service", "policy"]
Integrity = Literal["match", "mismatch", "not_verifiable"]

SCHEMA_VERSION: Final = 1
SOFTWARE_VERSION: Final = f"ingest-service {VERSION}"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it: id is pseudonymous."""

    kind: ActorKind
    id: str
    role: str | None = None

    @classmethod
    def of(cls, principal: Principal) -> "Actor":
        """Return the actor behind a request."""
        return cls(principal.kind, principal.id, principal.role)


WORKER: Final = Actor("service", "ingest-work")


@dataclass(frozen=True, slots=True)
class Happening:
    """What happened, before it has its place in a chain.

    facts  JSON values only: no footage, no names in clear
    """

    type: str
    actor: Actor
    facts: Mapping[str, Any] = field(default_factory=dict)
    outcome: str = "success"
    reason: str | None = None
    integrity: Integrity | None = None
    purpose: str | None = None
    occurred_at: datetime | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class ChainHead:
    """Where a clip's chain ends: how many events it has, and the hash of the last."""

    clip_id: UUID
    event_count: int = 0
    last_leaf_hash: bytes | None = None


@dataclass(frozen=True, slots=True)
class CustodyEvent:
    """One link, as stored: the leaf is the evidence, the rest is for finding it."""

    event_id: UUID
    clip_id: UUID | None
    clip_seq: int | None
    type: str
    recorded_at: datetime
    actor_kind: str
    actor_id: str
    device_serial: str | None
    leaf: bytes
    leaf_hash: bytes


def hash_leaf(leaf: bytes) -> bytes:
    """Return SHA-256 of a zero byte and the leaf (RFC 6962, section 2.1)."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def chain_events(
    head: ChainHead,
    happenings: Sequence[Happening],
    *,
    now: datetime,
    device_serial: str | None = None,
) -> list[CustodyEvent]:
    """Return the events that continue a clip's chain, in order."""
    events: list[CustodyEvent] = []
    previous = head.last_leaf_hash
    for number, happening in enumerate(happenings):
        event = _make_event(
            happening,
            clip_id=head.clip_id,
            clip_seq=head.event_count + number,
            previous=previous,
            now=now,
            device_serial=device_serial,
        )
        events.append(event)
        previous = event.leaf_hash
    return events


def make_device_events(
    device_serial: str | None, happenings: Sequence[Happening], *, now: datetime
) -> list[CustodyEvent]:
    """Return events of a device (None: of the service): of no clip, so not chained to one."""
    return [
        _make_event(
            happening,
            clip_id=None,
            clip_seq=None,
            previous=None,
            now=now,
            device_serial=device_serial,
        )
        for happening in happenings
    ]


def format_time(moment: datetime) -> str:
    """Return RFC 3339 in UTC with microseconds: the one form inside leaves."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def _make_event(
    happening: Happening,
    *,
    clip_id: UUID | None,
    clip_seq: int | None,
    previous: bytes | None,
    now: datetime,
    device_serial: str | None,
) -> CustodyEvent:
    event_id = make_id(now)
    actor = happening.actor
    leaf = dump_canonical(
        {
            "schema_version": SCHEMA_VERSION,
            "event_id": str(event_id),
            "clip_id": None if clip_id is None else str(clip_id),
            "clip_seq": clip_seq,
            "prev": None if previous is None else previous.hex(),
            "type": happening.type,
            "occurred_at": format_time(happening.occurred_at or now),
            "recorded_at": format_time(now),
            "actor": {"kind": actor.kind, "id": actor.id, "role": actor.role},
            "outcome": happening.outcome,
            "reason": happening.reason,
            "integrity": happening.integrity,
            "purpose": happening.purpose,
            "device_serial": device_serial,
            "facts": dict(happening.facts),
            "request_id": happening.request_id,
            "software_version": SOFTWARE_VERSION,
            "salt": base64.b64encode(secrets.token_bytes(16)).decode(),
        }
    )
    return CustodyEvent(
        event_id,
        clip_id,
        clip_seq,
        happening.type,
        now,
        actor.kind,
        actor.id,
        device_serial,
        leaf,
        hash_leaf(leaf),
    )
