"""Disclosures in Postgres: made whole, ended once, every access beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from ingest_service.domain.disclosure import AccessKind, Disclosure
from ingest_service.ledger.connection import Connection

INSERT_DISCLOSURE: Final = """
    INSERT INTO disclosures (
        disclosure_id, token_sha256, recipient_kind, organisation, person, reference, salt,
        purpose, legal_basis, allows, terms, boroughs, clip_count, made_by, made_at, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
"""
INSERT_DISCLOSURE_CLIPS: Final = """
    INSERT INTO disclosure_clips (disclosure_id, clip_id, hold_id)
    SELECT $1, clip_id, hold_id
      FROM unnest($2::uuid[], $3::uuid[]) AS given (clip_id, hold_id)
"""


async def insert_disclosure(
    connection: Connection, made: Disclosure, token_sha256: bytes, holds: Mapping[UUID, UUID]
) -> None:
    """Record a disclosure of locked clips; holds: clip -> the hold that keeps it."""
    await connection.execute(
        INSERT_DISCLOSURE,
        made.disclosure_id,
        token_sha256,
        made.recipient_kind,
        made.organisation,
        made.person,
        made.reference,
        made.salt,
        made.purpose,
        made.legal_basis,
        list(made.allows),
        made.terms,
        list(made.boroughs),
        made.clip_count,
        made.made_by,
        made.made_at,
        made.expires_at,
    )
    await connection.execute(
        INSERT_DISCLOSURE_CLIPS, made.disclosure_id, list(holds), list(holds.values())
    )


FIND_DISCLOSURE: Final = """
    SELECT disclosure_id, recipient_kind, organisation, person, reference, salt, purpose,
           legal_basis, allows, terms, boroughs, clip_count, made_by, made_at, expires_at,
           revoked_at, revoked_by, revoked_authority, settled_at
      FROM disclosures
     WHERE disclosure_id = $1
"""


async def find_disclosure(connection: Connection, disclosure_id: UUID) -> Disclosure | None:
    """Return one disclosure."""
    row = await connection.fetchrow(FIND_DISCLOSURE, disclosure_id)
    return None if row is None else Disclosure(**row)


LOCK_DISCLOSURE: Final = """
    SELECT disclosure_id
      FROM disclosures
     WHERE disclosure_id = $1
       FOR NO KEY UPDATE
"""
SHARE_DISCLOSURE: Final = """
    SELECT disclosure_id
      FROM disclosures
     WHERE disclosure_id = $1
       FOR SHARE
"""


async def lock_disclosure(
    connection: Connection, disclosure_id: UUID, *, is_shared: bool = False
) -> Disclosure | None:
    """Return a disclosure that nobody ends before our transaction does; before any clip's lock.

    is_shared  others may have it so at the same time
    """
    await connection.execute(SHARE_DISCLOSURE if is_shared else LOCK_DISCLOSURE, disclosure_id)
    return await find_disclosure(connection, disclosure_id)


FIND_LINK: Final = """
    SELECT disclosure_id, recipient_kind, organisation, person, reference, salt, purpose,
           legal_basis, allows, terms, boroughs, clip_count, made_by, made_at, expires_at,
           revoked_at, revoked_by, revoked_authority, settled_at
      FROM disclosures
     WHERE token_sha256 = $1
"""


async def find_link(connection: Connection, token_sha256: bytes) -> Disclosure | None:
    """Return the disclosure whose link has a token of this hash."""
    row = await connection.fetchrow(FIND_LINK, token_sha256)
    return None if row is None else Disclosure(**row)


# Ids are UUIDv7: their order is that of making.
LIST_DISCLOSURES: Final = """
    SELECT disclosure_id, recipient_kind, organisation, person, reference, salt, purpose,
           legal_basis, allows, terms, boroughs, clip_count, made_by, made_at, expires_at,
           revoked_at, revoked_by, revoked_authority, settled_at
      FROM disclosures
     WHERE ($1::uuid IS NULL OR disclosure_id < $1)
       AND ($2::text[] IS NULL OR boroughs <@ $2)
       AND ($3::uuid IS NULL OR disclosure_id IN (
               SELECT disclosure_id FROM disclosure_clips WHERE clip_id = $3))
  ORDER BY disclosure_id DESC
     LIMIT $4
"""


async def list_disclosures(
    connection: Connection,
    *,
    before: UUID | None,
    boroughs: Sequence[str] | None,
    clip_id: UUID | None,
    limit: int,
) -> list[Disclosure]:
    """Return disclosures, newest first; boroughs: only those of which every clip is of these."""
    rows = await connection.fetch(LIST_DISCLOSURES, before, boroughs, clip_id, limit)
    return [Disclosure(**row) for row in rows]


@dataclass(frozen=True, slots=True)
class DisclosedClip:
    """A clip of a disclosure, and the hold that keeps it."""

    clip_id: UUID
    hold_id: UUID


LIST_DISCLOSED: Final = """
    SELECT clip_id, hold_id
      FROM disclosure_clips
     WHERE disclosure_id = $1
  ORDER BY clip_id
"""


async def list_disclosed(connection: Connection, disclosure_id: UUID) -> list[DisclosedClip]:
    """Return the clips of a disclosure, in order of id."""
    rows = await connection.fetch(LIST_DISCLOSED, disclosure_id)
    return [DisclosedClip(**row) for row in rows]


REVOKE_DISCLOSURE: Final = """
    UPDATE disclosures
       SET revoked_at = $2, revoked_by = $3, revoked_authority = $4
     WHERE disclosure_id = $1
       AND revoked_at IS NULL
"""


async def revoke_disclosure(
    connection: Connection, disclosure_id: UUID, *, at: datetime, by: str, authority: str
) -> None:
    """Record that a locked disclosure was revoked."""
    await connection.execute(REVOKE_DISCLOSURE, disclosure_id, at, by, authority)


LIST_UNSETTLED: Final = """
    SELECT disclosure_id
      FROM disclosures
     WHERE settled_at IS NULL
       AND expires_at <= $1
  ORDER BY expires_at
     LIMIT $2
"""


async def list_unsettled(connection: Connection, now: datetime, *, limit: int) -> list[UUID]:
    """Return disclosures whose time is over and whose end is yet to be seen to."""
    return [row["disclosure_id"] for row in await connection.fetch(LIST_UNSETTLED, now, limit)]


SETTLE_DISCLOSURE: Final = """
    UPDATE disclosures
       SET settled_at = $2
     WHERE disclosure_id = $1
       AND settled_at IS NULL
"""


async def settle_disclosure(connection: Connection, disclosure_id: UUID, now: datetime) -> None:
    """Record that the end of a locked disclosure was seen to."""
    await connection.execute(SETTLE_DISCLOSURE, disclosure_id, now)


# --- what the recipient does -----------------------------------------------------------------

INSERT_ACCEPTANCE: Final = """
    INSERT INTO disclosure_acceptances (disclosure_id, accepted_at, name, source)
    VALUES ($1, $2, $3, $4)
"""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Who has accepted the terms, in their own words."""

    accepted_at: datetime
    name: str
    source: str | None


async def insert_acceptance(
    connection: Connection, disclosure_id: UUID, accepted: Acceptance
) -> None:
    """Record that somebody has accepted the terms."""
    await connection.execute(
        INSERT_ACCEPTANCE, disclosure_id, accepted.accepted_at, accepted.name, accepted.source
    )


LIST_ACCEPTANCES: Final = """
    SELECT accepted_at, name, source
      FROM disclosure_acceptances
     WHERE disclosure_id = $1
  ORDER BY accepted_at
     LIMIT $2
"""


async def list_acceptances(
    connection: Connection, disclosure_id: UUID, *, limit: int
) -> list[Acceptance]:
    """Return who has accepted the terms, oldest first."""
    rows = await connection.fetch(LIST_ACCEPTANCES, disclosure_id, limit)
    return [Acceptance(**row) for row in rows]


@dataclass(frozen=True, slots=True)
class Access:
    """One use of the link; start_byte and stop_byte: of a single clip."""

    what: AccessKind
    accessed_at: datetime
    clip_id: UUID | None = None
    start_byte: int | None = None
    stop_byte: int | None = None
    source: str | None = None
    request_id: str | None = None


INSERT_ACCESS: Final = """
    INSERT INTO disclosure_accesses (
        disclosure_id, what, accessed_at, clip_id, start_byte, stop_byte, source, request_id)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""


async def insert_access(connection: Connection, disclosure_id: UUID, access: Access) -> None:
    """Record one use of the link."""
    await connection.execute(
        INSERT_ACCESS,
        disclosure_id,
        access.what,
        access.accessed_at,
        access.clip_id,
        access.start_byte,
        access.stop_byte,
        access.source,
        access.request_id,
    )


LIST_ACCESSES: Final = """
    SELECT what, accessed_at, clip_id, start_byte, stop_byte, source, request_id
      FROM disclosure_accesses
     WHERE disclosure_id = $1
  ORDER BY access_id DESC
     LIMIT $2
"""


async def list_accesses(connection: Connection, disclosure_id: UUID, *, limit: int) -> list[Access]:
    """Return the uses of the link, newest first."""
    rows = await connection.fetch(LIST_ACCESSES, disclosure_id, limit)
    return [Access(**row) for row in rows]


COUNT_ACCESSES: Final = """
    SELECT what, count(*) AS access_count
      FROM disclosure_accesses
     WHERE disclosure_id = $1
  GROUP BY what
"""


async def count_accesses(connection: Connection, disclosure_id: UUID) -> dict[str, int]:
    """Return how often the link was used for what."""
    rows = await connection.fetch(COUNT_ACCESSES, disclosure_id)
    return {row["what"]: row["access_count"] for row in rows}
