"""Who makes the rules, who errs, and who lets the erasing go on after a halt."""

from collections.abc import Sequence
from dataclasses import dataclass

from ingest_service.actions.halt_erasure import release_halt
from ingest_service.actions.make_policy import approve_policy, list_policies, make_policy
from ingest_service.dev.year.book import Book
from ingest_service.dev.year.persons import CUSTODIANS, HASTY, OPERATORS
from ingest_service.dev.year.plan import LONGER, SHORTEST_DAYS
from ingest_service.dev.year.service import YearFailed
from ingest_service.domain.principal import Principal
from ingest_service.domain.retention import Rule
from ingest_service.errors import AnotherPersonNeeded
from ingest_service.ledger.erasures import Halt
from ingest_service.resources import Resources


@dataclass(frozen=True, slots=True)
class RuleMakers:
    """Two for each version of a policy, and two for each halt."""

    opened: Resources
    book: Book

    async def make_rules(self) -> None:
        """Keep some categories longer than 31 days."""
        rules = tuple(Rule(category, None, days) for category, days in LONGER.items())
        await self._make_policy("longer", rules, CUSTODIANS)

    async def make_mistake(self) -> None:
        """Put a version in force that has forgotten what is evidence; two people, both in haste."""
        await self._make_policy("default", (Rule(None, None, SHORTEST_DAYS),), HASTY)

    async def mend_mistake(self) -> None:
        """Put the rules that held before in force again."""
        known = await list_policies(pool=self.opened.pool)
        [first] = [each for each in known if (each.policy_id, each.version) == ("default", 1)]
        await self._make_policy("default", first.rules, CUSTODIANS)

    async def _make_policy(
        self, policy_id: str, rules: tuple[Rule, ...], persons: Sequence[Principal]
    ) -> None:
        maker, approver = persons
        pool, now = self.opened.pool, self.opened.now
        made = await make_policy(
            policy_id, rules, maker, effective_from=None, reason="the year", pool=pool, now=now
        )
        await approve_policy(policy_id, made.version, approver, pool=pool, now=now)

    async def release_halt(self, halt: Halt) -> None:
        """Look at a halt, two of them, and let the erasing go on.

        Raises:
            YearFailed: it goes on after the word of one.
        """
        pool, now = self.opened.pool, self.opened.now
        first, second = OPERATORS
        looked = await release_halt(halt.halt_id, first, authority="CHANGE", pool=pool, now=now)
        if looked.released_at is not None:
            message = "one person has released a halt"
            raise YearFailed(message)
        try:
            await release_halt(halt.halt_id, first, authority="CHANGE", pool=pool, now=now)
        except AnotherPersonNeeded:
            self.book.self_releases_refused += 1
        await release_halt(halt.halt_id, second, authority="CHANGE", pool=pool, now=now)
