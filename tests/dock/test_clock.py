from datetime import UTC, datetime

from ingest_service.dock.clock import measure_clock
from schemas.announcement import ServerTime


class Network:
    """Ticks while a question travels there (first) and back (second), in seconds."""

    def __init__(self, trips: list[tuple[float, float]], *, ahead_s: float):
        self.trips = iter(trips)
        self.ahead_s = ahead_s
        self.elapsed_s = 0.0

    def monotonic(self) -> float:
        return self.elapsed_s

    def now(self) -> float:
        return 1_000_000_000 + self.elapsed_s

    async def ask(self) -> ServerTime:
        there_s, back_s = next(self.trips)
        self.elapsed_s += there_s
        moment = datetime.fromtimestamp(self.now() + self.ahead_s, UTC)
        self.elapsed_s += back_s
        return ServerTime(now=moment, unix_ms=int(moment.timestamp() * 1000))


async def measure(network: Network):
    return await measure_clock(
        network.ask, now=network.now, monotonic=network.monotonic, sample_count=3
    )


async def test_the_quickest_answer_decides():
    network = Network([(0.9, 0.1), (0.002, 0.001), (0.1, 0.9)], ahead_s=-420)

    reading = await measure(network)

    assert (reading.offset_ms, reading.uncertainty_ms) == (-420_000, 2)


async def test_the_true_offset_lies_within_the_uncertainty_on_a_lopsided_link():
    network = Network([(0.4, 0.05), (0.3, 0.01), (0.5, 0.0)], ahead_s=5)

    reading = await measure(network)

    assert abs(reading.offset_ms - 5_000) <= reading.uncertainty_ms <= 156
