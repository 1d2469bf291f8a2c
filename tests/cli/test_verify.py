"""`ingest verify`: says what holds, what fails and what nothing here can show."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from ingest_service.cli.verify import verify_app
from ingest_service.domain.timestamp import make_query
from tests.dock.fake_service import make_leaf
from tests.paper_log import PaperLog, list_growth
from tests.time_authority import LocalAuthority

VECTORS = Path(__file__).parent.parent / "vectors" / "receipt"
KEY_FILE = VECTORS / "verifier_key.txt"
WITNESS_KEY = (VECTORS / "witness_key.txt").read_text().strip()
CLIP = b"footage" * 1000
CLIP_ID = "0199c0de-5f0a-7b7c-8d1e-2f3a4b5c6d7e"


def verify(*words: object, status: int, key: object = KEY_FILE) -> str:
    keys = () if key is None else ("--key-file", str(key))
    ran = CliRunner().invoke(verify_app, [*map(str, words), *keys])
    assert ran.exit_code == status, ran.output
    return re.sub(r" {2,}", " ", ran.output)


@pytest.fixture
def keep(tmp_path):
    """Write a file, return its path."""

    def write(name: str, content: str | bytes) -> Path:
        data = content.encode() if isinstance(content, str) else content
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


class Kept:
    """A receipt for CLIP, by a log of five events, and what belongs to it."""

    def __init__(self, keep, **changed):
        digest = hashlib.sha256(CLIP).hexdigest()
        self.event = make_leaf(CLIP_ID, digest, len(CLIP), **changed)
        self.leaf = json.dumps(self.event).encode()
        self.key = Ed25519PrivateKey.generate()
        self.log = PaperLog("test.example/log", self.key, [b"0", b"1", self.leaf, b"3", b"4"])
        self.text = f"{self.leaf.decode()}\n{self.log.proof(2)}"
        self.file = keep("receipt.txt", self.text)
        self.key_file = keep("log.vkey", self.log.verifier_key)
        self.clip = keep("clip.mp4", CLIP)


@pytest.fixture
def kept(keep):
    return Kept(keep)


def test_a_receipt_made_by_openssl_and_coreutils_holds():
    said = verify("receipt", VECTORS / "receipt.txt", status=0)

    assert "fails" not in said
    assert "holds log: the leaf is number 5 of 7" in said


def test_a_clip_that_is_the_secured_one_holds(kept):
    said = verify("receipt", kept.file, "--clip", kept.clip, key=kept.key_file, status=0)

    assert "holds clip: 'clip.mp4' is the secured clip" in said


@pytest.mark.parametrize(
    "content", [CLIP[:-1], CLIP + b"x", CLIP[:-1] + b"X", b""], ids=["short", "long", "bit", "none"]
)
def test_another_clip_fails(kept, keep, content):
    said = verify(
        *("receipt", kept.file, "--clip", keep("other.mp4", content)), key=kept.key_file, status=1
    )

    assert "fails clip" in said


@pytest.mark.parametrize("form", ["api", "kept by a dock"])
def test_the_json_forms_hold_too(kept, keep, form):
    document = {"leaf": kept.leaf.decode(), "log_index": 2, "proof": kept.log.proof(2)}
    text = json.dumps(document, indent=2 if form == "api" else None)

    verify("receipt", keep("receipt.json", text), key=kept.key_file, status=0)


def change(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"size_bytes": 7000', '"size_bytes": 7001'),
        ("clip.secured", "clip.sealed"),
        ("index 2", "index 1"),
        ("\n5\n", "\n6\n"),
        ("\ntest.example/log\n", "\ntest.example/lag\n"),
        ("c2sp.org/tlog-proof@v1", "c2sp.org/tlog-proof@v2"),
    ],
)
def test_every_changed_line_fails(kept, keep, old, new):
    changed = keep("changed.txt", change(kept.text, old, new))

    assert "fails" in verify("receipt", changed, key=kept.key_file, status=1)


def test_every_dropped_line_fails(kept, keep):
    lines = kept.text.splitlines(keepends=True)

    for number in range(len(lines)):
        dropped = keep("dropped.txt", "".join(lines[:number] + lines[number + 1 :]))
        verify("receipt", dropped, key=kept.key_file, status=1)


def test_every_changed_byte_of_the_proof_fails(kept, keep):
    start = len(kept.leaf) + 1

    for at in range(start, len(kept.text.encode())):
        changed = bytearray(kept.text.encode())
        changed[at] ^= 1
        verify("receipt", keep("changed.txt", bytes(changed)), key=kept.key_file, status=1)


def test_a_receipt_of_another_log_fails(kept):
    said = verify("receipt", kept.file, status=1)

    assert "fails checkpoint" in said
    assert "not verifiable log" in said


def test_bytes_read_back_that_differ_from_those_received_fail(keep):
    other = Kept(keep, sha256_readback="0" * 64)

    assert "fails event" in verify("receipt", other.file, key=other.key_file, status=1)


def test_a_receipt_of_before_the_proofs_is_not_verifiable(kept, keep):
    message = b"ingest release receipt v1\n" + kept.leaf
    name, key_id, _ = kept.log.verifier_key.split("+", 2)
    document = {
        "leaf": kept.leaf.decode(),
        "key_name": name,
        "key_id": key_id,
        "signature": base64.b64encode(kept.key.sign(message)).decode(),
    }
    old = keep("old.json", json.dumps(document))

    said = verify("receipt", old, key=kept.key_file, status=3)

    assert "holds statement" in said
    assert "not verifiable log" in said


def test_a_false_statement_beside_a_good_proof_fails(kept, keep):
    name, key_id, _ = kept.log.verifier_key.split("+", 2)
    document = {
        "leaf": kept.leaf.decode(),
        "log_index": 2,
        "proof": kept.log.proof(2),
        "key_name": name,
        "key_id": key_id,
        "signature": "AAAA",
    }
    file = keep("false.json", json.dumps(document))

    assert "fails statement" in verify("receipt", file, key=kept.key_file, status=1)


def test_what_was_not_asked_for_is_said_and_fails_nothing(kept):
    said = verify("receipt", kept.file, key=kept.key_file, status=0)

    assert "not checked clip" in said
    assert "not checked statements" in said


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"leaf": 1}', "\x00", "\xff".encode("latin-1"), b"x" * 2_000_000]
)
def test_a_file_that_is_no_receipt_fails(keep, content):
    assert "fails receipt" in verify("receipt", keep("nonsense", content), status=1)


def test_names_out_of_a_receipt_cannot_move_the_cursor(kept, keep):
    text = change(kept.text, "\ntest.example/log\n", "\ntest.example/\x1b[2J\n")

    said = verify("receipt", keep("evil.txt", text), key=kept.key_file, status=1)

    assert "\x1b" not in said


def test_findings_come_as_json_for_programs(kept):
    said = verify("receipt", kept.file, "--json", key=kept.key_file, status=0)

    told = json.loads(said)
    assert told["exit_code"] == 0
    assert {line["verdict"] for line in told["findings"]} == {"holds", "not checked"}


# --- calls that make no sense -------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("receipt", VECTORS / "receipt.txt"),
        ("receipt", VECTORS / "receipt.txt", "--key", "nonsense"),
        ("receipt", VECTORS / "receipt.txt", "--key", "a", "--key-file", KEY_FILE),
        ("receipt", VECTORS / "missing", "--key-file", KEY_FILE),
        ("receipt", VECTORS / "receipt.txt", "--key-file", KEY_FILE, "--clip", VECTORS),
        ("receipt", VECTORS / "receipt.txt", "--key-file", KEY_FILE, "--quorum", "1"),
        ("checkpoint", VECTORS / "checkpoint-7.txt"),
    ],
)
def test_a_call_that_makes_no_sense_is_told_apart(words):
    verify(*words, key=None, status=2)


# --- witnesses ---------------------------------------------------------------------------


def test_a_cosignature_made_by_openssl_holds():
    said = verify(
        *("receipt", VECTORS / "receipt-cosigned.txt", "--witness-key", WITNESS_KEY), status=0
    )

    assert "holds witness: witness.example.org saw this log" in said


def test_a_cosignature_that_is_required_and_missing_fails():
    said = verify("receipt", VECTORS / "receipt.txt", "--witness-key", WITNESS_KEY, status=1)

    assert "fails witness: 1 must have cosigned, 0 have" in said


def test_a_false_cosignature_fails_even_where_none_is_required(keep):
    text = (VECTORS / "receipt-cosigned.txt").read_text()
    changed = keep("changed.txt", text.rstrip("=\n")[:-4] + "AA==\n")

    verify("receipt", changed, "--witness-key", WITNESS_KEY, "--quorum", "0", status=1)


def test_a_witness_whose_key_was_not_given_is_said_and_fails_nothing():
    said = verify("receipt", VECTORS / "receipt-cosigned.txt", status=0)

    assert "not checked witness: witness.example.org signed, too" in said


# --- history -----------------------------------------------------------------------------


@pytest.mark.parametrize("newer", ["checkpoint-7.txt", "receipt.txt", "receipt.tlog-proof"])
def test_a_log_that_only_grew_holds(newer):
    said = verify(
        *("checkpoint", VECTORS / newer, "--older", VECTORS / "checkpoint-3.txt"),
        *("--consistency", VECTORS / "consistency-3-7.txt"),
        status=0,
    )

    assert "holds history: the first 3 leaves are the same in both" in said


def test_growth_without_its_proof_is_not_verifiable():
    said = verify(
        *("checkpoint", VECTORS / "checkpoint-7.txt", "--older", VECTORS / "checkpoint-3.txt"),
        status=3,
    )

    assert "/log/consistency?from=3&to=7" in said


def test_two_histories_of_one_size_fail_without_any_proof(keep):
    key = Ed25519PrivateKey.generate()
    one, other = (PaperLog("l", key, [b"a", leaf, b"c"]) for leaf in (b"b", b"B"))
    key_file = keep("vkey", one.verifier_key)

    said = verify(
        *("checkpoint", keep("one", one.checkpoint()), "--older", keep("two", other.checkpoint())),
        key=key_file,
        status=1,
    )

    assert "two histories of 3 leaves" in said


def test_a_rewritten_history_fails_whatever_the_proof(keep):
    key = Ed25519PrivateKey.generate()
    leaves = [bytes([number]) for number in range(9)]
    old = PaperLog("l", key, leaves[:4])
    new = PaperLog("l", key, [b"rewritten", *leaves[1:]])
    growth = json.dumps(
        {
            "old_size": 4,
            "new_size": 9,
            "path": [base64.b64encode(h).decode() for h in list_growth(4, new.leaves)],
        }
    )

    said = verify(
        *("checkpoint", keep("new", new.checkpoint()), "--older", keep("old", old.checkpoint())),
        *("--consistency", keep("growth.json", growth)),
        key=keep("vkey", new.verifier_key),
        status=1,
    )

    assert "fails history" in said


def test_a_log_that_shrank_fails():
    said = verify(
        *("checkpoint", VECTORS / "checkpoint-3.txt", "--older", VECTORS / "checkpoint-7.txt"),
        *("--consistency", VECTORS / "consistency-3-7.txt"),
        status=1,
    )

    assert "never shrinks" in said


@pytest.mark.parametrize("content", ["!!", "AAAA", '{"path": 1}', b"\xff"])
def test_a_consistency_proof_that_cannot_be_read_fails(keep, content):
    verify(
        *("checkpoint", VECTORS / "checkpoint-7.txt", "--older", VECTORS / "checkpoint-3.txt"),
        *("--consistency", keep("growth", content)),
        status=1,
    )


# --- time --------------------------------------------------------------------------------


class Stamped:
    """A checkpoint with a time stamp, as `/log/timestamp` gives it out."""

    def __init__(self, keep, authority: LocalAuthority):
        self.log = PaperLog("test.example/log", Ed25519PrivateKey.generate(), [b"a", b"b"])
        self.note = self.log.checkpoint()
        body = self.note.partition("\n\n")[0] + "\n"
        self.token = authority.stamp(make_query(body.encode()).body)
        self.document = {
            "tree_size": 2,
            "checkpoint": self.note,
            "token": base64.b64encode(self.token).decode(),
            "gen_time": "2026-11-22T20:00:00Z",
        }
        self.file = keep("stamped.json", json.dumps(self.document))
        self.key_file = keep("log.vkey", self.log.verifier_key)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return LocalAuthority(tmp_path_factory.mktemp("tsa"))


@pytest.fixture
def stamped(keep, authority):
    return Stamped(keep, authority)


def test_a_time_stamp_holds(stamped, authority):
    said = verify(
        *("timestamp", stamped.file, "--tsa-ca", authority.root_file),
        key=stamped.key_file,
        status=0,
    )

    assert re.search(r"holds time: this checkpoint existed at 20\d\d-", said)


def test_a_token_beside_its_checkpoint_holds(stamped, authority, keep):
    verify(
        *("timestamp", keep("note", stamped.note), "--token", keep("t.tsr", stamped.token)),
        *("--tsa-ca", authority.root_file),
        key=stamped.key_file,
        status=0,
    )


def test_without_the_authoritys_root_the_time_is_not_verifiable(stamped):
    said = verify("timestamp", stamped.file, key=stamped.key_file, status=3)

    assert "not verifiable time: it says" in said


def test_a_checkpoint_without_a_token_is_not_verifiable(stamped, keep):
    verify("timestamp", keep("note", stamped.note), key=stamped.key_file, status=3)


def test_a_time_stamp_on_another_checkpoint_fails(stamped, authority, keep):
    other = PaperLog(stamped.log.origin, stamped.log.private_key, [b"a", b"B"]).checkpoint()
    moved = keep("moved.json", json.dumps(stamped.document | {"checkpoint": other}))

    said = verify(
        *("timestamp", moved, "--tsa-ca", authority.root_file), key=stamped.key_file, status=1
    )

    assert "fails time" in said
    assert "holds checkpoint" in said


def test_a_changed_token_fails(stamped, authority, keep):
    for at in range(60, len(stamped.token), 37):
        changed = bytearray(stamped.token)
        changed[at] ^= 1
        verify(
            *("timestamp", keep("note", stamped.note), "--token", keep("t", bytes(changed))),
            *("--tsa-ca", authority.root_file),
            key=stamped.key_file,
            status=1,
        )


# --- offline -----------------------------------------------------------------------------

NO_NETWORK = """
import socket, sys
from ingest_service.cli import main

def refuse(*_, **__):
    raise SystemExit("asked the network")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
main()
"""


def test_nothing_is_asked_of_anybody(tmp_path):
    """No settings, no database, no socket: a laptop in a court room."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("INGEST_")
    }
    done = subprocess.run(
        [
            *(sys.executable, "-c", NO_NETWORK, "verify", "receipt"),
            *(str(VECTORS / "receipt.txt"), "--key-file", str(KEY_FILE)),
        ],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
