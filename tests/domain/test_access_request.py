"""The statutory clock of a subject access request: calendar months, counted from the receipt."""

import calendar
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.domain.access_request import add_months, find_deadline, find_due_on

DAYS = st.dates(min_value=date(1990, 1, 1), max_value=date(2190, 1, 1))
MONTHS = st.integers(min_value=0, max_value=36)


@pytest.mark.parametrize(
    ("received", "extension_months", "due_on"),
    [
        ("2026-11-22", 0, "2026-12-22"),
        ("2026-12-31", 0, "2027-01-31"),
        ("2027-01-31", 0, "2027-02-28"),
        ("2028-01-31", 0, "2028-02-29"),
        ("2028-02-29", 0, "2028-03-29"),
        ("2027-01-31", 1, "2027-03-31"),
        ("2027-01-31", 2, "2027-04-30"),
        ("2026-11-30", 2, "2027-02-28"),
        ("2027-03-31", 0, "2027-04-30"),
        ("2100-01-30", 0, "2100-02-28"),
    ],
)
def test_a_month_ends_on_the_corresponding_date_or_the_last_one(received, extension_months, due_on):
    received_at = datetime.fromisoformat(received).replace(hour=23, tzinfo=UTC)

    assert find_due_on(received_at, extension_months).isoformat() == due_on


@given(DAYS, MONTHS)
def test_the_month_is_the_right_one_and_the_day_never_a_later_one(day, months):
    due = add_months(day, months)

    assert (due.year * 12 + due.month) - (day.year * 12 + day.month) == months
    assert due.day <= day.day


@given(DAYS, MONTHS)
def test_the_day_is_the_same_wherever_the_month_has_it(day, months):
    due = add_months(day, months)

    last = calendar.monthrange(due.year, due.month)[1]
    assert due.day == day.day or (due.day == last < day.day)


@given(DAYS, DAYS, MONTHS)
def test_who_asks_later_is_never_due_earlier(one, other, months):
    earlier, later = sorted([one, other])

    assert add_months(earlier, months) <= add_months(later, months)


@given(DAYS)
def test_an_extension_gives_at_most_two_months_more(day):
    received_at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    first, *extended = (find_due_on(received_at, months) for months in (0, 1, 2))

    assert timedelta(28) <= first - day <= timedelta(31)
    assert first < extended[0] < extended[1] <= add_months(day, 3)


def test_the_day_of_receipt_is_counted_in_utc():
    london_summer = timezone(timedelta(hours=1))
    received_at = datetime(2026, 7, 1, 0, 30, tzinfo=london_summer)

    assert find_due_on(received_at) == date(2026, 7, 30)


def test_it_is_overdue_once_its_last_day_is_over():
    assert find_deadline(date(2026, 12, 31)) == datetime(2027, 1, 1, tzinfo=UTC)
