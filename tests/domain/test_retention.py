"""When a clip is to be erased: for every clip, every policy, and every clock that lies."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.domain.retention import (
    LivingClip,
    Policy,
    RetentionRules,
    Rule,
    decide,
    find_excess,
    is_changed,
    list_in_force,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
FLOOR = 31 * DAY
STATES = ("unclassified", "non_evidential", "evidential", "policing_purpose")
CATEGORIES = (None, "traffic", "drugs")
CLIP = LivingClip(
    clip_id=UUID(int=1),
    state="secured",
    device_serial="BWC-1",
    borough="Camden",
    size_bytes=1,
    sha256=bytes(32),
    bucket="b",
    object_key="k",
    object_version="1",
    category=None,
    evidential_state="non_evidential",
    clock_state="synced",
    started_at=NOW - timedelta(hours=8),
    started_at_corrected=None,
    announced_at=NOW,
    secured_at=NOW + timedelta(minutes=5),
    is_held=False,
    erase_due_at=None,
    event_count=5,
    last_leaf_hash=bytes(32),
)

moments = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone
rules = st.builds(
    Rule,
    st.sampled_from(CATEGORIES),
    st.sampled_from((None, *STATES)),
    st.none() | st.integers(1, 36_500),
)


def policy(*lines: Rule, policy_id="default", version=1, effective_from=NOW, approved_by="P-2"):
    return Policy(
        policy_id, version, tuple(lines), effective_from, "why", "P-1", NOW, approved_by, NOW
    )


policies = st.lists(st.lists(rules, max_size=5), max_size=3).map(
    lambda sets: [policy(*lines, policy_id=f"p{n}") for n, lines in enumerate(sets)]
)
clips = st.builds(
    lambda state, category, clock, started, corrected, before, wait: replace(
        CLIP,
        evidential_state=state,
        category=category,
        clock_state=clock,
        started_at=started,
        started_at_corrected=corrected,
        basis_at=before,
        secured_at=CLIP.announced_at + wait,
    ),
    st.sampled_from(STATES),
    st.sampled_from(CATEGORIES),
    st.sampled_from(("synced", "free_running", "not_set", "implausible")),
    st.none() | moments,
    st.none() | moments,
    st.none() | moments,
    st.timedeltas(timedelta(), timedelta(days=3)),
)


@given(clips, policies)
def test_nothing_is_erased_earlier_than_the_floor_after_its_secure_receipt(clip, given_policies):
    decision = decide(clip, given_policies, floor=FLOOR)

    assert decision.erase_due_at is None or decision.erase_due_at >= clip.secured_at + FLOOR


@given(clips, policies)
def test_the_longest_of_all_rules_that_apply_wins(clip, given_policies):
    decision = decide(clip, given_policies, floor=FLOOR)

    for each in decision.lost:
        assert decision.erase_due_at is None or each.erase_due_at <= decision.erase_due_at


@given(clips, policies)
def test_everything_that_applies_is_considered(clip, given_policies):
    decision = decide(clip, given_policies, floor=FLOOR)
    applying = [
        rule
        for each in given_policies
        for rule in each.rules
        if rule.category in {None, clip.category}
        and rule.evidential_state in {None, clip.evidential_state}
    ]

    considered = [*decision.lost, *([decision.won] if decision.won else [])]
    named = [each for each in considered if not each.name.startswith("floor/")]
    assert len(named) == len(applying)


@given(clips, policies, rules)
def test_one_more_rule_never_shortens_a_term(clip, given_policies, rule):
    """Unless it is the first one that applies at all: without any, a clip is kept."""
    before = decide(clip, given_policies, floor=FLOOR)

    after = decide(clip, [*given_policies, policy(rule, policy_id="more")], floor=FLOOR)

    if before.won is not None:
        assert later(after.erase_due_at, before.erase_due_at)


@given(clips, policies, st.none() | moments)
def test_an_edited_start_never_moves_the_date_earlier(clip, given_policies, edited):
    first = decide(clip, given_policies, floor=FLOOR)
    recorded = replace(clip, basis=first.basis, basis_at=first.basis_at)

    again = decide(
        replace(recorded, started_at=edited, started_at_corrected=edited),
        given_policies,
        floor=FLOOR,
    )

    assert later(again.erase_due_at, first.erase_due_at)


@given(clips, policies)
def test_a_date_is_computed_from_nothing_else(clip, given_policies):
    once = decide(clip, given_policies, floor=FLOOR)
    recorded = replace(
        clip,
        computed_at=NOW,
        policy=once.policy,
        basis=once.basis,
        basis_at=once.basis_at,
        erase_due_at=once.erase_due_at,
        is_unclassified=clip.evidential_state == "unclassified",
    )

    assert not is_changed(recorded, decide(recorded, given_policies, floor=FLOOR))


def later(moment, than):
    return moment is None or (than is not None and moment >= than)


@pytest.mark.parametrize(
    ("changes", "basis"),
    [
        ({}, "synced_start"),
        ({"started_at_corrected": NOW - timedelta(hours=9)}, "corrected_start"),
        (
            {"clock_state": "free_running", "started_at_corrected": NOW - timedelta(hours=9)},
            "corrected_start",
        ),
        ({"clock_state": "free_running"}, "received"),
        ({"clock_state": "not_set"}, "received"),
        ({"clock_state": "implausible"}, "received"),
        ({"started_at": None}, "received"),
        ({"started_at": NOW - 400 * DAY}, "received"),
        ({"started_at": NOW + timedelta(minutes=1)}, "received"),
    ],
)
def test_only_a_start_that_something_bears_out_is_counted_from(changes, basis):
    decision = decide(replace(CLIP, **changes), [policy(Rule(None, None, 90))], floor=FLOOR)

    assert decision.basis == basis
    assert decision.erase_due_at == decision.basis_at + 90 * DAY


def test_without_a_rule_that_applies_a_clip_is_kept():
    decision = decide(CLIP, [policy(Rule("drugs", None, 5))], floor=FLOOR)

    assert (decision.erase_due_at, decision.won) == (None, None)


def test_a_rule_beyond_the_calendar_keeps():
    far = replace(CLIP, announced_at=datetime(9998, 1, 1, tzinfo=UTC), started_at=None)

    assert decide(far, [policy(Rule(None, None, 36_500))], floor=DAY).erase_due_at is None


def test_a_clip_that_was_restored_has_its_shortest_term_once_more():
    restored = replace(CLIP, restored_at=NOW + 40 * DAY)

    decision = decide(restored, [policy(Rule(None, None, 31))], floor=FLOOR)

    assert decision.erase_due_at == NOW + 71 * DAY
    assert decision.won.name == "floor/restored"


@pytest.mark.parametrize(
    ("changes", "is_in_force"),
    [
        ({}, True),
        ({"approved_by": None}, False),
        ({"effective_from": NOW + timedelta(seconds=1)}, False),
    ],
)
def test_a_policy_is_in_force_once_it_is_approved_and_effective(changes, is_in_force):
    made = policy(Rule(None, None, 31), **changes)

    assert (list_in_force([made], NOW) == [made]) is is_in_force


def test_the_newest_version_of_each_policy_is_in_force():
    versions = [policy(version=n) for n in (3, 1, 2)] + [policy(policy_id="other")]

    assert [each.name for each in list_in_force(versions, NOW)] == ["default/3", "other/1"]


def test_a_newer_version_that_nobody_approved_leaves_the_older_one_in_force():
    versions = [policy(), policy(version=2, approved_by=None)]

    assert [each.name for each in list_in_force(versions, NOW)] == ["default/1"]


RULES = RetentionRules(deviation_share=0.2, deviation_clips=100, clips_per_day_max=10_000)


@pytest.mark.parametrize(
    ("count", "expected", "is_too_much"),
    [
        (0, 0, False),
        (100, 0, False),
        (101, 0, True),
        (1000, 1000, False),
        (1200, 1000, False),
        (1201, 1000, True),
        (500, 400, False),
        (501, 400, True),
        (10, 9_000, False),
    ],
)
def test_more_than_was_forecast_is_too_much(count, expected, is_too_much):
    excess = find_excess({"2026-03-01": (count, expected)}, {}, {}, RULES)

    assert excess == ({"2026-03-01": count} if is_too_much else {})


def test_more_on_one_day_than_is_set_is_too_much_however_expected():
    assert find_excess({}, {"deleted": 10_001}, {}, RULES) == {"deleted": 10_001}


def test_what_was_allowed_is_not_too_much_and_one_more_is():
    allowed = {"2026-03-01": 500}

    assert find_excess({"2026-03-01": (500, 0)}, {}, allowed, RULES) == {}
    assert find_excess({"2026-03-01": (501, 0)}, {}, allowed, RULES) == {"2026-03-01": 501}
