"""Content-Digest: read strictly; whatever comes, a digest or a refusal."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.domain.digest import format_content_digest, parse_content_digest
from ingest_service.errors import InvalidHeader, UnknownDigestAlgorithm

DIGEST = hashlib.sha256(b"footage").digest()
TEXT = base64.b64encode(DIGEST).decode()
FIELD = f"sha-256=:{TEXT}:"


@given(st.binary(min_size=32, max_size=32))
def test_what_is_formatted_is_parsed(digest):
    assert parse_content_digest(format_content_digest(digest)) == digest


@pytest.mark.parametrize(
    "value",
    [
        FIELD,
        f"  {FIELD}  ",
        f"md5=:AAAA:, {FIELD}",
        f"{FIELD},sha-512=:AAAA:",
        f"{FIELD};a=1",
    ],
)
def test_the_sha_256_is_found_among_others(value):
    assert parse_content_digest(value) == DIGEST


def test_of_two_the_last_counts():
    """RFC 8941, section 3.2: a repeated dictionary key overwrites."""
    assert parse_content_digest(f"sha-256=:{base64.b64encode(bytes(32)).decode()}:, {FIELD}") == (
        DIGEST
    )


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        ",",
        "sha-256",
        f"sha-256={TEXT}",
        f"sha-256=:{TEXT}",
        f"SHA-256=:{TEXT}:",
        "sha-256=::",
        "sha-256=:AAAA:",
        f"sha-256=:{TEXT[:-1]}:",
        f"sha-256=:{TEXT}AAAA:",
        f"sha-256=:{TEXT[:-2]}*=:",
        f"{FIELD},",
        f"sha-256=:{TEXT}:x",
        "sha-256=:\u00e9:",
    ],
)
def test_a_malformed_field_is_refused(value):
    with pytest.raises(InvalidHeader):
        parse_content_digest(value)


def test_other_algorithms_alone_are_named_as_unknown():
    with pytest.raises(UnknownDigestAlgorithm) as refused:
        parse_content_digest("md5=:AAAA:, sha-512=:AAAA:")

    assert refused.value.offered == "md5, sha-512"


@given(
    st.text(max_size=200)
    | st.text("sha-256=:,; AB+/=\t\n\x00\u00e9", max_size=120)
    | st.text(max_size=20).map(lambda text: FIELD + text)
)
def test_whatever_comes_it_is_a_digest_or_a_refusal(value):
    try:
        digest = parse_content_digest(value)
    except (InvalidHeader, UnknownDigestAlgorithm):
        return
    assert len(digest) == 32
