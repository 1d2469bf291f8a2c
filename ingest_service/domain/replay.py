"""What a clip's chain of custody says of the clip: to rebuild its row, and to check it.

Events that say nothing of the row (somebody looked at it) and types of later versions pass.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from ingest_service.domain.custody import CustodyEvent, format_time, hash_leaf

# What `fold_event` can know of a clip; names are those of `Clip`.
CHECKED_MEMBERS: Final = (
    "state",
    "size_bytes",
    "sha256",
    "sha256_readback",
    "sha256_device",
    "bucket",
    "object_key",
    "object_version",
    "secured_at",
    "released_at",
    "manifest_sha256",
    "last_fixity_at",
    "last_fixity_result",
    "is_held",
    "erase_due_at",
)


class LeafInvalid(ValueError):
    """Not the leaf of a custody event; the message says why."""


@dataclass(slots=True)
class History:
    """A clip's chain as far as it was read.

    members  what the events say of the clip so far; names are those of `Clip`
    """

    event_count: int = 0
    last_leaf_hash: bytes | None = None
    members: dict[str, Any] = field(default_factory=dict)

    def add(self, leaf: dict[str, Any], leaf_hash: bytes) -> None:
        """Take the next event of the chain."""
        self.event_count += 1
        self.last_leaf_hash = leaf_hash
        fold_event(self.members, leaf)


def parse_leaf(leaf: bytes) -> dict[str, Any]:
    """Return the members of a leaf.

    Raises:
        LeafInvalid: it is no JSON object with what every event has.
    """
    try:
        parsed = json.loads(leaf)
        if not isinstance(parsed["facts"], dict) or not isinstance(parsed["actor"], dict):
            message = "facts and actor of an event are objects"
            raise LeafInvalid(message)
        UUID(parsed["event_id"])
        datetime.fromisoformat(parsed["recorded_at"])
        if parsed["clip_id"] is not None:
            UUID(parsed["clip_id"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        message = f"not the leaf of a custody event: {error}"
        raise LeafInvalid(message) from error
    return dict(parsed)


def read_event(leaf: bytes) -> CustodyEvent:
    """Return the row that a leaf was stored with.

    Raises:
        LeafInvalid: as `parse_leaf`.
    """
    parsed = parse_leaf(leaf)
    clip_id = parsed["clip_id"]
    return CustodyEvent(
        event_id=UUID(parsed["event_id"]),
        clip_id=None if clip_id is None else UUID(clip_id),
        clip_seq=parsed["clip_seq"],
        type=parsed["type"],
        recorded_at=datetime.fromisoformat(parsed["recorded_at"]),
        actor_kind=parsed["actor"]["kind"],
        actor_id=parsed["actor"]["id"],
        device_serial=parsed["device_serial"],
        leaf=leaf,
        leaf_hash=hash_leaf(leaf),
    )


def find_row_flaw(event: CustodyEvent, leaf: dict[str, Any]) -> str | None:
    """Return in what an event's row does not say what its leaf says; None when it does."""
    if hash_leaf(event.leaf) != event.leaf_hash:
        return "leaf_hash is not the hash of the leaf"
    clip_id = None if event.clip_id is None else str(event.clip_id)
    for name, stored, stated in (
        ("event_id", str(event.event_id), leaf["event_id"]),
        ("clip_id", clip_id, leaf["clip_id"]),
        ("clip_seq", event.clip_seq, leaf["clip_seq"]),
        ("type", event.type, leaf["type"]),
        ("recorded_at", format_time(event.recorded_at), leaf["recorded_at"]),
        ("actor_kind", event.actor_kind, leaf["actor"].get("kind")),
        ("actor_id", event.actor_id, leaf["actor"].get("id")),
        ("device_serial", event.device_serial, leaf["device_serial"]),
    ):
        if stored != stated:
            return f"{name} is {stored!r}, the leaf says {stated!r}"
    return None


def find_link_flaw(history: History, leaf: dict[str, Any]) -> str | None:
    """Return why an event does not continue a chain; None when it does."""
    if leaf["clip_seq"] != history.event_count:
        return f"event {leaf['clip_seq']} follows {history.event_count} events"
    previous = None if history.last_leaf_hash is None else history.last_leaf_hash.hex()
    if leaf["prev"] != previous:
        return f"event {leaf['clip_seq']} does not continue the one before it"
    return None


def fold_event(members: dict[str, Any], leaf: dict[str, Any]) -> None:
    """Let one event of a clip change what is known of the clip."""
    fold = _FOLDS.get(leaf["type"])
    if fold is not None:
        fold(members, leaf, leaf["facts"])


def _announced(members: dict[str, Any], leaf: dict[str, Any], facts: dict[str, Any]) -> None:
    for name in ("device_serial", "recording_id", "segment_no", "size_bytes", "clock_state"):
        members[name] = facts.get(name)
    members |= {
        "state": "receiving",
        "is_held": False,
        "station_id": leaf["actor"]["id"],
        "announced_at": _time_of(leaf),
        "sha256_device": _read_digest(facts, "sha256_device"),
        "upload_id": _read_id(facts, "upload_id"),
        "duplicate_of": _read_id(facts, "duplicate_of"),
        "clock_offset_ms": facts.get("clock_offset_ms"),
        "flags": facts.get("flags", []),
    }


def _resumed(members: dict[str, Any], _leaf: dict[str, Any], facts: dict[str, Any]) -> None:
    if members.get("state") == "expired":
        members["state"] = "receiving"
    members["upload_id"] = _read_id(facts, "upload_id")
    if members.get("sha256_device") is None:
        members["sha256_device"] = _read_digest(facts, "sha256_device")


def _take_seal(members: dict[str, Any], leaf: dict[str, Any], facts: dict[str, Any]) -> None:
    members |= {
        "sealed_at": _time_of(leaf),
        "size_bytes": facts["size_bytes"],
        "sha256": _read_digest(facts, "sha256"),
        "bucket": facts["bucket"],
        "object_key": facts["object_key"],
        "object_version": facts["object_version"],
    }


def _sealed(members: dict[str, Any], leaf: dict[str, Any], facts: dict[str, Any]) -> None:
    members["state"] = "sealed"
    _take_seal(members, leaf, facts)


def _mismatched(members: dict[str, Any], leaf: dict[str, Any], facts: dict[str, Any]) -> None:
    if "bucket" in facts:
        # Found at the seal, which `clip.sealed` then never records.
        _take_seal(members, leaf, facts)


def _quarantined(members: dict[str, Any], leaf: dict[str, Any], facts: dict[str, Any]) -> None:
    members |= {"state": "quarantined", "quarantine_reason": leaf["reason"]}
    if "sha256_readback" in facts:
        members["sha256_readback"] = _read_digest(facts, "sha256_readback")
    _manifested(members, leaf, facts)


def _secured(members: dict[str, Any], leaf: dict[str, Any], facts: dict[str, Any]) -> None:
    members |= {
        "state": "secured",
        "secured_at": _time_of(leaf),
        "sha256": _read_digest(facts, "sha256"),
        "sha256_readback": _read_digest(facts, "sha256_readback"),
    }
    _manifested(members, leaf, facts)


def _manifested(members: dict[str, Any], _leaf: dict[str, Any], facts: dict[str, Any]) -> None:
    if "manifest_sha256" in facts:
        members["manifest_sha256"] = _read_digest(facts, "manifest_sha256")


def _checked(members: dict[str, Any], leaf: dict[str, Any], _facts: dict[str, Any]) -> None:
    members |= {"last_fixity_at": _time_of(leaf), "last_fixity_result": leaf["integrity"]}


def _restored(members: dict[str, Any], _leaf: dict[str, Any], facts: dict[str, Any]) -> None:
    """The ledger was rebuilt: what the published events did not tell was taken from the bucket."""
    if "device_serial" in facts:
        members |= {name: facts[name] for name in facts if name not in _CONVERTED}
        members |= {name: _read_digest(facts, name) for name in ("sha256", "sha256_device")}
        members |= {name: _read_id(facts, name) for name in ("upload_id", "duplicate_of")}
        for name in ("announced_at", "sealed_at"):
            members[name] = None if facts[name] is None else datetime.fromisoformat(facts[name])
    members["state"] = facts["state"]
    members.setdefault("is_held", False)


_CONVERTED: Final = frozenset(
    {"sha256", "sha256_device", "upload_id", "duplicate_of", "announced_at", "sealed_at"}
)


def _released(members: dict[str, Any], leaf: dict[str, Any], _facts: dict[str, Any]) -> None:
    members["released_at"] = _time_of(leaf)


def _ended(members: dict[str, Any], _leaf: dict[str, Any], _facts: dict[str, Any]) -> None:
    members["state"] = "expired"


def _asserted(members: dict[str, Any], leaf: dict[str, Any], facts: dict[str, Any]) -> None:
    """Somebody has said something; what the leaf has only a hash of is not known from it."""
    said = facts | {
        "clip_seq": leaf["clip_seq"],
        "asserted_by_kind": leaf["actor"]["kind"],
        "asserted_by_id": leaf["actor"]["id"],
        "asserted_at": _time_of(leaf),
        "request_id": leaf.get("request_id"),
    }
    members["assertions"] = [*members.get("assertions", []), said]


def _changed(members: dict[str, Any], leaf: dict[str, Any], facts: dict[str, Any]) -> None:
    """A code was asserted that decides when the clip is erased."""
    if "value" in facts:
        members[leaf["type"].removesuffix(".changed")] = facts["value"]
    _asserted(members, leaf, facts)


def _hold_placed(members: dict[str, Any], leaf: dict[str, Any], facts: dict[str, Any]) -> None:
    hold = facts | {
        "placed_by": leaf["actor"]["id"],
        "placed_at": _time_of(leaf),
        "released_at": None,
    }
    members["holds"] = members.get("holds", {}) | {facts["hold_id"]: hold}
    members["is_held"] = True


def _hold_released(members: dict[str, Any], leaf: dict[str, Any], facts: dict[str, Any]) -> None:
    placed: dict[str, Any] = members.get("holds", {})
    released = {
        "released_at": _time_of(leaf),
        "released_by": leaf["actor"]["id"],
        "released_authority": facts["authority"],
    }
    if facts["hold_id"] in placed:
        placed = placed | {facts["hold_id"]: placed[facts["hold_id"]] | released}
    members["holds"] = placed
    members["is_held"] = any(hold["released_at"] is None for hold in placed.values())


def _computed(members: dict[str, Any], _leaf: dict[str, Any], facts: dict[str, Any]) -> None:
    due = facts["erase_due_at"]
    members["erase_due_at"] = None if due is None else datetime.fromisoformat(due)
    members["retention"] = facts


def _erase_scheduled(members: dict[str, Any], leaf: dict[str, Any], facts: dict[str, Any]) -> None:
    members["state"] = "erase_pending"
    members["erasure"] = {
        "phase": "notice",
        "due_at": datetime.fromisoformat(facts["due_at"]),
        "scheduled_at": _time_of(leaf),
        "erase_after": datetime.fromisoformat(facts["erase_after"]),
        "intended_at": None,
        "executed_at": None,
    }


def _erase_intended(members: dict[str, Any], leaf: dict[str, Any], _facts: dict[str, Any]) -> None:
    step = {"phase": "intended", "intended_at": _time_of(leaf)}
    members["erasure"] = members.get("erasure", {}) | step


def _erase_blocked(members: dict[str, Any], _leaf: dict[str, Any], _facts: dict[str, Any]) -> None:
    step = {"phase": "notice", "intended_at": None}
    members["erasure"] = members.get("erasure", {}) | step


def _erase_restored(members: dict[str, Any], leaf: dict[str, Any], facts: dict[str, Any]) -> None:
    members["state"] = "secured"
    members["erasure"] = None
    if "authority" in facts:
        # By hand: a hold, or another date, moves nothing by itself.
        members["restored_at"] = _time_of(leaf)


def _erased(members: dict[str, Any], leaf: dict[str, Any], _facts: dict[str, Any]) -> None:
    members["state"] = "erased"
    step = {"phase": "executed", "executed_at": _time_of(leaf)}
    members["erasure"] = members.get("erasure", {}) | step


_FOLDS: Final[dict[str, Callable[[dict[str, Any], dict[str, Any], dict[str, Any]], None]]] = {
    "clip.announced": _announced,
    "upload.resumed": _resumed,
    "clip.sealed": _sealed,
    "hash.mismatch": _mismatched,
    "clip.quarantined": _quarantined,
    "clip.secured": _secured,
    "manifest.stored": _manifested,
    "release.issued": _released,
    "upload.expired": _ended,
    "upload.terminated": _ended,
    "clip.restored": _restored,
    "fixity.checked": _checked,
    "metadata.asserted": _asserted,
    "metadata.corrected": _asserted,
    "officer.reattributed": _asserted,
    "category.changed": _changed,
    "evidential_state.changed": _changed,
    "hold.placed": _hold_placed,
    "hold.released": _hold_released,
    "retention.computed": _computed,
    "erase.scheduled": _erase_scheduled,
    "erase.intended": _erase_intended,
    "erase.blocked": _erase_blocked,
    "erase.restored": _erase_restored,
    "erase.executed": _erased,
}


def _time_of(leaf: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(leaf["recorded_at"])


def _read_digest(facts: dict[str, Any], name: str) -> bytes | None:
    value = facts.get(name)
    return None if value is None else bytes.fromhex(value)


def _read_id(facts: dict[str, Any], name: str) -> UUID | None:
    value = facts.get(name)
    return None if value is None else UUID(value)
