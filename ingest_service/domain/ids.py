"""Identifiers that sort by time (UUID version 7, RFC 9562 section 5.7)."""

import secrets
from datetime import datetime
from uuid import UUID


def make_id(now: datetime) -> UUID:
    """Return a UUIDv7 of this instant: 48 bits of milliseconds, then 74 random bits."""
    milliseconds = int(now.timestamp() * 1000) & (2**48 - 1)
    random = int.from_bytes(secrets.token_bytes(10), "big")
    value = milliseconds << 80 | random
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)
