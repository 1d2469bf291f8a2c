"""Derivatives in Postgres: registered once, never changed."""

from typing import Final
from uuid import UUID

from ingest_service.domain.derivative import Derivative, Lineage
from ingest_service.ledger.connection import Connection

# A clip of which more was made than this has its oldest ones shown.
_SHOWN_MAX: Final = 200

INSERT_DERIVATIVE: Final = """
    INSERT INTO derivatives (
        derivative_id, master_clip_id, master_sha256, derivative_clip_id, sha256, size_bytes, kind,
        tool, parameters, made_by, registered_by, registered_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
    ON CONFLICT (master_clip_id, sha256) DO NOTHING
 RETURNING derivative_id
"""


async def insert_derivative(connection: Connection, made: Derivative) -> bool:
    """Record a derivative of locked clips; False: the master has it already."""
    row = await connection.fetchrow(
        INSERT_DERIVATIVE,
        made.derivative_id,
        made.master_clip_id,
        made.master_sha256,
        made.derivative_clip_id,
        made.sha256,
        made.size_bytes,
        made.kind,
        made.tool,
        dict(made.parameters),
        made.made_by,
        made.registered_by,
        made.registered_at,
    )
    return row is not None


# UNION, not UNION ALL: should there ever be a ring, it is walked once.
IS_ANCESTOR: Final = """
    WITH RECURSIVE ancestors (clip_id) AS (
        SELECT $2::uuid
         UNION
        SELECT derivatives.master_clip_id
          FROM ancestors
          JOIN derivatives ON derivatives.derivative_clip_id = ancestors.clip_id
    )
    SELECT EXISTS (SELECT FROM ancestors WHERE clip_id = $1)
"""


async def is_ancestor(connection: Connection, clip_id: UUID, of: UUID) -> bool:
    """Tell whether a clip is another one, or one that the other was made from."""
    found: bool = await connection.fetchval(IS_ANCESTOR, clip_id, of)
    return found


LIST_MASTERS: Final = """
    SELECT derivative_id, master_clip_id, master_sha256, derivative_clip_id, sha256, size_bytes,
           kind, tool, parameters, made_by, registered_by, registered_at
      FROM derivatives
     WHERE derivative_clip_id = $1
  ORDER BY derivative_id
     LIMIT $2
"""
LIST_DERIVATIVES: Final = """
    SELECT derivative_id, master_clip_id, master_sha256, derivative_clip_id, sha256, size_bytes,
           kind, tool, parameters, made_by, registered_by, registered_at
      FROM derivatives
     WHERE master_clip_id = $1
  ORDER BY derivative_id
     LIMIT $2
"""


async def find_lineage(connection: Connection, clip_id: UUID) -> Lineage:
    """Return what a clip was made from, and what was made from it."""
    masters = await connection.fetch(LIST_MASTERS, clip_id, _SHOWN_MAX)
    made = await connection.fetch(LIST_DERIVATIVES, clip_id, _SHOWN_MAX)
    return Lineage([Derivative(**row) for row in masters], [Derivative(**row) for row in made])
