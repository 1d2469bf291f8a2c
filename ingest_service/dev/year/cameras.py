"""Cameras that are lost while a dock sends their footage, and those that are found weeks later."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from ingest_service.dev.year.book import Book
from ingest_service.dev.year.plan import Fate
from ingest_service.dev.year.service import Received, Service, YearFailed

# On the evening of the seventh day an upload is ended, and on the next what it left is swept.
SWEPT_AFTER_DAYS: Final = 9


@dataclass(frozen=True, slots=True)
class Cameras:
    """What docks get of cameras that go missing half-way."""

    service: Service
    book: Book

    async def break_off(self, fates: Sequence[Fate]) -> None:
        """Bring half of each in; nobody continues it."""
        for fate in fates:
            clip_id, upload_id = await self.service.receive_half(fate)
            self.book.note_broken_off(clip_id, upload_id, fate)

    async def come_back(self, day: int, draw: Callable[[int], Fate]) -> list[Received]:
        """Bring in whole what is found again on a day: it is announced, and sent from its start.

        draw  returns the fate of a recording's number

        Raises:
            YearFailed: the service takes it for another clip.
        """
        received: list[Received] = []
        for clip_id, deed, _ in self.book.list_deeds(day):
            number = self.book.find_number(clip_id)
            if deed != "come_back" or number is None:
                continue
            fate = draw(number)
            back = await self.service.receive(fate, recorded_on=fate.day, day=day)
            if back.clip_id != clip_id:
                message = f"clip {clip_id} came back and is another one: {back.clip_id}"
                raise YearFailed(message)
            received.append(back)
            self.book.came_back += 1
        return received
