"""Faults planted into the store between the run and the audit: does the judge see them?"""

from typing import Final, Literal

from loadtest.audit import Store, target_of
from schemas.receipt import SecuredFacts

Fault = Literal["lost-object", "flipped-byte", "truncated"]
FAULTS: Final[tuple[Fault, ...]] = ("lost-object", "flipped-byte", "truncated")


class PlantFailed(Exception):
    """The store did not let itself be harmed."""


async def plant_fault(fault: Fault, facts: SecuredFacts, store: Store) -> None:
    """Harm one stored object behind the service's back.

    lost-object   its version is deleted
    flipped-byte  its version is replaced by one that differs in the middle byte
    truncated     its version is replaced by one without the last byte

    Raises:
        PlantFailed: the store refused; nothing was harmed.
    """
    link = await store.open_link()
    try:
        stored = await store.ask(link, "GET", target_of(facts))
        removed = await store.ask(link, "DELETE", target_of(facts))
        if removed.status not in {200, 204}:
            message = f"DELETE answers {removed.status}: {removed.body[:200]!r}"
            raise PlantFailed(message)
        if fault == "lost-object":
            return
        harmed = bytearray(stored.body)
        if fault == "flipped-byte":
            harmed[len(harmed) // 2] ^= 1
        else:
            del harmed[-1:]
        path = target_of(facts, is_versioned=False)
        written = await store.ask(link, "PUT", path, body=bytes(harmed))
        if written.status != 200:  # noqa: PLR2004 - S3's only answer to a PUT that it took
            message = f"PUT answers {written.status}: {written.body[:200]!r}"
            raise PlantFailed(message)
    finally:
        link.close()
