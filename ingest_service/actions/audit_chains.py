"""Audit of the chains: every clip's events without a gap, and the clip's row as they say."""

from typing import Any, Final
from uuid import UUID

from ingest_service.actions.audit_tools import BEFORE_ALL, AuditTools
from ingest_service.domain.audit import AuditState
from ingest_service.domain.replay import (
    CHECKED_MEMBERS,
    History,
    LeafInvalid,
    find_link_flaw,
    find_row_flaw,
    parse_leaf,
)
from ingest_service.ledger import audit as rows
from ingest_service.ledger.audit import ChainRow
from ingest_service.ledger.connection import reading

BATCH_CLIPS: Final = 1000
BATCH_EVENTS: Final = 5000
UNPLACED_MAX: Final = 100
# A clip that is coming in changes without events; these states are what events made of it.
_SETTLED: Final = frozenset({"sealed", "secured", "quarantined", "erase_pending", "erased"})
_COMING_IN: Final = frozenset({"receiving", "finishing"})


async def audit_chains(state: AuditState, tools: AuditTools) -> None:
    """Follow every clip's chain; then the events of no clip; then those without a place."""
    after = BEFORE_ALL if state.cursor is None else UUID(state.cursor)
    async with reading(tools.pool) as connection:
        total = await rows.count_clips(connection)
    while True:
        async with reading(tools.pool) as connection:
            batch = await rows.list_chains(connection, after, limit=BATCH_CLIPS)
        if not batch:
            break
        _follow(state, batch)
        after = batch[-1].clip_id
        state.cursor = str(after)
        tools.tell("chains", state.counts["clips followed"], total)
        tools.save(state)
    await _check_clipless(state, tools)
    async with reading(tools.pool) as connection:
        unplaced = await rows.list_unplaced(connection, limit=UNPLACED_MAX)
    for event_id in unplaced:
        detail = "it has no place in the log and waits for none"
        state.add("event", str(event_id), detail)


def _follow(state: AuditState, batch: list[ChainRow]) -> None:
    history = History()
    for number, row in enumerate(batch):
        if row.event is not None:
            _follow_event(state, row, history)
        is_last = number + 1 == len(batch) or batch[number + 1].clip_id != row.clip_id
        if is_last:
            state.counts["clips followed"] += 1
            _compare_clip(state, row, history)
            history = History()


def _follow_event(state: AuditState, row: ChainRow, history: History) -> None:
    event = row.event
    if event is None:
        return
    subject = f"{row.clip_id}/{event.clip_seq}"
    state.counts["events followed"] += 1
    try:
        leaf = parse_leaf(event.leaf)
        flaw = find_row_flaw(event, leaf)
        if flaw is not None:
            state.add("event", subject, flaw)
        flaw = find_link_flaw(history, leaf)
        if flaw is not None:
            state.add("chain", subject, flaw)
        # From here on as if it were right: one gap is told once.
        history.event_count = leaf["clip_seq"] if flaw is not None else history.event_count
        history.add(leaf, event.leaf_hash)
    except (LeafInvalid, KeyError, TypeError, ValueError) as error:
        state.add("event", subject, f"its leaf cannot be read: {error}")
        history.event_count += 1
        history.last_leaf_hash = event.leaf_hash


def _compare_clip(state: AuditState, row: ChainRow, history: History) -> None:
    clip, subject = row.clip, str(row.clip_id)
    if history.event_count == 0:
        state.add("chain", subject, "the clip has no events")
        return
    if clip["event_count"] != history.event_count:
        detail = f"the clip counts {clip['event_count']} events, {history.event_count} are there"
        state.add("chain", subject, detail)
    elif clip["last_leaf_hash"] != history.last_leaf_hash:
        state.add("chain", subject, "the clip does not end with the last of its events")
    for name in _list_differing(clip, history.members):
        detail = f"{name} is {_show(clip[name])}, its events say {_show(history.members.get(name))}"
        state.add("clip", subject, detail)


def _list_differing(clip: dict[str, Any], members: dict[str, Any]) -> list[str]:
    stated = members.get("state")
    if stated not in _SETTLED:
        is_same = clip["state"] == stated or (stated == "receiving" and clip["state"] in _COMING_IN)
        moved = [] if is_same or clip["state"] not in _SETTLED | _COMING_IN else ["state"]
        return moved if clip["is_held"] == members.get("is_held", False) else [*moved, "is_held"]
    # Without a receipt yet, and where the chain is older than manifests, both are None.
    return [name for name in CHECKED_MEMBERS if clip[name] != members.get(name)]


def _show(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


async def _check_clipless(state: AuditState, tools: AuditTools) -> None:
    after = BEFORE_ALL
    while True:
        async with reading(tools.pool) as connection:
            events = await rows.list_clipless_events(connection, after, limit=BATCH_EVENTS)
        if not events:
            return
        for event in events:
            state.counts["events followed"] += 1
            try:
                flaw = find_row_flaw(event, parse_leaf(event.leaf))
            except LeafInvalid as error:
                flaw = str(error)
            if flaw is not None:
                state.add("event", str(event.event_id), flaw)
        after = events[-1].event_id
