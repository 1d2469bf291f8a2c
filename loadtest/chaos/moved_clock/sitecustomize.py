"""Loaded first by every Python that finds this folder in PYTHONPATH: the service's clock may jump.

The service reads the time of day in the modules named here, and nowhere else; there it finds an
offset added, which is read from the file that CHAOS_CLOCK_FILE names. What is monotonic is left
alone, as it is when somebody sets a machine's clock.
"""

import importlib.abc
import importlib.machinery
import os
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from types import ModuleType

CLOCKS = frozenset({"ingest_service.domain.clock", "ingest_service.vault.hot"})
_READ_EVERY_S = 0.2


class MovedDatetime(datetime):
    """`datetime` of which `now` is off by as much as the file says."""

    _offset = timedelta(0)
    _read_at = 0.0

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        """Return the moved time, as an ordinary datetime."""
        moment = time.monotonic()
        if moment - cls._read_at > _READ_EVERY_S:
            cls._offset = timedelta(seconds=_read_offset())
            cls._read_at = moment
        return datetime.now(tz) + cls._offset


def _read_offset() -> float:
    try:
        return float(Path(os.environ["CHAOS_CLOCK_FILE"]).read_text())
    except (KeyError, OSError, ValueError):
        return 0.0


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules that read the clock where they are, and moves it once they are loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in CLOCKS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        module.datetime = MovedDatetime  # type: ignore[attr-defined]


if "CHAOS_CLOCK_FILE" in os.environ:
    sys.meta_path.insert(0, _Finder())
