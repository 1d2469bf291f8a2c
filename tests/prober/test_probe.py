"""Looking into footage: real files, broken files, and files that do harm."""

import asyncio
import random
import time
from contextlib import contextmanager

import psutil
import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest_service.domain.media import MEDIA_FLAGS
from ingest_service.errors import VaultUnavailable
from ingest_service.prober import probe as prober
from ingest_service.prober.probe import ProbeLimits, ProberBroken, probe
from tests.videos import grow_mp4, make_video

LIMITS = ProbeLimits(timeout_s=20, store_timeout_s=20)
MIB = 1024 * 1024


def serve(data: bytes):
    async def read_range(start, stop):
        return data[start:stop]

    return read_range


async def look(data: bytes, limits: ProbeLimits = LIMITS):
    return await probe(len(data), serve(data), limits)


@contextmanager
def child(monkeypatch, script: str):
    """Have this run instead of the real child, after its first word."""
    start = f"print('ready test', flush=True)\n{script}"
    with monkeypatch.context() as patched:
        patched.setattr(prober, "_START", start)
        yield


# --- real footage --------------------------------------------------------------------------


@pytest.mark.parametrize("movflags", ["", "faststart"])
async def test_an_mp4_is_described_wherever_its_index_lies(movflags):
    data = make_video(
        seconds=2,
        has_sound=True,
        options={"movflags": movflags} if movflags else {},
        metadata={"creation_time": "2026-11-21T22:14:05Z"},
    )
    assert (data.index(b"moov") < data.index(b"mdat")) == (movflags == "faststart")

    probed = await look(data)

    assert probed.flag is None
    assert 2000 <= probed.report.pop("duration_ms") <= 2200
    assert probed.report == {
        "container": "mp4",
        "codec": "h264",
        "width": 64,
        "height": 64,
        "fps": 25.0,
        "audio_present": True,
        "creation_time": "2026-11-21T22:14:05.000000Z",
        "flags": [],
    }


@pytest.mark.parametrize(
    ("container", "codec", "told"),
    [
        ("mp4", "libx264", ("mp4", "h264")),
        ("mov", "libx264", ("mov", "h264")),
        ("mp4", "mpeg4", ("mp4", "mpeg4")),
        ("matroska", "libx264", ("matroska", "h264")),
        ("avi", "mpeg4", ("avi", "mpeg4")),
        ("mpegts", "libx264", ("mpegts", "h264")),
    ],
)
@pytest.mark.parametrize("has_sound", [True, False])
async def test_every_usual_container_is_described(container, codec, told, has_sound):
    data = make_video(container=container, codec=codec, has_sound=has_sound)

    report = (await look(data)).report

    assert (report["container"], report["codec"]) == told
    assert (report["width"], report["height"], report["fps"]) == (64, 64, 25.0)
    assert report["audio_present"] is has_sound
    assert 900 <= report["duration_ms"] <= 1200
    assert report["flags"] == []


async def test_a_fragmented_recording_is_described():
    data = make_video(options={"movflags": "frag_keyframe+empty_moov"})

    report = (await look(data)).report

    assert (report["codec"], report["flags"]) == ("h264", [])


async def test_sound_without_pictures_is_told():
    report = (await look(make_video(has_video=False, has_sound=True))).report

    assert (report["flags"], report["audio_present"]) == (["no_video_stream"], True)


# --- broken footage ------------------------------------------------------------------------


async def test_a_file_that_broke_off_is_truncated_and_still_described():
    data = make_video(seconds=2, noise=True, options={"movflags": "faststart"})

    report = (await look(data[: len(data) * 2 // 3])).report

    assert (report["flags"], report["codec"]) == (["truncated"], "h264")


async def test_a_recording_whose_index_was_never_written_is_unplayable():
    data = make_video(seconds=2, noise=True)

    report = (await look(data[: data.index(b"moov") - 4])).report

    assert report["flags"] == ["unplayable", "truncated"]


@pytest.mark.parametrize("container", ["matroska", "avi"])
async def test_what_is_shorter_than_it_says_is_truncated(container):
    data = make_video(container=container, codec="mpeg4", seconds=2, noise=True)

    report = (await look(data[: len(data) // 2])).report

    assert "truncated" in report["flags"]


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"Dear Sir or Madam,\n" * 200,
        random.Random(1).randbytes(100_000),  # noqa: S311
        b"\x89PNG\r\n\x1a\n" + bytes(1000),
        b"%PDF-1.7\n" + bytes(1000),
        bytes(100_000),
    ],
    ids=["byte", "text", "noise", "png", "pdf", "zeros"],
)
async def test_other_files_are_no_video(data):
    assert (await look(data)).report == {"flags": ["not_a_video"]}


# --- files that do harm --------------------------------------------------------------------


async def test_a_playlist_opens_no_other_file(tmp_path):
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(make_video())
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n"
    joined = f"ffconcat version 1.0\nfile '{secret}'\n"

    reports = [(await look(text.encode())).report for text in (playlist, joined)]

    assert reports == [{"flags": ["not_a_video"]}] * 2


CONFINED = """
import sys; sys.path.insert(0, {root!r})
from ingest_service.prober import child
import json, os, socket
child._confine(2)
tried = {{}}
for name, attempt in {{
    "file": lambda: os.open("/etc/passwd", os.O_RDONLY),
    "socket": lambda: socket.socket(),
    "memory": lambda: len(bytearray(2**30)),
}}.items():
    try:
        attempt()
        tried[name] = "allowed"
    except (OSError, MemoryError) as error:
        tried[name] = type(error).__name__
tried["variables"] = sorted(set(os.environ) - {{"LC_CTYPE", "LD_LIBRARY_PATH"}})
print("done " + json.dumps(tried), flush=True)
"""


async def test_the_child_can_open_nothing_and_knows_no_settings(monkeypatch):
    monkeypatch.setenv("INGEST_VAULT_SECRET_KEY", "secret")
    with child(monkeypatch, CONFINED.format(root=str(prober._ROOT))):
        probed = await look(b"x" * 100)

    assert probed.report == {
        "file": "OSError",
        "socket": "OSError",
        "memory": "MemoryError",
        "variables": [],
    }


@pytest.mark.parametrize(
    ("script", "flag"),
    [
        ("while True: pass", "probe_timed_out"),
        ("import time; time.sleep(100)", "probe_timed_out"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "probe_crashed"),
        ("import os; os._exit(0)", "probe_crashed"),
        ("print('x' * 10**6, flush=True)", "probe_crashed"),
        ("print('done [1]', flush=True)", "probe_crashed"),
        ("print('done {', flush=True)", "probe_crashed"),
        ("print('done ' + '[' * 60000, flush=True)", "probe_crashed"),
        ("print('read 1', flush=True)", "probe_crashed"),
        ("print('write 1 2', flush=True)", "probe_crashed"),
        ("print('read 0 10', flush=True)\nimport time; time.sleep(100)", "probe_timed_out"),
        ("while True: print('read 0 100', flush=True)", "probe_timed_out"),
    ],
)
async def test_whatever_happens_to_the_child_an_answer_comes(monkeypatch, script, flag):
    began = time.monotonic()
    with child(monkeypatch, script):
        probed = await look(bytes(1000), ProbeLimits(timeout_s=1, store_timeout_s=5))

    assert (probed.report, probed.flag) == (None, flag)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("script", "flag"),
    [(None, None), ("print('x' * 10**6, flush=True)", "probe_crashed"), ("1 / 0", "probe_crashed")],
)
def test_an_answer_comes_on_the_loop_of_the_worker(monkeypatch, script, flag):
    if script is not None:
        monkeypatch.setattr(prober, "_START", f"print('ready test', flush=True)\n{script}")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        probed = runner.run(look(make_video()))

    assert probed.flag == flag


async def test_no_child_is_left_behind(monkeypatch):
    before = set(psutil.Process().children())
    with child(monkeypatch, "import time; time.sleep(1000)"):
        task = asyncio.create_task(look(bytes(10)))
        while not (started := set(psutil.Process().children()) - before):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        [running] = started
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert not psutil.pid_exists(running.pid)


async def test_an_installation_that_cannot_probe_says_nothing_of_the_clip(monkeypatch):
    monkeypatch.setattr(prober, "_START", "import nothing_of_that_name")

    with pytest.raises(ProberBroken):
        await look(bytes(10))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
async def test_no_damage_to_a_file_keeps_an_answer_from_coming(data):
    container = data.draw(st.sampled_from(["mp4", "matroska", "avi", "mpegts"]))
    whole = bytearray(VIDEOS[container])
    for _ in range(data.draw(st.integers(0, 30))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(1, len(whole)))])

    probed = await look(cut)

    assert probed.flag is None or probed.flag in MEDIA_FLAGS
    assert set((probed.report or {}).get("flags", [])) <= set(MEDIA_FLAGS)


@settings(max_examples=10, deadline=None)
@given(data=st.binary(min_size=1, max_size=5000))
async def test_no_bytes_keep_an_answer_from_coming(data):
    probed = await look(data)

    assert probed.report is not None or probed.flag in MEDIA_FLAGS


VIDEOS = {
    container: make_video(container=container, codec="mpeg4", has_sound=True)
    for container in ("mp4", "matroska", "avi", "mpegts")
}


# --- what is read --------------------------------------------------------------------------


async def test_of_a_large_file_little_is_read():
    data = grow_mp4(make_video(noise=True, seconds=2, has_sound=True), 50 * MIB)
    ranges = []

    async def read_range(start, stop):
        ranges.append((start, stop))
        return data[start:stop]

    probed = await probe(len(data), read_range, LIMITS)

    assert probed.report["flags"] == []
    assert probed.report["codec"] == "h264"
    assert probed.bytes_read == sum(stop - start for start, stop in ranges) < 2 * MIB
    assert len(ranges) < 20


async def test_a_file_that_wants_too_much_read_is_flagged():
    data = make_video(container="mpegts", noise=True, side=256, seconds=2)
    assert len(data) > 512 * 1024

    probed = await look(data, ProbeLimits(20, 20, bytes_max=128 * 1024))

    assert probed.flag == "probe_bytes_exceeded"
    assert probed.bytes_read <= 128 * 1024


async def test_a_store_that_fails_is_no_fault_of_the_footage():
    async def read_range(_start, _stop):
        reason = "away"
        raise VaultUnavailable(reason)

    with pytest.raises(VaultUnavailable):
        await probe(1000, read_range, LIMITS)


async def test_a_store_that_is_slow_is_no_fault_of_the_footage():
    async def read_range(_start, _stop):
        await asyncio.sleep(60)
        return b""

    with pytest.raises(VaultUnavailable):
        await probe(1000, read_range, ProbeLimits(timeout_s=0.5, store_timeout_s=0.6))


async def test_the_time_the_store_takes_is_not_the_parsers():
    data = make_video(has_sound=True, container="mpegts", noise=True)

    waits = 0

    async def read_range(start, stop):
        nonlocal waits
        waits += 1
        await asyncio.sleep(2)
        return data[start:stop]

    probed = await probe(len(data), read_range, ProbeLimits(timeout_s=3, store_timeout_s=60))

    assert waits >= 2
    assert probed.flag is None
