"""Ports on 127.0.0.1 that nobody listens on."""

import random
import socket
from collections.abc import Collection
from typing import Final

LOOPBACK: Final = "127.0.0.1"

# Below the range from which the kernel picks client ports (32768 on Linux): a port found here
# is not taken by some outgoing connection before its server starts.
_LOWEST: Final = 15_000
_HIGHEST: Final = 32_000


def is_port_free(port: int) -> bool:
    """Tell whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Connections of a server that has just stopped linger; they do not hinder the next one.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def find_free_port(*, avoiding: Collection[int] = ()) -> int:
    """Return a free port of 127.0.0.1 outside the range of client ports.

    Nothing holds it: the caller's server may still find it taken and try another.

    Raises:
        OSError: no free port was found in a thousand tries.
    """
    chooser = random.SystemRandom()
    for _ in range(1_000):
        port = chooser.randint(_LOWEST, _HIGHEST)
        if port not in avoiding and is_port_free(port):
            return port
    message = f"no free port between {_LOWEST} and {_HIGHEST} on {LOOPBACK}"
    raise OSError(message)
