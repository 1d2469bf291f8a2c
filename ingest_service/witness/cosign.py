"""The rule of a witness: one history of each log, and never a step back."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ingest_service.domain.checkpoint import Checkpoint, verify_checkpoint
from ingest_service.domain.cosignature import cosigned_message, format_cosignature
from ingest_service.domain.merkle import EMPTY_ROOT, ProofInvalid, verify_consistency
from ingest_service.domain.note import (
    COSIGNATURE_TYPE,
    NoteInvalid,
    VerifierKey,
    compute_key_id,
    make_verifier_key,
    parse_verifier_key,
)
from ingest_service.domain.witnessing import AddCheckpoint
from ingest_service.signer import Signer
from ingest_service.witness.memory import Memory


class UnknownLog(Exception):
    """This witness does not watch a log of this origin."""


class NotSigned(Exception):
    """No key of this log that the witness knows has signed the checkpoint."""


class Inconsistent(Exception):
    """The proof does not show that the log only grew; it may be evidence of a rewritten history."""


@dataclass(eq=False)
class WrongSize(Exception):
    """The request does not continue what was cosigned last; size is what was."""

    size: int


class Witness:
    """Cosigns checkpoints. One object, of one process, works on a memory."""

    def __init__(
        self,
        *,
        logs: Sequence[VerifierKey],
        signer: Signer,
        memory: Memory,
        now: Callable[[], float],
    ) -> None:
        public_key = parse_verifier_key(signer.verifier_key).public_key
        self.verifier_key = make_verifier_key(signer.name, public_key, kind=COSIGNATURE_TYPE)
        self._key_id = compute_key_id(signer.name, public_key, kind=COSIGNATURE_TYPE)
        self._logs = logs
        self._signer = signer
        self._memory = memory
        self._now = now
        # Checking and remembering is one step: of two requests the second sees the first's.
        self._locks = {log.name: asyncio.Lock() for log in logs}

    async def add_checkpoint(self, request: AddCheckpoint) -> str:
        """Return the cosignature line of a checkpoint, once it is remembered for good.

        Raises:
            UnknownLog, NotSigned, WrongSize, Inconsistent: nothing was signed or remembered.
            NoteInvalid: the old size is beyond the new one.
            MemoryUnusable: the memory fails; nothing was signed.
        """
        checkpoint = request.signed.checkpoint
        self._require_signed(request)
        if request.old_size > checkpoint.size:
            message = "the old size is larger than the checkpoint's"
            raise NoteInvalid(message)
        async with self._locks[checkpoint.origin]:
            last = await asyncio.to_thread(self._memory.find, checkpoint.origin)
            self._require_growth(request, last or Checkpoint(checkpoint.origin, 0, EMPTY_ROOT))
            time_s = int(self._now())
            signature = self._signer.sign(cosigned_message(request.signed.body, time_s))
            line = format_cosignature(self._signer.name, self._key_id, time_s, signature)
            # Remembered before it is said: a crash here costs the log a question, no more.
            await asyncio.to_thread(
                self._memory.keep, checkpoint.origin, f"{request.signed.text}{line}"
            )
        return line

    def _require_signed(self, request: AddCheckpoint) -> None:
        origin = request.signed.checkpoint.origin
        keys = [key for key in self._logs if key.name == origin]
        if not keys:
            raise UnknownLog(origin)
        for key in keys:
            try:
                verify_checkpoint(request.signed, key)
            except NoteInvalid:
                continue
            return
        raise NotSigned(origin)

    @staticmethod
    def _require_growth(request: AddCheckpoint, last: Checkpoint) -> None:
        checkpoint = request.signed.checkpoint
        if request.old_size != last.size:
            raise WrongSize(last.size)
        if checkpoint.size == last.size and checkpoint.root != last.root:
            raise WrongSize(last.size)
        try:
            verify_consistency(last.size, last.root, checkpoint.size, checkpoint.root, request.path)
        except ProofInvalid as error:
            raise Inconsistent(str(error)) from error
