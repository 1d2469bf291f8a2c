"""The stores that every server of a comparison writes to, and what is found there afterwards."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import botocore.session
from botocore.config import Config

from loadtest.footage import STAMP_BYTES
from loadtest.peers.workload import File

REGION: Final = "us-east-1"
_READERS: Final = 4
_BLOCK_BYTES: Final = 1024 * 1024


class WrongBytes(Exception):
    """What was acknowledged is not what is stored."""


@dataclass(slots=True)
class S3Store:
    """One S3 endpoint.

    keeps_bytes  the null S3 keeps lengths and first bytes only: no more can be verified there
    pids         processes of the store
    """

    name: str
    endpoint: str
    access_key: str
    secret_key: str
    keeps_bytes: bool
    pids: dict[str, int]
    _seen: dict[str, set[str]] = field(default_factory=dict)

    def environment(self, bucket: str) -> dict[str, str]:
        """Return what a server needs to know to write to a bucket."""
        return {
            "S3_ENDPOINT": self.endpoint,
            "S3_BUCKET": bucket,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def make_bucket(self, bucket: str) -> None:
        """Make a plain bucket: no versions, no lock."""
        self._client().create_bucket(Bucket=bucket)

    def note(self, bucket: str) -> None:
        """Note what lies in a bucket now: `verify` looks at what came after."""
        self._seen[bucket] = {key for key, _ in self._list(bucket)}

    def verify(self, bucket: str, files: Sequence[File]) -> None:
        """Check that each file is stored, byte for byte where the store keeps bytes.

        Objects of other sizes are the server's own records and are left aside.

        Raises:
            WrongBytes: a file is missing, or other bytes are stored.
        """
        size_bytes = files[0].size_bytes
        seen = self._seen.get(bucket, set())
        keys = [
            key for key, length in self._list(bucket) if length == size_bytes and key not in seen
        ]
        expected = Counter(
            file.sha256_hex() if self.keeps_bytes else file.stamp.hex() for file in files
        )
        client = self._client()
        with ThreadPoolExecutor(_READERS) as pool:
            stored = Counter(pool.map(lambda key: self._identify(client, bucket, key), keys))
        missing = sum((expected - stored).values())
        if missing:
            message = f"{missing} of {len(files)} files are not stored as they were sent"
            raise WrongBytes(message)

    def _identify(self, client: Any, bucket: str, key: str) -> str:  # noqa: ANN401 - made at runtime
        if not self.keeps_bytes:
            asked = {"Range": f"bytes=0-{STAMP_BYTES - 1}"}
            stamp: bytes = client.get_object(Bucket=bucket, Key=key, **asked)["Body"].read()
            return stamp.hex()
        digest = hashlib.sha256()
        body = client.get_object(Bucket=bucket, Key=key)["Body"]
        while block := body.read(_BLOCK_BYTES):
            digest.update(block)
        return digest.hexdigest()

    def _list(self, bucket: str) -> list[tuple[str, int]]:
        pages = self._client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [(item["Key"], item["Size"]) for page in pages for item in page.get("Contents", [])]

    def _client(self) -> Any:  # noqa: ANN401 - botocore makes its classes at runtime
        return botocore.session.get_session().create_client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(
                max_pool_connections=_READERS,
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path"},
            ),
        )
