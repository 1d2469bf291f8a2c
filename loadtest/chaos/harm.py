"""How each kind of fault is done."""

import asyncio
import random
import signal
from typing import Final

from loadtest.chaos.relay import Relay
from loadtest.chaos.s3_relay import Fault as S3Fault
from loadtest.chaos.s3_relay import Temper
from loadtest.chaos.stack import ChaosStack
from loadtest.chaos.timetable import Fault

KIB: Final = 1024
MIB: Final = 1024 * KIB

# Shortest and longest wait of a block; bytes a second of the whole link; bytes up to a reset.
_LATENCY_S: Final = {"docks": (0.02, 0.2), "s3": (0.02, 0.15), "postgres": (0.002, 0.03)}
_THROTTLE: Final = {"docks": 2 * MIB, "s3": 3 * MIB, "postgres": 300 * KIB}
_RESET_BYTES: Final = {"docks": MIB, "s3": 4 * MIB, "postgres": 128 * KIB}
_ANSWER_BYTES: Final = 1200
# Within what S3 bears of signatures (15 minutes), and far beyond it.
_JUMPS_S: Final = {"clock jumps ahead": (40, 600, 7200), "clock jumps back": (-40, -600, -7200)}

_S3_FAULTS: Final[dict[str, tuple[float, tuple[S3Fault, ...]]]] = {
    "answers cut short": (0.3, ("truncated",)),
    "burst of 500 and 503": (0.6, ("refused",)),
    "burst of SlowDown": (0.7, ("slow_down",)),
    "done, and answered by an error or not at all": (0.4, ("stored_refused", "stored_lost")),
    "200 with an error": (0.9, ("error_in_200",)),
}


async def do_harm(fault: Fault, chaos: ChaosStack, seeded: random.Random) -> str:
    """Do a fault and undo it after its time; return what was met by it.

    Raises:
        StackFailed: a standby was not promoted.
    """
    name, where = fault.kind.name, fault.kind.where
    if name in {"SIGKILL", "restart"}:
        return chaos.signal(where, signal.SIGKILL if name == "SIGKILL" else signal.SIGINT)
    if name == "SIGSTOP, SIGCONT":
        family = chaos.stop(where)
        try:
            await asyncio.sleep(fault.lasts_s)
        finally:
            chaos.resume(family)
        return f"{len(family)} processes"
    if name in _JUMPS_S:
        return await _set_clock(fault, chaos, seeded)
    if name == "failover to the standby":
        await chaos.fail_over()
        return "the standby is the primary"
    relay = chaos.relays[where]
    before = dict(relay.counts)
    if where == "s3" and name in _S3_FAULTS:
        share, faults = _S3_FAULTS[name]
        chaos.s3.temper = Temper(share, faults)
        try:
            await asyncio.sleep(fault.lasts_s)
        finally:
            chaos.s3.temper = Temper()
    else:
        await _change_weather(fault, relay, seeded)
    met = {what: count - before.get(what, 0) for what, count in relay.counts.items()}
    return ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in met.items() if count)


async def _set_clock(fault: Fault, chaos: ChaosStack, seeded: random.Random) -> str:
    offset_s = seeded.choice(_JUMPS_S[fault.kind.name])
    chaos.clock.jump(offset_s)
    try:
        await asyncio.sleep(fault.lasts_s)
    finally:
        chaos.clock.jump(0)
    return f"{offset_s:+d} s"


async def _change_weather(fault: Fault, relay: Relay, seeded: random.Random) -> None:
    weather, link = relay.weather, relay.name
    match fault.kind.name:
        case "latency":
            weather.latency_s = seeded.uniform(*_LATENCY_S[link])
        case "throttled":
            weather.bytes_s = _THROTTLE[link] * seeded.uniform(0.5, 1.5)
        case "resets at random bytes":
            weather.reset_bytes = _RESET_BYTES[link]
        case "answers cut short":
            weather.cut_bytes = _ANSWER_BYTES
        case "half-open connections":
            weather.is_hole = True
        case "all connections reset":
            relay.hang_up()
        case "nobody is let in" | "outage; all docks come back at once":
            weather.is_closed = True
            relay.hang_up()
        case unknown:
            raise ValueError(unknown)
    try:
        await asyncio.sleep(fault.lasts_s)
    finally:
        clear(relay, fault.kind.name)


def clear(relay: Relay, name: str) -> None:
    """Take one kind of fault off a link."""
    weather = relay.weather
    match name:
        case "latency":
            weather.latency_s = 0.0
        case "throttled":
            weather.bytes_s = None
        case "resets at random bytes":
            weather.reset_bytes = None
        case "answers cut short":
            weather.cut_bytes = None
        case "half-open connections":
            weather.is_hole = False
        case _:
            weather.is_closed = False
