"""People whom footage shows: they ask for it, it is held for them, and they get an answer."""

from dataclasses import dataclass, field
from uuid import UUID

from ingest_service.actions.find_access_requests import get_visible_request
from ingest_service.actions.fulfil_access_request import fulfil_access_request
from ingest_service.actions.link_access_request import link_access_request
from ingest_service.actions.receive_access_request import receive_access_request
from ingest_service.dev.year.book import Book
from ingest_service.dev.year.persons import ANSWERER, DISCLOSER
from ingest_service.dev.year.service import YearFailed
from ingest_service.errors import ClipsNotDisclosable
from ingest_service.resources import Resources


@dataclass(slots=True)
class Requesters:
    """Whoever has asked, and what is held for them until the answer.

    open_requests  clip -> (request, its hold)
    """

    opened: Resources
    book: Book
    open_requests: dict[UUID, tuple[UUID, UUID]] = field(default_factory=dict)

    async def ask(self, clip_id: UUID) -> None:
        """Take a request in, and hold the clip that it is for."""
        opened = self.opened
        request = await receive_access_request(
            f"SAR-{clip_id.hex}",
            f"subject-{clip_id.hex[-8:]}",
            opened.now(),
            DISCLOSER,
            pool=opened.pool,
            now=opened.now,
        )
        try:
            await link_access_request(
                request.request_id,
                [clip_id],
                DISCLOSER,
                pool=opened.pool,
                vault=opened.vault,
                now=opened.now,
                rules=opened.disclosing,
                locks_objects=opened.locks_objects,
            )
        except ClipsNotDisclosable:
            self.book.refused_holds += 1
            return
        _, [linked] = await get_visible_request(request.request_id, DISCLOSER, pool=opened.pool)
        self.book.note_hold(linked.hold_id, clip_id, DISCLOSER.id, opened.now())
        self.open_requests[clip_id] = (request.request_id, linked.hold_id)

    async def answer(self, clip_id: UUID) -> None:
        """Answer by another person, so that the hold ends with the answer."""
        opened = self.opened
        asked = self.open_requests.pop(clip_id, None)
        if asked is None:
            return
        request_id, hold_id = asked
        answered = await fulfil_access_request(
            request_id,
            ANSWERER,
            outcome="refused",
            disclosure_id=None,
            pool=opened.pool,
            now=opened.now,
            disclosing=opened.disclosing,
            rules=opened.retention,
            locks_objects=opened.locks_objects,
        )
        if answered.state_at(opened.now()) != "fulfilled":
            message = f"the request {request_id} was answered and is not fulfilled"
            raise YearFailed(message)
        self.book.note_release(hold_id, clip_id, opened.now())
        self.book.requests_answered += 1
