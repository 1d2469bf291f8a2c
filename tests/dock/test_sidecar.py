import json

import pytest

from ingest_service.dock.failures import FileUnusable
from ingest_service.dock.sidecar import Sidecar, find_sidecar, write_durably, write_sidecar


@pytest.fixture
def sidecar() -> Sidecar:
    return Sidecar(size_bytes=3, mtime_ns=4, sha256="ab" * 32, announcement={"size_bytes": 3})


def test_a_sidecar_is_read_as_it_was_written(tmp_path, sidecar):
    write_sidecar(tmp_path / "a.ingest.json", sidecar)

    assert find_sidecar(tmp_path / "a.ingest.json") == sidecar


def test_no_sidecar_is_none(tmp_path):
    assert find_sidecar(tmp_path / "a.ingest.json") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 2}', b"\xff\x00"])
def test_a_sidecar_that_cannot_be_understood_is_remade(tmp_path, content):
    (tmp_path / "a.ingest.json").write_bytes(content)

    assert find_sidecar(tmp_path / "a.ingest.json") is None


def test_a_failed_write_leaves_the_old_document_whole(tmp_path):
    path = tmp_path / "a.ingest.json"
    write_durably(path, {"old": True})
    # As when the disk is full or read-only: the new document cannot be put beside it.
    (tmp_path / "a.ingest.json.tmp").mkdir()

    with pytest.raises(FileUnusable):
        write_durably(path, {"old": False})

    assert json.loads(path.read_bytes()) == {"old": True}


def test_nothing_but_the_document_is_left_behind(tmp_path):
    write_durably(tmp_path / "a.ingest.json", {})

    assert [path.name for path in tmp_path.iterdir()] == ["a.ingest.json"]
