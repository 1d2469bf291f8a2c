"""Signs of life of the workers."""

from typing import Final

from ingest_service.ledger.connection import Connection

BEAT: Final = """
    INSERT INTO worker_beats (worker_id, beat_at)
    VALUES ($1, now())
    ON CONFLICT ON CONSTRAINT worker_beats_pkey DO UPDATE SET beat_at = now()
"""


async def beat(connection: Connection, worker_id: str) -> None:
    """Say that a worker is alive."""
    await connection.execute(BEAT, worker_id)


FORGET_BEATS: Final = "DELETE FROM worker_beats WHERE beat_at < now() - interval '1 day'"


async def forget_beats(connection: Connection) -> None:
    """Forget workers that have been silent for a day."""
    await connection.execute(FORGET_BEATS)
