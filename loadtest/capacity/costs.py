"""What a byte and a clip cost, as measured: loadtest/capacity/measured.toml."""

import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

MEASURED: Final = Path(__file__).parent / "measured.toml"
GIB_MB: Final = 1024**3 / 1e6


@dataclass(frozen=True, slots=True)
class Costs:
    """Measured figures, each with the command that printed them.

    api_*, jobs_*, postgres_*, store_*   CPU-seconds, user and system, of all their processes
    *_per_gib, *_per_chunk, *_per_clip   a clip costs all three
    transactions_*, wal_bytes_*  of the ledger
    api_base_mib        one API process without uploads
    api_mib_per_upload  more for each upload in progress
    """

    machine: str
    measured_on: str
    command: str
    hashlib_s_per_gib: float
    api_s_per_gib: float
    api_s_per_clip: float
    jobs_s_per_gib: float
    jobs_s_per_clip: float
    postgres_s_per_chunk: float
    postgres_s_per_clip: float
    store_s_per_gib: float
    store_s_per_clip: float
    transactions_per_chunk: float
    transactions_per_clip: float
    wal_bytes_per_chunk: float
    wal_bytes_per_clip: float
    ledger_bytes_per_clip: float
    events_per_clip: float
    api_base_mib: float
    api_mib_per_upload: float

    @property
    def api_s_per_mb(self) -> float:
        """CPU-seconds of the API per megabyte (10^6 bytes)."""
        return self.api_s_per_gib / GIB_MB

    @property
    def jobs_s_per_mb(self) -> float:
        """CPU-seconds of the jobs per megabyte read back."""
        return self.jobs_s_per_gib / GIB_MB

    @property
    def clip_cost_mb(self) -> float:
        """What a clip costs the API besides its bytes, as megabytes that cost the same."""
        return self.api_s_per_clip / self.api_s_per_mb


def load_costs(path: Path = MEASURED) -> Costs:
    """Read the measured figures."""
    return Costs(**tomllib.loads(path.read_text(encoding="utf-8")))


def save_costs(costs: Costs, path: Path = MEASURED) -> None:
    """Write measured figures, one a line."""
    lines = [f"# Written by `{costs.command}`; what each means: loadtest/capacity/costs.py"]
    for name, value in asdict(costs).items():
        lines.append(f'{name} = "{value}"' if isinstance(value, str) else f"{name} = {value:.6g}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
