"""Link clips to a subject access request: from then on they are held for it."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from ingest_service.actions.find_access_requests import get_visible_request, lock_visible_request
from ingest_service.actions.hold_together import hold_prepared, prepare_clips
from ingest_service.actions.place_hold import Order
from ingest_service.domain.access_request import AccessRequest
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import Actor
from ingest_service.domain.disclosure import DisclosureRules
from ingest_service.domain.principal import Principal
from ingest_service.errors import AccessRequestConflict, DisclosureTooWide
from ingest_service.ledger import access_requests
from ingest_service.ledger.connection import Pool, writing
from ingest_service.vault import Vault

_HOLD_REASON: Final = "asked for by the person whom it shows"


async def link_access_request(
    access_request_id: UUID,
    clip_ids: Sequence[UUID],
    principal: Principal,
    *,
    pool: Pool,
    vault: Vault,
    now: Clock,
    rules: DisclosureRules,
    locks_objects: bool,
    request_id: str | None = None,
) -> None:
    """Hold all of these clips for a request, or none; those that are linked already stay so.

    Raises:
        AccessRequestNotFound: there is none.
        AccessRequestConflict: it was fulfilled.
        DisclosureTooWide: more clips than one request may have.
        ClipsNotDisclosable, ClipBusy, StoredBytesLost: as `hold_together`; nothing was linked.
    """
    found, linked = await get_visible_request(access_request_id, principal, pool=pool)
    known = {each.clip_id for each in linked}
    wanted = sorted(set(clip_ids) - known)
    _check_open(found)
    if len(known) + len(wanted) > rules.clips_max:
        raise DisclosureTooWide(rules.clips_max)
    if not wanted:
        return
    prepared = await prepare_clips(
        wanted, principal, pool=pool, vault=vault, now=now, locks_objects=locks_objects
    )
    async with writing(pool) as connection:
        found = await lock_visible_request(connection, access_request_id, principal)
        _check_open(found)
        linked = await access_requests.list_requested(connection, found.request_id)
        late = {each.clip_id for each in linked}
        prepared = [clip for clip in prepared if clip.clip_id not in late]
        if len(late) + len(prepared) > rules.clips_max:
            raise DisclosureTooWide(rules.clips_max)
        moment = now()
        order = Order(
            "subject_access_request",
            found.hold_authority,
            _HOLD_REASON,
            Actor.of(principal),
            group_id=found.request_id,
            request_id=request_id,
        )
        _, placed = await hold_prepared(
            connection, prepared, principal, order, moment, locks_objects=locks_objects
        )
        await access_requests.insert_requested(
            connection,
            found.request_id,
            {hold.clip_id: hold.hold_id for hold in placed},
            linked_by=principal.id,
            linked_at=moment,
        )


def _check_open(request: AccessRequest) -> None:
    if request.fulfilled_at is not None:
        reason = "it is fulfilled"
        raise AccessRequestConflict(reason)
