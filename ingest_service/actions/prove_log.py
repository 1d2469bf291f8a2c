"""Prove: that an event is in the log, and that the log only grew."""

from dataclasses import dataclass, field
from functools import partial

from ingest_service.domain.checkpoint import (
    SignedCheckpoint,
    format_proof,
    parse_checkpoint,
    verify_checkpoint,
)
from ingest_service.domain.cosignature import NO_WITNESSES, WitnessPolicy
from ingest_service.domain.custody import hash_leaf
from ingest_service.domain.merkle import (
    InclusionPlan,
    KnownSubtrees,
    ProofInvalid,
    TileId,
    plan_inclusion,
    prove_consistency,
    verify_inclusion,
)
from ingest_service.domain.note import NoteInvalid, parse_verifier_key
from ingest_service.errors import InvalidLogRange, LogForked, LogPartNotFound
from ingest_service.ledger import log
from ingest_service.ledger.connection import Connection, Pool, reading


@dataclass(slots=True)
class PublishedHead:
    """The newest published checkpoint that this process has seen; any that covers a leaf will do.

    One at hand spares thousands of docks a query each, and is verified once. Where witnesses are
    set, only one that a quorum of them has cosigned is taken.

    known  what verified proofs have shown of the log's upper part
    """

    witnesses: WitnessPolicy = NO_WITNESSES
    signed: SignedCheckpoint | None = field(default=None)
    known: KnownSubtrees = field(default_factory=KnownSubtrees)

    async def find_covering(
        self, connection: Connection, log_index: int, verifier_key: str
    ) -> SignedCheckpoint | None:
        """Return a published checkpoint of a log that holds this index; None while there is none.

        Raises:
            LogForked: what the ledger calls published is not signed by the log's key.
        """
        if self.signed is None or self.signed.checkpoint.size <= log_index:
            newest = await self._find_newest(connection, log_index)
            if newest is None or newest.tree_size <= log_index:
                return None
            names = [key.name for key in self.witnesses.keys]
            lines = await log.list_cosignatures(connection, newest.tree_size, names)
            text = newest.note + "".join(lines.values())
            self.signed = _verify_stored(newest.tree_size, text, verifier_key, self.witnesses)
        return self.signed

    async def _find_newest(
        self, connection: Connection, log_index: int
    ) -> log.StoredCheckpoint | None:
        if self.witnesses.quorum == 0:
            return await log.find_newest_checkpoint(connection, only_published=True)
        names = [key.name for key in self.witnesses.keys]
        return await log.find_cosigned_checkpoint(
            connection, log_index, names, self.witnesses.quorum
        )


def _verify_stored(
    tree_size: int, text: str, verifier_key: str, witnesses: WitnessPolicy
) -> SignedCheckpoint:
    try:
        signed = parse_checkpoint(text)
        verify_checkpoint(signed, parse_verifier_key(verifier_key))
        witnesses.verify(signed)
    except NoteInvalid as error:
        reason = f"the stored checkpoint of size {tree_size} is not of this log: {error}"
        raise LogForked(reason) from error
    if signed.checkpoint.size != tree_size:
        reason = f"the stored checkpoint of size {tree_size} is of another size"
        raise LogForked(reason)
    return signed


@dataclass(frozen=True, slots=True)
class ProvenEvent:
    """An event's leaf with its place in the log and the tlog-proof@v1 text that shows it."""

    leaf: bytes
    log_index: int
    proof: str


async def prove_event(
    log_index: int, *, pool: Pool, head: PublishedHead, verifier_key: str
) -> ProvenEvent:
    """Return the event at an index with its proof under a published checkpoint.

    Raises:
        InvalidLogRange: the log is not that long.
        LogPartNotFound: no published checkpoint covers it yet.
        LogForked: the ledger does not hold what was signed.
    """
    async with reading(pool) as connection:
        signed = await head.find_covering(connection, log_index, verifier_key)
        size = 0 if signed is None else signed.checkpoint.size
        plan = None if signed is None else plan_inclusion(log_index, size, head.known)
        # Leaf and tiles in one round trip: it is most of what a proof takes.
        leaf, tiles = await log.read_leaf_and_tiles(
            connection, log_index, [] if plan is None else plan.wanted
        )
    if leaf is None:
        reason = f"the log ends before index {log_index}"
        raise InvalidLogRange(reason)
    if signed is None or plan is None:
        reason = f"no published checkpoint covers index {log_index} yet"
        raise LogPartNotFound(reason)
    return ProvenEvent(leaf, log_index, _prove(leaf, log_index, signed, plan, tiles, head.known))


async def find_proof(
    connection: Connection,
    leaf: bytes,
    log_index: int,
    *,
    head: PublishedHead,
    verifier_key: str,
) -> str | None:
    """Return the tlog-proof@v1 of a leaf; None while no published checkpoint covers it.

    Raises:
        LogForked: the ledger's leaf or tiles are not what was signed. No proof leaves this
            process that a verifier would refuse.
    """
    signed = await head.find_covering(connection, log_index, verifier_key)
    if signed is None:
        return None
    plan = plan_inclusion(log_index, signed.checkpoint.size, head.known)
    tiles = await log.read_tiles(connection, plan.wanted)
    return _prove(leaf, log_index, signed, plan, tiles, head.known)


def _prove(
    leaf: bytes,
    log_index: int,
    signed: SignedCheckpoint,
    plan: InclusionPlan,
    tiles: dict[TileId, bytes],
    known: KnownSubtrees,
) -> str:
    checkpoint = signed.checkpoint
    try:
        path = plan.make_path(tiles)
        verify_inclusion(hash_leaf(leaf), log_index, checkpoint.size, path, checkpoint.root)
    except ProofInvalid as error:
        reason = f"leaf {log_index} is not what checkpoint {checkpoint.size} signed: {error}"
        raise LogForked(reason) from error
    known.learn(log_index, checkpoint.size, path)
    return format_proof(log_index, path, signed.text)


async def prove_growth(old_size: int, new_size: int, *, pool: Pool) -> list[bytes]:
    """Return the consistency proof between two sizes (RFC 6962, section 2.1.2).

    Raises:
        InvalidLogRange: old_size > new_size, or the log is not that long.
    """
    if not 0 <= old_size <= new_size:
        reason = "from must not be larger than to"
        raise InvalidLogRange(reason)
    async with reading(pool) as connection:
        size = await log.get_size(connection)
        if new_size > size:
            reason = f"the log has {size} leaves"
            raise InvalidLogRange(reason)
        return await prove_consistency(old_size, new_size, partial(log.read_tiles, connection))


async def get_checkpoint(*, pool: Pool, witnesses: WitnessPolicy = NO_WITNESSES) -> str:
    """Return the newest published checkpoint, a signed note, with the cosignatures it has by now.

    Raises:
        LogPartNotFound: nothing was published yet.
    """
    names = [key.name for key in witnesses.keys]
    async with reading(pool) as connection:
        newest = await log.find_newest_checkpoint(connection, only_published=True)
        if newest is None:
            reason = "no checkpoint was published yet"
            raise LogPartNotFound(reason)
        lines = await log.list_cosignatures(connection, newest.tree_size, names)
    return newest.note + "".join(lines.values())
