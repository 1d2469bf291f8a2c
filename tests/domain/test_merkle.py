"""The tree agrees with RFC 6962's own recursive definition, at every size and from tiles alone."""

import asyncio
import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_service.domain.merkle import (
    EMPTY_ROOT,
    Edge,
    KnownSubtrees,
    ProofInvalid,
    TileId,
    compute_root,
    open_tiles,
    plan_inclusion,
    prove_consistency,
    prove_inclusion,
    verify_consistency,
    verify_inclusion,
)


def define_root(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962, section 2.1, word by word; shares no code with the tree under test."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + define_root(leaves[:k]) + define_root(leaves[k:])).digest()


LEAVES = [hashlib.sha256(b"\x00" + str(i).encode()).digest() for i in range(1300)]
ROOTS = {size: define_root(LEAVES[:size]) for size in (0, 1, 2, 3, 255, 256, 257, 700, 1024, 1300)}


class TileStore:
    """Tiles as they stood when the log had `size` leaves (wider ones do no harm)."""

    def __init__(self, size: int, *, reopen_every: int = 10_000) -> None:
        self.tiles: dict[TileId, bytes] = {}
        edge = Edge(0, {})
        for number, leaf in enumerate(LEAVES[:size], start=1):
            edge.append(leaf)
            if number % reopen_every == 0:
                self.tiles.update(edge.take_changed())
                edge = Edge(number, {t.level: self.tiles[t] for t in open_tiles(number)})
        self.tiles.update(edge.take_changed())
        self.root = edge.root()

    async def read(self, wanted: Sequence[TileId]) -> dict[TileId, bytes]:
        return {tile: self.tiles[tile] for tile in wanted if tile in self.tiles}


STORE = TileStore(1300)


@pytest.mark.parametrize("size", sorted(ROOTS))
def test_edge_has_the_root_that_the_rfc_defines(size):
    assert TileStore(size).root == ROOTS[size]


@pytest.mark.parametrize("every", [1, 7, 256])
def test_edge_goes_on_from_the_open_tiles_alone(every):
    assert TileStore(700, reopen_every=every).root == ROOTS[700]


@pytest.mark.parametrize("size", sorted(ROOTS))
def test_older_roots_are_computed_from_the_tiles_of_a_newer_log(size):
    assert asyncio.run(compute_root(size, STORE.read)) == ROOTS[size]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_inclusion_proofs_verify_for_their_leaf_alone(data):
    size = data.draw(st.sampled_from([size for size in ROOTS if size > 0]))
    index = data.draw(st.integers(0, size - 1))
    path = asyncio.run(prove_inclusion(index, size, STORE.read))

    verify_inclusion(LEAVES[index], index, size, path, ROOTS[size])
    with pytest.raises(ProofInvalid):
        verify_inclusion(hashlib.sha256(b"other").digest(), index, size, path, ROOTS[size])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_consistency_proofs_verify_for_the_true_past_alone(data):
    new_size = data.draw(st.sampled_from(sorted(ROOTS)))
    old_size = data.draw(st.sampled_from([size for size in ROOTS if 0 < size <= new_size] or [0]))
    path = asyncio.run(prove_consistency(old_size, new_size, STORE.read))

    verify_consistency(old_size, ROOTS[old_size], new_size, ROOTS[new_size], path)
    if old_size:
        with pytest.raises(ProofInvalid):
            verify_consistency(old_size, b"\x07" * 32, new_size, ROOTS[new_size], path)


@settings(max_examples=60, deadline=None)
@given(asked=st.lists(st.tuples(st.sampled_from(sorted(ROOTS)), st.integers(0, 10**6)), max_size=9))
def test_what_earlier_proofs_have_shown_changes_no_proof(asked):
    known = KnownSubtrees()
    for size, number in asked:
        if size == 0:
            continue
        index = number % size
        path = asyncio.run(prove_inclusion(index, size, STORE.read))

        plan = plan_inclusion(index, size, known)
        assert plan.make_path(asyncio.run(STORE.read(plan.wanted))) == path
        known.learn(index, size, path)


def test_a_proof_reads_no_tile_for_what_an_earlier_one_has_shown():
    known = KnownSubtrees()
    known.learn(3, 700, asyncio.run(prove_inclusion(3, 700, STORE.read)))

    assert plan_inclusion(3, 700).wanted != [TileId(0, 0)]
    assert plan_inclusion(5, 700, known).wanted == [TileId(0, 0)]


def test_what_is_known_of_a_log_stays_within_its_bound_and_the_used_stays():
    known = KnownSubtrees(entries_max=3)
    known.learn(3, 700, asyncio.run(prove_inclusion(3, 700, STORE.read)))
    for size in range(513, 530):
        known.find((256, 512))
        known.learn(3, size, asyncio.run(prove_inclusion(3, size, STORE.read)))

    assert len(known) == 3
    assert known.find((256, 512)) is not None


def test_a_path_cut_short_or_drawn_out_proves_nothing():
    path = asyncio.run(prove_inclusion(5, 700, STORE.read))

    for wrong in (path[:-1], [*path, path[0]], [path[1], path[0], *path[2:]]):
        with pytest.raises(ProofInvalid):
            verify_inclusion(LEAVES[5], 5, 700, wrong, ROOTS[700])


def test_an_index_outside_the_log_proves_nothing():
    with pytest.raises(ProofInvalid):
        verify_inclusion(LEAVES[0], 1, 1, [], ROOTS[1])


def test_a_missing_tile_is_an_error_and_not_a_root():
    async def read_nothing(_wanted: Sequence[TileId]) -> dict[TileId, bytes]:
        return {}

    with pytest.raises(ProofInvalid):
        asyncio.run(compute_root(700, read_nothing))


def test_the_empty_log_has_the_root_of_nothing():
    assert hashlib.sha256(b"").digest() == EMPTY_ROOT


def test_a_full_tile_is_never_written_again():
    edge = Edge(0, {})
    for leaf in LEAVES[:256]:
        edge.append(leaf)
    edge.take_changed()
    edge.append(LEAVES[256])

    assert TileId(0, 0) not in edge.take_changed()
