"""The simulation's own books: what was done to whom, whatever the ledger says.

A SQLite file, so that a year of 800,000 clips needs no memory to speak of. Times are seconds since
1970, digests and ids raw bytes.
"""

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Final
from uuid import UUID

from ingest_service.dev.year.plan import NOTICE_DAYS, SHORTEST_DAYS, Deed, Fate
from ingest_service.dev.year.service import Received
from ingest_service.domain.holds import HoldKind

_DAY_S: Final = 86_400.0
# A fault is planted on a clip whose own date is so far away: what comes of it comes before.
_PLANT_AHEAD_S: Final = 20 * _DAY_S

_MAKE: Final = """
    CREATE TABLE clips (
        clip_id BLOB PRIMARY KEY,
        number INTEGER NOT NULL UNIQUE,
        sha256 BLOB NOT NULL,
        size_bytes INTEGER NOT NULL,
        is_damaged INTEGER NOT NULL,
        is_lost INTEGER NOT NULL DEFAULT 0,
        is_kept INTEGER NOT NULL DEFAULT 0,
        not_before REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE holds (
        hold_id BLOB PRIMARY KEY,
        clip_id BLOB NOT NULL,
        placed_by TEXT NOT NULL,
        placed_at REAL NOT NULL,
        released_at REAL
    ) WITHOUT ROWID;
    CREATE INDEX holds_clip ON holds (clip_id);
    CREATE TABLE broken_off (
        upload_id BLOB PRIMARY KEY, clip_id BLOB NOT NULL, day INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE agenda (
        day INTEGER NOT NULL, clip_id BLOB NOT NULL, deed TEXT NOT NULL, kind TEXT NOT NULL
    );
    CREATE INDEX agenda_day ON agenda (day);
"""
_NOTE_CLIP: Final = """
    INSERT INTO clips (clip_id, number, sha256, size_bytes, is_damaged, not_before, is_lost)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (clip_id) DO UPDATE
       SET is_lost = excluded.is_lost, not_before = excluded.not_before
"""
_NOTE_BROKEN_OFF: Final = "INSERT INTO broken_off (upload_id, clip_id, day) VALUES (?, ?, ?)"
_LIST_BROKEN_OFF: Final = """
    SELECT upload_id, clip_id FROM broken_off WHERE upload_id > ? ORDER BY upload_id LIMIT ?
"""
_COUNT_BROKEN_OFF: Final = "SELECT count(*) FROM broken_off"
_PICK_SWEPT: Final = "SELECT upload_id FROM broken_off WHERE day <= ? LIMIT 1"
_PICK_LOST: Final = """
    SELECT clip_id FROM broken_off
     WHERE day <= ? AND clip_id NOT IN (SELECT clip_id FROM agenda) LIMIT 1
"""
_NOTE_DEED: Final = "INSERT INTO agenda (day, clip_id, deed, kind) VALUES (?, ?, ?, ?)"
_NOTE_KEPT: Final = "UPDATE clips SET is_kept = 1 WHERE clip_id = ?"
_NOTE_FREE: Final = """
    UPDATE clips SET is_kept = 0, not_before = max(not_before, ?) WHERE clip_id = ?
"""
_DELAY: Final = "UPDATE clips SET not_before = max(not_before, ?) WHERE clip_id = ?"
_NOTE_HOLD: Final = """
    INSERT INTO holds (hold_id, clip_id, placed_by, placed_at, released_at) VALUES (?, ?, ?, ?, ?)
"""
_NOTE_RELEASE: Final = "UPDATE holds SET released_at = ? WHERE hold_id = ?"
_FIND_NUMBER: Final = "SELECT number FROM clips WHERE clip_id = ?"
_LIST_DEEDS: Final = "SELECT clip_id, deed, kind FROM agenda WHERE day = ? ORDER BY clip_id, deed"
_FIND_OPEN_HOLD: Final = """
    SELECT hold_id, placed_by FROM holds WHERE clip_id = ? AND released_at IS NULL
"""
_LIST_ENTRIES: Final = """
    SELECT clip_id, sha256, size_bytes, is_damaged, is_lost, is_kept, not_before,
           EXISTS (SELECT 1 FROM holds
                    WHERE holds.clip_id = clips.clip_id AND released_at IS NULL)
      FROM clips
     WHERE clip_id > ?
  ORDER BY clip_id
     LIMIT ?
"""
_LIST_HOLDS: Final = "SELECT placed_at, released_at FROM holds WHERE clip_id = ?"
_COUNT_HOLDS: Final = "SELECT count(*) FROM holds"
_COUNT_DEEDS: Final = "SELECT deed, count(*) FROM agenda GROUP BY deed"
_LAST_DAY: Final = "SELECT max(day) FROM agenda"
# A clip whose hold still stands, or that is kept, is waited for by nobody.
_LAST_DATE: Final = """
    SELECT max(not_before) FROM clips WHERE NOT is_kept AND NOT is_damaged AND NOT is_lost
"""
_LAST_RELEASE: Final = "SELECT max(released_at) FROM holds"
_COUNT: Final = "SELECT count(*) FROM clips"
_PICK_HELD: Final = """
    SELECT clip_id FROM holds JOIN clips USING (clip_id)
     WHERE released_at IS NULL AND NOT is_kept
       AND clip_id NOT IN (SELECT clip_id FROM agenda WHERE deed = 'release')
     ORDER BY clip_id DESC LIMIT 1
"""
_PICK_KEPT: Final = "SELECT clip_id FROM clips WHERE is_kept ORDER BY clip_id LIMIT 1"
_PICK_YOUNG: Final = """
    SELECT clip_id FROM clips
     WHERE NOT is_kept AND NOT is_damaged AND NOT is_lost AND not_before > ?
       AND clip_id NOT IN (SELECT clip_id FROM agenda)
     ORDER BY clip_id DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A clip as the books have it at the end.

    is_lost     half of it came, and its camera never again
    is_kept     somebody has said that it is evidence, or serves a purpose, and nobody took it back
    is_held     a hold stands
    not_before  earliest instant at which its bytes may go
    """

    clip_id: UUID
    sha256: bytes
    size_bytes: int
    is_damaged: bool
    is_lost: bool
    is_kept: bool
    not_before: float
    is_held: bool

    @property
    def must_stay(self) -> bool:
        """Whether its bytes must be there at the end."""
        return self.is_damaged or self.is_kept or self.is_held


class Book:
    """What the simulation did. One writer, no threads."""

    def __init__(self, file: Path) -> None:
        self._store = sqlite3.connect(file, isolation_level=None)
        self._store.execute("PRAGMA journal_mode = WAL")
        self._store.execute("PRAGMA synchronous = OFF")
        self._store.executescript(_MAKE)
        self.planned_halts: list[date] = []
        self.refused_holds = 0
        self.self_releases_refused = 0
        self.links_ended = 0
        self.links_revoked = 0
        self.requests_answered = 0
        self.bulk_holds = 0
        self.came_back = 0

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    def note_clip(self, received: Received) -> None:
        """Note a clip that came in, and what will be done to it."""
        fate, secured_at = received.fate, received.secured_at.timestamp()
        # Counted from the recording; of what comes so late that it says little, from the receipt.
        recorded_at = received.started_at.timestamp()
        basis = recorded_at if secured_at - recorded_at <= SHORTEST_DAYS * _DAY_S else secured_at
        due = max(basis + fate.days * _DAY_S, secured_at + SHORTEST_DAYS * _DAY_S)
        not_before = due + NOTICE_DAYS * _DAY_S
        self._note(received.clip_id, fate, not_before, is_lost=False)
        if not fate.breaks_off:
            self._note_deeds(received.clip_id, fate)

    def note_broken_off(self, clip_id: UUID, upload_id: UUID, fate: Fate) -> None:
        """Note a clip of which half came: it is lost, unless its camera comes back."""
        self._note(clip_id, fate, 0.0, is_lost=True)
        self._note_deeds(clip_id, fate)
        self._store.execute(_NOTE_BROKEN_OFF, (upload_id.bytes, clip_id.bytes, fate.day))

    def _note(self, clip_id: UUID, fate: Fate, not_before: float, *, is_lost: bool) -> None:
        sha256 = hashlib.sha256(fate.footage).digest()
        size_bytes, is_damaged = len(fate.footage), fate.is_damaged
        row = (clip_id.bytes, fate.number, sha256, size_bytes, is_damaged, not_before, is_lost)
        self._store.execute(_NOTE_CLIP, row)

    def _note_deeds(self, clip_id: UUID, fate: Fate) -> None:
        for after, deed, kind in fate.deeds:
            self.note_deed(fate.day + after, clip_id, deed, kind)

    def note_kept(self, clip_id: UUID) -> None:
        """Note that somebody has said why it must be kept."""
        self._store.execute(_NOTE_KEPT, (clip_id.bytes,))

    def note_free(self, clip_id: UUID, at: datetime) -> None:
        """Note that nothing keeps it any more: a notice begins at the earliest now."""
        self._store.execute(_NOTE_FREE, (at.timestamp() + NOTICE_DAYS * _DAY_S, clip_id.bytes))

    def note_restored(self, clip_id: UUID, at: datetime) -> None:
        """Note that it was taken back, for the shortest term once more."""
        until = at.timestamp() + (SHORTEST_DAYS + NOTICE_DAYS) * _DAY_S
        self._store.execute(_DELAY, (until, clip_id.bytes))

    def note_hold(
        self,
        hold_id: UUID,
        clip_id: UUID,
        placed_by: str,
        at: datetime,
        *,
        until: datetime | None = None,
    ) -> None:
        """Note a hold that the service has promised; until: it ends by itself then."""
        ends = None if until is None else until.timestamp()
        row = (hold_id.bytes, clip_id.bytes, placed_by, at.timestamp(), ends)
        self._store.execute(_NOTE_HOLD, row)
        if ends is not None:
            self._store.execute(_DELAY, (ends + NOTICE_DAYS * _DAY_S, clip_id.bytes))

    def note_release(self, hold_id: UUID, clip_id: UUID, at: datetime) -> None:
        """Note the end of a hold: a notice begins at the earliest now."""
        self._store.execute(_NOTE_RELEASE, (at.timestamp(), hold_id.bytes))
        self._store.execute(_DELAY, (at.timestamp() + NOTICE_DAYS * _DAY_S, clip_id.bytes))

    def note_deed(self, day: int, clip_id: UUID, deed: Deed, kind: HoldKind) -> None:
        """Note what will be done to a clip, because of what was done to it."""
        self._store.execute(_NOTE_DEED, (day, clip_id.bytes, deed, kind))

    def find_number(self, clip_id: UUID) -> int | None:
        """Return the number of a clip's recording; None: there is no such clip."""
        row = self._store.execute(_FIND_NUMBER, (clip_id.bytes,)).fetchone()
        return None if row is None else int(row[0])

    def list_deeds(self, day: int) -> list[tuple[UUID, Deed, HoldKind]]:
        """Return what is to be done on a day."""
        rows = self._store.execute(_LIST_DEEDS, (day,)).fetchall()
        return [(UUID(bytes=clip_id), deed, kind) for clip_id, deed, kind in rows]

    def find_open_hold(self, clip_id: UUID) -> tuple[UUID, str] | None:
        """Return a standing hold of a clip and who placed it."""
        row = self._store.execute(_FIND_OPEN_HOLD, (clip_id.bytes,)).fetchone()
        return None if row is None else (UUID(bytes=row[0]), row[1])

    def list_entries(self, batch: int) -> Iterator[list[Entry]]:
        """Yield all clips, in order of their ids, in batches."""
        after = b""
        while rows := self._store.execute(_LIST_ENTRIES, (after, batch)).fetchall():
            yield [
                Entry(
                    UUID(bytes=row[0]),
                    row[1],
                    row[2],
                    is_damaged=bool(row[3]),
                    is_lost=bool(row[4]),
                    is_kept=bool(row[5]),
                    not_before=row[6],
                    is_held=bool(row[7]),
                )
                for row in rows
            ]
            after = rows[-1][0]

    def list_broken_off(self, batch: int) -> Iterator[list[tuple[UUID, UUID]]]:
        """Yield all uploads that broke off and their clips, in batches."""
        after = b""
        while rows := self._store.execute(_LIST_BROKEN_OFF, (after, batch)).fetchall():
            yield [(UUID(bytes=upload_id), UUID(bytes=clip_id)) for upload_id, clip_id in rows]
            after = rows[-1][0]

    def count_broken_off(self) -> int:
        """Return how many uploads broke off."""
        [count] = self._store.execute(_COUNT_BROKEN_OFF).fetchone()
        return int(count)

    def pick_broken_off(self, what: str, day: int) -> UUID | None:
        """Return what broke off up to a day: a 'swept' upload, or a clip 'lost' for ever."""
        statement = {"swept": _PICK_SWEPT, "lost": _PICK_LOST}[what]
        row = self._store.execute(statement, (day,)).fetchone()
        return None if row is None else UUID(bytes=row[0])

    def list_holds(self, clip_id: UUID) -> Sequence[tuple[float, float | None]]:
        """Return when holds of a clip began and ended."""
        return self._store.execute(_LIST_HOLDS, (clip_id.bytes,)).fetchall()

    def find_last_day(self, start: datetime) -> int:
        """Return the day after which nothing happens any more."""
        [deed_day] = self._store.execute(_LAST_DAY).fetchone()
        [last_date] = self._store.execute(_LAST_DATE).fetchone()
        [last_release] = self._store.execute(_LAST_RELEASE).fetchone()
        latest = max(last_date or 0.0, last_release or 0.0)
        return max(deed_day or 0, int((latest - start.timestamp()) // _DAY_S))

    def count_clips(self) -> int:
        """Return how many clips came in."""
        [count] = self._store.execute(_COUNT).fetchone()
        return int(count)

    def count_holds(self) -> int:
        """Return how many holds were placed."""
        [count] = self._store.execute(_COUNT_HOLDS).fetchone()
        return int(count)

    def count_deeds(self) -> dict[str, int]:
        """Return how many deeds there were of each kind."""
        return dict(self._store.execute(_COUNT_DEEDS).fetchall())

    def pick(self, what: str, now: datetime) -> UUID | None:
        """Return a clip to plant a fault on: 'held', 'kept' or 'young'; None: there is none."""
        statement = {"held": _PICK_HELD, "kept": _PICK_KEPT, "young": _PICK_YOUNG}[what]
        arguments = (now.timestamp() + _PLANT_AHEAD_S,) if what == "young" else ()
        row = self._store.execute(statement, arguments).fetchone()
        return None if row is None else UUID(bytes=row[0])
