"""What the ledger says of its own health, and of the workers'."""

from typing import Final

from ingest_service.ledger.connection import Connection

ASK: Final = """
    SELECT 1
"""


async def ask(connection: Connection) -> None:
    """Return when Postgres answers."""
    await connection.fetchval(ASK)


# Both times are the server's: the clocks of other machines do not matter.
GET_WORKER_SILENCE: Final = """
    SELECT EXTRACT(EPOCH FROM now() - max(beat_at))::float8
      FROM worker_beats
"""


async def find_worker_silence(connection: Connection) -> float | None:
    """Return for how many seconds no `ingest work` was heard of; None when there was never one."""
    silence_s: float | None = await connection.fetchval(GET_WORKER_SILENCE)
    return silence_s
