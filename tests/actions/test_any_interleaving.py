"""Any interleaving of append, cut, crash, take-over, retry and seal ends in the right bytes or an
honest error.

Requests stand still where the search wants it (their dock is silent, or the vault does not
answer) while others go on. `INGEST_TEST_EXAMPLES` and `INGEST_TEST_STEPS` make the search larger.
"""

import asyncio
import contextlib
import hashlib
import os
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ingest_service.actions.end_upload import sweep_upload
from ingest_service.actions.store_chunk import StoredChunk
from ingest_service.domain.bytestream import Disconnected
from ingest_service.domain.manifest import ManifestName
from ingest_service.domain.sha256 import resume_sha256
from ingest_service.domain.upload import Upload
from ingest_service.errors import (
    BodyStalled,
    ChunkConflict,
    ChunkCorrupted,
    ChunksMissing,
    OffsetMismatch,
    ShuttingDown,
    SurfaceMismatch,
    TakenOver,
    TerminationRefused,
    UploadBusy,
    UploadClosed,
    UploadGone,
    VaultUnavailable,
)
from ingest_service.ledger.connection import open_pool
from tests.actions.engine import (
    RULES,
    Crash,
    Feed,
    Halt,
    Process,
    cut_chunks,
    describe_recording,
    get_clip,
    get_upload,
    make_finish_due,
    make_footage,
    make_overdue,
    read_object,
    read_stored,
    register_docks,
)
from tests.fakes import MemoryVault

EXAMPLES = int(os.environ.get("INGEST_TEST_EXAMPLES", "100"))
STEPS = int(os.environ.get("INGEST_TEST_STEPS", "20"))

# What a dock may be told. Anything else is a bug: wrong bytes, lost evidence, an unforeseen state.
HONEST = (
    BodyStalled,
    ChunkConflict,
    ChunkCorrupted,
    ChunksMissing,
    Crash,
    Disconnected,
    OffsetMismatch,
    ShuttingDown,
    SurfaceMismatch,
    TakenOver,
    TerminationRefused,
    UploadBusy,
    UploadClosed,
    UploadGone,
    VaultUnavailable,
)
CALLS = (
    "put_object",
    "put_part",
    "open_multipart",
    "complete_multipart",
    "read",
    "put_new",
    "delete",
    "get_facts",
    "abort_multipart",
)
PROCESSES = st.sampled_from([0, 1])
STANDING_MAX = 3


class HaltOnce(Halt):
    """The first call stands still; later ones pass."""

    async def wait(self) -> None:
        if not self.reached.is_set():
            await super().wait()


@dataclass
class Standing:
    """A request that stands still: its dock is silent, or the vault does not answer.

    rest  what the dock has still to send
    """

    process: Process
    request: "asyncio.Task[Any]"
    feed: Feed
    rest: bytes
    halt: HaltOnce
    index: int | None
    is_moving: bool = True

    async def stand(self) -> None:
        """Return when the request is over or stands still again."""
        waits = [asyncio.ensure_future(self.feed.starving.wait())]
        if not self.halt.is_open:
            waits.append(asyncio.ensure_future(self.halt.reached.wait()))
        await asyncio.wait({*waits, self.request}, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()
        self.is_moving = False

    def may_hear(self, process: Process) -> bool:
        """Whether a newcomer in that process gets through to this request."""
        in_vault = self.halt.reached.is_set() and not self.halt.is_open
        return self.process is process and not self.feed.is_deaf and not in_vault


class Engine(RuleBasedStateMachine):
    """One clip, two processes, up to three requests that stand still.

    mode          which protocols are spoken, and what goes wrong, in this run
    acknowledged  the highest offset (and the chunks) that any answer has confirmed
    """

    def __init__(self, dsn):
        super().__init__()
        self.dsn = dsn
        self.vault = MemoryVault(part_bytes_min=1)
        self.standing: list[Standing] = []
        self.acknowledged = 0
        self.acknowledged_chunks = set()
        self.processes = []
        self.surfaces = "both"
        self.may_end = self.may_fail = True

    def run(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    def teardown(self):
        if not self.processes:
            return
        try:
            self.run(self._end())
        finally:
            self.run(self._close())
            self.loop.close()

    async def _close(self):
        requests = [standing.request for standing in self.standing]
        for request in requests:
            request.cancel()
        await asyncio.gather(*requests, return_exceptions=True)
        await self.pool.close()

    @initialize(
        length=st.integers(0, 130),
        part_bytes=st.sampled_from([16, 32, 64]),
        replay_bytes_max=st.sampled_from([10**6, 40, 0]),
        has_digest=st.booleans(),
        surfaces=st.sampled_from(["tus", "native", "both"]),
        may_end=st.booleans(),
        may_fail=st.booleans(),
    )
    def announce(
        self, length, part_bytes, replay_bytes_max, has_digest, surfaces, may_end, may_fail
    ):
        self.loop = asyncio.new_event_loop()
        self.pool = self.run(open_pool(self.dsn, connections_max=8, statement_timeout_s=20))
        self.run(register_docks(self.pool))
        self.surfaces, self.may_end, self.may_fail = surfaces, may_end, may_fail
        self.footage = make_footage(length)
        self.rules = replace(RULES, part_bytes=part_bytes, take_over_wait_s=0, finish_wait_s=0.05)
        self.replay_bytes_max = replay_bytes_max
        self.processes = [self.make_process(), self.make_process()]
        self.recording = describe_recording(self.footage)
        if has_digest:
            self.recording["sha256_device"] = hashlib.sha256(self.footage).hexdigest()
        self.clip = self.run(self.processes[0].announce(self.recording)).clip
        self.upload_id = self.clip.upload_id

    def make_process(self):
        return Process(
            f"process-{id(self)}",
            self.pool,
            self.vault,
            rules=self.rules,
            replay_bytes_max=self.replay_bytes_max,
        )

    # --- requests --------------------------------------------------------------------------

    def begin(self, process, coroutine, *, feed=None, rest=b"", halt=None, index=None):
        """Start a request and let it run until it is over or stands still."""
        self.standing.append(
            Standing(
                process,
                self.loop.create_task(coroutine),
                feed or Feed(),
                rest,
                halt or HaltOnce(),
                index,
            )
        )
        self.settle()

    def settle(self):
        """Let whoever was set in motion run on until it ends or stands still."""
        for standing in self.standing:
            if standing.is_moving:
                self.run(standing.stand())
        for standing in [each for each in self.standing if each.request.done()]:
            self.standing.remove(standing)
            self.take_answer(standing)
        for number, process in enumerate(self.processes):
            if process.mortality.is_dead:
                self.processes[number] = self.make_process()

    def take_answer(self, standing):
        if standing.request.cancelled():
            return
        error = standing.request.exception()
        if error is not None:
            if not isinstance(error, HONEST):
                raise error
            return
        answer = standing.request.result()
        if isinstance(answer, Upload) and answer.upload_id == self.upload_id:
            self.acknowledged = max(self.acknowledged, answer.offset_bytes)
        elif isinstance(answer, StoredChunk) and standing.index is not None:
            self.acknowledged_chunks.add(standing.index)

    def move(self, standing):
        standing.is_moving = True
        return standing

    def interrupted(self, process):
        """Whoever hears the newcomer in this process moves on."""
        for standing in self.standing:
            if standing.may_hear(process):
                self.move(standing)

    def patience(self, process):
        """Seconds that a newcomer leaves the holder; in vain, if that one cannot hear it."""
        heard = [standing.may_hear(process) for standing in self.standing]
        return 2 if heard and all(heard) else 0

    def next_bytes(self, length):
        upload = self.run(get_upload(self.pool, self.upload_id))
        start = upload.offset_bytes
        return start, self.footage[start : start + length]

    def arm(self, call, moment):
        """Let the next such call of the vault stand still; None lets every call pass."""
        halt = HaltOnce()
        if call is not None:
            self.vault.meet_at(call, halt, moment=moment)
        return halt

    # --- tus -------------------------------------------------------------------------------

    @precondition(lambda self: self.surfaces != "native")
    @rule(
        process=PROCESSES,
        length=st.integers(0, 80),
        arrived=st.none() | st.integers(0, 80),
        ending=st.sampled_from(["end", "cut", "stall"]),
        is_known=st.booleans(),
    )
    def append(self, process, length, arrived, ending, is_known):
        """A request that is over before anything else happens."""
        start, data = self.next_bytes(length)
        feed = Feed(data if arrived is None else data[:arrived], ending="open")
        if ending == "end":
            feed.end()
        else:
            feed.cut(BodyStalled(1.0) if ending == "stall" else None)
        self.begin_append(self.processes[process], start, feed, data, is_known=is_known)

    @precondition(lambda self: self.surfaces != "native" and len(self.standing) < STANDING_MAX)
    @rule(
        process=PROCESSES,
        length=st.integers(1, 130),
        arrived=st.integers(0, 80),
        is_known=st.booleans(),
        is_deaf=st.booleans(),
    )
    def append_slowly(self, process, length, arrived, is_known, is_deaf):
        """A request whose dock is silent after some bytes."""
        start, data = self.next_bytes(length)
        feed = Feed(data[:arrived], ending="open", is_deaf=is_deaf)
        rest = data[arrived:]
        if not rest:
            feed.end()
        self.begin_append(self.processes[process], start, feed, data, rest=rest, is_known=is_known)

    @precondition(lambda self: self.surfaces != "native" and len(self.standing) < STANDING_MAX)
    @rule(
        process=PROCESSES,
        length=st.integers(1, 130),
        is_known=st.booleans(),
        call=st.sampled_from(
            ["put_part", "put_part", "put_object", "open_multipart", "delete", "read"]
        ),
        moment=st.sampled_from(["asked", "done"]),
    )
    def append_into_a_slow_vault(self, process, length, is_known, call, moment):
        start, data = self.next_bytes(length)
        halt = self.arm(call, moment)
        self.begin_append(
            self.processes[process], start, Feed(data), data, is_known=is_known, halt=halt
        )
        self.vault.stop_meeting()

    def begin_append(self, process, start, feed, data, *, is_known, rest=b"", halt=None):
        wait_s = self.patience(process)
        self.interrupted(process)
        self.begin(
            process,
            process.append(
                self.upload_id, start, feed, len(data) if is_known else None, wait_s=wait_s
            ),
            feed=feed,
            rest=rest,
            halt=halt,
        )

    @precondition(lambda self: self.surfaces != "native")
    @rule(process=PROCESSES, shift=st.integers(-40, 40).filter(bool))
    def append_elsewhere(self, process, shift):
        """One byte at a wrong offset, and a wrong byte at that: it is never taken."""
        start, _ = self.next_bytes(0)
        process = self.processes[process]
        self.interrupted(process)
        wrong = bytes(255 - byte for byte in self.footage[start + shift :][:1]) or b"x"
        feed = Feed(wrong)
        if self.patience(process):
            # Whoever is interrupted may bring the offset there.
            return
        self.begin(process, process.append(self.upload_id, start + shift, feed, 1, wait_s=0))

    @precondition(lambda self: self.surfaces != "native")
    @rule(process=PROCESSES)
    def head(self, process):
        process = self.processes[process]
        wait_s = self.patience(process)
        self.interrupted(process)
        self.begin(process, process.head(self.upload_id, wait_s=wait_s))

    # --- standing requests -----------------------------------------------------------------

    @precondition(lambda self: self.standing)
    @rule(
        which=st.integers(0, STANDING_MAX - 1),
        how=st.sampled_from(["send", "let_go", "cut"]),
        length=st.integers(1, 60),
    )
    def go_on(self, which, how, length):
        """The dock sends on or is cut off, or the vault answers."""
        standing = self.move(self.standing[which % len(self.standing)])
        if how == "let_go":
            standing.halt.let_go()
        elif how == "cut":
            standing.feed.cut()
        else:
            standing.feed.send(standing.rest[:length])
            standing.rest = standing.rest[length:]
            if not standing.rest:
                standing.feed.end()
        self.settle()

    @precondition(lambda self: self.standing)
    @rule(which=st.integers(0, STANDING_MAX - 1))
    def cancel(self, which):
        """The server shuts down under a request."""
        standing = self.move(self.standing[which % len(self.standing)])
        standing.feed.starving.clear()
        standing.halt.is_open = True
        standing.request.cancel()
        self.settle()

    # --- native ----------------------------------------------------------------------------

    @precondition(lambda self: self.surfaces != "tus" and len(self.standing) < STANDING_MAX)
    @rule(
        process=PROCESSES,
        index=st.integers(0, 9),
        defect=st.sampled_from(["none", "none", "none", "corrupted", "cut"]),
        call=st.none() | st.sampled_from(["put_object", "put_part", "open_multipart"]),
        moment=st.sampled_from(["asked", "done"]),
    )
    def store(self, process, index, defect, call, moment):
        chunks = cut_chunks(self.footage, self.rules.part_bytes)
        if not chunks:
            return
        index %= len(chunks)
        chunk = chunks[index]
        feed = {
            "none": Feed(chunk),
            "corrupted": Feed(bytes(255 - byte for byte in chunk)),
            "cut": Feed(chunk[:-1], ending="cut"),
        }[defect]
        process = self.processes[process]
        halt = self.arm(call, moment)
        self.begin(
            process,
            process.store(self.clip.clip_id, index, chunk, feed=feed),
            feed=feed,
            halt=halt,
            index=index,
        )
        self.vault.stop_meeting()

    # --- sealing and after -----------------------------------------------------------------

    @precondition(lambda self: len(self.standing) < STANDING_MAX)
    @rule(
        process=PROCESSES,
        what=st.sampled_from(["seal", "finish", "finish_again", "read_back"]),
        call=st.none() | st.sampled_from(["complete_multipart", "get_facts", "read"]),
        moment=st.sampled_from(["asked", "done"]),
    )
    def complete(self, process, what, call, moment):
        process = self.processes[process]
        if what == "finish_again":
            self.run(make_finish_due(self.pool, self.upload_id))
        is_open = self.run(get_upload(self.pool, self.upload_id)).state == "open"
        if what == "seal" and not is_open:
            # Whoever seals waits for its own driver, which may stand still, but not for another's.
            call = None
        process.rules = replace(self.rules, finish_wait_s=60 if is_open else 0.05)
        halt = self.arm(call, moment)
        if what == "seal":
            coroutine = process.seal(self.clip.clip_id)
        elif what == "read_back":
            coroutine = process.read_back(self.clip.clip_id)
        else:
            coroutine = process.finish(self.upload_id)
        self.begin(process, coroutine, halt=halt)
        self.vault.stop_meeting()

    @rule(process=PROCESSES)
    def announce_again(self, process):
        with contextlib.suppress(*HONEST):
            announced = self.run(self.processes[process].announce(self.recording))
            assert announced.clip.clip_id == self.clip.clip_id
            if announced.upload.upload_id != self.upload_id:
                self.upload_id = announced.upload.upload_id
                self.forget()
        self.settle()

    @precondition(lambda self: self.may_end)
    @rule(process=PROCESSES, how=st.sampled_from(["expire", "terminate"]))
    def end(self, process, how):
        """The deadline passes and the job comes by; or the dock takes its upload back."""
        process = self.processes[process]
        if how == "expire":
            self.run(make_overdue(self.pool, self.upload_id))
        with contextlib.suppress(*HONEST):
            self.run(getattr(process, how)(self.upload_id))
        if self.run(get_upload(self.pool, self.upload_id)).state in ("expired", "terminated"):
            self.forget()
        for standing in self.standing:
            self.move(standing)
        self.settle()

    @precondition(lambda self: self.may_end and not self.standing)
    @rule()
    def sweep(self):
        """The job waits until the last stale writer is gone."""
        upload = self.run(get_upload(self.pool, self.upload_id))
        if upload.state not in ("open", "finishing", "failed"):
            with contextlib.suppress(*HONEST):
                self.run(sweep_upload(self.upload_id, pool=self.pool, vault=self.vault))

    def forget(self):
        """The upload ended without a clip, in a state that says so: the dock starts again."""
        self.acknowledged = 0
        self.acknowledged_chunks = set()

    # --- trouble ---------------------------------------------------------------------------

    @precondition(lambda self: self.may_fail)
    @rule(call=st.sampled_from(CALLS), failure=st.sampled_from(["lost", "stored"]))
    def break_the_vault(self, call, failure):
        self.vault.fail_next(call, failure)

    @precondition(lambda self: self.may_fail)
    @rule(
        process=PROCESSES,
        step=st.sampled_from(["now", "now", "ledger", "ledger", "ledger", *CALLS]),
        moment=st.sampled_from(["before", "after"]),
    )
    def kill(self, process, step, moment):
        """The process dies now, or at its next such step; its requests end without another."""
        mortality = self.processes[process].mortality
        mortality.dies_at = (step, moment)
        mortality.is_dead = step == "now"
        self.settle()

    @precondition(lambda self: self.may_fail)
    @rule(hours=st.integers(-2, 2))
    def move_the_service_clock(self, hours):
        for process in self.processes:
            process.now.moved_by = timedelta(hours=hours)

    # --- what must hold --------------------------------------------------------------------

    @invariant()
    def the_ledger_tells_the_truth(self):
        if not self.processes:
            return
        upload = self.run(get_upload(self.pool, self.upload_id))
        clip = self.run(get_clip(self.pool, self.clip.clip_id))
        assert clip.state != "quarantined", clip.quarantine_reason
        if upload.state in ("open", "finishing"):
            self.check_open(upload)
        if upload.state == "finished":
            assert clip.state in ("sealed", "secured")
            assert read_object(self.vault, clip) == self.footage
            assert clip.sha256 in (None, hashlib.sha256(self.footage).digest())
        if clip.state == "secured":
            assert clip.sha256_readback == hashlib.sha256(self.footage).digest()

    def check_open(self, upload):
        assert upload.offset_bytes >= self.acknowledged
        assert upload.offset_bytes <= len(self.footage)
        if upload.multipart_id in self.vault._completed:
            # Joined, and the driver died before it could say so (or is about to).
            assert upload.state == "finishing"
            assert self.vault.content(upload.multipart_key) == self.footage
            return
        pieces = self.run(read_stored(self.pool, self.vault, self.upload_id))
        for offset, data in pieces.items():
            assert data == self.footage[offset : offset + len(data)]
        if upload.surface == "native":
            assert sum(map(len, pieces.values())) == upload.offset_bytes
            stored = {offset // upload.part_bytes for offset in pieces}
            assert self.acknowledged_chunks <= stored
        elif upload.surface == "tus":
            covered = b"".join(pieces[offset] for offset in sorted(pieces))
            assert covered == self.footage[: upload.offset_bytes]
            assert upload.hashed_bytes == upload.offset_bytes
            assert not self.acknowledged_chunks
            self.check_grid(upload, pieces)
        digest = resume_sha256(upload.sha256_state).digest()
        assert digest == hashlib.sha256(self.footage[: upload.hashed_bytes]).digest()

    def check_grid(self, upload, pieces):
        """Every part behind the offset is whole; tails lie in the part that is not full yet."""
        whole = (
            upload.part_count
            if upload.state == "finishing"
            else (upload.offset_bytes // upload.part_bytes)
        )
        for index in range(whole):
            assert len(pieces[index * upload.part_bytes]) == upload.part_length(index)

    async def _end(self):
        """However it went: an honest dock and the jobs bring the clip home from here."""
        self.vault._failures.clear()
        for standing in self.standing:
            standing.halt.let_go()
            standing.feed.cut()
            with contextlib.suppress(*HONEST):
                await standing.request
        self.standing.clear()
        process = self.make_process()
        # Overdue, and the job that was at it died: it comes by again.
        await process.expire(self.upload_id)
        upload = (await process.announce(self.recording)).upload
        if upload.state == "open":
            await self._send_all(process, upload)
        if (await get_upload(self.pool, upload.upload_id)).state == "finishing":
            await make_finish_due(self.pool, upload.upload_id)
            await process.finish(upload.upload_id)
        await process.read_back(self.clip.clip_id)
        clip = await get_clip(self.pool, self.clip.clip_id)
        assert clip.state == "secured", (clip.state, clip.quarantine_reason)
        assert read_object(self.vault, clip) == self.footage
        for upload_id in await self._list_sweeps():
            await sweep_upload(upload_id, pool=self.pool, vault=self.vault)
        manifest = ManifestName(clip.clip_id, clip.manifest_sha256)
        assert self.vault.keys() == [clip.object_key, manifest.key]

    async def _list_sweeps(self):
        async with self.pool.acquire() as connection:
            rows = await connection.fetch(
                "SELECT upload_id FROM uploads WHERE clip_id = $1 AND sweep_after IS NOT NULL",
                self.clip.clip_id,
            )
        return [row["upload_id"] for row in rows]

    async def _send_all(self, process, upload):
        if upload.surface == "tus":
            upload = await process.head(upload.upload_id, wait_s=0)
            rest = self.footage[upload.offset_bytes :]
            await process.append_all(upload.upload_id, upload.offset_bytes, rest)
            return
        for index, chunk in enumerate(cut_chunks(self.footage, self.rules.part_bytes)):
            await process.store(self.clip.clip_id, index, chunk)
        await process.seal(self.clip.clip_id)


def test_any_interleaving_ends_in_the_right_bytes_or_an_honest_error(engine_dsn):
    run_state_machine_as_test(
        lambda: Engine(engine_dsn),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
