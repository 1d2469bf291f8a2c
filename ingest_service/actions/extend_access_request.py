"""Give a subject access request more time: once, with a reason, before it is due."""

import hashlib
from uuid import UUID

from ingest_service.actions.find_access_requests import check_visible, lock_visible_request
from ingest_service.domain.access_request import AccessRequest, find_due_on
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import Actor, Happening, make_device_events
from ingest_service.domain.principal import Principal
from ingest_service.errors import AccessRequestConflict
from ingest_service.ledger import access_requests, custody
from ingest_service.ledger.connection import Pool, writing


async def extend_access_request(
    access_request_id: UUID,
    principal: Principal,
    *,
    months: int,
    reason: str,
    pool: Pool,
    now: Clock,
    request_id: str | None = None,
) -> AccessRequest:
    """Extend a request and return it; of the reason only a salted hash goes into the log.

    months  one or two, counted from the end of the first

    Raises:
        AccessRequestNotFound: there is none.
        AccessRequestConflict: it was fulfilled, extended before, or is overdue: the subject is told
            of an extension within the first month.
    """
    async with writing(pool) as connection:
        found = await lock_visible_request(connection, access_request_id, principal)
        moment = now()
        if (state := found.state_at(moment)) != "open" or found.extension_months:
            told = f"it is {state}" if state != "open" else "it was extended before"
            raise AccessRequestConflict(told)
        due_on = find_due_on(found.received_at, months)
        await access_requests.extend_request(
            connection,
            access_request_id,
            due_on=due_on,
            months=months,
            reason=reason,
            by=principal.id,
            at=moment,
        )
        extended = check_visible(
            await access_requests.find_request(connection, access_request_id),
            access_request_id,
            principal,
        )
        happening = Happening(
            "sar.extended",
            Actor.of(principal),
            {
                **extended.describe(),
                "months": months,
                "reason_sha256": hashlib.sha256(found.salt + reason.encode()).hexdigest(),
            },
            request_id=request_id,
        )
        events = make_device_events(None, [happening], now=moment)
        await custody.insert_device_events(connection, events)
    return extended
