"""What is away is not asked; what is slow is; and who looks first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.domain.breaker import Breaker

WINDOW_S = 10.0
REST_S = 2.0


class Time:
    """A clock that goes when it is told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def told():
    return []


@pytest.fixture
def breaker(time, told):
    return make_breaker(time, told)


def make_breaker(time, told=None, failures_max=3):
    told = [] if told is None else told
    return Breaker(
        failures_max,
        window_s=WINDOW_S,
        rest_s=REST_S,
        monotonic=time,
        tell=lambda *change: told.append(change),
    )


def trip(breaker, count=3):
    for _ in range(count):
        breaker.fail()


# --- when it opens -------------------------------------------------------------------------


def test_many_failures_in_a_short_time_open_it(breaker):
    trip(breaker, 2)
    assert breaker.is_closed

    breaker.fail()
    assert (breaker.is_closed, breaker.state) == (False, "open")


def test_failures_over_a_long_time_do_not(breaker, time):
    for _ in range(100):
        breaker.fail()
        time.now += WINDOW_S / 2 + 0.1

    assert breaker.is_closed


def test_what_works_now_and_then_is_not_away(breaker):
    for _ in range(100):
        trip(breaker, 2)
        breaker.succeed()

    assert breaker.is_closed


def test_without_a_number_nothing_opens_it(time):
    breaker = make_breaker(time, failures_max=0)

    trip(breaker, 1000)
    assert breaker.is_closed


# --- half open -----------------------------------------------------------------------------


def test_nobody_is_let_through_before_the_rest_is_over_and_one_then(breaker, time):
    trip(breaker)
    assert not breaker.try_probe()
    time.now += REST_S

    assert [breaker.try_probe() for _ in range(3)] == [True, False, False]
    assert breaker.state == "half_open"


def test_the_success_of_the_probe_closes_it(breaker, time):
    trip(breaker)
    time.now += REST_S
    assert breaker.try_probe()

    breaker.succeed()
    assert breaker.is_closed


def test_after_a_probe_that_fails_there_is_a_rest_again(breaker, time):
    trip(breaker)
    time.now += REST_S
    assert breaker.try_probe()
    breaker.fail(was_probe=True)

    assert (breaker.state, breaker.try_probe()) == ("open", False)
    time.now += REST_S
    assert breaker.try_probe()


def test_a_probe_that_learnt_nothing_leaves_its_place_to_the_next(breaker, time):
    trip(breaker)
    time.now += REST_S
    assert breaker.try_probe()

    breaker.leave(was_probe=True)
    assert breaker.try_probe()


def test_a_probe_that_takes_long_does_not_hold_up_the_next_for_ever(breaker, time):
    trip(breaker)
    time.now += REST_S
    assert breaker.try_probe()
    time.now += 10

    assert breaker.try_probe()


def test_failures_of_those_who_were_under_way_do_not_lengthen_the_rest(breaker, time):
    trip(breaker)
    time.now += REST_S - 0.1
    trip(breaker, 10)
    time.now += 0.1

    assert breaker.try_probe()


def test_who_was_under_way_and_succeeds_closes_it(breaker):
    trip(breaker)

    breaker.succeed()
    assert breaker.is_closed


def test_closed_again_it_has_forgotten_the_failures(breaker):
    trip(breaker)
    breaker.succeed()
    trip(breaker, 2)

    assert breaker.is_closed


def test_every_change_is_told_once(breaker, told, time):
    trip(breaker, 5)
    time.now += REST_S
    breaker.try_probe()
    breaker.fail(was_probe=True)
    time.now += REST_S
    breaker.try_probe()
    breaker.succeed()
    breaker.succeed()

    assert told == [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
    ]


# --- whatever happens ------------------------------------------------------------------------

STEPS = st.one_of(
    st.just("succeed"),
    st.just("fail"),
    st.just("ask"),
    st.just("end_well"),
    st.just("end_badly"),
    st.just("end_knowing_nothing"),
    st.floats(0.01, WINDOW_S),
)


@given(st.lists(STEPS, max_size=120), st.integers(1, 5))
def test_it_opens_for_a_reason_lets_one_through_at_a_time_and_never_stays_shut(  # noqa: C901
    steps, failures_max
):
    time = Time()
    breaker = make_breaker(time, failures_max=failures_max)
    failed_at, probing_since = [], None
    for step in steps:
        was_closed = breaker.is_closed
        match step:
            case float():
                time.now += step
            case "succeed":
                breaker.succeed()
                failed_at, probing_since = [], None
                assert breaker.is_closed
            case "fail":
                breaker.fail()
                failed_at.append(time.now)
            case "ask" if not was_closed:
                if breaker.try_probe():
                    # At most one, or the one before takes too long.
                    assert probing_since is None or time.now >= probing_since + 10
                    probing_since = time.now
            case _ if probing_since is not None:
                if step == "end_well":
                    breaker.succeed()
                    failed_at = []
                    assert breaker.is_closed
                elif step == "end_badly":
                    breaker.fail(was_probe=True)
                    assert not breaker.is_closed
                else:
                    breaker.leave(was_probe=True)
                probing_since = None
        if was_closed and not breaker.is_closed:
            recent = [at for at in failed_at if time.now - at <= WINDOW_S]
            assert len(recent) >= failures_max
    # Whatever was: after a while somebody may look, and success ends it.
    time.now += 100
    assert breaker.is_closed or breaker.try_probe()
