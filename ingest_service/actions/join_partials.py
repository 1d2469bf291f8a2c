"""Join partials into a clip (tus concatenation): read from the vault, appended like any body.

What is joined is counted part by part, so a crash costs one part at most: the job goes on from
the final's offset.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ingest_service.actions.append_bytes import append_bytes
from ingest_service.actions.finish_upload import fail_stored, wait_until_finished
from ingest_service.actions.take_upload import Holders
from ingest_service.domain.bytestream import ReplayBudget
from ingest_service.domain.clock import Clock
from ingest_service.domain.sha256 import resume_sha256
from ingest_service.domain.upload import Part, Upload, UploadRules
from ingest_service.errors import IngestError, StoredBytesLost, Unavailable
from ingest_service.ledger import uploads
from ingest_service.ledger.connection import Pool, reading
from ingest_service.vault import Vault

_RETRY_S: Final = 2.0


async def join_partials(
    upload_id: UUID,
    *,
    pool: Pool,
    vault: Vault,
    holders: Holders,
    budget: ReplayBudget,
    rules: UploadRules,
    now: Clock,
) -> bool:
    """Append to a final what it is joined from; False when another is at it, or it is done.

    Raises:
        VaultUnavailable, LedgerUnavailable: what was joined is counted; a job goes on.
        StoredBytesLost: a partial's bytes are gone; the clip is quarantined.
    """
    async with reading(pool) as connection:
        final = await uploads.claim_join(connection, upload_id)
        if final is None:
            return False
        partial_ids = final.partial_ids or []
        stored: dict[UUID, _Stored] = {}
        for partial_id in set(partial_ids):
            partial = await uploads.find_upload(connection, partial_id)
            state = None if partial is None else partial.sha256_state
            stored[partial_id] = _Stored(resume_sha256(state).digest(), [])
        for partial_id, part in await uploads.list_parts_of(connection, partial_ids):
            stored[partial_id].parts.append(part)
    source = _PartialsBody([stored[each] for each in partial_ids], final, vault)
    try:
        await append_bytes(
            upload_id,
            final.station_id,
            final.offset_bytes,
            (final.length_bytes or 0) - final.offset_bytes,
            source,
            pool=pool,
            vault=vault,
            holders=holders,
            budget=budget,
            rules=rules,
            now=now,
            joins=True,
        )
    except StoredBytesLost as lost:
        await fail_stored(final, str(lost), pool=pool, now=now)
        raise
    except Unavailable:
        async with reading(pool) as connection:
            await uploads.postpone_join(connection, upload_id, delay_s=_RETRY_S)
        raise
    finally:
        await source.close()
    return True


async def join_within(
    upload_id: UUID,
    *,
    pool: Pool,
    vault: Vault,
    holders: Holders,
    budget: ReplayBudget,
    rules: UploadRules,
    now: Clock,
) -> Upload:
    """Join and finish a final, waiting at most rules.finish_wait_s; it goes on behind that."""

    async def drive() -> None:
        async with holders.joins:
            await join_partials(
                upload_id,
                pool=pool,
                vault=vault,
                holders=holders,
                budget=budget,
                rules=rules,
                now=now,
            )
        await wait_until_finished(
            upload_id, pool=pool, vault=vault, now=now, wait_s=rules.finish_wait_s
        )

    driving = asyncio.ensure_future(drive())
    driving.add_done_callback(_forget_failure)
    try:
        async with asyncio.timeout(rules.finish_wait_s):
            await asyncio.shield(driving)
    except (TimeoutError, IngestError):
        # The partials hold every byte; the job drives it on.
        pass
    return await wait_until_finished(upload_id, pool=pool, vault=vault, now=now, wait_s=0)


def _forget_failure(driving: "asyncio.Future[None]") -> None:
    if not driving.cancelled():
        driving.exception()


@dataclass(frozen=True, slots=True)
class _Stored:
    """A complete partial: the SHA-256 of its bytes as they were received, and where they lie."""

    sha256: bytes
    parts: list[Part]


class _PartialsBody:
    """The bytes of partials, one behind the other, from the final's offset on."""

    def __init__(self, partials: list[_Stored], final: Upload, vault: Vault) -> None:
        self._blocks = _read_from(partials, final.offset_bytes, vault)
        self._held = b""
        self._interruption: Exception | None = None

    async def read(self, bytes_max: int) -> bytes:
        """Return the next bytes; b'' at the end."""
        if self._interruption is not None:
            raise self._interruption
        if not self._held:
            self._held = await anext(self._blocks, b"")
        block, self._held = self._held[:bytes_max], self._held[bytes_max:]
        return block

    def interrupt(self, reason: Exception) -> None:
        """Make the next read raise `reason`."""
        self._interruption = self._interruption or reason

    async def close(self) -> None:
        """Let go of the store's connection."""
        await self._blocks.aclose()


async def _read_from(
    partials: list[_Stored], offset_bytes: int, vault: Vault
) -> AsyncGenerator[bytes, None]:
    """Yield the partials' bytes from an offset on, each compared with what was received.

    A partial's last block is held back until its hash was compared, so that no clip is complete
    over bytes that changed in the store. After a crash within a partial it is hashed anew.

    Raises:
        StoredBytesLost: the stored bytes of a partial are not the received ones.
    """
    start = 0
    for partial in partials:
        length_bytes = sum(part.length_bytes for part in partial.parts)
        skip_bytes = max(0, offset_bytes - start)
        start += length_bytes
        if skip_bytes >= length_bytes:
            continue
        found = hashlib.sha256()
        held = b""
        for part in partial.parts:
            async for block in vault.read(part.object_key or "", part.object_version):
                found.update(block)
                if held:
                    yield held
                held = block[skip_bytes:]
                skip_bytes = max(0, skip_bytes - len(block))
        if found.digest() != partial.sha256:
            reason = "the stored bytes of a partial are not the received ones"
            raise StoredBytesLost(reason)
        yield held
