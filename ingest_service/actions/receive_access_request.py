"""Take a subject access request in: from its receipt on the statutory clock runs."""

from datetime import datetime

from ingest_service.domain.access_request import AccessRequest, find_due_on
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import Actor, Happening, make_device_events
from ingest_service.domain.disclosure import make_salt
from ingest_service.domain.ids import make_id
from ingest_service.domain.principal import Principal
from ingest_service.errors import AccessRequestConflict, InvalidRequest
from ingest_service.ledger import access_requests, custody
from ingest_service.ledger.connection import Pool, writing


async def receive_access_request(
    reference: str,
    subject: str,
    received_at: datetime,
    principal: Principal,
    *,
    pool: Pool,
    now: Clock,
    request_id: str | None = None,
) -> AccessRequest:
    """Record a request and return it, with the day on which it is due.

    subject  a pseudonym

    Raises:
        InvalidRequest: it was received in the future.
        AccessRequestConflict: there is one of this reference.
    """
    async with writing(pool) as connection:
        moment = now()
        if received_at > moment:
            reason = "body.received_at: lies in the future"
            raise InvalidRequest(reason)
        made = AccessRequest(
            make_id(moment),
            reference,
            subject,
            make_salt(),
            received_at=received_at,
            due_on=find_due_on(received_at),
            made_by=principal.id,
            made_at=moment,
        )
        if not await access_requests.insert_request(connection, made):
            reason = f"there is one of the reference {reference}"
            raise AccessRequestConflict(reason)
        received = Happening(
            "sar.received", Actor.of(principal), made.describe(), request_id=request_id
        )
        events = make_device_events(None, [received], now=moment)
        await custody.insert_device_events(connection, events)
    return made
