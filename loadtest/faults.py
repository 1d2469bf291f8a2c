"""What docks suffer in the field, dealt out to them by share and seed."""

import random
from dataclasses import dataclass
from typing import Final, Literal

Surface = Literal["native", "tus"]
ClockFault = Literal["none", "drifted", "not_set", "in_the_future"]

_HOUR_MS: Final = 3_600_000
_DECADES_MS: Final = 56 * 365 * 24 * _HOUR_MS


@dataclass(frozen=True, slots=True)
class Shares:
    """How many docks suffer what, 0..1 each.

    tus         speak tus; the others the native API
    cut         lose their connection in the middle of a chunk, and resume
    repeated    send what was acknowledged already once more
    clock       have a camera whose clock is wrong
    """

    tus: float = 0.0
    cut: float = 0.0
    repeated: float = 0.0
    clock: float = 0.0


@dataclass(frozen=True, slots=True)
class Temper:
    """What one dock does and suffers.

    cut_at            share of the first chunk that is sent before the cut; None: no cut
    is_rude           the cut is a reset, not a close
    clock_error_ms    the device's clock minus true time
    """

    surface: Surface = "native"
    cut_at: float | None = None
    is_rude: bool = False
    is_repeated: bool = False
    clock_fault: ClockFault = "none"
    clock_error_ms: int = 0


def deal_temper(shares: Shares, seeded: random.Random) -> Temper:
    """Return the temper of one dock."""
    clock_fault: ClockFault = "none"
    error_ms = seeded.randint(-800, 800)
    is_cut = seeded.random() < shares.cut
    cut_at = seeded.uniform(0.05, 0.95)
    if seeded.random() < shares.clock:
        clock_fault = seeded.choice(("drifted", "not_set", "in_the_future"))
        error_ms = {
            "drifted": seeded.randint(-9 * _HOUR_MS, 9 * _HOUR_MS),
            "not_set": -_DECADES_MS,
            "in_the_future": _DECADES_MS // 2,
        }[clock_fault]
    return Temper(
        surface="tus" if seeded.random() < shares.tus else "native",
        cut_at=cut_at if is_cut else None,
        is_rude=seeded.random() < 0.5,  # noqa: PLR2004 - a coin
        is_repeated=seeded.random() < shares.repeated,
        clock_fault=clock_fault,
        clock_error_ms=error_ms,
    )
