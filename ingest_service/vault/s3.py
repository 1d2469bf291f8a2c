"""Evidence bytes in S3-compatible storage: the only room that speaks S3.

The hot requests (PUT of objects and parts, GET) go by `connections`, signed by `signing`; all
others by aiobotocore. The errors of both end here.
"""

import asyncio
import base64
import hashlib
import random
import re
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal, NotRequired, TypedDict, TypeVar
from urllib.parse import quote, urlsplit

import structlog
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import ClientError

from ingest_service import telemetry
from ingest_service.domain.breaker import HOLDS_BYTES, Breaker
from ingest_service.domain.retention import LockMode
from ingest_service.errors import (
    ChunkCorrupted,
    ObjectLocked,
    StoredBytesLost,
    VaultFull,
    VaultUnavailable,
)
from ingest_service.vault import Body, OpenedMultipart, StoreAbilities, StoredObject, StoredPart
from ingest_service.vault.connections import StoreConnections
from ingest_service.vault.failures import KeyTaken, StoreFailed, status_of, translating
from ingest_service.vault.hot import HotRequests, Reading
from ingest_service.vault.signing import RequestSigner

if TYPE_CHECKING:  # stubs of the develop extra: not installed where the service runs
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import CompletedPartTypeDef

ChecksSha256 = Literal["probe", "yes", "no"]
_Answer = TypeVar("_Answer")

# Waits between tries: doubled each time, and any part of it, so that a herd does not march in step.
FIRST_WAIT_S: Final = 0.2
LONGEST_WAIT_S: Final = 5.0
PROBE_AGAIN_AFTER_S: Final = 10.0
_STATUS_ABSENT: Final = frozenset({404, 405})
# What a store says that will not delete a version, however often it is asked.
_REFUSED: Final = "403 "
# No configuration, or not a thing that this store knows of.
_STATUS_NO_LOCK: Final = frozenset({400, 404, 405, 501})
# Goes with every multipart upload, and so with the object that it becomes.
_MARK: Final = {"ingest-made-by": "multipart"}
_PLAIN_MD5: Final = re.compile(r"[0-9a-f]{32}")
# Whatever the store thinks of a request: it is there.
_ANSWERED: Final = (VaultFull, StoredBytesLost, ObjectLocked)
_NOT_ASKED: Final = "not asked: it did not answer the last ones"
_NOT_ASKED_COUNT: Final = telemetry.BREAKER_REFUSED.labels("vault")

_logger = structlog.get_logger("vault")


class _ObjectName(TypedDict):
    Bucket: str
    Key: str
    VersionId: NotRequired[str]


@dataclass(frozen=True, slots=True)
class _BytesBody:
    data: bytes
    sha256: bytes | None = None
    may_replay: bool = True

    @property
    def length_bytes(self) -> int:
        return len(self.data)

    async def blocks(self) -> AsyncIterator[bytes]:
        yield self.data


class S3Vault:
    """The Vault on S3; see `Vault` for what it promises."""

    def __init__(
        self,
        *,
        client: "S3Client",
        hot: HotRequests,
        bucket: str,
        checks_sha256: ChecksSha256,
        attempts: int,
        breaker: Breaker,
    ) -> None:
        self._client = client
        self._breaker = breaker
        self._hot = hot
        self._bucket = bucket
        self._attempts = attempts
        # None: not known yet, the store did not answer when it was asked.
        self._checks = {"probe": None, "yes": True, "no": False}[checks_sha256]
        self._probe_after = 0.0
        self._abilities: StoreAbilities | None = None

    @property
    def bucket(self) -> str:
        """Name of the bucket."""
        return self._bucket

    @property
    def checks_sha256(self) -> bool:
        """Whether the store refuses bytes that differ from `body.sha256`."""
        return self._checks is True

    # --- writes ------------------------------------------------------------------------

    async def put_object(self, key: str, body: Body) -> StoredObject:
        """Store one object; see `Vault.put_object`."""
        was_tried = False

        async def send() -> StoredObject:
            nonlocal was_tried
            was_retried, was_tried = was_tried, True
            headers = await self._put(key, "", body)
            version = headers.get("x-amz-version-id")
            return StoredObject(_read_etag(headers), version, body.length_bytes, was_retried)

        stored = await self._retrying(send, lambda: body.may_replay)
        await self._probe_if_unknown()
        return stored

    async def put_new(self, key: str, data: bytes) -> StoredObject | None:
        """Store a small object under a free key; see `Vault.put_new`."""
        body = _BytesBody(data, hashlib.sha256(data).digest())

        async def send() -> StoredObject | None:
            try:
                headers = await self._put(key, "", body, only_new=True)
            except KeyTaken:
                return None
            return StoredObject(
                _read_etag(headers), headers.get("x-amz-version-id"), body.length_bytes
            )

        return await self._retrying(send)

    async def find_first_key(self, prefix: str, *, after: str = "") -> str | None:
        """Return the first key under a prefix; see `Vault.find_first_key`."""

        async def send() -> str | None:
            with translating("list_objects_v2"):
                answer = await self._client.list_objects_v2(
                    Bucket=self._bucket, Prefix=prefix, StartAfter=after, MaxKeys=1
                )
            found = answer.get("Contents", ())
            return found[0]["Key"] if found else None

        return await self._retrying(send)

    async def list_keys(self, prefix: str, *, after: str = "") -> AsyncIterator[str]:
        """Yield the keys under a prefix; see `Vault.list_keys`."""

        async def send() -> list[str]:
            with translating("list_objects_v2"):
                answer = await self._client.list_objects_v2(
                    Bucket=self._bucket, Prefix=prefix, StartAfter=after
                )
            return [entry["Key"] for entry in answer.get("Contents", ())]

        # Every page starts after the last key seen: nothing to hold on to if the store restarts.
        while page := await self._retrying(send):
            for key in page:
                yield key
            after = page[-1]

    async def open_multipart(self, key: str, *, with_sha256: bool = False) -> OpenedMultipart:
        """Open a multipart upload; see `Vault.open_multipart`."""
        await self._probe_if_unknown()
        was_tried = False

        async def send() -> OpenedMultipart:
            nonlocal was_tried
            was_retried, was_tried = was_tried, True
            with translating("create_multipart_upload"):
                if with_sha256 and self._checks is not False:
                    answer = await self._client.create_multipart_upload(
                        Bucket=self._bucket, Key=key, Metadata=_MARK, ChecksumAlgorithm="SHA256"
                    )
                else:
                    answer = await self._client.create_multipart_upload(
                        Bucket=self._bucket, Key=key, Metadata=_MARK
                    )
            return OpenedMultipart(answer["UploadId"], was_retried)

        # A lost answer leaves an upload that nobody knows: told, and `sweep` removes it.
        return await self._retrying(send)

    async def put_part(
        self, key: str, multipart_id: str, part_number: int, body: Body
    ) -> StoredPart:
        """Store one part; see `Vault.put_part`."""
        query = f"partNumber={part_number}&uploadId={quote(multipart_id, safe='-_.~')}"

        async def send() -> StoredPart:
            headers = await self._put(key, query, body)
            return StoredPart(part_number, _read_etag(headers), body.sha256)

        return await self._retrying(send, lambda: body.may_replay)

    async def complete_multipart(
        self, key: str, multipart_id: str, parts: Sequence[StoredPart]
    ) -> StoredObject:
        """Join the parts; see `Vault.complete_multipart`."""
        listed = [self._list_part(part) for part in parts]

        async def send() -> StoredObject:
            with translating("complete_multipart_upload"):
                answer = await self._client.complete_multipart_upload(
                    Bucket=self._bucket,
                    Key=key,
                    UploadId=multipart_id,
                    MultipartUpload={"Parts": listed},
                )
            etag = answer.get("ETag", "").strip('"')
            if not etag:
                message = "the store completed the upload without an ETag"
                raise StoreFailed(message)
            return StoredObject(etag, answer.get("VersionId"))

        try:
            return await self._retrying(send)
        except StoredBytesLost:
            # The answer of an earlier try may have been lost; then the object is there.
            found = await self._find_joined(key, parts)
            if found is None:
                raise
            return found

    async def _find_joined(self, key: str, parts: Sequence[StoredPart]) -> StoredObject | None:
        """Return the object under a key if it was joined from a multipart upload of ours.

        Its tag tells where tags are made of MD5. Where the store encrypts with its own keys they
        are not, even if they look so; there our mark tells, which came with the opening. Keys are
        not shared, so nobody else joins under one.
        """

        async def send() -> tuple[StoredObject, Mapping[str, str]] | None:
            with translating("head_object"):
                try:
                    answer = await self._client.head_object(Bucket=self._bucket, Key=key)
                except ClientError as error:
                    if status_of(error) in _STATUS_ABSENT:
                        return None
                    raise
            etag = answer["ETag"].strip('"')
            found = StoredObject(etag, answer.get("VersionId"), answer["ContentLength"])
            return found, answer["Metadata"]

        answer = await self._retrying(send)
        if answer is None:
            return None
        found, metadata = answer
        is_marked = _MARK.items() <= metadata.items()
        return found if is_marked or found.etag == make_composite_etag(parts) else None

    def _list_part(self, part: StoredPart) -> "CompletedPartTypeDef":
        listed: CompletedPartTypeDef = {"PartNumber": part.number, "ETag": f'"{part.etag}"'}
        if part.sha256 is not None and self._checks is not False:
            listed["ChecksumSHA256"] = base64.b64encode(part.sha256).decode()
        return listed

    async def abort_multipart(self, key: str, multipart_id: str) -> None:
        """Forget a multipart upload; see `Vault.abort_multipart`."""

        async def send() -> None:
            with translating("abort_multipart_upload"):
                await self._client.abort_multipart_upload(
                    Bucket=self._bucket, Key=key, UploadId=multipart_id
                )

        try:
            await self._retrying(send)
        except StoredBytesLost:
            return

    async def delete(self, key: str, version: str | None) -> None:
        """Delete one version; see `Vault.delete`."""

        async def send() -> None:
            try:
                with translating("delete_object"):
                    await self._client.delete_object(**self._name(key, version))
            except StoreFailed as error:
                if error.reason.startswith(_REFUSED):
                    raise ObjectLocked(error.reason) from error
                raise

        try:
            await self._retrying(send)
        except StoredBytesLost:
            return

    async def sweep(
        self,
        prefix: str,
        *,
        keep_key: str | None,
        keep_version: str | None = None,
        keep_multipart_id: str | None = None,
    ) -> int:
        """Delete leftovers under a prefix; see `Vault.sweep`."""
        removed_count = 0
        for key, multipart_id in await self._retrying(lambda: self._list_uploads(prefix)):
            if multipart_id != keep_multipart_id:
                await self.abort_multipart(key, multipart_id)
                removed_count += 1
        for key, version in await self._retrying(lambda: self._list_versions(prefix)):
            if key != keep_key or (keep_version is not None and version != keep_version):
                await self.delete(key, version)
                removed_count += 1
        return removed_count

    async def _list_uploads(self, prefix: str) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        with translating("list_multipart_uploads"):
            pages = self._client.get_paginator("list_multipart_uploads")
            async for page in pages.paginate(Bucket=self._bucket, Prefix=prefix):
                found += [(entry["Key"], entry["UploadId"]) for entry in page.get("Uploads", ())]
        return found

    async def _list_versions(self, prefix: str) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        with translating("list_object_versions"):
            pages = self._client.get_paginator("list_object_versions")
            async for page in pages.paginate(Bucket=self._bucket, Prefix=prefix):
                found += [(entry["Key"], entry["VersionId"]) for entry in page.get("Versions", ())]
                found += [
                    (entry["Key"], entry["VersionId"]) for entry in page.get("DeleteMarkers", ())
                ]
        return found

    # --- reads -------------------------------------------------------------------------

    async def get_facts(self, key: str, version: str | None) -> StoredObject | None:
        """Return size, tag and version; see `Vault.get_facts`."""

        async def send() -> StoredObject | None:
            with translating("head_object"):
                try:
                    answer = await self._client.head_object(**self._name(key, version))
                except ClientError as error:
                    # A HEAD has no body, so there is no code to go by; 405 is a delete marker.
                    if status_of(error) in _STATUS_ABSENT:
                        return None
                    raise
            etag = answer["ETag"].strip('"')
            return StoredObject(etag, answer.get("VersionId"), answer["ContentLength"])

        return await self._retrying(send)

    async def read(
        self, key: str, version: str | None, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[bytes]:
        """Yield the stored bytes; see `Vault.read`.

        A broken download goes on where it broke, on the very same content (If-Match). `attempts`
        counts tries without a new byte.
        """
        if stop is not None and stop <= start:
            return
        query = "" if version is None else f"versionId={quote(version, safe='-_.~')}"
        reading = Reading(start, stop)
        failed_count = 0
        while not reading.is_done:
            before = reading.offset
            try:
                with self._asking():
                    async with aclosing(self._hot.get(key, query, reading)) as blocks:
                        async for block in blocks:
                            # Said now: a slow reader may take long to come to the end.
                            self._breaker.succeed()
                            yield block
            except StoreFailed as error:
                failed_count = 1 if reading.offset > before else failed_count + 1
                if failed_count >= self._attempts or not error.may_pass:
                    raise VaultUnavailable(error.reason) from error
                await _wait_before_try(failed_count)

    # --- locks -------------------------------------------------------------------------

    async def find_abilities(self) -> StoreAbilities:
        """Return what the bucket can do; see `Vault.find_abilities`."""
        if self._abilities is None:
            found = StoreAbilities(await self._ask_versions(), await self._ask_lock())
            if found.has_versions is None or found.has_object_lock is None:
                return found
            self._abilities = found
            _logger.info(
                "vault_abilities",
                bucket=self._bucket,
                has_versions=found.has_versions,
                has_object_lock=found.has_object_lock,
            )
        return self._abilities

    async def _ask_versions(self) -> bool | None:
        async def send() -> bool:
            with translating("get_bucket_versioning"):
                answer = await self._client.get_bucket_versioning(Bucket=self._bucket)
            return answer.get("Status") == "Enabled"

        return await self._ask(send)

    async def _ask_lock(self) -> bool | None:
        async def send() -> bool:
            with translating("get_object_lock_configuration"):
                try:
                    answer = await self._client.get_object_lock_configuration(Bucket=self._bucket)
                except ClientError as error:
                    if status_of(error) in _STATUS_NO_LOCK:
                        return False
                    raise
            told = answer.get("ObjectLockConfiguration", {})
            return told.get("ObjectLockEnabled") == "Enabled"

        return await self._ask(send)

    async def _ask(self, send: Callable[[], Awaitable[bool]]) -> bool | None:
        try:
            return await self._retrying(send, lambda: False)
        except (VaultUnavailable, VaultFull, StoredBytesLost) as error:
            _logger.warning("vault_abilities_unknown", bucket=self._bucket, reason=str(error))
            return None

    async def retain(
        self, key: str, version: str | None, *, until: datetime, mode: LockMode
    ) -> None:
        """Lock a version; see `Vault.retain`."""

        async def send() -> None:
            with translating("put_object_retention"):
                await self._client.put_object_retention(
                    **self._name(key, version),
                    Retention={
                        "Mode": "COMPLIANCE" if mode == "compliance" else "GOVERNANCE",
                        "RetainUntilDate": until,
                    },
                )

        await self._retrying(send)

    async def set_legal_hold(self, key: str, version: str | None, *, is_on: bool) -> None:
        """Hold a version, or let it go; see `Vault.set_legal_hold`."""

        async def send() -> None:
            with translating("put_object_legal_hold"):
                await self._client.put_object_legal_hold(
                    **self._name(key, version), LegalHold={"Status": "ON" if is_on else "OFF"}
                )

        await self._retrying(send)

    async def check(self) -> None:
        """Return when the bucket answers; see `Vault.check`."""

        async def send() -> None:
            with translating("head_bucket"):
                await self._client.head_bucket(Bucket=self._bucket)

        try:
            # Who checks wants to see for himself; and if it is back, all others know it then.
            await self._retrying(send, lambda: False, is_urgent=True)
        except StoredBytesLost as error:
            raise VaultUnavailable(error.reason) from error
        await self._probe_if_unknown()

    # --- whether the store checks digests ----------------------------------------------

    async def _probe_if_unknown(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._checks is None and now >= self._probe_after:
            self._probe_after = now + PROBE_AGAIN_AFTER_S
            await self.probe()

    async def probe(self) -> None:
        """Ask the store whether it refuses a wrong x-amz-checksum-sha256, with a tiny object."""
        key = f"probe/{secrets.token_hex(16)}"
        try:
            headers = await self._put(key, "", _BytesBody(b"probe", sha256=bytes(32)))
        except ChunkCorrupted:
            self._checks = True
        except (StoreFailed, VaultFull, StoredBytesLost) as error:
            _logger.warning("vault_checksum_probe_failed", bucket=self._bucket, reason=str(error))
            return
        else:
            self._checks = False
            with suppress(VaultUnavailable):
                await self.delete(key, headers.get("x-amz-version-id"))
        _logger.info("vault_checksum_probed", bucket=self._bucket, checks_sha256=self._checks)

    def _name(self, key: str, version: str | None) -> _ObjectName:
        name: _ObjectName = {"Bucket": self._bucket, "Key": key}
        if version is not None:
            name["VersionId"] = version
        return name

    async def _put(
        self, key: str, query: str, body: Body, *, only_new: bool = False
    ) -> Mapping[str, str]:
        return await self._hot.put(
            key, query, body, with_sha256=self._checks is not False, only_new=only_new
        )

    @contextmanager
    def _asking(self, *, is_urgent: bool = False) -> Iterator[None]:
        """Let one try through to the store, and tell the breaker how it ended.

        Raises:
            VaultUnavailable: the store is known to be away; it was not asked. An urgent try looks
                for itself, and so does one that has bytes of a dock.
        """
        breaker = self._breaker
        is_probe = False
        if not (breaker.is_closed or is_urgent or HOLDS_BYTES.get()):
            is_probe = breaker.try_probe()
            if not is_probe:
                _NOT_ASKED_COUNT.inc()
                raise VaultUnavailable(_NOT_ASKED)
        try:
            yield
        except StoreFailed as error:
            if error.may_pass:
                breaker.fail(was_probe=is_probe)
            else:
                breaker.leave(was_probe=is_probe)
            raise
        except _ANSWERED:
            breaker.succeed()
            raise
        except BaseException:
            # The dock went away, or sent other bytes than it said.
            breaker.leave(was_probe=is_probe)
            raise
        breaker.succeed()

    async def _retrying(
        self,
        send: Callable[[], Awaitable[_Answer]],
        may_replay: Callable[[], bool] | None = None,
        *,
        is_urgent: bool = False,
    ) -> _Answer:
        """Try until it works, while trying again can help; then VaultUnavailable."""
        for failed_count in range(1, self._attempts + 1):
            try:
                with self._asking(is_urgent=is_urgent):
                    return await send()
            except StoreFailed as error:
                is_last = failed_count == self._attempts or not error.may_pass
                if is_last or (may_replay is not None and not may_replay()):
                    raise VaultUnavailable(error.reason) from error
            await _wait_before_try(failed_count)
        raise AssertionError  # attempts is at least 1


def make_composite_etag(parts: Sequence[StoredPart]) -> str | None:
    """Return the tag that S3 gives an object of these parts; None when it cannot be known.

    The tags of parts are their MD5 unless the store encrypts with its own keys.
    """
    if not parts or not all(_PLAIN_MD5.fullmatch(part.etag) for part in parts):
        return None
    joined = b"".join(bytes.fromhex(part.etag) for part in parts)
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(parts)}"


def _read_etag(headers: Mapping[str, str]) -> str:
    return headers["etag"].strip('"')


async def _wait_before_try(failed_count: int) -> None:
    longest_s = min(FIRST_WAIT_S * 2**failed_count, LONGEST_WAIT_S)
    await asyncio.sleep(random.uniform(longest_s / 4, longest_s))  # noqa: S311 - jitter, no secret


@asynccontextmanager
async def open_s3_vault(
    *,
    endpoint: str,
    region: str,
    bucket: str,
    access_key: str,
    secret_key: str,
    checks_sha256: ChecksSha256,
    connections_max: int,
    timeout_s: float,
    attempts: int,
    breaker: Breaker | None = None,
) -> AsyncIterator[S3Vault]:
    """Open the vault; a store that does not answer yet is no reason to fail.

    `timeout_s` is the longest silence of the store, not the length of a request. With
    `checks_sha256` 'probe' the store is asked now, or at a later call if it does not answer;
    'no' also leaves the checksum header out, for stores that refuse it. Without a breaker every
    request looks for itself whether the store is there.
    """
    url = urlsplit(endpoint)
    if url.scheme not in {"http", "https"} or not url.hostname:
        message = f"the S3 endpoint is a URL such as http://127.0.0.1:8333, not {endpoint!r}"
        raise ValueError(message)
    is_tls = url.scheme == "https"
    connections = StoreConnections(
        host=url.hostname,
        port=url.port or (443 if is_tls else 80),
        tls=ssl.create_default_context() if is_tls else None,
        connections_max=connections_max,
        timeout_s=timeout_s,
    )
    signer = RequestSigner(access_key=access_key, secret_key=secret_key, region=region)
    hot = HotRequests(connections=connections, signer=signer, endpoint=endpoint, bucket=bucket)
    config = AioConfig(
        # The default CRC trailers of newer SDKs break S3-compatible stores.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"},
        signature_version="s3v4",
        # One place decides on tries: S3Vault.
        retries={"total_max_attempts": 1},
        connect_timeout=timeout_s,
        read_timeout=timeout_s,
        max_pool_connections=connections_max,
    )
    # Both ends trust the same authorities (SSL_CERT_FILE), not botocore's own bundle.
    authorities = ssl.get_default_verify_paths().cafile
    async with get_session().create_client(
        "s3",
        region_name=region,
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=config,
        verify=authorities or True,
    ) as client:
        vault = S3Vault(
            client=client,
            hot=hot,
            bucket=bucket,
            checks_sha256=checks_sha256,
            attempts=attempts,
            breaker=breaker or Breaker(),
        )
        try:
            if checks_sha256 == "probe":
                await vault.probe()
            with telemetry.sampled(connections.sample):
                yield vault
        finally:
            connections.close()
