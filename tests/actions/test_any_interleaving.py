"""Any interleaving of append, cut, crash, take-over, retry and seal ends in the right bytes or an
honest error.

`INGEST_TEST_EXAMPLES` and `INGEST_TEST_STEPS` make the search larger.
"""

import asyncio
import contextlib
import hashlib
import os
from dataclasses import replace
from datetime import timedelta

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
from ingest_service.domain.bytestream import Disconnected
from ingest_service.domain.sha256 import resume_sha256
from ingest_service.errors import (
    BodyStalled,
    ChunkConflict,
    ChunkCorrupted,
    ChunksMissing,
    IngestError,
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
    DOCK,
    RULES,
    Crash,
    Feed,
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

EXAMPLES = int(os.environ.get("INGEST_TEST_EXAMPLES", "60"))
STEPS = int(os.environ.get("INGEST_TEST_STEPS", "25"))

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
WRITES = ("put_object", "put_part", "open_multipart", "complete_multipart")
CALLS = (*WRITES, "read", "delete", "get_facts", "abort_multipart")
FAILURES = st.sampled_from(["lost", "stored"])
PROCESSES = st.sampled_from([0, 1])


class Engine(RuleBasedStateMachine):
    """One clip, two processes, up to three requests that are still sending.

    acknowledged  the highest offset (or the chunks) that any answer has confirmed
    """

    def __init__(self, dsn):
        super().__init__()
        self.dsn = dsn
        self.vault = MemoryVault(part_bytes_min=1)
        self.sending = []
        self.acknowledged = 0
        self.acknowledged_chunks = set()
        self.processes = []

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
        for _, request in self.sending:
            request.cancel()
        await asyncio.gather(*(request for _, request in self.sending), return_exceptions=True)
        await self.pool.close()

    # --- what there is ---------------------------------------------------------------------

    @initialize(
        length=st.integers(0, 150),
        part_bytes=st.sampled_from([16, 32, 64]),
        replay_bytes_max=st.sampled_from([0, 40, 10**6]),
        digest=st.sampled_from(["none", "right"]),
    )
    def announce(self, length, part_bytes, replay_bytes_max, digest):
        self.loop = asyncio.new_event_loop()
        self.pool = self.run(open_pool(self.dsn, connections_max=8, statement_timeout_s=20))
        self.run(register_docks(self.pool))
        self.footage = make_footage(length)
        self.rules = replace(RULES, part_bytes=part_bytes, take_over_wait_s=1)
        self.replay_bytes_max = replay_bytes_max
        self.processes = [self.make_process(), self.make_process()]
        known = {"sha256_device": hashlib.sha256(self.footage).hexdigest()}
        self.recording = describe_recording(self.footage, **(known if digest == "right" else {}))
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

    def attempt(self, coroutine):
        """Run a request to its end; its answer, or None when it was refused honestly."""
        try:
            answer = self.run(coroutine)
        except HONEST as error:
            self.note_error(error)
            return None
        finally:
            self.bury_the_dead()
        return answer

    def note_error(self, error):
        if isinstance(error, IngestError):
            assert str(error), "an error that says nothing"

    def bury_the_dead(self):
        """A process that died is replaced by a new one without its memory."""
        for number, process in enumerate(self.processes):
            if process.mortality.is_dead:
                self.processes[number] = self.make_process()

    def confirm(self, upload):
        """An answer acknowledged this much."""
        if upload is not None and upload.upload_id == self.upload_id:
            assert upload.offset_bytes >= self.acknowledged
            self.acknowledged = upload.offset_bytes

    # --- tus -------------------------------------------------------------------------------

    def next_bytes(self, length):
        upload = self.run(get_upload(self.pool, self.upload_id))
        start = upload.offset_bytes
        return start, self.footage[start : start + length]

    @rule(
        process=PROCESSES,
        length=st.integers(0, 80),
        is_known=st.booleans(),
        is_polite=st.booleans(),
    )
    def append(self, process, length, is_known, is_polite):
        start, data = self.next_bytes(length)
        self.confirm(
            self.attempt(
                self.processes[process].append(
                    self.upload_id,
                    start,
                    Feed(data),
                    len(data) if is_known else None,
                    wait_s=self.patience(is_polite),
                )
            )
        )
        self.settle()

    @rule(
        process=PROCESSES,
        length=st.integers(1, 80),
        is_known=st.booleans(),
        arrived=st.integers(0, 79),
    )
    def append_and_cut(self, process, length, is_known, arrived):
        start, data = self.next_bytes(length)
        feed = Feed(data[:arrived], ending="cut")
        self.attempt(
            self.processes[process].append(
                self.upload_id, start, feed, len(data) if is_known else None, wait_s=0
            )
        )
        self.settle()

    @rule(process=PROCESSES, shift=st.integers(-40, 40).filter(bool))
    def append_elsewhere(self, process, shift):
        start, _ = self.next_bytes(0)
        offset = start + shift
        answer = self.attempt(
            self.processes[process].append(self.upload_id, offset, Feed(b"x"), 1, wait_s=0)
        )
        self.settle()
        # Whoever was interrupted may just have moved the offset there: then the byte is refused
        # as one that does not belong to the model's file, so it must not have been taken.
        assert answer is None or self.footage[offset : offset + 1] == b"x"

    @precondition(lambda self: len(self.sending) < 3)
    @rule(
        process=PROCESSES,
        length=st.integers(1, 150),
        is_known=st.booleans(),
        arrived=st.integers(0, 60),
        is_deaf=st.booleans(),
    )
    def begin_append(self, process, length, is_known, arrived, is_deaf):
        """A request that stays silent after some bytes: other rules go on meanwhile."""
        start, data = self.next_bytes(length)
        feed = Feed(data[:arrived], ending="open", is_deaf=is_deaf)
        feed.rest = data[arrived:]
        request = self.loop.create_task(
            self.processes[process].append(
                self.upload_id, start, feed, len(data) if is_known else None, wait_s=0
            )
        )
        self.sending.append((feed, request))
        self.settle()

    @precondition(lambda self: self.sending)
    @rule(which=st.integers(0, 2), length=st.integers(1, 60))
    def send_on(self, which, length):
        feed, _ = self.sending[which % len(self.sending)]
        feed.send(feed.rest[:length])
        feed.rest = feed.rest[length:]
        if not feed.rest:
            feed.end()
        self.settle()

    @precondition(lambda self: self.sending)
    @rule(which=st.integers(0, 2), how=st.sampled_from(["cut", "stall", "end"]))
    def stop_sending(self, which, how):
        feed, _ = self.sending[which % len(self.sending)]
        if how == "end":
            feed.end()
        else:
            feed.cut(BodyStalled(1.0) if how == "stall" else None)
        self.settle()

    @precondition(lambda self: self.sending)
    @rule(which=st.integers(0, 2))
    def cancel_request(self, which):
        """The server shuts down."""
        feed, request = self.sending[which % len(self.sending)]
        feed.starving.clear()
        request.cancel()
        self.settle()

    @rule(process=PROCESSES, is_polite=st.booleans())
    def head(self, process, is_polite):
        upload = self.attempt(
            self.processes[process].head(self.upload_id, wait_s=self.patience(is_polite))
        )
        self.confirm(upload)
        self.settle()

    def patience(self, is_polite):
        """Seconds that a newcomer leaves the holder: in vain, if that one cannot hear it."""
        is_heard = all(not feed.is_deaf for feed, _ in self.sending)
        return 1 if is_polite and is_heard and self.sending else 0

    def settle(self):
        """Let every request that sends run on until it ends or waits for its dock."""
        self.run(self._settle())
        for feed, request in list(self.sending):
            if request.done():
                self.sending.remove((feed, request))
                error = None if request.cancelled() else request.exception()
                if error is not None and not isinstance(error, HONEST):
                    raise error
        self.bury_the_dead()

    async def _settle(self):
        for feed, request in self.sending:
            starving = asyncio.ensure_future(feed.starving.wait())
            await asyncio.wait({starving, request}, return_when=asyncio.FIRST_COMPLETED)
            starving.cancel()

    # --- native ----------------------------------------------------------------------------

    @rule(
        process=PROCESSES,
        index=st.integers(0, 9),
        defect=st.sampled_from(["none", "none", "none", "corrupted", "cut", "other"]),
    )
    def store(self, process, index, defect):
        chunks = cut_chunks(self.footage, self.rules.part_bytes)
        if not chunks:
            return
        index %= len(chunks)
        chunk = chunks[index]
        feed = {
            "none": Feed(chunk),
            "corrupted": Feed(b"\0" * len(chunk)),
            "cut": Feed(chunk[:-1], ending="cut"),
            "other": Feed(chunk),
        }[defect]
        stored = self.attempt(
            self.processes[process].store(self.clip.clip_id, index, chunk, feed=feed)
        )
        if stored is not None:
            self.acknowledged_chunks.add(index)

    @rule(first=st.integers(0, 9), second=st.integers(0, 9), crash=st.booleans())
    def store_two_at_once(self, first, second, crash):
        chunks = cut_chunks(self.footage, self.rules.part_bytes)
        if not chunks:
            return
        if crash:
            self.processes[1].mortality.dies_at = ("put_part", "after")
        indices = [first % len(chunks), second % len(chunks)]

        async def both():
            return await asyncio.gather(
                *(
                    process.store(self.clip.clip_id, index, chunks[index])
                    for process, index in zip(self.processes, indices, strict=True)
                ),
                return_exceptions=True,
            )

        for index, answer in zip(indices, self.run(both()), strict=True):
            if not isinstance(answer, BaseException):
                self.acknowledged_chunks.add(index)
            elif not isinstance(answer, HONEST):
                raise answer
        self.bury_the_dead()

    # --- sealing and after -----------------------------------------------------------------

    @rule(process=PROCESSES)
    def seal(self, process):
        self.attempt(self.processes[process].seal(self.clip.clip_id))
        self.settle()

    @rule(process=PROCESSES, is_due=st.booleans())
    def finish(self, process, is_due):
        if is_due:
            self.run(make_finish_due(self.pool, self.upload_id))
        self.attempt(self.processes[process].finish(self.upload_id))

    @rule(process=PROCESSES)
    def read_back(self, process):
        self.attempt(self.processes[process].read_back(self.clip.clip_id))

    @rule(process=PROCESSES)
    def announce_again(self, process):
        announced = self.attempt(self.processes[process].announce(self.recording, DOCK))
        if announced is not None:
            assert announced.clip.clip_id == self.clip.clip_id
            self.follow(announced.upload.upload_id)

    @rule(process=PROCESSES)
    def expire(self, process):
        """The ledger's clock passes the deadline, and the job comes by."""
        self.run(make_overdue(self.pool, self.upload_id))
        if self.attempt(self.processes[process].expire(self.upload_id)):
            self.forget()
        self.settle()

    @rule(process=PROCESSES)
    def terminate(self, process):
        process = self.processes[process]
        process.rules = replace(self.rules, take_over_wait_s=0)
        with contextlib.suppress(*HONEST):
            self.run(process.terminate(self.upload_id))
        process.rules = self.rules
        if self.run(get_upload(self.pool, self.upload_id)).state == "terminated":
            self.forget()
        self.bury_the_dead()
        self.settle()

    @precondition(lambda self: not self.sending)
    @rule()
    def sweep(self):
        """The job waits until the last stale writer is gone."""
        upload = self.run(get_upload(self.pool, self.upload_id))
        if upload.state not in ("open", "finishing", "failed"):
            self.attempt(sweep_upload(self.upload_id, pool=self.pool, vault=self.vault))

    def follow(self, upload_id):
        if upload_id != self.upload_id:
            self.upload_id = upload_id
            self.forget()

    def forget(self):
        """The upload ended without a clip, in a state that says so: the dock starts again."""
        self.acknowledged = 0
        self.acknowledged_chunks = set()

    # --- trouble ---------------------------------------------------------------------------

    @rule(call=st.sampled_from(CALLS), failure=FAILURES)
    def break_the_vault(self, call, failure):
        self.vault.fail_next(call, failure)

    @rule(
        process=PROCESSES,
        step=st.sampled_from([*CALLS, "ledger", "ledger", "ledger"]),
        moment=st.sampled_from(["before", "after"]),
    )
    def doom(self, process, step, moment):
        """The process dies at its next such step."""
        self.processes[process].mortality.dies_at = (step, moment)

    @rule(process=PROCESSES)
    def kill(self, process):
        """The process dies now; its requests end without a further step."""
        self.processes[process].mortality.is_dead = True
        self.bury_the_dead()

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
            # Joined, and the driver died before it could say so.
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
        digest = resume_sha256(upload.sha256_state).digest()
        assert digest == hashlib.sha256(self.footage[: upload.hashed_bytes]).digest()

    async def _end(self):
        """However it went: an honest dock and the jobs bring the clip home from here."""
        self.vault._failures.clear()
        for feed, request in self.sending:
            feed.cut()
            with contextlib.suppress(*HONEST):
                await request
        self.sending.clear()
        process = self.make_process()
        announced = await process.announce(self.recording)
        upload = announced.upload
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
        assert self.vault.keys() == [clip.object_key]

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
