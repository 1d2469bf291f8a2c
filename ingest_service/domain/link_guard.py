"""Who guesses at links is made to wait: a bucket of misses for each address."""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

ADDRESSES_MAX: Final = 10_000
_IPV6_NETWORK_BITS: Final = 64
_MINUTE_S: Final = 60.0


class LinkGuard:
    """Counts misses by address, of this process alone; a hit costs nothing.

    The bucket of an address holds `misses_per_minute`, and fills again at that rate. Nobody finds a
    link of 32 random bytes this way or without it: it is the ledger that is spared.

    monotonic   seconds
    """

    def __init__(
        self, misses_per_minute: int = 30, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._capacity = float(misses_per_minute)
        self._monotonic = monotonic
        # How full each bucket was, and when; the longest unused first.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def find_wait(self, address: str | None) -> int | None:
        """Return after how many seconds this address may ask again; None: now."""
        level = self._level(name_network(address))
        if level >= 1:
            return None
        return 1 + int((1 - level) * _MINUTE_S / self._capacity)

    def miss(self, address: str | None) -> None:
        """Note that somebody at this address has asked for a link that there is not."""
        network = name_network(address)
        level = self._level(network)
        self._buckets[network] = (max(0.0, level - 1), self._monotonic())
        self._buckets.move_to_end(network)
        if len(self._buckets) > ADDRESSES_MAX:
            self._buckets.popitem(last=False)

    def _level(self, network: str) -> float:
        level, since = self._buckets.get(network, (self._capacity, 0.0))
        filled = (self._monotonic() - since) * self._capacity / _MINUTE_S
        return min(self._capacity, level + filled)


def name_network(address: str | None) -> str:
    """Return whose bucket it is: of an IPv6 address the network, for a host has many."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if parsed.version == 4:  # noqa: PLR2004 - IPv4
        return str(parsed)
    return str(ipaddress.ip_network((parsed, _IPV6_NETWORK_BITS), strict=False))
