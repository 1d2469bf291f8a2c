"""State, evidential state and hold of a clip in one number, as the ledger's lists sort by it.

The ledger's function `clip_status` counts the same way.
"""

from typing import Final, get_args

from schemas.announcement import ClipState, EvidentialState

STATES: Final[tuple[str, ...]] = get_args(ClipState)
EVIDENTIAL_STATES: Final[tuple[str, ...]] = get_args(EvidentialState)
# Clips that come in, and are not settled yet.
COMING: Final = ("receiving", "finishing", "sealed")


def number_status(state: str, evidential_state: str, *, is_held: bool) -> int:
    """Return the number of a combination, 0 to 63; a settled clip's is 24 or more."""
    return STATES.index(state) * 8 + EVIDENTIAL_STATES.index(evidential_state) * 2 + is_held


def name_status(status: int) -> tuple[str, str, bool]:
    """Return state, evidential state and hold of a number."""
    return STATES[status // 8], EVIDENTIAL_STATES[status % 8 // 2], bool(status % 2)


def list_statuses(
    *, state: str | None, evidential_state: str | None, is_held: bool | None, is_settled: bool
) -> list[int]:
    """Return the numbers of settled (or coming) clips that are as asked; None = any."""
    return [
        number_status(each, evidential, is_held=held)
        for each in STATES
        if state in (None, each) and (each not in COMING) == is_settled
        for evidential in EVIDENTIAL_STATES
        if evidential_state in (None, evidential)
        for held in (False, True)
        if is_held in (None, held)
    ]
