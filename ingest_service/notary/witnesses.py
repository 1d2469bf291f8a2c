"""Ask witnesses for cosignatures, and remember how far each has seen."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import httpx

from ingest_service.domain.checkpoint import SignedCheckpoint, parse_checkpoint, parse_number
from ingest_service.domain.cosignature import (
    NO_WITNESSES,
    WitnessPolicy,
    find_cosignature,
    make_policy,
)
from ingest_service.domain.note import NoteInvalid, VerifierKey
from ingest_service.domain.witnessing import format_add_checkpoint

TIMEOUT_S: Final = 5.0
_REST_FIRST_S: Final = 1.0
_REST_MAX_S: Final = 60.0
_ANSWER_BYTES_MAX: Final = 64 * 1024


class WitnessFailed(Exception):
    """The witness is away, or its answer is no use; it rests a while before it is asked again."""


class WitnessDisagrees(WitnessFailed):
    """The witness has cosigned what this ledger does not hold: page someone.

    Either the ledger is an old copy, or a history was rewritten, or the witness is wrong.
    """


@dataclass(slots=True)
class WitnessPost:
    """One witness: its key, where it listens, and what is known of it.

    known_size  leaves of the newest checkpoint that it has cosigned, as far as we know
    """

    key: VerifierKey
    url: str
    known_size: int = 0
    failures: int = 0
    rests_until: float = float("-inf")


@dataclass(slots=True)
class Witnesses:
    """The second parties of this log; empty when there are none.

    published_size  leaves of the newest checkpoint whose cosignatures are in the bucket, as far as
                    this process knows

    Concurrency: any number of tasks of one event loop, one at a time for each witness.
    """

    posts: tuple[WitnessPost, ...] = ()
    policy: WitnessPolicy = NO_WITNESSES
    monotonic: Callable[[], float] = time.monotonic
    published_size: int = 0
    _http: httpx.AsyncClient | None = field(default=None)

    @property
    def names(self) -> list[str]:
        """Names of the witnesses whose cosignatures count."""
        return [post.key.name for post in self.posts]

    def list_due(self, done: Iterable[str]) -> list[WitnessPost]:
        """Return the witnesses that are not done and do not rest."""
        now, finished = self.monotonic(), set(done)
        return [
            post for post in self.posts if post.key.name not in finished and post.rests_until <= now
        ]

    async def ask(
        self, post: WitnessPost, signed: SignedCheckpoint, path: list[bytes]
    ) -> str | None:
        """Ask for a cosignature; path leads from `post.known_size` to the checkpoint.

        Returns the signature line, its key and meaning checked. None: the witness has seen
        another size, which `post.known_size` is from now on; ask again from there.

        Raises:
            WitnessFailed: later.
        """
        body = format_add_checkpoint(post.known_size, path, signed.text)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                status, text = await self._post(f"{post.url}/add-checkpoint", body)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
            raise self.rest(post, f"{type(error).__name__}: {error}") from error
        return self._read(status, text, post, signed)

    def rest(
        self, post: WitnessPost, reason: str, kind: type[WitnessFailed] = WitnessFailed
    ) -> WitnessFailed:
        """Let a witness rest, longer each time; return the error that says why."""
        rest_s = min(_REST_MAX_S, _REST_FIRST_S * 2.0 ** min(post.failures, 10))
        post.failures += 1
        post.rests_until = self.monotonic() + rest_s
        return kind(reason)

    async def close(self) -> None:
        """Hang up."""
        if self._http is not None:
            await self._http.aclose()

    async def _post(self, url: str, body: str) -> tuple[int, str]:
        if self._http is None:
            self._http = httpx.AsyncClient(timeout=TIMEOUT_S)
        content = bytearray()
        async with self._http.stream("POST", url, content=body.encode()) as answer:
            async for block in answer.aiter_bytes():
                content += block
                if len(content) > _ANSWER_BYTES_MAX:
                    break
        return answer.status_code, content.decode("utf-8", "replace")

    def _read(
        self, status: int, text: str, post: WitnessPost, signed: SignedCheckpoint
    ) -> str | None:
        try:
            if status == HTTPStatus.CONFLICT:
                known_size = parse_number(text.removesuffix("\n"))
                if known_size == post.known_size:
                    # Same size, another root: it has seen another history than ours.
                    reason = f"it knows another history of {known_size} leaves"
                    raise self.rest(post, reason, WitnessDisagrees)
                post.known_size = known_size
                return None
            if status == HTTPStatus.UNPROCESSABLE_ENTITY:
                reason = f"what it knows is no beginning of this log: {text[:200]}"
                raise self.rest(post, reason, WitnessDisagrees)
            if status != HTTPStatus.OK:
                raise self.rest(post, f"{status} {text[:200]}")
            line = _find_line(text, post.key, signed)
        except NoteInvalid as error:
            raise self.rest(post, str(error)) from error
        post.known_size, post.failures = signed.checkpoint.size, 0
        return line


def _find_line(text: str, key: VerifierKey, signed: SignedCheckpoint) -> str:
    """Return the line of an answer that is this witness's cosignature of this checkpoint."""
    for line in text.splitlines(keepends=True):
        try:
            if find_cosignature(parse_checkpoint(f"{signed.body}\n{line}"), key) is not None:
                return line
        except NoteInvalid:
            # Cosignatures of keys that we do not know are to be passed over.
            continue
    message = "its answer holds no cosignature of its key over this checkpoint"
    raise NoteInvalid(message)


def make_witnesses(setting: str | None, quorum: int) -> Witnesses:
    """Read `<verifier key> <url>` entries, separated by commas.

    Raises:
        NoteInvalid: an entry cannot be read, or there are fewer witnesses than the quorum.
    """
    entries = [entry.split() for entry in (setting or "").split(",") if entry.strip()]
    if any(len(entry) != 2 or "://" not in entry[1] for entry in entries):  # noqa: PLR2004 - key, url
        message = "witnesses are '<verifier key> <url>', separated by commas"
        raise NoteInvalid(message)
    policy = make_policy([entry[0] for entry in entries], quorum)
    posts = [
        WitnessPost(key, entry[1].rstrip("/"))
        for key, entry in zip(policy.keys, entries, strict=True)
    ]
    return Witnesses(tuple(posts), policy)
