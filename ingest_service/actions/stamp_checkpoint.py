"""Stamp: let a time authority vouch that the newest checkpoint existed by now."""

from ingest_service.actions.lock_object import lock_object
from ingest_service.domain.checkpoint import SignedCheckpoint, parse_checkpoint
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import (
    WORKER,
    CustodyEvent,
    Happening,
    format_time,
    make_device_events,
)
from ingest_service.domain.log_paths import timestamp_key
from ingest_service.domain.retention import ObjectLock
from ingest_service.domain.timestamp import TimestampInvalid, verify_timestamp
from ingest_service.errors import LogPartNotFound
from ingest_service.ledger import log
from ingest_service.ledger.connection import Pool, reading, writing
from ingest_service.ledger.custody import insert_device_events
from ingest_service.ledger.log import StoredTimestamp
from ingest_service.notary.timestamps import AuthorityFailed, TimeAuthority
from ingest_service.vault import Vault


async def stamp_checkpoint(
    *,
    pool: Pool,
    vault: Vault,
    authority: TimeAuthority,
    now: Clock,
    lock: ObjectLock | None = None,
) -> StoredTimestamp | None:
    """Have the newest published checkpoint stamped, if the last time stamp is old enough.

    The token goes to the bucket first, under its lock, then to the ledger with the event that
    holds its hash.
    None: it is not time yet, or the log has not grown.

    Raises:
        AuthorityFailed: no good time stamp was to be had; ask again later.
        VaultUnavailable, LedgerUnavailable: ask again later; a token in the bucket is taken up.
    """
    async with reading(pool) as connection:
        newest = await log.find_newest_checkpoint(connection, only_published=True)
        last = await log.find_newest_timestamp(connection)
    moment = now()
    if newest is None or (last is not None and moment - last.recorded_at < authority.interval):
        return None
    if last is not None and last.tree_size + 1 >= newest.tree_size:
        # Nothing new but the event of the last time stamp: a quiet log is not stamped for ever.
        return None
    signed = parse_checkpoint(newest.note)
    message = signed.body.encode()
    token, gen_time = await authority.stamp(message)
    key = timestamp_key(newest.tree_size)
    stored = await vault.put_new(key, token)
    if stored is None:
        # A run that died after this step, or another worker: its token is as good.
        token = b"".join([block async for block in vault.read(key, None)])
        try:
            gen_time = verify_timestamp(token, message, authority.roots)
        except TimestampInvalid as error:
            reason = f"the time stamp kept under {key} is none of this checkpoint: {error}"
            raise AuthorityFailed(reason) from error
    term = None if lock is None else lock.begin(moment)
    await lock_object(key, None if stored is None else stored.version, term=term, vault=vault)
    stamped = StoredTimestamp(newest.tree_size, newest.note, token, gen_time, moment)
    event = _describe(signed, stamped, authority)
    async with writing(pool) as connection:
        if not await log.insert_timestamp(connection, stamped):
            return None
        await insert_device_events(connection, [event])
    return stamped


def _describe(
    signed: SignedCheckpoint, stamped: StoredTimestamp, authority: TimeAuthority
) -> CustodyEvent:
    happening = Happening(
        "log.timestamped",
        WORKER,
        {
            "tree_size": stamped.tree_size,
            "root": signed.checkpoint.root.hex(),
            "token_sha256": stamped.token_sha256.hex(),
            "gen_time": format_time(stamped.gen_time),
            "authority": authority.url,
        },
    )
    (event,) = make_device_events(None, [happening], now=stamped.recorded_at)
    return event


async def get_timestamp(log_index: int | None, *, pool: Pool) -> StoredTimestamp:
    """Return the oldest time stamp that covers an index; with None the newest there is.

    Raises:
        LogPartNotFound: there is none (yet).
    """
    async with reading(pool) as connection:
        found = (
            await log.find_newest_timestamp(connection)
            if log_index is None
            else await log.find_covering_timestamp(connection, log_index)
        )
    if found is None:
        reason = "no time stamp covers this yet"
        raise LogPartNotFound(reason)
    return found
