"""The service watched from outside while a scenario runs: CPU, memory, connections, queues."""

import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import psutil

_INTERVAL_S: Final = 1.0
_FAMILY_AGE_S: Final = 10.0
_METRICS_EVERY: Final = 4
_METRICS_TIMEOUT_S: Final = 10.0
# What is read off /metrics, and how it is called in the report.
_METRICS: Final = {
    "ingest_clips_announced_total": "clips_made",
    "ingest_clips_secured_total": "clips_secured",
    "ingest_active_bodies": "active_bodies",
    "ingest_take_overs_total": "take_overs",
}
_MIB: Final = 1024 * 1024


class Family:
    """A role's processes: the first one and all below it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._members: dict[int, psutil.Process] = {}
        self._looked_at = 0.0
        # What a process had used when it was last seen stays in the sum after its end.
        self._cpu_s: dict[int, float] = {}

    def measure(self) -> tuple[float, int, int]:
        """Return CPU seconds so far, memory in bytes, and open files now."""
        self._look()
        rss_bytes, files = 0, 0
        for pid, process in list(self._members.items()):
            try:
                times = process.cpu_times()
                self._cpu_s[pid] = times.user + times.system
                rss_bytes += process.memory_info().rss
                files += process.num_fds()
            except psutil.Error:
                del self._members[pid]
        return sum(self._cpu_s.values()), rss_bytes, files

    def _look(self) -> None:
        # Looking for children reads all of /proc: seldom, for others pay for it.
        if time.monotonic() - self._looked_at < _FAMILY_AGE_S and self._members:
            return
        self._looked_at = time.monotonic()
        with suppress(psutil.Error):
            parent = psutil.Process(self._pid)
            for process in (parent, *parent.children(recursive=True)):
                self._members.setdefault(process.pid, process)


class Watch:
    """Samples once a second in a thread of its own.

    facts    as dev.json tells them
    samples  one mapping per second: at, <role>_cpu_s, <role>_rss_mib, <role>_files, ...
    """

    def __init__(
        self, facts: Mapping[str, Any], pids: Mapping[str, int], second_of_run: Callable[[], float]
    ) -> None:
        self._request = urllib.request.Request(  # noqa: S310 - the service's own address
            f"{facts['base_url']}/metrics",
            headers={"Authorization": f"Bearer {facts['tokens'].get('operator', '')}"},
        )
        self._families = {role: Family(pid) for role, pid in pids.items() if role != "dev"}
        self._now = second_of_run
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.samples: list[dict[str, float]] = []
        self._metrics_before = self._read_metrics()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Take a last sample and end."""
        self._stopping.set()
        self._thread.join()
        self._sample(with_metrics=True)

    def _run(self) -> None:
        count = 0
        while not self._stopping.wait(_INTERVAL_S):
            self._sample(with_metrics=count % _METRICS_EVERY == 0)
            count += 1

    def _sample(self, *, with_metrics: bool) -> None:
        sample: dict[str, float] = {"at": self._now(), "machine_cpu_s": _busy_s()}
        for role, family in self._families.items():
            cpu_s, rss_bytes, files = family.measure()
            sample |= {
                f"{role}_cpu_s": cpu_s,
                f"{role}_rss_mib": rss_bytes / _MIB,
                f"{role}_files": files,
            }
        if with_metrics:
            for name, value in self._read_metrics().items():
                before = 0.0 if name == "active_bodies" else self._metrics_before.get(name, 0.0)
                sample[name] = value - before
        self.samples.append(sample)

    def _read_metrics(self) -> dict[str, float]:
        """Return the sums of the metrics we know; nothing if they cannot be read now."""
        try:
            with urllib.request.urlopen(self._request, timeout=_METRICS_TIMEOUT_S) as answer:  # noqa: S310 - as above
                text: str = answer.read().decode()
        except (OSError, ValueError):
            return {}
        found: dict[str, float] = {}
        for line in text.splitlines():
            name, _, value = line.rpartition(" ")
            known = _METRICS.get(name.partition("{")[0])
            if known is not None:
                found[known] = found.get(known, 0.0) + float(value)
        return found


def describe_roles(
    samples: Sequence[Mapping[str, float]], roles: Mapping[str, Any]
) -> dict[str, Any]:
    """Return per role what it used between the first and the last sample, and its most memory."""
    described = {}
    for role in roles:
        own = [sample for sample in samples if f"{role}_cpu_s" in sample]
        if own:
            described[role] = {
                "cpu_s": own[-1][f"{role}_cpu_s"] - own[0][f"{role}_cpu_s"],
                "rss_max_mib": max(sample[f"{role}_rss_mib"] for sample in own),
                "files_max": max(sample[f"{role}_files"] for sample in own),
            }
    return described


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + getattr(times, "softirq", 0.0))
