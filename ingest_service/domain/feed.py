"""The feed of custody events in log order, as CloudEvents 1.0."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from ingest_service.domain.custody import format_time
from ingest_service.domain.event_types import AUDITORS_ONLY
from ingest_service.domain.principal import AUDIT_READ, Principal

TYPE_PREFIX: Final = "local.ingest."
_SEQUENCE_DIGITS: Final = 20


@dataclass(frozen=True, slots=True)
class FeedEvent:
    """An event at its place in the log.

    log_index   from 0, without gaps: the cursor
    borough     of its clip, of the station that reported it, or where its camera was last; None:
                of none of them
    """

    log_index: int
    event_id: UUID
    clip_id: UUID | None
    clip_seq: int | None
    type: str
    recorded_at: datetime
    device_serial: str | None
    borough: str | None
    leaf: bytes
    leaf_hash: bytes


@dataclass(frozen=True, slots=True)
class FeedFilter:
    """Which events are asked for, and which exist for the asker; None = any.

    types     without the prefix
    limits    boroughs that the asker may see; then events of no borough do not exist
    hidden    types that do not exist for the asker
    """

    types: frozenset[str] | None = None
    clip_id: UUID | None = None
    device: str | None = None
    boroughs: frozenset[str] | None = None
    limits: frozenset[str] | None = None
    hidden: frozenset[str] = AUDITORS_ONLY

    @classmethod
    def of(
        cls,
        principal: Principal,
        *,
        types: frozenset[str] | None = None,
        clip_id: UUID | None = None,
        device: str | None = None,
        boroughs: frozenset[str] | None = None,
    ) -> "FeedFilter":
        """Return the filter of somebody's request."""
        hidden = frozenset[str]() if AUDIT_READ in principal.scopes else AUDITORS_ONLY
        return cls(types, clip_id, device, boroughs, principal.boroughs, hidden)

    def admits(self, event: FeedEvent) -> bool:
        """Tell whether an event is shown; the statements of ledger/feed.py say the same in SQL."""
        return (
            (self.types is None or event.type in self.types)
            and (self.clip_id is None or event.clip_id == self.clip_id)
            and (self.device is None or event.device_serial == self.device)
            and (self.boroughs is None or event.borough in self.boroughs)
            and (self.limits is None or event.borough in self.limits)
            and event.type not in self.hidden
        )


def make_cloud_event(event: FeedEvent, source: str) -> dict[str, Any]:
    """Return an event as CloudEvents 1.0 (JSON format).

    `id` is the event's own id, `source` the log's origin: both together name it for ever, so who
    has seen the pair has seen the event. Attributes that are unknown are left out (the
    specification knows no null).
    """
    leaf = json.loads(event.leaf)
    actor: Mapping[str, Any] = leaf["actor"]
    attributes = {
        "specversion": "1.0",
        "id": str(event.event_id),
        "source": source,
        "type": TYPE_PREFIX + event.type,
        "subject": None if event.clip_id is None else str(event.clip_id),
        "time": leaf["occurred_at"],
        "recordedtime": format_time(event.recorded_at),
        "datacontenttype": "application/json",
        # A decimal that sorts as text, as the extension `sequence` wants it; and the plain one.
        # Strings both: the integers of CloudEvents end at 2^31.
        "sequence": str(event.log_index).zfill(_SEQUENCE_DIGITS),
        "logindex": str(event.log_index),
        "clipseq": event.clip_seq,
        "deviceserial": event.device_serial,
        "borough": event.borough,
        "actorkind": actor["kind"],
        "actorid": actor["id"],
        "outcome": leaf["outcome"],
        "reason": leaf["reason"],
        "integrity": leaf["integrity"],
        "purpose": leaf["purpose"],
        "leafhash": event.leaf_hash.hex(),
        "data": leaf["facts"],
    }
    return {name: value for name, value in attributes.items() if value is not None}


def dump_cloud_event(event: FeedEvent, source: str) -> bytes:
    """Return an event as one line of JSON."""
    made = make_cloud_event(event, source)
    return json.dumps(made, ensure_ascii=False, separators=(",", ":")).encode(
        "utf-8", "backslashreplace"
    )
