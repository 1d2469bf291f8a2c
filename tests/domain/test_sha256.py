"""The mid-state of a SHA-256: laid down by one back end, taken up by either."""

import hashlib
import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.domain.sha256 import (
    BrokenState,
    LibcryptoSha256,
    RehashesSha256,
    backend_name,
    passes_self_check,
    resume_sha256,
    start_sha256,
)

BACKENDS = [LibcryptoSha256, RehashesSha256]
VECTORS = json.loads(
    (Path(__file__).parent.parent / "vectors" / "sha256" / "mid_states.json").read_text()
)
BOUNDARIES = [0, 1, 55, 56, 63, 64, 65, 127, 128, 1000, 8192]


def make_sample(length):
    return (bytes(range(256)) * (length // 256 + 1))[:length]


def run_over(backend, data):
    running = backend()
    running.update(data)
    return running


@pytest.mark.parametrize("backend", BACKENDS)
def test_both_back_ends_work_here(backend):
    assert passes_self_check(backend)


@pytest.mark.parametrize("backend", BACKENDS)
@given(blocks=st.lists(st.binary(max_size=200), max_size=8))
def test_the_digest_is_hashlibs(backend, blocks):
    running = backend()
    for block in blocks:
        running.update(block)

    assert running.digest() == hashlib.sha256(b"".join(blocks)).digest()


@pytest.mark.parametrize("loader", BACKENDS)
@pytest.mark.parametrize("saver", BACKENDS)
@given(data=st.binary(max_size=500), cuts=st.lists(st.integers(0, 500), max_size=4))
def test_each_back_end_goes_on_from_the_others_state(saver, loader, data, cuts):
    """The hash is handed over at every cut."""
    state = saver().export()
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for number, (start, stop) in enumerate(pairwise(bounds)):
        running = (loader, saver)[number % 2].load(state)
        running.update(data[start:stop])
        state = running.export()

    assert loader.load(state).digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("length", BOUNDARIES)
def test_both_back_ends_write_the_same_state(length):
    data = make_sample(length)

    states = {run_over(backend, data).export() for backend in BACKENDS}

    assert len(states) == 1


@given(st.integers(0, 300))
def test_a_state_has_48_bytes_and_the_tail(length):
    state = run_over(type(start_sha256()), make_sample(length)).export()

    assert len(state) == 48 + length % 64
    assert 48 <= len(state) <= 111


def test_a_digest_taken_on_the_way_changes_nothing():
    running = start_sha256()
    running.update(b"abc")
    first = running.digest()
    running.update(b"def")

    assert first == hashlib.sha256(b"abc").digest()
    assert running.digest() == hashlib.sha256(b"abcdef").digest()


def test_an_export_on_the_way_changes_nothing():
    running = start_sha256()
    running.update(b"abc")
    running.export()
    running.update(b"def")

    assert running.digest() == hashlib.sha256(b"abcdef").digest()


@pytest.mark.parametrize("backend", BACKENDS)
def test_lengths_beyond_32_bits_survive(backend):
    """The bit count fills both words of libcrypto's struct; only the count is looked at."""
    words = run_over(LibcryptoSha256, b"").export()[4:36]
    length = 2**40 + 64
    body = b"S2M1" + words + length.to_bytes(8, "big")
    state = body + hashlib.sha256(body).digest()[:4]

    assert backend.load(state).export() == state


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_canonical_form_is_what_it_always_was(backend, vector):
    data = bytes.fromhex(vector["data_hex"])

    assert run_over(backend, data).export().hex() == vector["state_hex"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_state_of_the_vectors_is_taken_up(backend, vector):
    running = backend.load(bytes.fromhex(vector["state_hex"]))
    running.update(bytes.fromhex(vector["more_hex"]))

    assert running.digest().hex() == vector["digest_hex"]


def test_no_state_is_a_fresh_hash():
    assert resume_sha256(None).digest() == hashlib.sha256().digest()


@pytest.mark.parametrize("backend", BACKENDS)
@given(data=st.data(), length=st.integers(0, 130))
def test_a_flipped_bit_is_refused(backend, data, length):
    state = bytearray(run_over(LibcryptoSha256, make_sample(length)).export())
    bit = data.draw(st.integers(0, len(state) * 8 - 1))
    state[bit // 8] ^= 1 << bit % 8

    with pytest.raises(BrokenState):
        backend.load(bytes(state))


@given(length=st.integers(0, 130), cut=st.integers(1, 120))
def test_a_torn_state_is_refused(length, cut):
    state = run_over(LibcryptoSha256, make_sample(length)).export()

    with pytest.raises(BrokenState):
        resume_sha256(state[:-cut])


@given(st.binary(max_size=200))
def test_anything_else_is_refused(data):
    with pytest.raises(BrokenState):
        resume_sha256(data)


def test_a_tail_that_does_not_fit_the_length_is_refused():
    """Well-formed and undamaged, but its count says 64 and its tail has one byte."""
    body = b"S2M1" + bytes(32) + (64).to_bytes(8, "big") + b"x"

    with pytest.raises(BrokenState, match="wrong length"):
        resume_sha256(body + hashlib.sha256(body).digest()[:4])


def test_the_chosen_back_end_has_a_name():
    assert backend_name() in ("libcrypto", "rehashes")
