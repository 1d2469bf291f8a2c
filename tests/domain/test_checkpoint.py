"""Checkpoints and proofs: what is signed is what is read, and nothing else passes."""

import asyncio
import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.domain.checkpoint import (
    Checkpoint,
    format_proof,
    format_signature,
    parse_checkpoint,
    parse_proof,
    verify_checkpoint,
    verify_proof,
)
from ingest_service.domain.log_paths import (
    BadTilePath,
    checkpoint_key,
    parse_tile_path,
    tile_path,
)
from ingest_service.domain.merkle import Edge, ProofInvalid, TileId, prove_inclusion
from ingest_service.domain.note import (
    NoteInvalid,
    compute_key_id,
    make_verifier_key,
    parse_verifier_key,
)

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
