"""The commands of docs/custody.md, run as they stand there, on a clip and on tampered ones."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.dock.fake_service import make_leaf
from tests.docs.documents import ROOT, find_blocks
from tests.paper_log import PaperLog

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "openssl", "xxd", "base64"))), reason="needs these tools"
)

SCRIPT = "\n".join(find_blocks(ROOT / "docs/custody.md", "bash"))
CLIP = b"footage" * 1000


def lay_out(folder: Path, *, size: int, index: int) -> PaperLog:
    leaf = json.dumps(
        make_leaf("0199c0de-5f0a-7b7c-8d1e-2f3a4b5c6d7e", digest(CLIP), len(CLIP)),
        separators=(",", ":"),
    ).encode()
    leaves = [bytes([number]) for number in range(size)]
    leaves[index] = leaf
    log = PaperLog("police.example/custody", Ed25519PrivateKey.generate(), leaves)
    (folder / "clip.mp4").write_bytes(CLIP)
    (folder / "receipt.txt").write_text(f"{leaf.decode()}\n{log.proof(index)}")
    (folder / "log.vkey").write_text(f"{log.verifier_key}\n")
    return log


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def follow(folder: Path) -> tuple[str, dict[str, str]]:
    """Do what the page says; return all that was printed, and the labelled lines of it."""
    done = subprocess.run(
        ["bash", "-u", "-c", SCRIPT], cwd=folder, capture_output=True, text=True, check=False
    )
    pairs = (line.rsplit(maxsplit=1) for line in done.stdout.splitlines() if "  " in line)
    return done.stdout + done.stderr, {pair[0]: pair[-1] for pair in pairs}


@pytest.mark.parametrize(("size", "index"), [(1, 0), (2, 1), (5, 2), (7, 6), (9, 8), (64, 33)])
def test_the_commands_show_that_an_honest_clip_holds(tmp_path, size, index):
    lay_out(tmp_path, size=size, index=index)

    printed, told = follow(tmp_path)

    assert f"{digest(CLIP)}  clip.mp4" in printed
    assert printed.count(f'":"{digest(CLIP)}"') == 2
    assert f'"size_bytes":{len(CLIP)}' in printed
    assert told["root computed"] == told["root signed"]
    assert told["key id computed"] == told["key id stated"]
    assert told["log named"] == "police.example/custody"
    assert "Signature Verified Successfully" in printed


def test_the_commands_show_a_changed_event(tmp_path):
    lay_out(tmp_path, size=7, index=3)
    receipt = tmp_path / "receipt.txt"
    receipt.write_text(receipt.read_text().replace('"size_bytes":7000', '"size_bytes":7001'))

    _, told = follow(tmp_path)

    assert told["root computed"] != told["root signed"]


def test_the_commands_show_a_root_that_was_not_signed(tmp_path):
    log = lay_out(tmp_path, size=7, index=3)
    forged = PaperLog(log.origin, Ed25519PrivateKey.generate(), log.leaves)
    leaf = log.leaves[3].decode()
    (tmp_path / "receipt.txt").write_text(f"{leaf}\n{forged.proof(3)}")

    printed, told = follow(tmp_path)

    assert told["root computed"] == told["root signed"]
    assert "Signature Verified Successfully" not in printed
