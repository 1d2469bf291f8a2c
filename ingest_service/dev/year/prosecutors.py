"""Prosecutors: clips are disclosed to them for some weeks, and they fetch each of them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

from ingest_service.actions.disclose_clips import DisclosureOrder, disclose_clips
from ingest_service.actions.revoke_disclosure import revoke_disclosure
from ingest_service.actions.use_link import Use, check_use, find_link, record_use
from ingest_service.dev.year.book import Book
from ingest_service.dev.year.persons import DISCLOSER
from ingest_service.dev.year.service import YearFailed
from ingest_service.domain.disclosure import Disclosure, Recipient
from ingest_service.errors import LinkEnded
from ingest_service.resources import Resources

# One in so many is a mistake, which is noticed after some days.
_MISTAKEN: Final = 7
_NOTICED_DAYS: Final = 3
_LINK_LASTS: Final = timedelta(days=28)


@dataclass(slots=True)
class Prosecutors:
    """Whoever has a link, and those that end one day.

    links     day of their end -> (disclosure, its token)
    mistaken  day on which somebody notices that they went to the wrong people -> the same
    given     how many there were
    """

    opened: Resources
    book: Book
    links: dict[int, list[tuple[Disclosure, str]]] = field(default_factory=dict)
    mistaken: dict[int, list[tuple[Disclosure, str]]] = field(default_factory=dict)
    given: int = 0

    def has_plans(self, day: int) -> bool:
        """Tell whether a link is to be tried on a day, or revoked."""
        return day - 1 in self.links or day in self.mistaken

    async def try_ended(self, day: int) -> None:
        """Try the links whose time ended yesterday: they must open nothing."""
        for disclosure, token in self.links.pop(day - 1, []):
            await self._check_ended(disclosure, token)

    async def revoke_mistaken(self, day: int) -> None:
        """Revoke what went to the wrong people: from then on their links open nothing."""
        for disclosure, token in self.mistaken.pop(day, []):
            await revoke_disclosure(
                disclosure.disclosure_id,
                DISCLOSER,
                authority="sent to the wrong chambers",
                pool=self.opened.pool,
                now=self.opened.now,
            )
            await self._check_ended(disclosure, token)
            self.book.links_revoked += 1

    async def disclose(self, day: int, clip_ids: Sequence[UUID]) -> None:
        """Disclose clips; their recipient accepts the terms and fetches each of them."""
        opened = self.opened
        expires_at = opened.now() + _LINK_LASTS
        order = DisclosureOrder(
            Recipient("cps", "CPS London", None, f"URN-{day}"),
            clip_ids,
            "prosecution",
            "CPIA-1996",
            expires_at,
            ("clips",),
            "for this case only",
        )
        disclosure, token = await disclose_clips(
            order,
            DISCLOSER,
            pool=opened.pool,
            vault=opened.vault,
            now=opened.now,
            rules=opened.disclosing,
            locks_objects=opened.locks_objects,
        )
        for clip_id in clip_ids:
            self.book.note_hold(
                uuid4(), clip_id, DISCLOSER.id, disclosure.made_at, until=expires_at
            )
        self.given += 1
        if self.given % _MISTAKEN == 0:
            self.mistaken.setdefault(day + _NOTICED_DAYS, []).append((disclosure, token))
        self.links.setdefault(day + _LINK_LASTS.days, []).append((disclosure, token))
        linked = await find_link(token, pool=opened.pool, now=opened.now)
        await record_use(
            linked, Use("accept"), pool=opened.pool, now=opened.now, accepted_by="a prosecutor"
        )
        for clip_id in clip_ids:
            [clip] = await check_use(linked, "clips", clip_id, pool=opened.pool)
            await record_use(linked, Use("clip"), [clip_id], pool=opened.pool, now=opened.now)
            digest = hashlib.sha256()
            async for block in opened.vault.read(clip.object_key or "", clip.object_version):
                digest.update(block)
            if digest.digest() != clip.sha256:
                message = f"clip {clip_id} was disclosed with other bytes"
                raise YearFailed(message)

    async def _check_ended(self, disclosure: Disclosure, token: str) -> None:
        try:
            await find_link(token, pool=self.opened.pool, now=self.opened.now)
        except LinkEnded:
            self.book.links_ended += 1
            return
        message = f"the link of {disclosure.disclosure_id} opens after its time"
        raise YearFailed(message)
