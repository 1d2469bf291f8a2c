"""Lock what was just stored, where the setting asks for it."""

from ingest_service.domain.retention import LockTerm
from ingest_service.vault import Vault


async def lock_object(
    key: str, version: str | None, *, term: LockTerm | None, vault: Vault
) -> None:
    """Have the store refuse to delete a version until its term ends; None: no lock, no request.

    version  None: the newest one

    Raises:
        StoredBytesLost: there is no such version.
        VaultUnavailable: not known whether it is locked; doing it again does no harm.
    """
    if term is not None:
        await vault.retain(key, version, until=term.until, mode=term.mode)
