"""Sealed secrets: who reads the ledger cannot use them, and keys can be changed."""

import base64

import pytest

from ingest_service.domain.secret_box import SecretBox, SecretUnreadable

OLD, NEW = SecretBox((b"o" * 32,)), SecretBox((b"n" * 32, b"o" * 32))
SECRET, OWNER = b"s" * 32, b"webhook-1"


def test_what_was_sealed_is_opened_by_its_owner():
    kept = OLD.seal(SECRET, OWNER)

    assert OLD.open(kept, OWNER) == SECRET
    assert SECRET not in kept
    assert OLD.seal(SECRET, OWNER) != kept


def test_a_new_key_opens_what_the_old_one_has_sealed_and_seals_by_itself():
    kept = OLD.seal(SECRET, OWNER)

    assert (NEW.open(kept, OWNER), NEW.is_current(kept)) == (SECRET, False)
    assert NEW.is_current(NEW.seal(SECRET, OWNER))
    with pytest.raises(SecretUnreadable, match="is not set"):
        OLD.open(NEW.seal(SECRET, OWNER), OWNER)


def test_a_secret_of_another_is_not_opened():
    with pytest.raises(SecretUnreadable, match="belongs to another"):
        OLD.open(OLD.seal(SECRET, OWNER), b"webhook-2")


@pytest.mark.parametrize("place", [0, 3, 8, 20, 64])
def test_a_changed_byte_is_noticed(place):
    kept = bytearray(OLD.seal(SECRET, OWNER))
    kept[place] ^= 1

    with pytest.raises(SecretUnreadable):
        OLD.open(bytes(kept), OWNER)


def test_without_a_key_secrets_stand_in_clear_and_are_read_by_whoever_has_one():
    kept = SecretBox().seal(SECRET, OWNER)

    assert kept == SECRET
    assert (OLD.open(kept, OWNER), OLD.is_current(kept)) == (SECRET, False)
    with pytest.raises(SecretUnreadable):
        SecretBox().open(OLD.seal(SECRET, OWNER), OWNER)


def test_keys_are_read_from_base64():
    text = ", ".join(base64.b64encode(key).decode() for key in NEW.keys)

    assert SecretBox.parse(text) == NEW


@pytest.mark.parametrize(
    "text", ["", "short", "A" * 44, base64.b64encode(b"x" * 31).decode() + ","]
)
def test_a_key_of_another_length_is_refused_and_not_shown(text):
    with pytest.raises(ValueError, match="32 bytes in Base64") as refused:
        SecretBox.parse(text)
    assert text == "" or text not in str(refused.value)
