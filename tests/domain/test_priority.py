"""What a dock says of urgency, and what is made of it."""

import pytest

from ingest_service.domain.priority import (
    Priority,
    PriorityClaim,
    claims_priority,
    judge_claim,
)

URGENT = frozenset({"firearms"})


@pytest.mark.parametrize(
    "field", ["u=0", "u=0, i", "i, u=0", " u=0;x=1 ", "u=5, u=0", "a=:eA==:, u=0"]
)
def test_the_highest_urgency_is_a_claim(field):
    assert claims_priority(field)


@pytest.mark.parametrize(
    "field",
    [
        *(None, "", "u", "u=1", "u=1, i", "u=3", "u=7", "u=-1", "u=0.0", "u=?0", 'u="0"', "u=00x"),
        *("U=0", "u = 0", "u=0,", "u=0 i", "u=0, u=3", "urgency=0", "u=(0)", "\xff", "u=:MA==:"),
        "u=0, a=" + 100 * "a",
    ],
)
def test_anything_else_claims_nothing(field):
    assert not claims_priority(field)


@pytest.mark.parametrize("was_used", [True, False])
def test_a_claim_rests_on_the_clips_category(was_used):
    priority = judge_claim(PriorityClaim(was_used), "firearms", URGENT)

    assert priority == Priority("firearms", was_used)
    assert priority.is_founded


@pytest.mark.parametrize("category", [None, "", "traffic", "Firearms", "Smith, 12 High Street"])
def test_a_claim_for_another_category_rests_on_nothing_and_does_not_name_it(category):
    """A leaf is for ever, and a category that nobody knows is free text."""
    priority = judge_claim(PriorityClaim(was_used=True), category, URGENT)

    assert not priority.is_founded
    assert priority.describe() == {"urgency": 0, "category": None, "was_used": True}


def test_who_claims_nothing_is_not_judged():
    assert judge_claim(None, "firearms", URGENT) is None
