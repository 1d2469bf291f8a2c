"""What a generator counts: events by name, and times in HDR histograms that can be added up."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from hdrh.histogram import HdrHistogram

# Microseconds: 1 us to an hour, three digits.
_LOWEST_US: Final = 1
_HIGHEST_US: Final = 3_600_000_000
_DIGITS: Final = 3
PERCENTILES: Final = (50, 90, 99, 99.9, 100)


def _make_coarse() -> HdrHistogram:
    return HdrHistogram(_LOWEST_US, _HIGHEST_US, 2)


def make_histogram() -> HdrHistogram:
    """Return an empty histogram of microseconds."""
    return HdrHistogram(_LOWEST_US, _HIGHEST_US, _DIGITS)


@dataclass(slots=True)
class Tally:
    """Counts and times of one generator.

    counts    by name: announced, sealed, secured, failed, retries, resumes, cuts, repeats, ...
    errors    refusals and breaks by "step: what"
    service   per step, from the moment a request is sent to its answer
    first_byte_s, last_byte_s  second of the run at which footage began and ceased to flow
    response  per step, from the moment it was *meant* to be sent: a generator or service that
              stalls cannot hide the requests it held up (coordinated omission)
    """

    counts: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    service: dict[str, HdrHistogram] = field(default_factory=dict)
    response: dict[str, HdrHistogram] = field(default_factory=dict)
    first_byte_s: float | None = None
    last_byte_s: float | None = None
    _interval: HdrHistogram = field(default_factory=_make_coarse)

    def count(self, name: str, amount: int = 1) -> None:
        """Add to a count."""
        self.counts[name] += amount

    def time(self, step: str, service_s: float, response_s: float) -> None:
        """Record one answer."""
        if step not in self.service:
            self.service[step], self.response[step] = make_histogram(), make_histogram()
        self.service[step].record_value(_as_us(service_s))
        self.response[step].record_value(_as_us(response_s))
        self._interval.record_value(_as_us(response_s))

    def take_interval(self) -> str:
        """Return the response times of all steps since the last call, packed."""
        packed: str = self._interval.encode().decode()
        self._interval = _make_coarse()
        return packed

    def acknowledge(self, size_bytes: int, began_s: float, ended_s: float) -> None:
        """Record footage that the service says is durable."""
        self.count("acknowledged_bytes", size_bytes)
        if self.first_byte_s is None or began_s < self.first_byte_s:
            self.first_byte_s = began_s
        if self.last_byte_s is None or ended_s > self.last_byte_s:
            self.last_byte_s = ended_s

    def time_from_plan(self, milestone: str, response_s: float) -> None:
        """Record when a milestone was reached, from the intended start."""
        if milestone not in self.response:
            self.response[milestone] = make_histogram()
        self.response[milestone].record_value(_as_us(response_s))

    def pack(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        return {
            "counts": dict(self.counts),
            "errors": dict(self.errors),
            "bytes_flowed": [self.first_byte_s, self.last_byte_s],
            "service": {name: each.encode().decode() for name, each in self.service.items()},
            "response": {name: each.encode().decode() for name, each in self.response.items()},
        }

    def add(self, packed: dict[str, Any]) -> None:
        """Add what another generator packed."""
        self.counts.update(packed["counts"])
        self.errors.update(packed["errors"])
        first_s, last_s = packed["bytes_flowed"]
        if first_s is not None and last_s is not None:
            self.acknowledge(0, first_s, last_s)
        for mine, theirs in (
            (self.service, packed["service"]),
            (self.response, packed["response"]),
        ):
            for name, encoded in theirs.items():
                mine.setdefault(name, make_histogram()).decode_and_add(encoded)


def merge_intervals(packed: Iterable[str]) -> HdrHistogram:
    """Return one histogram of what several generators took in one interval."""
    merged = _make_coarse()
    for each in packed:
        merged.decode_and_add(each)
    return merged


def describe(histogram: HdrHistogram) -> dict[str, float]:
    """Return count, mean and percentiles, in milliseconds."""
    described: dict[str, float] = {
        "count": histogram.get_total_count(),
        "mean_ms": histogram.get_mean_value() / 1000,
    }
    for percentile in PERCENTILES:
        name = "max_ms" if percentile == PERCENTILES[-1] else f"p{percentile:g}_ms"
        described[name] = histogram.get_value_at_percentile(percentile) / 1000
    return described


def _as_us(seconds: float) -> int:
    return min(max(int(seconds * 1e6), _LOWEST_US), _HIGHEST_US)
