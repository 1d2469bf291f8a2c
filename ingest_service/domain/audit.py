"""What an audit found, how far it is, and which objects it reads again."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from uuid import UUID

FORMAT: Final = "ingest-audit/1"
FINDINGS_PER_CHECK_MAX: Final = 100

Verdict = Literal["fail", "not_verifiable"]
StepName = Literal["log", "chains", "leaves", "manifests", "objects"]
STEPS: Final[tuple[StepName, ...]] = ("log", "chains", "leaves", "manifests", "objects")


class StateInvalid(ValueError):
    """Not the state of an audit that this version can go on with; the message says why."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that does not hold, or that cannot be checked."""

    check: str
    verdict: Verdict
    subject: str
    detail: str


@dataclass(slots=True)
class AuditState:
    """How far an audit is; what it has found. Written to a file, it is gone on with from there.

    seed           chooses the objects that are read again
    objects_share  0..1
    tree_size      leaves of the log when the audit began; later ones are for the next audit
    step, cursor   the step that is next or under way, and where in it; None at its beginning
    edge           the open tiles over the leaves that were hashed
    counts         what was looked at, by name
    seconds        how long each step took
    """

    seed: str
    objects_share: float
    tree_size: int
    step: StepName | None = "log"
    cursor: str | None = None
    edge: dict[int, bytes] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    found: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def add(self, check: str, subject: str, detail: str, verdict: Verdict = "fail") -> None:
        """Note a finding; of each check the first hundred are kept, all are counted."""
        self.found[f"{check}:{verdict}"] += 1
        kept = sum(each.check == check for each in self.findings)
        if kept < FINDINGS_PER_CHECK_MAX:
            self.findings.append(Finding(check, verdict, subject, detail))

    def finish_step(self) -> None:
        """Go on with the next step; None after the last."""
        following = STEPS[STEPS.index(self.step) + 1 :] if self.step is not None else ()
        self.step = following[0] if following else None
        self.cursor = None

    def count(self, verdict: Verdict) -> int:
        """Return how many findings there are of one verdict."""
        return sum(number for name, number in self.found.items() if name.endswith(f":{verdict}"))

    def dump(self) -> dict[str, Any]:
        """Return the state as JSON values."""
        return {
            "format": FORMAT,
            "seed": self.seed,
            "objects_share": self.objects_share,
            "tree_size": self.tree_size,
            "step": self.step,
            "cursor": self.cursor,
            "edge": {str(level): tile.hex() for level, tile in self.edge.items()},
            "counts": dict(self.counts),
            "seconds": {step: round(spent, 3) for step, spent in self.seconds.items()},
            "found": dict(self.found),
            "findings": [
                {"check": f.check, "verdict": f.verdict, "subject": f.subject, "detail": f.detail}
                for f in self.findings
            ],
        }

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> "AuditState":
        """Return what `dump` gave.

        Raises:
            StateInvalid: another form.
        """
        try:
            if dumped["format"] != FORMAT:
                message = f"the state is of the unknown form {dumped['format']}"
                raise StateInvalid(message)
            if dumped["step"] is not None and dumped["step"] not in STEPS:
                message = f"there is no step {dumped['step']}"
                raise StateInvalid(message)
            return cls(
                seed=str(dumped["seed"]),
                objects_share=float(dumped["objects_share"]),
                tree_size=int(dumped["tree_size"]),
                step=dumped["step"],
                cursor=dumped["cursor"],
                edge={int(level): bytes.fromhex(tile) for level, tile in dumped["edge"].items()},
                counts=Counter(dumped["counts"]),
                seconds=dict(dumped["seconds"]),
                found=Counter(dumped["found"]),
                findings=[Finding(**each) for each in dumped["findings"]],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, StateInvalid):
                raise
            message = f"not the state of an audit: {error}"
            raise StateInvalid(message) from error


def is_chosen(clip_id: UUID, *, seed: str, share: float) -> bool:
    """Tell whether an audit reads this clip's object: by chance, but the same after a restart."""
    digest = hashlib.sha256(seed.encode() + clip_id.bytes).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64
