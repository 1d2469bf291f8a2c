"""Rotate: the log says by itself which key comes after which."""

from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import Actor, Happening, make_device_events
from ingest_service.domain.note import NoteInvalid, parse_verifier_key
from ingest_service.ledger.connection import Pool, writing
from ingest_service.ledger.custody import insert_device_events

OPERATOR: Actor = Actor("service", "ingest-key")


async def announce_rotation(old_key: str, new_key: str, *, pool: Pool, now: Clock) -> None:
    """Record `key.rotated`, which the old key then signs with the log: so it vouches for the new.

    Raises:
        NoteInvalid: these are not two keys of one log.
        LedgerUnavailable: it may or may not be recorded; a second time does no harm.
    """
    old, new = parse_verifier_key(old_key), parse_verifier_key(new_key)
    if old.name != new.name or old.key_id == new.key_id:
        message = "keys of one log have one name, and are not the same key"
        raise NoteInvalid(message)
    rotated = Happening("key.rotated", OPERATOR, {"old_key": old_key, "new_key": new_key})
    async with writing(pool) as connection:
        await insert_device_events(connection, make_device_events(None, [rotated], now=now()))
