"""Who works with the clips: the shift's dispatch, and custodians.

Each deed goes by the service's own action and is written into the simulation's books afterwards:
what the service has answered is what it is held to.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ingest_service.actions.assert_batch import assert_batch
from ingest_service.actions.assert_metadata import AssertTools, assert_metadata
from ingest_service.actions.hold_for_purpose import hold_for_purpose
from ingest_service.actions.place_hold import Order, place_hold
from ingest_service.actions.place_holds_in_bulk import place_holds, preview_hold
from ingest_service.actions.record_access import record_access
from ingest_service.actions.release_hold import release_hold
from ingest_service.actions.restore_clip import restore_clip
from ingest_service.dev.year.book import Book
from ingest_service.dev.year.persons import CUSTODIANS, DISPATCH
from ingest_service.dev.year.plan import Deed
from ingest_service.dev.year.prosecutors import Prosecutors
from ingest_service.dev.year.requesters import Requesters
from ingest_service.dev.year.service import Received, YearFailed
from ingest_service.domain.assertion import Statement
from ingest_service.domain.custody import Actor, Happening
from ingest_service.domain.holds import HoldKind
from ingest_service.domain.principal import Principal
from ingest_service.errors import AnotherPersonNeeded, ClipsNotDisclosable, ErasureBegun
from ingest_service.ledger.connection import reading
from ingest_service.ledger.queries import ClipFilter
from ingest_service.resources import Resources
from schemas.assertion import AssertionBatch

_BATCH_ITEMS: Final = 50
_BATCHES_AT_ONCE: Final = 4
# Prosecutors are given some clips of a case at once.
_CLIPS_PER_DISCLOSURE: Final = 5
_KEEPING: Final = frozenset({"evidential", "policing_purpose"})
# Of so many releases, one is tried first by whoever placed the hold.
_SELF_RELEASES: Final = 10
_ORDER_LASTS_DAYS: Final = 20
_LIST_GROUP: Final = "SELECT hold_id, clip_id FROM holds WHERE group_id = $1 ORDER BY clip_id"


@dataclass(slots=True)
class People:
    """Dispatch and custodians, their service, and the books."""

    opened: Resources
    book: Book
    prosecutors: Prosecutors
    requesters: Requesters
    releases: int = 0

    # --- the shift ---------------------------------------------------------------------------

    async def dispatch(self, day: int, received: Sequence[Received]) -> None:
        """Assert what computer-aided dispatch knows of a day's clips, by camera and interval."""
        said = [
            each for each in received if not each.fate.is_damaged and _list_fields(each) is not None
        ]
        batches = [
            (number, said[start : start + _BATCH_ITEMS])
            for number, start in enumerate(range(0, len(said), _BATCH_ITEMS))
        ]
        for start in range(0, len(batches), _BATCHES_AT_ONCE):
            some = batches[start : start + _BATCHES_AT_ONCE]
            await asyncio.gather(*[self._assert(f"cad-{day}-{n}", items) for n, items in some])

    async def _assert(self, key: str, some: Sequence[Received]) -> None:
        items = [
            {
                "device_serial": each.device_serial,
                "recorded_from": each.started_at,
                "recorded_to": each.ended_at,
                "fields": _list_fields(each),
            }
            for each in some
        ]
        batch = AssertionBatch.model_validate({"key": key, "source": "cad", "items": items})
        outcomes = await assert_batch(
            batch,
            DISPATCH,
            tools=self._tools,
            request_id=None,
        )
        asserted = [(each.clip_id, each.outcome) for each in outcomes]
        if asserted != [(each.clip_id, "asserted") for each in some]:
            message = f"the batch {key} was answered with {asserted}"
            raise YearFailed(message)
        for each in some:
            if each.fate.state in _KEEPING:
                self.book.note_kept(each.clip_id)

    def has_plans(self, day: int) -> bool:
        """Tell whether anybody has anything to do on a day."""
        return bool(self.book.list_deeds(day)) or self.prosecutors.has_plans(day)

    # --- custodians --------------------------------------------------------------------------

    async def do_deeds(self, day: int) -> None:
        """Do what is planned for a day."""
        deeds = self.book.list_deeds(day)
        for clip_id, deed, kind in deeds:
            try:
                await self._do(day, clip_id, deed, kind)
            except ErasureBegun:
                self.book.refused_holds += 1
        disclosed = [clip_id for clip_id, deed, _ in deeds if deed == "disclose"]
        for start in range(0, len(disclosed), _CLIPS_PER_DISCLOSURE):
            some = disclosed[start : start + _CLIPS_PER_DISCLOSURE]
            try:
                await self.prosecutors.disclose(day, some)
            except ClipsNotDisclosable:
                self.book.refused_holds += len(some)
        await self.prosecutors.revoke_mistaken(day)
        await self.prosecutors.try_ended(day)

    async def _do(  # noqa: C901 - a table
        self, day: int, clip_id: UUID, deed: Deed, kind: HoldKind
    ) -> None:
        match deed:
            case "hold" | "late_hold":
                await self._hold(clip_id, kind)
            case "view_for_complaint":
                await self._view(clip_id)
            case "release":
                await self._release(clip_id)
            case "restore":
                await self._restore(clip_id)
            case "classify":
                await self._say(clip_id, "evidential")
                self.book.note_kept(clip_id)
            case "free":
                await self._say(clip_id, "non_evidential")
                self.book.note_free(clip_id, self.opened.now())
            case "ask":
                await self.requesters.ask(clip_id)
            case "answer":
                await self.requesters.answer(clip_id)
            case "hold_incident":
                await self._hold_incident(day, clip_id)
            case "disclose":
                pass  # with others of the day: see `do_deeds`
            case "come_back":
                pass  # in the morning, with what comes in: see `Cameras`

    async def _hold(self, clip_id: UUID, kind: HoldKind) -> None:
        opened, person = self.opened, CUSTODIANS[clip_id.int % 2]
        order = Order(kind, f"{kind}/{clip_id.hex[-8:]}", "asked for", Actor.of(person))
        hold = await place_hold(
            clip_id,
            order,
            pool=opened.pool,
            vault=opened.vault,
            now=opened.now,
            locks_objects=opened.locks_objects,
        )
        self.book.note_hold(hold.hold_id, clip_id, person.id, opened.now())

    async def _hold_incident(self, day: int, clip_id: UUID) -> None:
        """Hold every clip of a clip's incident: counted first, and then exactly those."""
        opened, person = self.opened, CUSTODIANS[clip_id.int % 2]
        number = self.book.find_number(clip_id)
        if number is None:
            message = f"there is no clip {clip_id} in the books"
            raise YearFailed(message)
        asked = ClipFilter(incident=_name_incident(number))
        described = {"incident": asked.incident}
        order = Order("legal", f"ORDER/{asked.incident}", "preservation order", Actor.of(person))
        counted = await preview_hold(asked, described, person, pool=opened.pool, now=opened.now)
        done = await place_holds(
            counted.token,
            asked,
            described,
            order,
            person,
            confirm_count=counted.clip_count,
            pool=opened.pool,
            vault=opened.vault,
            now=opened.now,
            locks_objects=opened.locks_objects,
        )
        async with reading(opened.pool) as connection:
            held = await connection.fetch(_LIST_GROUP, counted.group_id)
        numbers = [self.book.find_number(row["clip_id"]) for row in held]
        if len(held) + len(done.refused) != counted.clip_count or any(
            each is None or _name_incident(each) != asked.incident for each in numbers
        ):
            message = f"the bulk hold of {asked.incident} held {numbers}"
            raise YearFailed(message)
        self.book.refused_holds += len(done.refused)
        self.book.bulk_holds += 1
        for row in held:
            self.book.note_hold(row["hold_id"], row["clip_id"], person.id, opened.now())
            self.book.note_deed(day + _ORDER_LASTS_DAYS, row["clip_id"], "release", "legal")

    async def _view(self, clip_id: UUID) -> None:
        """Look at a clip for a complaint: nobody thinks of holding it, the service does."""
        opened, person = self.opened, CUSTODIANS[clip_id.int % 2]
        actor = Actor.of(person)
        hold = await hold_for_purpose(
            clip_id,
            "complaint",
            actor,
            pool=opened.pool,
            vault=opened.vault,
            now=opened.now,
            rules=opened.retention,
            locks_objects=opened.locks_objects,
        )
        if hold is None:
            message = f"a view of {clip_id} for a complaint has placed no hold"
            raise YearFailed(message)
        streamed = Happening("footage.streamed", actor, purpose="complaint")
        await record_access(clip_id, streamed, pool=opened.pool, now=opened.now)
        self.book.note_hold(hold.hold_id, clip_id, person.id, opened.now())

    async def _release(self, clip_id: UUID) -> None:
        found = self.book.find_open_hold(clip_id)
        if found is None:
            # The hold was refused; see `late_hold`.
            return
        hold_id, placed_by = found
        self.releases += 1
        if self.releases % _SELF_RELEASES == 0:
            await self._try_self_release(hold_id, placed_by)
        other = next(person for person in CUSTODIANS if person.id != placed_by)
        await self._release_by(hold_id, other)
        self.book.note_release(hold_id, clip_id, self.opened.now())

    async def _try_self_release(self, hold_id: UUID, placed_by: str) -> None:
        same = next(person for person in CUSTODIANS if person.id == placed_by)
        try:
            await self._release_by(hold_id, same)
        except AnotherPersonNeeded:
            self.book.self_releases_refused += 1
            return
        message = f"{placed_by} has released a hold of their own: {hold_id}"
        raise YearFailed(message)

    async def _release_by(self, hold_id: UUID, person: Principal) -> None:
        opened = self.opened
        await release_hold(
            hold_id,
            person,
            authority="closed",
            pool=opened.pool,
            rules=opened.retention,
            now=opened.now,
            locks_objects=opened.locks_objects,
        )

    async def _restore(self, clip_id: UUID) -> None:
        opened = self.opened
        await restore_clip(
            clip_id,
            CUSTODIANS[0],
            authority="REQ",
            pool=opened.pool,
            rules=opened.retention,
            now=opened.now,
        )
        self.book.note_restored(clip_id, opened.now())

    async def _say(self, clip_id: UUID, state: str) -> None:
        said = Statement({"evidential_state": state}, Actor.of(CUSTODIANS[0]), "custodian")
        await assert_metadata(clip_id, said, tools=self._tools)

    @property
    def _tools(self) -> AssertTools:
        opened = self.opened
        return AssertTools(
            opened.pool, opened.vault, opened.directory, opened.retention, opened.now
        )


def _name_incident(number: int) -> str:
    """Return the incident that a recording belongs to: three cameras see each."""
    return f"CAD-{number // 3}"


def _list_fields(received: Received) -> dict[str, object] | None:
    """Return what dispatch knows of a clip; None: nothing."""
    fate = received.fate
    known = {"category": fate.category, "evidential_state": fate.state}
    said = {name: value for name, value in known.items() if value is not None}
    if said:
        said["incident_id"] = _name_incident(fate.number)
    return dict(said) or None
