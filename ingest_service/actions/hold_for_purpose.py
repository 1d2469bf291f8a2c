"""A purpose-coded view places a hold: what was looked at in a complaint is not erased meanwhile."""

from uuid import UUID

from ingest_service.actions.place_hold import Order, place_hold
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import Actor
from ingest_service.domain.holds import Hold
from ingest_service.domain.retention import RetentionRules
from ingest_service.ledger.connection import Pool
from ingest_service.vault import Vault


async def hold_for_purpose(
    clip_id: UUID,
    purpose: str | None,
    actor: Actor,
    *,
    pool: Pool,
    vault: Vault,
    now: Clock,
    rules: RetentionRules,
    locks_objects: bool,
    request_id: str | None = None,
) -> Hold | None:
    """Hold the clip if the purpose asks for it, once; None: it does not.

    Raises:
        as `place_hold`: nothing may be handed out.
    """
    code = (purpose or "").strip().lower()
    kind = rules.purposes.get(code)
    if kind is None:
        return None
    order = Order(
        kind,
        f"purpose:{code}",
        f"looked at for the purpose '{code}'",
        actor,
        purpose=purpose,
        request_id=request_id,
        is_single=True,
    )
    return await place_hold(
        clip_id, order, pool=pool, vault=vault, now=now, locks_objects=locks_objects
    )
