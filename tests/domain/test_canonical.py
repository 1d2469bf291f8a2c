"""Canonical JSON: the fast way writes the very bytes of the library's."""

import json

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.domain.canonical import dump_canonical

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(-1e15, 1e15)
    | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
)


@given(VALUES)
def test_every_value_has_the_form_of_the_library(value):
    assert dump_canonical(value) == rfc8785.dumps(value)


@given(st.dictionaries(st.text(st.characters(codec="ascii")), TEXT))
def test_members_with_ascii_names_have_the_form_of_the_library(value):
    assert dump_canonical(value) == rfc8785.dumps(value)


@given(VALUES)
def test_the_form_is_stable(value):
    form = dump_canonical(value)

    assert dump_canonical(json.loads(form)) == form


@pytest.mark.parametrize("value", ["\ud800", ["\udfff"], [float("nan")], 2**53])
def test_what_json_cannot_carry_exactly_is_refused(value):
    with pytest.raises(rfc8785.CanonicalizationError):
        dump_canonical(value)


def test_names_are_ordered_by_utf_16_code_units():
    assert dump_canonical({"\ufb33": 1, "\U0001f600": 2}) == '{"\U0001f600":2,"\ufb33":1}'.encode()
