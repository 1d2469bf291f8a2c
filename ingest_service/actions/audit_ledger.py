"""Audit: the ledger against itself, against what was published, and against the bucket.

Nothing is changed. Five steps, each in batches with a cursor, so that an audit of days can be
stopped and gone on with: log, chains, leaves, manifests, objects.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from ingest_service.actions.audit_bucket import audit_leaves, audit_manifests, audit_objects
from ingest_service.actions.audit_chains import audit_chains
from ingest_service.actions.audit_log import audit_log
from ingest_service.actions.audit_tools import AuditTools
from ingest_service.domain.audit import AuditState, StepName
from ingest_service.domain.note import NoteInvalid, VerifierKey, parse_verifier_key
from ingest_service.domain.replay import LeafInvalid, parse_leaf
from ingest_service.ledger import audit as rows
from ingest_service.ledger import log
from ingest_service.ledger.connection import Pool, reading

_STEPS: Final[dict[StepName, Callable[[AuditState, AuditTools], Awaitable[None]]]] = {
    "log": audit_log,
    "chains": audit_chains,
    "leaves": audit_leaves,
    "manifests": audit_manifests,
    "objects": audit_objects,
}


async def open_audit(*, pool: Pool, objects_share: float) -> AuditState:
    """Return the state of a new audit of the log as it is now.

    Raises:
        LedgerUnavailable: nothing was begun.
    """
    async with reading(pool) as connection:
        size = await log.get_size(connection)
    return AuditState(secrets.token_hex(16), objects_share, size)


async def audit_ledger(state: AuditState, tools: AuditTools) -> None:
    """Carry an audit to its end; the findings are in the state.

    `tools.save` is called after every batch with a state that can be gone on with.

    Raises:
        LedgerUnavailable, VaultUnavailable: the audit stops here; go on with the saved state.
    """
    while state.step is not None:
        began = time.monotonic()
        await _STEPS[state.step](state, tools)
        before = state.seconds.get(state.step, 0.0)
        state.seconds[state.step] = before + time.monotonic() - began
        state.finish_step()
        tools.save(state)
        # An interruption is noticed here at the latest.
        await asyncio.sleep(0)


async def find_log_keys(pool: Pool, trusted: Sequence[VerifierKey]) -> list[VerifierKey]:
    """Return the trusted keys and those that the log itself names as its earlier ones.

    The audit then holds those events to a root that a trusted key has signed.
    """
    async with reading(pool) as connection:
        leaves = await rows.list_key_rotations(connection)
    keys = list(trusted)
    for leaf in leaves:
        try:
            facts = parse_leaf(leaf)["facts"]
            named = [parse_verifier_key(str(facts[name])) for name in ("old_key", "new_key")]
        except (LeafInvalid, NoteInvalid, KeyError):
            continue
        keys += [key for key in named if key not in keys]
    return keys
