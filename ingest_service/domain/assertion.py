"""Assertions: who said what of a clip, and when. A later one never erases an earlier one."""

import hashlib
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID, uuid5

from ingest_service.domain.canonical import dump_canonical
from ingest_service.domain.clip import Clip, correct_time
from ingest_service.domain.custody import Actor, Happening
from ingest_service.domain.ids import make_id
from ingest_service.errors import CorrectionMismatch
from schemas.assertion import FIELDS_ALL

AsserterKind = Literal["person", "service", "policy", "station"]

SALT_BYTES: Final = 16
_DIRECTORY_KINDS: Final = {"officer_id": "officer", "category": "category"}
_EVENT_TYPES: Final = {
    "officer_id": "officer.reattributed",
    "category": "category.changed",
    "evidential_state": "evidential_state.changed",
}
# A code tells nothing of anybody; everything else may hold a name and enters leaves hashed.
_CODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")


@dataclass(frozen=True, slots=True)
class Assertion:
    """One assertion, as recorded.

    value, before     JSON values; None = nothing is said
    salt              16 random bytes that the hashes in its custody event were made with
    clip_seq          of that event: the order of a clip's assertions
    corrects          the earlier assertion that was wrong
    """

    assertion_id: UUID
    clip_id: UUID
    clip_seq: int
    field: str
    value: Any
    before: Any
    salt: bytes
    source: str
    asserted_by_kind: AsserterKind
    asserted_by_id: str
    asserted_at: datetime
    corrects: UUID | None
    request_id: str | None
    batch_key: str | None = None
    batch_item: int | None = None


@dataclass(frozen=True, slots=True)
class Statement:
    """What somebody asks to be recorded of a clip.

    fields    values by field, as `schemas.assertion.AssertedFields.said`
    corrects  earlier assertions that were wrong, at most one per field
    """

    fields: Mapping[str, Any]
    actor: Actor
    source: str
    corrects: Sequence[UUID] = ()
    request_id: str | None = None
    batch_key: str | None = None
    batch_item: int | None = None


def announced_values(clip: Clip, later: Iterable[Assertion]) -> dict[str, Any]:
    """Return what the dock said of each field: what stood there before the first assertion."""
    values = current_values(clip)
    values["clock_offset_ms"] = clip.clock_offset_ms
    seen: set[str] = set()
    for assertion in later:
        if assertion.field not in seen:
            seen.add(assertion.field)
            values[assertion.field] = assertion.before
    return values


def current_values(clip: Clip) -> dict[str, Any]:
    """Return the asserted fields of which `clips` has the present value."""
    return {
        "officer_id": clip.officer_id,
        "category": clip.category,
        "evidential_state": clip.evidential_state,
        "incident_id": clip.incident_id,
        "crime_ref": clip.crime_ref,
        "exhibit_ref": clip.exhibit_ref,
        "title": clip.title,
        "tags": clip.tags,
    }


def list_all(clip: Clip, later: Sequence[Assertion]) -> list[Assertion]:
    """Return what was ever said of a clip, oldest first, the announcement's values included.

    Those were never written as assertions: bringing footage in does not wait for them. Their ids
    follow from the clip and the field.
    """
    return [*_announced(clip, later), *later]


def _announced(clip: Clip, later: Sequence[Assertion]) -> list[Assertion]:
    return [
        Assertion(
            assertion_id=announced_id(clip.clip_id, field),
            clip_id=clip.clip_id,
            clip_seq=0,
            field=field,
            value=value,
            before=None,
            salt=b"",
            source="dock",
            asserted_by_kind="station",
            asserted_by_id=clip.station_id,
            asserted_at=clip.announced_at,
            corrects=None,
            request_id=None,
        )
        for field, value in announced_values(clip, later).items()
        if value is not None
    ]


def announced_id(clip_id: UUID, field: str) -> UUID:
    """Return the id under which a value of the announcement can be corrected."""
    return uuid5(clip_id, field)


def believe_at(clip: Clip, later: Sequence[Assertion], moment: datetime) -> Clip:
    """Return the clip with its asserted fields as they were believed at a moment; raw is raw."""
    values = announced_values(clip, later)
    for assertion in later:
        if assertion.asserted_at <= moment:
            values[assertion.field] = assertion.value
    return _with_values(clip, values)


def assert_fields(
    clip: Clip,
    later: Sequence[Assertion],
    said: Statement,
    known: Callable[[str, str], bool],
    *,
    now: datetime,
) -> tuple[Clip, list[Assertion], list[Happening]]:
    """Return the clip as it is believed from now on, the assertions, and their custody events.

    later  the clip's recorded assertions, in order
    known  tells whether the directory has an entry: (kind, id)

    Raises:
        CorrectionMismatch: `corrects` names what is no assertion of these fields of this clip.
    """
    corrected = _match_corrections(clip, later, said)
    values = announced_values(clip, later)
    for assertion in later:
        values[assertion.field] = assertion.value
    made: list[Assertion] = []
    happenings: list[Happening] = []
    for number, field in enumerate(name for name in FIELDS_ALL if name in said.fields):
        assertion = Assertion(
            assertion_id=make_id(now),
            clip_id=clip.clip_id,
            clip_seq=clip.event_count + number,
            field=field,
            value=said.fields[field],
            before=values[field],
            salt=secrets.token_bytes(SALT_BYTES),
            source=said.source,
            asserted_by_kind=_kind_of(said.actor),
            asserted_by_id=said.actor.id,
            asserted_at=now,
            corrects=corrected.get(field),
            request_id=said.request_id,
            batch_key=said.batch_key,
            batch_item=said.batch_item,
        )
        made.append(assertion)
        happenings.append(_describe(assertion, said.actor))
    values.update(said.fields)
    believed = _with_values(clip, values)
    flags = _judge_again(clip.flags, said.fields, known)
    return replace(believed, flags=flags), made, happenings


def replay_assertions(
    clip_id: UUID, announced: Mapping[str, Any], told: Sequence[Mapping[str, Any]]
) -> tuple[list[Assertion], int]:
    """Return the assertions that a clip's events tell in clear, and how many they do not.

    announced  what the dock said of the fields
    told       facts of the events, in order, with who, when and `clip_seq`

    Of free text events hold a salted hash: the text, and every salt, were in the lost ledger. Where
    one of a field is lost, what it said is not known to the next one either: `before` is what
    was known last.
    """
    values = dict(announced)
    found: list[Assertion] = []
    for facts in told:
        field = facts["field"]
        if "value" not in facts:
            continue
        kind: AsserterKind = "person" if facts["asserted_by_kind"] == "person" else "service"
        corrects = facts["corrects"]
        found.append(
            Assertion(
                assertion_id=UUID(facts["assertion_id"]),
                clip_id=clip_id,
                clip_seq=facts["clip_seq"],
                field=field,
                value=facts["value"],
                before=facts.get("before", values.get(field)),
                salt=bytes(SALT_BYTES),
                source=facts["source"],
                asserted_by_kind=kind,
                asserted_by_id=facts["asserted_by_id"],
                asserted_at=facts["asserted_at"],
                corrects=None if corrects is None else UUID(corrects),
                request_id=facts["request_id"],
            )
        )
        values[field] = facts["value"]
    return found, len(told) - len(found)


def hash_value(salt: bytes, value: Any) -> str:  # noqa: ANN401 - anything JSON can hold
    """Return SHA-256, in hex, of the salt and the value as canonical JSON."""
    return hashlib.sha256(salt + dump_canonical(value)).hexdigest()


def _kind_of(actor: Actor) -> AsserterKind:
    return "person" if actor.kind == "person" else "service"


def _match_corrections(clip: Clip, later: Sequence[Assertion], said: Statement) -> dict[str, UUID]:
    fields = {each.assertion_id: each.field for each in list_all(clip, later)}
    corrected: dict[str, UUID] = {}
    for assertion_id in said.corrects:
        field = fields.get(assertion_id)
        if field is None or field not in said.fields or field in corrected:
            raise CorrectionMismatch(assertion_id)
        corrected[field] = assertion_id
    return corrected


def _describe(assertion: Assertion, actor: Actor) -> Happening:
    field = assertion.field
    facts: dict[str, Any] = {
        "assertion_id": str(assertion.assertion_id),
        "field": field,
        "source": assertion.source,
        "corrects": None if assertion.corrects is None else str(assertion.corrects),
        **_show("value", assertion),
        **_show("before", assertion),
    }
    said_type = "metadata.asserted" if assertion.corrects is None else "metadata.corrected"
    is_change = assertion.value != assertion.before
    event_type = _EVENT_TYPES.get(field, said_type) if is_change else said_type
    return Happening(event_type, actor, facts, request_id=assertion.request_id)


def _show(name: str, assertion: Assertion) -> dict[str, Any]:
    """Return a value for the leaf: codes and numbers in clear, free text as a salted hash."""
    value = getattr(assertion, name)
    is_code = isinstance(value, str) and _CODE.fullmatch(value) is not None
    if value is None or isinstance(value, int) or (assertion.field in _EVENT_TYPES and is_code):
        return {name: value}
    return {f"{name}_sha256": hash_value(assertion.salt, value)}


def _with_values(clip: Clip, values: Mapping[str, Any]) -> Clip:
    offset_ms = values["clock_offset_ms"]
    kept = {name: value for name, value in values.items() if name != "clock_offset_ms"}
    return replace(clip, **kept, started_at_corrected=correct_time(clip.started_at, offset_ms))


def _judge_again(
    flags: Sequence[str], said: Mapping[str, Any], known: Callable[[str, str], bool]
) -> list[str]:
    """Return the flags after what was said: an unknown officer is flagged, never refused."""
    kept = list(flags)
    for field, kind in _DIRECTORY_KINDS.items():
        if field not in said:
            continue
        kept = [flag for flag in kept if flag not in (f"{kind}_missing", f"{kind}_unknown")]
        value = said[field]
        if value is None:
            kept.append(f"{kind}_missing")
        elif not known(kind, value):
            kept.append(f"{kind}_unknown")
    return kept
