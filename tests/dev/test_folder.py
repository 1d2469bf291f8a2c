"""The data folder: one user at a time, nobody else's files, keys that stay."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingest_service.dev.folder import claimed_folder, prepare_keys, sign_tokens
from ingest_service.dev.process import StartFailed
from ingest_service.domain.principal import ROLE_SCOPES
from ingest_service.domain.token import import_verifying_key, verify_token


def test_folder_in_use_is_refused_and_its_user_named(tmp_path: Path) -> None:
    with (
        claimed_folder(tmp_path / "data"),
        pytest.raises(StartFailed, match=r"in use by another `ingest dev` \(process \d+\)"),
        claimed_folder(tmp_path / "data"),
    ):
        pass


def test_folder_is_free_again_after_its_user(tmp_path: Path) -> None:
    with claimed_folder(tmp_path / "data"):
        pass

    with claimed_folder(tmp_path / "data"):
        claimed = True

    assert claimed


def test_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.odt").write_text("mine", encoding="utf-8")

    with pytest.raises(StartFailed, match=r"thesis\.odt"), claimed_folder(tmp_path):
        pass


def test_file_instead_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("", encoding="utf-8")

    with pytest.raises(StartFailed, match="cannot be used"), claimed_folder(tmp_path / "data"):
        pass


def test_keys_stay_the_same_and_private(tmp_path: Path) -> None:
    first = prepare_keys(tmp_path / "keys")
    before = {file.name: file.read_bytes() for file in (tmp_path / "keys").iterdir()}

    second = prepare_keys(tmp_path / "keys")

    assert first == second
    assert {file.name: file.read_bytes() for file in (tmp_path / "keys").iterdir()} == before
    assert all(file.stat().st_mode & 0o077 == 0 for file in (tmp_path / "keys").iterdir())


def test_key_file_cut_short_is_named(tmp_path: Path) -> None:
    keys = prepare_keys(tmp_path / "keys")
    keys.issuer_key_file.write_text("-----BEGIN", encoding="ascii")

    with pytest.raises(StartFailed, match=r"issuer\.pem"):
        prepare_keys(tmp_path / "keys")


def test_every_role_gets_a_token_that_the_key_set_verifies(tmp_path: Path) -> None:
    keys = prepare_keys(tmp_path / "keys")

    tokens = sign_tokens(keys, now=datetime.now(UTC))

    jwk = json.loads(keys.jwks_file.read_bytes())["keys"][0]
    issuer = import_verifying_key(jwk)
    scopes = {
        role: verify_token(token, issuer)["scope"]
        for role, token in tokens.items()
        if role != "station"
    }
    assert set(tokens) == set(ROLE_SCOPES)
    assert scopes == {role: " ".join(ROLE_SCOPES[role]) for role in scopes}
