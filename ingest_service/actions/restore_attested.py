"""Restore what second parties said of the log, from the bucket: time stamps and cosignatures."""

import hashlib
from collections.abc import Sequence
from datetime import datetime

from ingest_service.actions.audit_tools import read_object
from ingest_service.domain.checkpoint import format_signature, parse_checkpoint
from ingest_service.domain.cosignature import find_cosignature
from ingest_service.domain.custody import CustodyEvent
from ingest_service.domain.log_paths import COSIGNED_PREFIX, parse_cosigned_key, timestamp_key
from ingest_service.domain.note import NoteInvalid, VerifierKey
from ingest_service.domain.replay import LeafInvalid, parse_leaf
from ingest_service.errors import StoredBytesLost
from ingest_service.ledger import log
from ingest_service.ledger.connection import Connection
from ingest_service.ledger.log import StoredCheckpoint, StoredTimestamp
from ingest_service.vault import Vault


async def restore_timestamps(
    connection: Connection, events: Sequence[CustodyEvent], vault: Vault
) -> int:
    """Write the time stamps that `log.timestamped` events name; return how many are there still.

    The event holds the token's SHA-256, so nothing else can be put in its place. A token that no
    published event names is left: the next time stamp is got soon enough.

    Raises:
        VaultUnavailable, LedgerUnavailable: the caller's transaction ends.
    """
    restored = 0
    for event in events:
        try:
            stamped = await _read_timestamp(event, vault)
        except (StoredBytesLost, LeafInvalid, KeyError, TypeError, ValueError):
            continue
        if stamped is None or await log.find_checkpoint(connection, stamped.tree_size) is None:
            continue
        restored += await log.insert_timestamp(connection, stamped)
    return restored


async def _read_timestamp(event: CustodyEvent, vault: Vault) -> StoredTimestamp | None:
    facts = parse_leaf(event.leaf)["facts"]
    size = int(facts["tree_size"])
    token = await read_object(vault, timestamp_key(size))
    if hashlib.sha256(token).hexdigest() != facts["token_sha256"]:
        return None
    gen_time = datetime.fromisoformat(facts["gen_time"])
    return StoredTimestamp(size, "", token, gen_time, event.recorded_at)


async def restore_cosignatures(
    connection: Connection, witnesses: Sequence[VerifierKey], vault: Vault
) -> int:
    """Write the published cosignatures of these witnesses; return how many there are.

    Each is verified over the very checkpoint that was restored; others' lines are left out, for
    nothing is shown by them.

    Raises:
        VaultUnavailable, LedgerUnavailable: the caller's transaction ends.
    """
    if not witnesses:
        return 0
    restored = 0
    async for key in vault.list_keys(COSIGNED_PREFIX):
        size = parse_cosigned_key(key)
        ours = None if size is None else await log.find_checkpoint(connection, size)
        if ours is None:
            continue
        try:
            text = (await read_object(vault, key)).decode("utf-8", "replace")
        except StoredBytesLost:
            continue
        for name, line in _find_lines(text, ours, witnesses).items():
            await log.insert_cosignature(connection, ours.tree_size, name, line)
            restored += 1
    return restored


def _find_lines(
    text: str, ours: StoredCheckpoint, witnesses: Sequence[VerifierKey]
) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        signed = parse_checkpoint(text)
    except NoteInvalid:
        return found
    if signed.body != parse_checkpoint(ours.note).body:
        return found
    for witness in witnesses:
        try:
            is_cosigned = find_cosignature(signed, witness) is not None
        except NoteInvalid:
            continue
        if is_cosigned:
            line = next(
                line
                for line in signed.lines
                if (line.name, line.key_id.hex()) == (witness.name, witness.key_id)
            )
            found[witness.name] = format_signature(line.name, line.key_id.hex(), line.signature)
    return found
