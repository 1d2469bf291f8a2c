"""A clock of the service's own that jumps, while everybody else's goes on."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Every Python that finds it in its path takes the time from the file; see sitecustomize.py there.
_FOLDER: Final = Path(__file__).parent / "moved_clock"


@dataclass(frozen=True, slots=True)
class JumpingClock:
    """What a service started with `environment` takes for the time of day.

    file  holds the offset in seconds; read several times a second by each process
    """

    file: Path

    def environment(self) -> dict[str, str]:
        """Return the variables that put a service under this clock, which goes right at first."""
        self.jump(0)
        inherited = os.environ.get("PYTHONPATH")
        paths = [str(_FOLDER), *([inherited] if inherited else [])]
        return {"CHAOS_CLOCK_FILE": str(self.file), "PYTHONPATH": os.pathsep.join(paths)}

    def jump(self, offset_s: int) -> None:
        """Set it so far ahead of the system's clock, or behind."""
        draft = self.file.with_suffix(".new")
        draft.write_text(str(offset_s))
        draft.replace(self.file)
