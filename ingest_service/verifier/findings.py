"""What a check found, line by line, and what it comes to."""

from dataclasses import dataclass, field
from typing import Final, Literal

Verdict = Literal["holds", "fails", "not verifiable", "not checked"]

# 2 stays for calls that make no sense.
EXIT_HOLDS: Final = 0
EXIT_FAILS: Final = 1
EXIT_NOT_VERIFIABLE: Final = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One line.

    verdict  holds           shown by what lies here
             fails           shown to be otherwise
             not verifiable  asked for, but what lies here cannot show it either way
             not checked     not asked for; said, so that nobody takes it for shown
    subject  what was looked at: clip, log, checkpoint, ...
    """

    verdict: Verdict
    subject: str
    text: str


@dataclass(slots=True)
class Findings:
    """The lines of one check, in order."""

    lines: list[Finding] = field(default_factory=list)

    def holds(self, subject: str, text: str) -> None:
        """Say what was shown."""
        self.lines.append(Finding("holds", subject, text))

    def fails(self, subject: str, text: str) -> None:
        """Say what was shown to be otherwise."""
        self.lines.append(Finding("fails", subject, text))

    def not_verifiable(self, subject: str, text: str) -> None:
        """Say what was asked for and cannot be shown either way."""
        self.lines.append(Finding("not verifiable", subject, text))

    def not_checked(self, subject: str, text: str) -> None:
        """Say what was not looked at."""
        self.lines.append(Finding("not checked", subject, text))

    @property
    def exit_code(self) -> int:
        """What the lines come to: one failure outweighs all, one open question the rest."""
        verdicts = {line.verdict for line in self.lines}
        if "fails" in verdicts:
            return EXIT_FAILS
        return EXIT_NOT_VERIFIABLE if "not verifiable" in verdicts else EXIT_HOLDS
