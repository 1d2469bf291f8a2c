from hypothesis import given
from hypothesis import strategies as st

from ingest_service.domain.structured_fields import (
    format_dictionary,
    parse_boolean,
    parse_dictionary,
    parse_length,
)

KEYS = st.from_regex(r"[a-z*][a-z0-9_.*-]{0,10}", fullmatch=True)
COUNTS = st.integers(min_value=0, max_value=10**15 - 1)


@given(COUNTS)
def test_every_integer_of_15_digits_is_read(number):
    assert parse_length(str(number)) == parse_length(f"{number};x=1;y") == number


@given(st.text(max_size=20))
def test_no_text_is_a_surprise(text):
    assert parse_boolean(text) in {True, False, None}
    assert (parse_length(text) or 0) >= 0
    parse_dictionary(text)


@given(st.dictionaries(KEYS, COUNTS | st.binary(max_size=40), max_size=5))
def test_a_dictionary_is_read_as_it_was_written(members):
    assert parse_dictionary(format_dictionary(members)) == members


def test_only_booleans_are_booleans():
    assert [parse_boolean(text) for text in ("?1", "?0", "?1;x=1", " ?1 ")] == [
        True,
        False,
        True,
        True,
    ]
    for text in ("true", "1", "?2", "?", "", "?1,?1", "?1, ?0", '"?1"', "?1;", None):
        assert parse_boolean(text) is None


def test_only_integers_of_0_or_more_are_lengths():
    for text in ("-1", "1.0", "+1", "1" * 16, "", "abc", "1 2", "1,1", "0x1", ":MQ==:", None):
        assert parse_length(text) is None


def test_a_malformed_member_spoils_the_dictionary():
    for text in ("a=", "a=1,", "a=1 b=2", "A=1", "a=(1 2)", "a=:?:", ",a=1", 'a="'):
        assert parse_dictionary(text) is None


def test_the_last_of_equal_keys_counts():
    assert parse_dictionary("a=1;p, b, a=3") == {"a": 3, "b": True}
