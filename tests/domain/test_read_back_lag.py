"""How long docks are told to wait for their receipts."""

from datetime import timedelta

import pytest

from ingest_service.domain.read_back_lag import WAIT_MAX_S, ReadBackLag

NOW = timedelta(0)


def seconds(number):
    return timedelta(seconds=number)


def make_lag(took_s):
    lag = ReadBackLag(chance=lambda: 0.0)
    for _ in range(100):
        lag.note_secured(seconds(took_s), since=NOW)
    return lag


def test_at_first_it_is_a_second():
    assert ReadBackLag(chance=lambda: 0.0).choose_wait(NOW) == 1


@pytest.mark.parametrize(("waited_s", "wait_s"), [(0, 19), (5, 14), (12, 7), (18, 4)])
def test_a_dock_waits_as_long_as_the_others_had_to(waited_s, wait_s):
    lag = make_lag(20)

    assert lag.choose_wait(seconds(waited_s)) == wait_s


def test_who_waits_longer_than_all_before_shows_that_the_lag_has_grown():
    lag = make_lag(2)

    lag.choose_wait(seconds(40))
    assert lag.choose_wait(NOW) == 40


def test_the_wait_falls_when_receipts_come_soon_again():
    lag = make_lag(40)

    for _ in range(100):
        lag.note_secured(seconds(0.2), since=NOW)
    assert lag.choose_wait(NOW) == 1


def test_a_receipt_of_last_week_tells_nothing_of_now():
    lag = ReadBackLag(chance=lambda: 0.0)

    lag.note_secured(seconds(50), since=timedelta(days=7))
    assert lag.choose_wait(NOW) == 1


def test_nobody_waits_longer_than_a_minute():
    assert make_lag(3600).choose_wait(NOW) == WAIT_MAX_S


def test_docks_that_asked_together_do_not_ask_together_again():
    chances = iter(range(1000))
    lag = ReadBackLag(chance=lambda: next(chances) % 10 / 10)
    for _ in range(100):
        lag.note_secured(seconds(20), since=NOW)

    assert len({lag.choose_wait(NOW) for _ in range(20)}) > 3


def test_who_seals_while_receipts_come_at_once_asks_at_once():
    assert make_lag(0.3).choose_first_wait() == 0


def test_who_seals_while_read_backs_are_late_asks_soon_after_the_others_got_theirs():
    assert make_lag(12).choose_first_wait() == 15


def test_nobody_is_told_to_ask_for_the_first_time_after_more_than_a_minute():
    assert make_lag(3600).choose_first_wait() == WAIT_MAX_S
