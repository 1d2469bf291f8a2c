"""The public keys that service tokens are checked against: a JSON Web Key Set, kept fresh."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import structlog

from ingest_service import telemetry
from ingest_service.domain.token import VerifyingKey, import_verifying_key
from ingest_service.errors import InvalidRequest

# A file is looked at this often; a key set on the web is fetched anew this often, so that a key
# that was taken out of it stops being good.
FILE_CHECK_S: Final = 1.0
FETCH_AFTER_S: Final = 300.0
# An unknown key id may be a new key, or anybody's invention: it may not make us fetch all day.
FETCH_PAUSE_S: Final = 30.0
FETCH_TIMEOUT_S: Final = 5.0
BYTES_MAX: Final = 1024 * 1024

_LOG: Final = structlog.get_logger("ingest.keyring")
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class KeyRingUnusable(ValueError):
    """The key set cannot be used; the message says why. Nothing started."""


@dataclass(slots=True)
class KeyRing:
    """Keys by their `kid`, re-read when the source changes. A failing refresh keeps the old keys.

    Concurrency: any number of tasks of one event loop.
    """

    source: str | None
    monotonic: Callable[[], float] = time.monotonic
    _keys: Mapping[str, VerifyingKey] = field(default_factory=dict)
    _checked_at: float = float("-inf")
    _file_state: tuple[int, ...] = ()
    _refreshing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def key_count(self) -> int:
        """How many keys are known now."""
        return len(self._keys)

    async def find_key(self, key_id: str) -> VerifyingKey | None:
        """Return the key of this `kid`; None when it is not in the set (any more)."""
        if self.source is None:
            return None
        is_refreshing = self._refreshing.locked()
        # Those who know their key go on with it while another asks; a new key waits for the answer.
        if self._is_due(key_id) and not (is_refreshing and key_id in self._keys):
            async with self._refreshing:
                # Whoever waited here finds the work done.
                if self._is_due(key_id):
                    await self._refresh(self.source)
        return self._keys.get(key_id)

    def load_file(self, path: Path) -> None:
        """Read the key set from a file, if it changed since the last time.

        Raises:
            KeyRingUnusable: no such file, or no key set; the old keys stay.
        """
        try:
            stat = path.stat()
            state = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if state == self._file_state:
                return
            content = path.read_bytes()[: BYTES_MAX + 1]
        except OSError as error:
            message = f"cannot read the key set {path}: {error.strerror}"
            raise KeyRingUnusable(message) from error
        self._keys = parse_key_set(content)
        self._file_state = state

    def _is_due(self, key_id: str) -> bool:
        age_s = self.monotonic() - self._checked_at
        if not _is_url(self.source or ""):
            return age_s >= FILE_CHECK_S
        return age_s >= (FETCH_AFTER_S if key_id in self._keys else FETCH_PAUSE_S)

    async def _refresh(self, source: str) -> None:
        try:
            if _is_url(source):
                self._keys = parse_key_set(await _fetch(source))
            else:
                self.load_file(Path(source))
        except KeyRingUnusable as error:
            telemetry.KEYRING_REFRESHES.labels("failed").inc()
            _LOG.warning("keyring_refresh_failed", reason=str(error), keys_kept=self.key_count)
        else:
            telemetry.KEYRING_REFRESHES.labels("done").inc()
        finally:
            self._checked_at = self.monotonic()


def open_keyring(source: str | None) -> KeyRing:
    """Open the key set of a file path or an https URL; None: no service token is accepted.

    A file is read now, so that a wrong path stops the start. A URL is fetched with the first
    token: stations bring in footage also while the identity provider is away.

    Raises:
        KeyRingUnusable: the file is not there or no key set, or the URL is not https.
    """
    keyring = KeyRing(source)
    if source is None:
        return keyring
    if _is_url(source):
        url = urlsplit(source)
        if url.scheme != "https" and url.hostname not in _LOOPBACK:
            message = f"the key set must come by https, not from {url.scheme}://{url.hostname}"
            raise KeyRingUnusable(message)
    else:
        keyring.load_file(Path(source))
    return keyring


def parse_key_set(content: bytes) -> dict[str, VerifyingKey]:
    """Return the signing keys of a JSON Web Key Set (RFC 7517, section 5) by their `kid`.

    Keys of kinds that are not taken are left out, as the RFC asks; a key without `kid` goes by
    its thumbprint.

    Raises:
        KeyRingUnusable: this is no key set.
    """
    try:
        document = json.loads(content) if len(content) <= BYTES_MAX else None
    except (ValueError, RecursionError):
        document = None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        message = "the key set is not a JSON object with a member 'keys'"
        raise KeyRingUnusable(message)
    keys: dict[str, VerifyingKey] = {}
    for entry in entries:
        key = _import_entry(entry)
        if key is not None:
            key_id = entry.get("kid")
            keys.setdefault(key_id if isinstance(key_id, str) else key.key_id, key)
    return keys


def _import_entry(entry: Any) -> VerifyingKey | None:  # noqa: ANN401 - anything JSON can hold
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return None
    try:
        return import_verifying_key(entry)
    except InvalidRequest:
        return None


async def _fetch(url: str) -> bytes:
    content = bytearray()
    try:
        async with (
            asyncio.timeout(FETCH_TIMEOUT_S),
            httpx.AsyncClient(timeout=FETCH_TIMEOUT_S) as client,
            client.stream("GET", url, headers={"Accept": "application/json"}) as response,
        ):
            response.raise_for_status()
            async for block in response.aiter_bytes():
                content += block
                if len(content) > BYTES_MAX:
                    break
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
        message = f"cannot fetch the key set: {type(error).__name__}"
        raise KeyRingUnusable(message) from error
    return bytes(content)


def _is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))
