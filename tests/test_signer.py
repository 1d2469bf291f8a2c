"""The service's own key: who may read it, and what happens to an unusable one."""

import subprocess

import pytest

from ingest_service.domain.note import NoteInvalid, parse_verifier_key, verify_signature
from ingest_service.signer import SigningKeyUnusable, make_signing_key, open_local_signer


@pytest.fixture
def key_file(tmp_path):
    make_signing_key(tmp_path / "key.pem")
    return tmp_path / "key.pem"


def test_a_new_key_signs_what_its_verifier_key_verifies(key_file):
    signer = open_local_signer(key_file, "ingest.test/custody")

    verify_signature(parse_verifier_key(signer.verifier_key), b"hello", signer.sign(b"hello"))


def test_a_new_key_is_for_its_owner_only(key_file):
    assert key_file.stat().st_mode & 0o777 == 0o600


def test_a_key_is_never_overwritten(key_file):
    before = key_file.read_bytes()

    with pytest.raises(FileExistsError):
        make_signing_key(key_file)
    assert key_file.read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_may_read_is_refused(key_file, mode):
    key_file.chmod(mode)

    with pytest.raises(SigningKeyUnusable, match="chmod 600"):
        open_local_signer(key_file, "ingest.test/custody")


@pytest.mark.parametrize("algorithm", ["x25519", "ed448", "RSA"])
def test_a_key_of_another_kind_is_refused(tmp_path, algorithm):
    file = tmp_path / "other.pem"
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", algorithm, "-out", file],
        check=True,
        capture_output=True,
    )
    file.chmod(0o600)

    with pytest.raises(SigningKeyUnusable, match="Ed25519"):
        open_local_signer(file, "ingest.test/custody")


@pytest.mark.parametrize("content", [b"", b"hello", b"-----BEGIN PRIVATE KEY-----\n"])
def test_a_file_that_is_no_key_is_refused(tmp_path, content):
    file = tmp_path / "key.pem"
    file.write_bytes(content)
    file.chmod(0o600)

    with pytest.raises(SigningKeyUnusable, match="not an unencrypted PEM"):
        open_local_signer(file, "ingest.test/custody")


def test_a_missing_key_is_named(tmp_path):
    with pytest.raises(SigningKeyUnusable, match=r"missing\.pem"):
        open_local_signer(tmp_path / "missing.pem", "ingest.test/custody")


def test_a_name_that_no_verifier_key_can_hold_is_refused(key_file):
    with pytest.raises(NoteInvalid):
        open_local_signer(key_file, "ingest+custody")
