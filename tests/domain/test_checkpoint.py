"""Checkpoints and proofs: what is signed is what is read, and nothing else passes."""

import asyncio
import base64
import hashlib
import shlex
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.domain.checkpoint import (
    Checkpoint,
    SignedCheckpoint,
    format_proof,
    format_signature,
    parse_checkpoint,
    parse_proof,
    verify_checkpoint,
    verify_proof,
)
from ingest_service.domain.cosignature import make_policy
from ingest_service.domain.custody import hash_leaf
from ingest_service.domain.log_paths import (
    BadTilePath,
    checkpoint_key,
    parse_tile_path,
    tile_path,
)
from ingest_service.domain.merkle import (
    Edge,
    ProofInvalid,
    TileId,
    prove_inclusion,
    verify_consistency,
)
from ingest_service.domain.note import (
    NoteInvalid,
    compute_key_id,
    make_verifier_key,
    parse_verifier_key,
)
from ingest_service.domain.receipt import format_leaf_proof
from tests.paper_log import PaperLog, list_growth

PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = PRIVATE.public_key().public_bytes_raw()
NAME = "police.example/custody"
KEY = parse_verifier_key(make_verifier_key(NAME, PUBLIC))
LEAVES = [hashlib.sha256(b"\x00" + bytes([i])).digest() for i in range(9)]


def sign(checkpoint: Checkpoint, private: Ed25519PrivateKey = PRIVATE, name: str = NAME) -> str:
    body = checkpoint.body()
    key_id = compute_key_id(name, private.public_key().public_bytes_raw())
    return f"{body}\n{format_signature(name, key_id, private.sign(body.encode()))}"


def make_log() -> tuple[Checkpoint, dict[TileId, bytes]]:
    edge = Edge(0, {})
    for leaf in LEAVES:
        edge.append(leaf)
    return Checkpoint(NAME, len(LEAVES), edge.root()), edge.take_changed()


def make_proof(index: int) -> str:
    checkpoint, tiles = make_log()

    async def read(_wanted: object) -> dict[TileId, bytes]:
        return tiles

    path = asyncio.run(prove_inclusion(index, len(LEAVES), read))
    return format_proof(index, path, sign(checkpoint))


def test_a_checkpoint_is_three_lines_and_a_signature():
    checkpoint, _ = make_log()
    lines = sign(checkpoint).split("\n")

    assert lines[0] == NAME
    assert lines[1] == "9"
    assert base64.b64decode(lines[2]) == checkpoint.root
    assert lines[3] == ""
    assert lines[4].startswith(f"\u2014 {NAME} ")


def test_a_signed_checkpoint_verifies_and_reads_back():
    checkpoint, _ = make_log()
    signed = parse_checkpoint(sign(checkpoint))

    verify_checkpoint(signed, KEY)
    assert signed.checkpoint == checkpoint


def test_a_changed_size_breaks_the_signature():
    checkpoint, _ = make_log()
    text = sign(checkpoint).replace("\n9\n", "\n8\n")

    with pytest.raises(NoteInvalid):
        verify_checkpoint(parse_checkpoint(text), KEY)


def test_another_key_under_the_same_name_is_no_signature():
    checkpoint, _ = make_log()
    text = sign(checkpoint, Ed25519PrivateKey.generate())

    with pytest.raises(NoteInvalid):
        verify_checkpoint(parse_checkpoint(text), KEY)


def test_a_checkpoint_of_another_log_is_refused():
    text = sign(Checkpoint("elsewhere.example/log", 1, bytes(32)))

    with pytest.raises(NoteInvalid):
        verify_checkpoint(parse_checkpoint(text), KEY)


@pytest.mark.parametrize("index", range(9))
def test_a_proof_leads_from_its_leaf_to_the_signed_root(index):
    verify_proof(parse_proof(make_proof(index)), LEAVES[index], KEY)


def test_a_proof_of_one_leaf_is_none_of_another():
    with pytest.raises(ProofInvalid):
        verify_proof(parse_proof(make_proof(3)), LEAVES[4], KEY)


@given(st.text(max_size=300))
def test_nothing_but_a_proof_is_read_as_one(text):
    with pytest.raises(NoteInvalid):
        parse_proof(text)


@given(st.binary(max_size=40), st.integers(0, 400))
def test_a_damaged_proof_never_verifies(garbage, place):
    text = make_proof(5)
    damaged = (text[:place] + garbage.decode("latin-1") + text[place + len(garbage) :]).rstrip("\n")

    with pytest.raises((NoteInvalid, ProofInvalid)):
        verify_proof(parse_proof(damaged), LEAVES[5], KEY)


@given(st.integers(0, 10**12), st.integers(1, 256))
def test_tile_paths_read_back(index, width):
    path = tile_path(TileId(0, index), width=width).removeprefix("tile/0/")

    assert parse_tile_path(path) == (index, width)


def test_the_example_of_tlog_tiles_is_spelt_so():
    assert tile_path(TileId(0, 1234067)) == "tile/0/x001/x234/067"


@pytest.mark.parametrize(
    "path", ["", "1", "x000/001", "001.p/0", "001.p/256", "001.p/01", "x01/001"]
)
def test_other_spellings_of_a_tile_are_refused(path):
    with pytest.raises(BadTilePath):
        parse_tile_path(path)


@given(st.integers(0, 10**15), st.integers(0, 10**15))
def test_the_newest_checkpoint_is_the_first_key(one, other):
    newer, older = max(one, other), min(one, other)

    assert checkpoint_key(newer) <= checkpoint_key(older)


# --- golden: made by openssl and coreutils, and checked by openssl ------------------------

VECTORS = Path(__file__).parent.parent / "vectors" / "receipt"
ROTATION = VECTORS.parent / "rotation"
GOLDEN_KEY = parse_verifier_key((VECTORS / "verifier_key.txt").read_text())
# DER in front of the 32 bytes of an Ed25519 public key (RFC 8410, section 4).
ED25519_DER = bytes.fromhex("302a300506032b6570032100")


def read_golden(name: str) -> SignedCheckpoint:
    return parse_checkpoint((VECTORS / name).read_text())


def test_a_checkpoint_made_by_openssl_is_believed():
    signed = read_golden("checkpoint-7.txt")

    verify_checkpoint(signed, GOLDEN_KEY)
    assert (signed.checkpoint.origin, signed.checkpoint.size) == ("example.org/custody", 7)


def test_a_growth_made_by_coreutils_is_believed():
    old, new = (
        read_golden("checkpoint-3.txt").checkpoint,
        read_golden("checkpoint-7.txt").checkpoint,
    )
    text = (VECTORS / "consistency-3-7.txt").read_text()
    path = [base64.b64decode(line) for line in text.split()]

    verify_consistency(old.size, old.root, new.size, new.root, path)


def test_the_golden_forms_are_written_byte_for_byte():
    proof = (VECTORS / "receipt.tlog-proof").read_text()
    parsed = parse_proof(proof)
    leaf = (VECTORS / "leaf.json").read_bytes()

    assert parsed.signed.checkpoint.body() == parsed.signed.body
    assert format_proof(parsed.index, parsed.path, parsed.signed.text) == proof
    assert format_leaf_proof(leaf, proof) == (VECTORS / "receipt.txt").read_text()


def test_a_cosignature_made_by_openssl_is_believed():
    witnesses = make_policy([(VECTORS / "witness_key.txt").read_text()], 1)

    (cosignature,) = witnesses.verify(read_golden("cosigned-7.txt"))

    assert (cosignature.name, cosignature.time_s) == ("witness.example.org", 1795300000)
    with pytest.raises(NoteInvalid, match="0 of the known witnesses"):
        witnesses.verify(read_golden("checkpoint-7.txt"))


@pytest.mark.parametrize("which", ["old", "new"])
def test_a_checkpoint_of_two_keys_made_by_openssl_is_believed_under_each(which):
    """As during a change of keys: who pinned either goes on."""
    signed = parse_checkpoint((ROTATION / "checkpoint.txt").read_text())
    key = parse_verifier_key((ROTATION / f"{which}.txt").read_text())

    verify_checkpoint(signed, key)
    assert (signed.checkpoint.size, len(signed.lines)) == (7, 2)
    with pytest.raises(NoteInvalid):
        verify_checkpoint(parse_checkpoint(signed.text.replace("\n7\n", "\n8\n")), key)


def test_openssl_verifies_a_checkpoint_of_ours(tmp_path):
    """What an expert does with a published checkpoint, the verifier key, and two commands."""
    text = sign(Checkpoint(NAME, 5, bytes(range(32))))
    body, _, signatures = text.partition("\n\n")
    blob = base64.b64decode(signatures.split(" ")[2])
    raw_key = base64.b64decode(make_verifier_key(NAME, PUBLIC).split("+", 2)[2])[1:]
    (tmp_path / "key.der").write_bytes(ED25519_DER + raw_key)
    (tmp_path / "body").write_text(f"{body}\n")
    (tmp_path / "signature").write_bytes(blob[4:])
    command = shlex.split(
        "openssl pkeyutl -verify -pubin -keyform DER -inkey key.der"
        " -rawin -in body -sigfile signature"
    )

    def ask_openssl() -> int:
        return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode

    assert ask_openssl() == 0
    (tmp_path / "body").write_text(f"{body}\n".replace("\n5\n", "\n6\n"))
    assert ask_openssl() != 0


@pytest.mark.parametrize("size", [1, 2, 5, 8, 13])
def test_a_second_opinion_agrees_on_every_proof(size):
    leaves = [bytes([number]) for number in range(size)]
    paper = PaperLog(NAME, PRIVATE, leaves)
    signed = parse_checkpoint(paper.checkpoint())

    verify_checkpoint(signed, KEY)
    for index, leaf in enumerate(leaves):
        verify_proof(parse_proof(paper.proof(index)), hash_leaf(leaf), KEY)
    for old in range(1, size + 1):
        root = parse_checkpoint(paper.checkpoint(old)).checkpoint.root
        path = list_growth(old, leaves)
        verify_consistency(old, root, size, signed.checkpoint.root, path)
