"""What every step of an audit works with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from ingest_service.domain.audit import AuditState, StepName
from ingest_service.domain.note import VerifierKey
from ingest_service.ledger.connection import Pool
from ingest_service.vault import Vault

BEFORE_ALL = UUID(int=0)


@dataclass(frozen=True, slots=True)
class AuditTools:
    """The ledger, the bucket, the keys that may have signed, and who is told.

    tell  takes the step, how much of it is done and how much there is; None = not known
    save  takes the state after each batch
    """

    pool: Pool
    vault: Vault
    keys: Sequence[VerifierKey]
    tell: Callable[[StepName, int, int | None], None]
    save: Callable[[AuditState], None]


async def read_object(vault: Vault, key: str) -> bytes:
    """Return a small object whole.

    Raises:
        StoredBytesLost: there is none.
    """
    return b"".join([block async for block in vault.read(key, None)])
