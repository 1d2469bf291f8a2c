"""The retention policies, remembered: of clips that come in by the hundred, each gets its date.

Who decides by a policy that was replaced a moment ago does no harm: the job that follows the log
looks at every secured clip once more, by what is in force then.
"""

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from ingest_service.domain.retention import Policy, list_in_force
from ingest_service.ledger.connection import Pool, reading
from ingest_service.ledger.retention import list_policies

FRESH_S: Final = 10.0


class PolicyBook:
    """Every version of every policy, read anew when it is older than `fresh_s` seconds.

    Concurrency: any number of tasks of one event loop; several may read it at once, which does no
    harm.
    """

    def __init__(
        self, *, fresh_s: float = FRESH_S, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._fresh_s = fresh_s
        self._monotonic = monotonic
        self._policies: Sequence[Policy] | None = None
        self._read_at = 0.0

    async def list_in_force(self, pool: Pool, moment: datetime) -> Sequence[Policy]:
        """Return the policies in force at a moment, as known at most `fresh_s` seconds ago.

        Raises:
            LedgerUnavailable: they could not be read.
        """
        if self._policies is None or self._monotonic() - self._read_at >= self._fresh_s:
            asked_at = self._monotonic()
            async with reading(pool) as connection:
                self._policies = await list_policies(connection)
            self._read_at = asked_at
        return list_in_force(self._policies, moment)
