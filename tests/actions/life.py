"""A ledger whose clips grow old: secured, held, announced for erasure, erased."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from ingest_service.actions.chase_unclassified import chase_unclassified
from ingest_service.actions.compute_retention import compute_next
from ingest_service.actions.erase_clips import Erased, execute_erasures, intend_erasures
from ingest_service.actions.forecast_erasure import make_forecast
from ingest_service.actions.halt_erasure import check_breaker
from ingest_service.actions.place_hold import Order, place_hold
from ingest_service.actions.publish_checkpoint import publish_checkpoints
from ingest_service.actions.release_hold import release_hold
from ingest_service.actions.restore_clip import restore_clip
from ingest_service.actions.schedule_erasure import schedule_due
from ingest_service.actions.sequence_log import Sequencer, sequence_log
from ingest_service.domain.clip import Clip
from ingest_service.domain.custody import Actor, Happening, chain_events
from ingest_service.domain.holds import Hold
from ingest_service.domain.principal import Principal
from ingest_service.domain.retention import LivingClip, RetentionRules
from ingest_service.ledger.connection import Pool, reading, writing
from ingest_service.ledger.custody import append_events
from ingest_service.ledger.erasures import Halt
from ingest_service.ledger.lifecycle import list_living
from tests.actions.engine import (
    Clock,
    Process,
    cut_chunks,
    describe_recording,
    get_clip,
    list_event_types,
    make_footage,
)
from tests.actions.test_custody_log import SIGNER

DAY = timedelta(days=1)
FOOTAGE = make_footage(112)


def person(name: str, *scopes: str) -> Principal:
    return Principal("person", name, frozenset(scopes), role="custodian")


ANNA, BEN, CARA = person("P-anna"), person("P-ben"), person("P-cara")


@dataclass
class Life:
    """One service over months: `later(days)` moves its clock, `work()` does what the jobs do.

    published  where the log goes, if not into the vault
    """

    pool: Pool
    vault: Any
    published: Any = None
    footage: bytes = FOOTAGE
    rules: RetentionRules = field(default_factory=RetentionRules)
    locks_objects: bool = False
    clock: Clock = field(default_factory=Clock)

    @property
    def process(self) -> Process:
        return Process("life", self.pool, self.vault, now=self.clock)

    def set(self, **changes: Any) -> None:
        self.rules = replace(self.rules, **changes)

    def later(self, days: float) -> None:
        self.clock.moved_by += timedelta(days=days)

    async def receive(self, **announced: Any) -> Clip:
        """Bring a clip in, up to its seal."""
        service = self.process
        clip = (await service.announce(describe_recording(self.footage, **announced))).clip
        for index, chunk in enumerate(cut_chunks(self.footage)):
            await service.store(clip.clip_id, index, chunk)
        await service.seal(clip.clip_id)
        return await self.get(clip.clip_id)

    async def secure(self, **announced: Any) -> Clip:
        """Bring a clip in; it is secured, and its date is computed."""
        clip = await self.receive(**announced)
        assert await self.process.read_back(clip.clip_id) == "secured"
        await self.compute()
        return await self.get(clip.clip_id)

    async def announced(self, **announced: Any) -> Clip:
        """Bring a clip in, and let its erasure be announced."""
        clip = await self.secure(evidential_state="non_evidential", **announced)
        self.later(32)
        assert await self.schedule() == 1
        return await self.get(clip.clip_id)

    async def get(self, clip_id: UUID) -> Clip:
        return await get_clip(self.pool, clip_id)

    async def living(self, clip_id: UUID) -> LivingClip:
        async with reading(self.pool) as connection:
            [found] = await list_living(connection, [clip_id])
        return found

    async def types(self, clip_id: UUID) -> list[str]:
        return await list_event_types(self.pool, clip_id)

    async def publish(self) -> None:
        while await sequence_log(Sequencer(), pool=self.pool, signer=SIGNER, now=self.clock):
            pass
        while await publish_checkpoints(pool=self.pool, vault=self.published or self.vault):
            pass

    async def compute(self) -> None:
        await self.publish()
        while await compute_next(pool=self.pool, rules=self.rules, now=self.clock):
            await self.publish()

    async def chase(self) -> int:
        return await chase_unclassified(pool=self.pool, rules=self.rules, now=self.clock)

    async def schedule(self) -> int:
        return await schedule_due(pool=self.pool, rules=self.rules, now=self.clock)

    async def intend(self) -> int:
        return await intend_erasures(pool=self.pool, rules=self.rules, now=self.clock)

    async def execute(self, **changed: Any) -> Erased:
        tools = {"pool": self.pool, "vault": self.vault, "rules": self.rules, "now": self.clock}
        return await execute_erasures(**(tools | changed))

    async def forecast(self) -> bool:
        return await make_forecast(pool=self.pool, now=self.clock)

    async def breaker(self) -> Halt | None:
        return await check_breaker(pool=self.pool, rules=self.rules, now=self.clock)

    async def work(self) -> Halt | None:
        """Do what the jobs do until nothing is left to do now; the halt that stands, if any."""
        await self.compute()
        await self.forecast()
        while await self.chase():
            pass
        if (halt := await self.breaker()) is not None:
            return halt
        while await self.schedule():
            pass
        while await self.intend():
            pass
        await self.publish()
        while (await self.execute()).executed:
            pass
        await self.publish()
        return None

    async def erase(self) -> None:
        """Let the notice of what was announced pass, and erase it."""
        self.later(self.rules.notice / DAY)
        assert await self.intend() == 1
        await self.publish()
        assert (await self.execute()).executed == 1

    async def hold(
        self, clip_id: UUID, principal: Principal = ANNA, kind="evidence", **order: Any
    ) -> Hold:
        made = {"authority": "CASE-1", "reason": "asked for by the court", **order}
        return await place_hold(
            clip_id,
            Order(kind, actor=Actor.of(principal), **made),
            pool=self.pool,
            vault=self.vault,
            now=self.clock,
            locks_objects=self.locks_objects,
        )

    async def release(self, hold_id: UUID, principal: Principal = BEN) -> Hold:
        return await release_hold(
            hold_id,
            principal,
            authority="CASE-1/closed",
            pool=self.pool,
            rules=self.rules,
            now=self.clock,
            locks_objects=self.locks_objects,
        )

    async def restore(self, clip_id: UUID, principal: Principal = ANNA) -> LivingClip:
        return await restore_clip(
            clip_id,
            principal,
            authority="REQ-9",
            pool=self.pool,
            rules=self.rules,
            now=self.clock,
        )

    async def asserted(self, clip_id: UUID, event_type: str, **members: Any) -> None:
        """Let somebody assert something of a clip, as the API for it does."""
        clip = await self.get(clip_id)
        events = chain_events(
            clip.head, [Happening(event_type, Actor.of(ANNA), members)], now=self.clock()
        )
        async with writing(self.pool) as connection:
            assert await append_events(connection, clip_id, clip.event_count, events)
            for name, value in members.items():
                statement = {
                    "category": "UPDATE clips SET category = $2 WHERE clip_id = $1",
                    "evidential_state": "UPDATE clips SET evidential_state = $2 WHERE clip_id = $1",
                }[name]
                await connection.execute(statement, clip_id, value)

    def bytes_of(self, clip: Clip) -> bytes | None:
        found = self.vault._find(clip.object_key or "", clip.object_version)
        return None if found is None else found.data
