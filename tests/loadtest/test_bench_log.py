"""The bench of the custody log must plant a tree that a verifier would take for real."""

import hashlib

import pytest

from ingest_service.domain.merkle import Edge, TileId, split_hashes
from ingest_service.domain.replay import find_row_flaw, parse_leaf, read_event
from loadtest import bench_log
from loadtest.bench_log import LogFigures, make_events
from loadtest.bench_report import Report


@pytest.mark.parametrize("size", [1, 256, 257, 65_536, 70_001])
def test_planted_tiles_are_those_of_a_log_of_the_same_leaves(monkeypatch, size):
    monkeypatch.setattr(bench_log, "PROOF_LEAVES", size)
    real = {index: hashlib.sha256(b"%d" % index).digest() for index in {0, size // 2, size - 1}}

    tiles = {TileId(level, at): hashes for level, at, hashes in bench_log._make_tiles(real)}

    edge = Edge(0, {})
    leaves = [
        leaf
        for tile, hashes in sorted(tiles.items())
        if tile.level == 0
        for leaf in split_hashes(hashes)
    ]
    edge.extend(leaves)
    assert all(leaves[index] == leaf_hash for index, leaf_hash in real.items())
    assert edge.take_changed() == tiles


def test_planted_events_are_rows_that_say_what_their_leaves_say():
    (row,) = make_events(1)

    event = read_event(row[6])
    assert find_row_flaw(event, parse_leaf(row[6])) is None
    assert (event.event_id, event.leaf_hash) == (row[0], row[7])


@pytest.mark.parametrize(
    ("figure", "value", "is_met"),
    [
        ("placed_per_s", 5000.0, True),
        ("placed_per_s", 4999.0, False),
        ("checkpoint_p99_ms", 251.0, False),
        ("proof_p50_ms", 2.1, False),
        ("audited_per_s", 199_999.0, False),
    ],
)
def test_each_goal_of_the_log_is_judged(figure, value, is_met):
    good = {
        "placed_per_s": 6000.0,
        "checkpoint_p50_ms": 50.0,
        "checkpoint_p99_ms": 100.0,
        "audited_per_s": 300_000.0,
        "proof_p50_ms": 1.0,
        "proof_p99_ms": 3.0,
        "proof_cpu_ms": 0.9,
        "hashlib_cpu_s_per_gib": 0.52,
    }

    goals = Report({}, LogFigures(**{**good, figure: value})).goals()

    assert len(goals) == 4
    assert all(goal.is_met for goal in goals) is is_met
