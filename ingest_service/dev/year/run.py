"""One run of the year on a ledger and a vault: it is lived, and then judged."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ingest_service.dev.year.book import Book
from ingest_service.dev.year.cameras import Cameras
from ingest_service.dev.year.clock import MovedClock
from ingest_service.dev.year.judge import Judge, Verdict
from ingest_service.dev.year.life import Progress, Scenario, Year
from ingest_service.dev.year.people import People
from ingest_service.dev.year.plants import Planter
from ingest_service.dev.year.prosecutors import Prosecutors
from ingest_service.dev.year.requesters import Requesters
from ingest_service.dev.year.rule_makers import RuleMakers
from ingest_service.dev.year.service import CONNECTIONS, Service, YearFailed, make_resources
from ingest_service.ledger.connection import close_pool, open_pool
from ingest_service.signer import LocalSigner
from ingest_service.vault import Vault

_SIGNER_NAME = "year.dev/custody"
_STATEMENT_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run.

    deeds     planned -> how many
    figures   of the books
    """

    verdict: Verdict
    deeds: dict[str, int]
    figures: dict[str, int]
    days: int
    clips: int
    receiving_s: float
    living_s: float
    judging_s: float


async def run_year(
    scenario: Scenario,
    *,
    service_dsn: str,
    owner_dsn: str,
    vault: Vault,
    folder: Path,
    certificates_max: int,
    tell: Callable[[Progress], None],
    tell_judged: Callable[[int], None],
) -> Outcome:
    """Let a year pass on an empty, migrated ledger, and judge it.

    folder  where the books are kept

    Raises:
        YearFailed: the service did what was not expected while the year was lived.
    """
    clock, signer = MovedClock(), LocalSigner(Ed25519PrivateKey.generate(), _SIGNER_NAME)
    book = Book(folder / "book.sqlite")
    pool = await open_pool(
        service_dsn, connections_max=CONNECTIONS, statement_timeout_s=_STATEMENT_TIMEOUT_S
    )
    try:
        opened = make_resources(pool, vault, signer, clock, scenario.rules())
        last: list[Progress] = []

        def note(progress: Progress) -> None:
            last[:] = [progress]
            tell(progress)

        planter = Planter(scenario.plants, owner_dsn, vault, book)
        people = People(opened, book, Prosecutors(opened, book), Requesters(opened, book))
        service = Service(opened, clock)
        year = Year(
            scenario,
            clock,
            service,
            Cameras(service, book),
            people,
            RuleMakers(opened, book),
            book,
            planter,
            note,
        )
        await year.live()
        if planter.left:
            message = f"no clip was found to plant {planter.left} on: take more clips"
            raise YearFailed(message)
        began = time.monotonic()
        judge = Judge(pool, owner_dsn, vault, signer, book, certificates_max, tell_judged)
        verdict = await judge.judge()
        [end] = last
        return Outcome(
            verdict,
            book.count_deeds(),
            {
                "holds placed": book.count_holds(),
                "holds refused, the deletion had begun": book.refused_holds,
                "second words refused, of the same person": book.self_releases_refused,
                "links that opened nothing after their time": book.links_ended,
                "disclosures revoked": book.links_revoked,
                "subject access requests answered": book.requests_answered,
                "bulk holds, after a dry run": book.bulk_holds,
                "uploads that broke off, half-way": book.count_broken_off(),
                "clips whose camera came back weeks later": book.came_back,
            },
            days=end.day,
            clips=end.clips,
            receiving_s=end.receiving_s,
            living_s=end.elapsed_s,
            judging_s=time.monotonic() - began,
        )
    finally:
        await close_pool(pool)
        book.close()
