"""What happens to each recording of the year: drawn once, from its number and a seed.

The shares are made so that 62.5 % of all clips are erased in the end, as the force reported of its
first year; and so that every way to stay, and every way to be erased, is gone by some.
"""

import hashlib
import random
from dataclasses import dataclass
from typing import Final, Literal

from ingest_service.domain.holds import HoldKind

Deed = Literal[
    "hold",
    "release",
    "view_for_complaint",
    "restore",
    "classify",
    "free",
    "late_hold",
    "disclose",
    "ask",
    "answer",
    "hold_incident",
    "come_back",
]

YEAR_DAYS: Final = 365
# Category -> days that it is kept at least; the others have the 31 of every clip.
LONGER: Final = {"public_order": 45, "use_of_force": 90}
SHORTEST_DAYS: Final = 31
NOTICE_DAYS: Final = 7
_CATEGORIES: Final = (
    ("patrol", 40),
    ("traffic_stop", 25),
    ("stop_and_search", 20),
    ("public_order", 8),
    ("use_of_force", 5),
    (None, 2),
)
_KINDS: Final[tuple[HoldKind, ...]] = ("evidence", "case", "subject_access_request", "legal")
# Shares of all clips, one after the other.
DAMAGED: Final = 0.001
_KEPT: Final = 0.36
# Shares of those that are kept.
_FREED: Final = 0.04
_LATE_KEPT: Final = 0.06
_DISCLOSED: Final = 0.12
# Shares of the others.
_HELD_FOR_EVER: Final = 0.045
_HELD_FOR_A_WHILE: Final = 0.06
_COMPLAINED: Final = 0.01
# Given to the defence, or to whom they show, and erased once the link has ended.
_GIVEN_OUT: Final = 0.005
_RESTORED: Final = 0.01
# Somebody whom they show has asked for them, and is answered within the month.
_ASKED_FOR: Final = 0.01
# All clips of an incident are held at once, after a dry run.
_HELD_TOGETHER: Final = 0.01
_TOO_LATE: Final = 0.005
_NEVER_CLASSIFIED: Final = 0.3
# Shares of all clips, whatever else would have become of them.
_BROKEN_OFF: Final = 0.02
_FOUND_AGAIN: Final = 0.4


@dataclass(frozen=True, slots=True)
class Fate:
    """One recording: what is announced, what is said of it, and what is done to it and when.

    number     counts from 0 through the year
    day        on which it comes in
    footage    its bytes
    state      evidential state that the shift's dispatch asserts; None: nobody says anything
    is_damaged  the camera announces another digest than its bytes have
    breaks_off  half of it is sent, then the camera is lost: the upload expires
    deeds      (days after its receipt, what, kind of hold); of one that breaks off only when its
               camera is found again, if ever
    """

    number: int
    day: int
    footage: bytes
    category: str | None
    state: str | None
    is_damaged: bool
    breaks_off: bool
    deeds: tuple[tuple[int, Deed, HoldKind], ...]

    @property
    def days(self) -> int:
        """How many days it is kept at least, by its category."""
        return LONGER.get(self.category or "", SHORTEST_DAYS)


def draw_fate(number: int, clips: int, seed: int, year_days: int = YEAR_DAYS) -> Fate:
    """Return what happens to recording `number` of so many; the same for the same seed."""
    chance = random.Random(f"{seed}:{number}")  # noqa: S311 - a plan, no secret
    [category] = chance.choices([c for c, _ in _CATEGORIES], [w for _, w in _CATEGORIES])
    days = LONGER.get(category or "", SHORTEST_DAYS)
    share = chance.random()
    state: str | None
    deeds: list[tuple[int, Deed, HoldKind]] = []
    if share < DAMAGED:
        state = None
    elif share < DAMAGED + _KEPT:
        state, deeds = _draw_kept(chance)
    else:
        state = None if chance.random() < _NEVER_CLASSIFIED else "non_evidential"
        deeds = _draw_passing(chance, days)
    breaks_off = chance.random() < _BROKEN_OFF and share >= DAMAGED
    if breaks_off:
        is_found = chance.random() < _FOUND_AGAIN
        deeds = [(chance.randint(9, 45), "come_back", "case")] if is_found else []
    return Fate(
        number,
        number * year_days // clips,
        make_footage(number, seed),
        category,
        state,
        share < DAMAGED,
        breaks_off,
        tuple(deeds),
    )


def make_footage(number: int, seed: int) -> bytes:
    """Return the bytes of a recording: some dozens, no two alike."""
    digest = hashlib.shake_128(f"{seed}:{number}".encode())
    return digest.digest(48 + number % 64)


def _draw_kept(chance: random.Random) -> tuple[str | None, list[tuple[int, Deed, HoldKind]]]:
    share = chance.random()
    state = "policing_purpose" if chance.random() < 0.2 else "evidential"  # noqa: PLR2004 - a share
    if share < _FREED:
        # The case is closed: nothing keeps the clip any more.
        return state, [(chance.randint(40, 120), "free", "case")]
    if share < _FREED + _LATE_KEPT:
        # Nobody has said so after the shift; the chase before its date makes somebody look.
        return None, [(chance.randint(25, 30), "classify", "case")]
    if share < _FREED + 2 * _LATE_KEPT:
        placed = chance.randint(1, 60)
        kind = chance.choice(_KINDS)
        return state, [(placed, "hold", kind), (placed + chance.randint(5, 60), "release", kind)]
    if share < _FREED + 2 * _LATE_KEPT + _DISCLOSED:
        return state, [(chance.randint(2, 40), "disclose", "case")]
    return state, []


def _draw_passing(chance: random.Random, days: int) -> list[tuple[int, Deed, HoldKind]]:
    kind = chance.choice(_KINDS)
    # Most holds come early; some while the erasure is announced, and call it off.
    placed = chance.choice((chance.randint(1, days - 2), chance.randint(days + 2, days + 6)))
    share = chance.random()
    bounds: tuple[tuple[float, list[tuple[int, Deed, HoldKind]]], ...] = (
        (_HELD_FOR_EVER, [(placed, "hold", kind)]),
        (
            _HELD_FOR_A_WHILE,
            [(placed, "hold", kind), (placed + chance.randint(5, 60), "release", kind)],
        ),
        (
            _COMPLAINED,
            [
                (placed, "view_for_complaint", "complaint"),
                (placed + chance.randint(10, 60), "release", "complaint"),
            ],
        ),
        (_GIVEN_OUT, [(placed, "disclose", kind)]),
        (_RESTORED, [(days + 4, "restore", kind)]),
        (_ASKED_FOR, [(placed, "ask", kind), (placed + chance.randint(5, 28), "answer", kind)]),
        (_HELD_TOGETHER, [(placed, "hold_incident", "legal")]),
        (_TOO_LATE, [(days + NOTICE_DAYS + 9, "late_hold", kind)]),
    )
    for width, deeds in bounds:
        if share < width:
            return deeds
        share -= width
    return []
