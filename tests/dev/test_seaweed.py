"""The embedded S3: versions, object lock, and everything still there after a kill."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiobotocore.session import get_session
from types_aiobotocore_s3 import S3Client

from ingest_service.dev.seaweed import EmbeddedSeaweed

pytestmark = pytest.mark.s3


@asynccontextmanager
async def open_client(server: EmbeddedSeaweed) -> AsyncIterator[S3Client]:
    async with get_session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
    ) as client:
        yield client


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[EmbeddedSeaweed]:
    server = EmbeddedSeaweed(tmp_path / "seaweed here")
    server.start()
    yield server
    server.kill()


async def test_bucket_keeps_versions_and_can_lock_objects(seaweed: EmbeddedSeaweed) -> None:
    async with open_client(seaweed) as client:
        versioning = await client.get_bucket_versioning(Bucket=seaweed.bucket)
        lock = await client.get_object_lock_configuration(Bucket=seaweed.bucket)

    assert versioning.get("Status") == "Enabled"
    assert lock["ObjectLockConfiguration"].get("ObjectLockEnabled") == "Enabled"


async def test_start_leaves_no_object_behind(own_server: EmbeddedSeaweed) -> None:
    async with open_client(own_server) as client:
        listed = await client.list_object_versions(Bucket=own_server.bucket)

    assert (listed.get("Versions"), listed.get("DeleteMarkers")) == (None, None)


async def test_object_survives_a_kill_at_the_same_address(own_server: EmbeddedSeaweed) -> None:
    address = own_server.endpoint
    async with open_client(own_server) as client:
        await client.put_object(Bucket=own_server.bucket, Key="clip", Body=b"evidence")

    own_server.kill()
    own_server.start()
    async with open_client(own_server) as client:
        answer = await client.get_object(Bucket=own_server.bucket, Key="clip")
        content = await answer["Body"].read()

    assert (own_server.endpoint, content) == (address, b"evidence")


def test_end_leaves_no_socket_in_the_temporary_folder(own_server: EmbeddedSeaweed) -> None:
    ports = set(own_server._ports.values())

    own_server.stop()

    left = [path.name for path in Path("/tmp").glob("seaweedfs-*.sock")]  # noqa: S108 - weed's choice
    assert [name for name in left if any(f"-{port}." in name for port in ports)] == []
