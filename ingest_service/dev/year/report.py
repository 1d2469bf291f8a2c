"""The table at the end of the year, and the bar until then."""

import sys
import time
from typing import Final

from ingest_service.dev.year.life import Progress
from ingest_service.dev.year.run import Outcome

_BAR: Final = 30
_WIDTH: Final = 50
_LINE_EVERY_S: Final = 10.0


class Bar:
    """Progress on a terminal as a bar, elsewhere as a line now and then."""

    def __init__(self) -> None:
        self._said_at = 0.0

    def tell(self, progress: Progress) -> None:
        """Show how far the year is."""
        filled = int(_BAR * progress.share)
        bar = "#" * filled + "." * (_BAR - filled)
        left = f"{progress.left_s / 60:.1f} min left"
        self._say(f"[{bar}] day {progress.day}, {progress.clips:,} clips received, {left}")

    def tell_judged(self, looked_at: int) -> None:
        """Show how many clips were looked at."""
        self._say(f"judged {looked_at:,} clips")

    def _say(self, text: str) -> None:
        now = time.monotonic()
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{text}")
        elif now - self._said_at >= _LINE_EVERY_S:
            self._said_at = now
            sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def end(self) -> None:
        """Leave the line."""
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")


def format_outcome(outcome: Outcome) -> str:
    """Return what became of every clip, what was done, and what must not be."""
    verdict = outcome.verdict
    total = sum(verdict.clips.values())
    lines = [
        f"{outcome.clips:,} clips in a year, {outcome.days} days until nothing was due any more",
        "",
        _row("what became of them", "clips", "share"),
        *[
            _row(name, f"{count:,}", f"{count / total:.1%}" if total else "")
            for name, count in sorted(verdict.clips.items())
        ],
        "",
        _row("what was done to them", "times", ""),
        *[_row(name, f"{count:,}", "") for name, count in sorted(outcome.deeds.items())],
        "",
        _row("what was seen", "count", ""),
        *[
            _row(name, f"{count:,}", "")
            for name, count in (outcome.figures | verdict.figures).items()
        ],
        "",
        _format_speed(outcome),
        "",
    ]
    if verdict.holds:
        lines.append("HOLDS: every clip is accounted for, and nothing was erased against an order.")
    for what, count in verdict.violations.most_common():
        lines.append(f"VIOLATED {count:,} times: {what}")
        lines += [f"    {example}" for example in verdict.examples[what]]
    return "\n".join(lines)


def _row(name: str, count: str, share: str) -> str:
    return f"{name:<{_WIDTH}}{count:>12}{share:>8}".rstrip()


def _format_speed(outcome: Outcome) -> str:
    received = outcome.clips / outcome.receiving_s if outcome.receiving_s else 0.0
    lived = outcome.clips / outcome.living_s if outcome.living_s else 0.0
    return (
        f"received {received:,.0f} clips/s; lived {lived:,.0f} clips/s "
        f"({outcome.living_s:,.0f} s); judged in {outcome.judging_s:,.0f} s"
    )
