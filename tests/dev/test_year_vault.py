"""The vault of the simulated year keeps to the contract, as far as it goes."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingest_service.dev.year.file_vault import FileVault
from ingest_service.errors import VaultUnavailable
from tests.vault import test_contract as contract
from tests.vault.bodies import Bytes

# What a year needs: whole objects, their versions, and lists.
PROMISES = [
    contract.test_stored_object_reads_back_as_it_was,
    contract.test_facts_tell_size_tag_and_version_as_stored,
    contract.test_odd_names_stay_the_names_they_are,
    contract.test_empty_object_is_an_object,
    contract.test_second_write_leaves_the_first_version_readable,
    contract.test_reading_an_absent_object_is_a_loss,
    contract.test_reading_an_absent_version_is_a_loss,
    contract.test_a_read_may_be_left_in_the_middle,
    contract.test_absent_object_has_no_facts,
    contract.test_deleted_version_is_gone_and_others_stay,
    contract.test_deleting_what_is_not_there_is_fine,
    contract.test_object_deleted_without_version_is_absent,
    contract.test_sweep_removes_other_versions_of_the_kept_key,
    contract.test_sweep_of_nothing_removes_nothing,
    contract.test_a_key_that_is_taken_keeps_what_it_holds,
    contract.test_keys_are_listed_in_byte_order_from_where_the_caller_was,
    contract.test_the_first_key_is_the_first_that_holds_something,
    contract.test_what_was_removed_by_a_marker_may_be_put_anew,
]


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[FileVault]:
    opened = FileVault(tmp_path / "vault.sqlite")
    yield opened
    opened.close()


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__[5:])
async def test_it_promises_what_every_vault_does(vault, promise):
    await promise(vault, "clips/")


@pytest.mark.parametrize("length_bytes", [10, 300_000])
async def test_a_cut_body_leaves_no_object(vault, length_bytes):
    await contract.test_cut_body_leaves_no_object_and_its_own_error(vault, "clips/", length_bytes)


@pytest.mark.parametrize("length_bytes", [10, 300_000])
async def test_bytes_that_differ_from_their_digest_are_not_stored(vault, length_bytes):
    await contract.test_bytes_that_differ_from_their_digest_are_not_stored(
        vault, "clips/", length_bytes
    )


@pytest.mark.parametrize("declared_bytes", [2, 4, 400_000])
async def test_a_body_of_another_length_is_refused(vault, declared_bytes):
    await contract.test_body_of_another_length_than_declared_is_refused(
        vault, "clips/", declared_bytes
    )


async def test_what_it_cannot_do_is_refused(vault):
    stored = await vault.put_object("clips/a", Bytes(b"x"))

    with pytest.raises(VaultUnavailable):
        await vault.open_multipart("clips/b")
    with pytest.raises(VaultUnavailable):
        await vault.set_legal_hold("clips/a", stored.version, is_on=True)
    with pytest.raises(VaultUnavailable):
        await vault.retain("clips/a", stored.version, until=datetime.now(UTC), mode="governance")


async def test_a_vault_that_is_opened_again_holds_what_it_held(vault, tmp_path):
    stored = await vault.put_object("clips/a", Bytes(b"x"))
    vault.close()

    again = FileVault(tmp_path / "vault.sqlite")
    assert await again.get_facts("clips/a", stored.version) == stored
    again.close()
