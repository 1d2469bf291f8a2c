"""What a dock tells its operator while it works."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Stage = Literal[
    "hashing", "announced", "sending", "sealing", "securing", "waiting", "done", "failed"
]


@dataclass(frozen=True, slots=True)
class Step:
    """Where one recording is.

    done_bytes  hashed or sent so far; bytes in flight count until their connection breaks
    note        a sentence for people: why it waits, what was found
    """

    path: Path
    stage: Stage
    done_bytes: int
    size_bytes: int
    note: str = ""


Observe: TypeAlias = Callable[[Step], None]
