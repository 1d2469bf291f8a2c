"""When a clip is to be erased, and why; for how long the store itself refuses to delete it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from uuid import UUID

from ingest_service.domain.custody import ChainHead
from ingest_service.domain.holds import HoldKind

LockMode = Literal["governance", "compliance"]
Basis = Literal["corrected_start", "synced_start", "received"]

_MEASURED_CLOCKS: Final = frozenset({"synced", "free_running"})


@dataclass(frozen=True, slots=True)
class ObjectLock:
    """The lock that is set on an object before its clip is secured.

    mode  'governance': who has the right for it may still delete; 'compliance': nobody may, not
          even by a lawful order
    """

    mode: LockMode
    lasts: timedelta

    def begin(self, moment: datetime) -> "LockTerm":
        """Return the lock that begins now; its end in whole seconds, as stores keep them."""
        until = (moment + self.lasts).replace(microsecond=0) + timedelta(seconds=1)
        return LockTerm(until, self.mode)


@dataclass(frozen=True, slots=True)
class LockTerm:
    """Until when the store refuses to delete one object, and whom."""

    until: datetime
    mode: LockMode


@dataclass(frozen=True, slots=True)
class RetentionRules:
    """The knobs of retention.

    floor              no clip is erased earlier than this after it was secured
    notice             between the scheduling of an erasure and the deletion; recoverable
    warning            before its date, somebody is told that a clip is still unclassified
    blocked_pause      after the store has refused a deletion
    deviation_share    so much more than forecast halts the erasing (0.2 = 20 %)
    deviation_clips    so few more never do
    clips_per_day_max  as many are scheduled, and as many deleted, on one day
    by_another         kinds of holds that whoever placed them may not release
    purposes           purpose code of an access -> kind of the hold that it places
    locks_objects      the store sets a legal hold on what is kept without a date
    """

    floor: timedelta = timedelta(days=31)
    notice: timedelta = timedelta(days=7)
    warning: timedelta = timedelta(days=7)
    blocked_pause: timedelta = timedelta(days=1)
    deviation_share: float = 0.2
    deviation_clips: int = 100
    clips_per_day_max: int = 50_000
    by_another: frozenset[HoldKind] = frozenset(
        {"evidence", "case", "subject_access_request", "complaint", "legal"}
    )
    purposes: Mapping[str, HoldKind] = field(default_factory=lambda: {"complaint": "complaint"})
    locks_objects: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a policy; a None category or state is any; None days: no automatic date."""

    category: str | None
    evidential_state: str | None
    days: int | None

    def applies_to(self, category: str | None, evidential_state: str) -> bool:
        """Tell whether a clip of this category and state falls under the rule."""
        return self.category in (None, category) and self.evidential_state in (
            None,
            evidential_state,
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """One version of a policy; in force once another person has approved it."""

    policy_id: str
    version: int
    rules: tuple[Rule, ...]
    effective_from: datetime
    reason: str
    made_by: str
    made_at: datetime
    approved_by: str | None = None
    approved_at: datetime | None = None

    @property
    def name(self) -> str:
        """How dates and certificates refer to it."""
        return f"{self.policy_id}/{self.version}"


@dataclass(frozen=True, slots=True)
class LivingClip:
    """A secured clip's life: its row, what was computed of it, and how far its erasure is.

    Names without a remark are those of `Clip`.

    basis_at      from which its days were counted so far; None before the first computing
    warned_at     when somebody was told that it is unclassified and will expire
    restored_at   when somebody took it back from an erasure
    phase         of its erasure: 'notice', 'intended', 'executed'; None = none
    due_at        when something is to be done about it; None: held, kept, or under way
    """

    clip_id: UUID
    state: str
    device_serial: str
    borough: str
    size_bytes: int | None
    sha256: bytes | None
    bucket: str | None
    object_key: str | None
    object_version: str | None
    category: str | None
    evidential_state: str
    clock_state: str
    started_at: datetime | None
    started_at_corrected: datetime | None
    announced_at: datetime
    secured_at: datetime | None
    is_held: bool
    erase_due_at: datetime | None
    event_count: int
    last_leaf_hash: bytes | None
    policy: str | None = None
    basis: Basis | None = None
    basis_at: datetime | None = None
    reason: str | None = None
    is_unclassified: bool | None = None
    computed_at: datetime | None = None
    warned_at: datetime | None = None
    restored_at: datetime | None = None
    due_at: datetime | None = None
    phase: str | None = None
    scheduled_at: datetime | None = None
    erase_after: datetime | None = None
    intended_at: datetime | None = None
    attempt: int | None = None

    @property
    def head(self) -> ChainHead:
        """Where the clip's chain of custody ends."""
        return ChainHead(self.clip_id, self.event_count, self.last_leaf_hash)


@dataclass(frozen=True, slots=True)
class Considered:
    """What was weighed for a clip's date; erase_due_at None = it asks to keep the clip.

    name  'default/1'; of a floor 'floor/secured' or 'floor/restored'
    """

    name: str
    category: str | None
    evidential_state: str | None
    days: float | None
    erase_due_at: datetime | None


@dataclass(frozen=True, slots=True)
class Decision:
    """A clip's date and everything that led to it.

    won   what asks for the latest date: a rule, or a floor; None where no rule applies: such a
          clip is kept
    rule  the longest of the rules
    lost  what applied as well, and asks for less
    """

    basis: Basis
    basis_at: datetime
    basis_reason: str
    erase_due_at: datetime | None
    won: Considered | None
    rule: Considered | None
    lost: tuple[Considered, ...]

    @property
    def policy(self) -> str | None:
        """By whose rule: policy and version."""
        return None if self.rule is None else self.rule.name

    @property
    def reason(self) -> str:
        """Why this date, in a sentence."""
        if self.won is None or self.rule is None:
            return "no rule applies: the clip is kept"
        if self.erase_due_at is None:
            return f"{self.rule.name} keeps the clip: {_describe(self.rule)}"
        why = f"{self.rule.name}: {self.rule.days:g} days, {_describe(self.rule)}"
        if self.won is self.rule:
            return why
        moment = self.won.name.removeprefix(_FLOOR)
        return f"{why}; not earlier than {self.won.days:g} days after it was {moment}"


def list_in_force(policies: Sequence[Policy], now: datetime) -> list[Policy]:
    """Return of each policy the newest approved version that is effective."""
    newest: dict[str, Policy] = {}
    for policy in sorted(policies, key=lambda each: each.version):
        if policy.approved_by is not None and policy.effective_from <= now:
            newest[policy.policy_id] = policy
    return [newest[policy_id] for policy_id in sorted(newest)]


def decide(clip: LivingClip, policies: Sequence[Policy], *, floor: timedelta) -> Decision:
    """Return when a secured clip is to be erased.

    policies  those in force

    The longest of all rules that apply wins. Counted from the start of the recording only where
    something bears it out; else from the receipt. What an earlier computing counted from is never
    undercut, and nothing is erased earlier than `floor` after its secure receipt.
    """
    basis, basis_at, why = _find_basis(clip, floor)
    considered = [
        Considered(
            policy.name,
            rule.category,
            rule.evidential_state,
            rule.days,
            None if rule.days is None else _add(basis_at, timedelta(days=rule.days)),
        )
        for policy in policies
        for rule in policy.rules
        if rule.applies_to(clip.category, clip.evidential_state)
    ]
    if not considered:
        return Decision(basis, basis_at, why, None, None, None, ())
    rule = max(considered, key=_rank)
    floors = (
        (f"{_FLOOR}secured", clip.secured_at or clip.announced_at),
        (f"{_FLOOR}restored", clip.restored_at),
    )
    considered += [
        Considered(name, None, None, floor / timedelta(days=1), _add(moment, floor))
        for name, moment in floors
        if moment is not None
    ]
    # The first of equals wins: a rule before a floor.
    won = max(considered, key=_rank)
    lost = tuple(each for each in considered if each is not won)
    return Decision(basis, basis_at, why, won.erase_due_at, won, rule, lost)


def is_changed(clip: LivingClip, decision: Decision) -> bool:
    """Tell whether a decision differs from what is recorded of the clip."""
    return (
        clip.computed_at is None
        or clip.erase_due_at != decision.erase_due_at
        or clip.basis_at != decision.basis_at
        or clip.policy != decision.policy
        or clip.is_unclassified != (clip.evidential_state == "unclassified")
    )


def _find_basis(clip: LivingClip, plausible: timedelta) -> tuple[Basis, datetime, str]:
    basis, moment, why = _find_start(clip, plausible)
    if clip.basis_at is not None and clip.basis_at > moment:
        return clip.basis or "received", clip.basis_at, "counted from this before; never earlier"
    return basis, moment, why


def _find_start(clip: LivingClip, plausible: timedelta) -> tuple[Basis, datetime, str]:
    received = clip.announced_at
    if clip.clock_state not in _MEASURED_CLOCKS:
        return "received", received, f"the clock was {clip.clock_state}"
    start: datetime | None
    basis: Basis
    if clip.started_at_corrected is not None:
        basis, start, why = "corrected_start", clip.started_at_corrected, "the clock was measured"
    elif clip.clock_state == "synced":
        basis, start, why = "synced_start", clip.started_at, "the clock was synced"
    else:
        return "received", received, "the clock ran free and was not measured"
    if start is None:
        return "received", received, "no start was recorded"
    if not received - plausible <= start <= received:
        # Else an edited 'recorded on' date would move the date of the erasure.
        return "received", received, "the recorded start is not borne out by the receipt"
    return basis, start, why


def _describe(considered: Considered) -> str:
    named = [
        f"{name} {value}"
        for name, value in (
            ("category", considered.category),
            ("evidential_state", considered.evidential_state),
        )
        if value is not None
    ]
    return ", ".join(named) or "every clip"


def _rank(considered: Considered) -> tuple[bool, datetime]:
    return considered.erase_due_at is None, considered.erase_due_at or _NEVER


_FLOOR: Final = "floor/"
_NEVER: Final = datetime.max.replace(tzinfo=UTC)


def _add(moment: datetime, days: timedelta) -> datetime | None:
    """Return the sum; None (kept) beyond the end of the calendar."""
    try:
        return moment + days
    except OverflowError:
        return None


def find_excess(
    actual: Mapping[str, tuple[int, int]],
    totals: Mapping[str, int],
    allowed: Mapping[str, int],
    rules: RetentionRules,
) -> dict[str, int]:
    """Return what is too much to be erased unseen: name -> count. Empty: go on.

    actual   day -> (how many are due or done, how many were forecast)
    totals   what would be done today, by kind
    allowed  what two people have allowed, by the same names
    """
    excess: dict[str, int] = {}
    for day, (count, expected) in actual.items():
        limit = expected + max(rules.deviation_clips, int(expected * rules.deviation_share))
        if count > max(limit, allowed.get(day, 0)):
            excess[day] = count
    return excess | {
        name: count
        for name, count in totals.items()
        if count > max(rules.clips_per_day_max, allowed.get(name, 0))
    }
