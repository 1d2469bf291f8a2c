"""Every parser of ours, fed with anything: what comes out is a value, or the error it declares.

Each gets any text, and texts of its own form with something changed in them: those come further.
"""

import base64
import string
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.actions import find_clips
from ingest_service.domain.checkpoint import parse_checkpoint, parse_number, parse_proof
from ingest_service.domain.checksum import TUS_ALGORITHMS, digest_size, parse_upload_checksum
from ingest_service.domain.concatenation import parse_concat
from ingest_service.domain.cosignature import find_cosignature
from ingest_service.domain.digest import parse_content_digest
from ingest_service.domain.log_paths import (
    BadTilePath,
    BundleInvalid,
    bundle_entries,
    checkpoint_key,
    cosigned_key,
    leaves_key,
    parse_checkpoint_key,
    parse_cosigned_key,
    parse_leaves_key,
    parse_tile_path,
    split_bundle,
)
from ingest_service.domain.merkle import ProofInvalid
from ingest_service.domain.note import NoteInvalid, parse_verifier_key
from ingest_service.domain.receipt import ReceiptInvalid, read_erased_facts, read_secured_facts
from ingest_service.domain.replay import LeafInvalid, parse_leaf
from ingest_service.domain.structured_fields import (
    parse_boolean,
    parse_dictionary,
    parse_length,
)
from ingest_service.domain.token import (
    import_signing_key,
    make_private_key,
    read_key_id,
    sign_token,
)
from ingest_service.domain.tus_metadata import parse_metadata
from ingest_service.errors import (
    InvalidCursor,
    InvalidHeader,
    Unauthorized,
    UnknownDigestAlgorithm,
)
from ingest_service.ledger.search import Place, Search
from tests.domain.test_checkpoint import KEY, make_log, make_proof, sign

UPLOAD_ID = "0199c0de-5f0a-7b7c-8d1e-2f3a4b5c6d7e"
ASKED = Search(category="arrest", recorded_after=datetime(2026, 1, 1, tzinfo=UTC))
PLACE = Place(datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=UTC), UUID(UPLOAD_ID))
CURSOR = find_clips._make_cursor(ASKED, PLACE, "forward")
SHA256 = base64.b64encode(bytes(32)).decode()
CHECKPOINT = sign(make_log()[0])
HEADER_ERRORS = (InvalidHeader, UnknownDigestAlgorithm)

# Of each parser: itself, the errors that it declares, and something that it reads.
PARSERS = {
    "tus metadata": (parse_metadata, (InvalidHeader,), "filename c3RvcC5tcDQ=,is_test"),
    "tus checksum": (parse_upload_checksum, HEADER_ERRORS, f"sha256 {SHA256}"),
    "tus concat": (
        lambda text: parse_concat(text, {"ingest.test"}),
        (InvalidHeader,),
        f"final;/files/{UPLOAD_ID} http://ingest.test/files/{UPLOAD_ID}",
    ),
    "content digest": (parse_content_digest, HEADER_ERRORS, f"sha-256=:{SHA256}:, md5=:AA==:"),
    "sf boolean": (parse_boolean, (), "?1;a=2"),
    "sf length": (parse_length, (), '5;a="b\\\\"'),
    "sf dictionary": (parse_dictionary, (), 'sha-256=:AAAA:;a, b=1, c="x", d=?0, e=tok'),
    "cursor": (lambda text: find_clips._read_cursor(text, ASKED), (InvalidCursor,), CURSOR),
    "checkpoint": (parse_checkpoint, (NoteInvalid,), CHECKPOINT),
    "cosignature": (
        lambda text: find_cosignature(parse_checkpoint(text), KEY),
        (NoteInvalid,),
        CHECKPOINT,
    ),
    "proof": (parse_proof, (NoteInvalid, ProofInvalid), make_proof(3)),
    "number": (parse_number, (NoteInvalid,), "1234567"),
    "verifier key": (
        parse_verifier_key,
        (NoteInvalid,),
        "police.example/custody+54cf2d1c+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4",
    ),
    "token": (
        read_key_id,
        (Unauthorized,),
        sign_token(import_signing_key(make_private_key()), {"iss": "dock-1", "exp": 1}),
    ),
    "tile path": (parse_tile_path, (BadTilePath,), "x001/x234/067.p/5"),
    "checkpoint key": (parse_checkpoint_key, (), checkpoint_key(77)),
    "cosigned key": (parse_cosigned_key, (), cosigned_key(77)),
    "leaves key": (parse_leaves_key, (), leaves_key(5, 9)),
    "leaf": (
        lambda text: parse_leaf(text.encode("utf-8", "replace")),
        (LeafInvalid,),
        '{"facts":{}}',
    ),
    "secured leaf": (
        lambda text: read_secured_facts(text.encode("utf-8", "replace")),
        (ReceiptInvalid,),
        '{"type":"clip.secured","facts":{"sha256":"00"}}',
    ),
    "erased leaf": (
        lambda text: read_erased_facts(text.encode("utf-8", "replace")),
        (ReceiptInvalid,),
        '{"type":"erase.executed","facts":{}}',
    ),
}
# What headers and URLs can hold, and what makes trouble in numbers, base64 and Unicode.
ODD = [
    *("", "\x00", "\xe9", "\u0663", "=", "==", "-1", "\n", " ", ","),
    *("0" * 20, "9" * 5000, "[" * 3000),
]


@st.composite
def changed(draw, sample):
    """A text of the form, with pieces of it repeated, left out or replaced."""
    text = sample
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        stop = draw(st.integers(start, min(len(text), start + 8)))
        piece = draw(
            st.sampled_from(ODD)
            | st.text(string.printable, max_size=4)
            | st.just(text[start:stop] * 2)
        )
        text = text[:start] + piece + text[stop:]
    return text


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.data())
def test_a_parser_answers_or_declares_why_not(name, data):
    parse, declared, sample = PARSERS[name]
    text = data.draw(st.one_of(*(changed(sample) for _ in range(3)), st.text(max_size=60)))

    with suppress(*declared):
        parse(text)


@pytest.mark.parametrize("name", PARSERS)
def test_nothing_odd_in_a_good_text_is_a_surprise(name):
    parse, declared, sample = PARSERS[name]
    for odd in ODD:
        for place in (0, len(sample) // 2, len(sample) * 2 // 3, len(sample)):
            with suppress(*declared):
                parse(sample[:place] + odd + sample[place:])


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_a_bundle_is_split_as_it_was_made(leaves):
    assert split_bundle(bundle_entries(leaves)) == leaves


@given(st.binary(max_size=40))
def test_whatever_comes_it_is_a_bundle_or_a_refusal(data):
    with suppress(BundleInvalid):
        assert bundle_entries(split_bundle(data)) == data


@pytest.mark.parametrize("algorithm", TUS_ALGORITHMS)
@given(data=st.data())
def test_a_checksum_reads_back(algorithm, data):
    size = digest_size(algorithm)
    digest = data.draw(st.binary(min_size=size, max_size=size))

    text = f"{algorithm} {base64.b64encode(digest).decode()}"
    assert parse_upload_checksum(text) == {algorithm: digest}


@given(
    key=st.datetimes(timezones=st.just(UTC)),
    clip_id=st.uuids(),
    direction=st.sampled_from(["forward", "backward"]),
)
def test_a_cursor_reads_back(key, clip_id, direction):
    made = find_clips._make_cursor(ASKED, Place(key, clip_id), direction)

    assert find_clips._read_cursor(made, ASKED) == (Place(key, clip_id), direction)


@given(st.integers(0, 10**18 - 1), st.integers(0, 10**18 - 1))
def test_keys_of_the_log_read_back(one, other):
    assert parse_checkpoint_key(checkpoint_key(one)) == one
    assert parse_cosigned_key(cosigned_key(one)) == one
    assert parse_leaves_key(leaves_key(one, other)) == (one, other)
