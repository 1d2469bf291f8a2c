from datetime import UTC, datetime

import pytest

from ingest_service.dock.failures import GaveUp, Trouble
from ingest_service.dock.patience import Patience, choose_wait, parse_retry_after

NOW = datetime(2026, 11, 21, 22, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "date", "expected_s"),
    [
        ("0", None, 0),
        (" 7 ", None, 7),
        ("Sat, 21 Nov 2026 22:00:30 GMT", None, 30),
        ("Sat, 21 Nov 2026 21:00:00 GMT", None, 0),
        ("999999999", None, 3600),
        ("Fri, 31 Dec 9999 23:59:59 GMT", None, 3600),
        ("-5", None, None),
        ("1.5", None, None),
        ("soon", None, None),
        ("²", None, None),
        ("", None, None),
        (None, None, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(value, date, expected_s):
    assert parse_retry_after(value, date=date, now=NOW) == expected_s


def test_a_retry_after_date_is_measured_by_the_servers_clock():
    wait_s = parse_retry_after(
        "Thu, 01 Jan 2004 00:00:20 GMT", date="Thu, 01 Jan 2004 00:00:00 GMT", now=NOW
    )

    assert wait_s == 20


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_a_dock_never_returns_before_it_was_asked_to(chance):
    assert 8 <= choose_wait(0, 8, chance=lambda: chance) <= 10


def test_docks_told_the_same_do_not_return_together():
    assert choose_wait(0, 8, chance=lambda: 0.1) != choose_wait(0, 8, chance=lambda: 0.9)


def test_unasked_waits_double_up_to_a_minute():
    longest = [choose_wait(attempt, None, chance=lambda: 1.0) for attempt in (0, 1, 2, 6, 7, 500)]

    assert longest == [0.5, 1, 2, 32, 60, 60]


def test_unasked_waits_differ_by_up_to_half():
    assert choose_wait(2, None, chance=lambda: 0.0) == 1


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_patience_ends_when_the_next_attempt_would_come_too_late():
    clock = Clock()
    patience = Patience(give_up_after_s=10, monotonic=clock)
    clock.now_s = 5
    assert patience.plan(Trouble("busy", 4)) < 6

    with pytest.raises(GaveUp, match="busy"):
        patience.plan(Trouble("busy", 6))


def test_progress_renews_patience():
    clock = Clock()
    patience = Patience(give_up_after_s=10, monotonic=clock)
    clock.now_s = 9

    patience.progressed()

    assert patience.plan(Trouble("busy", 6)) >= 6


def test_progress_makes_waits_small_again():
    patience = Patience(give_up_after_s=None, chance=lambda: 1.0)
    for _ in range(6):
        patience.plan(Trouble("cut"))

    patience.progressed()

    assert patience.plan(Trouble("cut")) == 0.5


def test_patience_without_a_limit_never_ends():
    clock = Clock()
    patience = Patience(give_up_after_s=None, monotonic=clock)
    clock.now_s = 1e9

    assert patience.plan(Trouble("cut")) <= 60
