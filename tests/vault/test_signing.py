"""Our signature against botocore's, which shares no code with it."""

from datetime import UTC, datetime
from unittest.mock import patch
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from ingest_service.vault.signing import RequestSigner

SECRET = "secret/+"  # noqa: S105 - of nothing
NOW = datetime(2026, 11, 21, 23, 59, 59, tzinfo=UTC)
LATER = datetime(2026, 11, 22, 0, 0, 1, tzinfo=UTC)


def sign_by_botocore(method: str, url: str, headers: dict[str, str], now: datetime) -> str:
    request = AWSRequest(method=method, url=url, headers=headers)
    request.context["payload_signing_enabled"] = False
    request.context["client_config"] = None
    with (
        patch("botocore.auth.get_current_datetime", return_value=now.replace(tzinfo=None)),
        patch.object(S3SigV4Auth, "payload", return_value="UNSIGNED-PAYLOAD"),
    ):
        S3SigV4Auth(Credentials("key", SECRET), "s3", "eu-west-2").add_auth(request)
    return str(request.headers["Authorization"])


@pytest.mark.parametrize("now", [NOW, LATER])
@pytest.mark.parametrize(
    ("method", "key", "query", "headers"),
    [
        ("PUT", "clips/abc", "", {"x-amz-checksum-sha256": "n4bQgYhMfWWaL+qgxVrQFaO/Txsr="}),
        ("PUT", "clips/abc", "partNumber=7&uploadId=a_b-c.d~e%2Bf", {}),
        ("GET", "ä b+c~(1)'.mp4", "versionId=null", {"range": "bytes=0-9", "if-match": '"e"'}),
    ],
)
def test_signature_is_the_one_that_botocore_makes(
    method: str, key: str, query: str, headers: dict[str, str], now: datetime
) -> None:
    path = "/evidence/" + quote(key, safe="/-_.~")
    url = f"https://store.example:8333{path}" + (f"?{query}" if query else "")
    signer = RequestSigner(access_key="key", secret_key=SECRET, region="eu-west-2")
    signer.sign(method="GET", path="/", query="", headers={"host": "another"}, now=NOW)

    ours = signer.sign(
        method=method,
        path=path,
        query=query,
        headers={**headers, "host": "store.example:8333"},
        now=now,
    )

    assert ours["authorization"] == sign_by_botocore(method, url, headers, now)
