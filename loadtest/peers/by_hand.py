"""What people write by hand: read the body, hash it, put it; no resume, metadata or custody.

`uvicorn loadtest.peers.by_hand:app`; the store comes from S3_ENDPOINT, S3_BUCKET, AWS_*.
"""

import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from fastapi import FastAPI, Request

_opened: dict[str, Any] = {}


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Keep one S3 client open."""
    config = AioConfig(
        max_pool_connections=64,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"},
    )
    session = get_session()
    async with session.create_client(
        "s3", endpoint_url=os.environ["S3_ENDPOINT"], config=config
    ) as client:
        _opened["s3"] = client
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/files/{name}", status_code=201)
async def post_file(name: str, request: Request) -> dict[str, str]:
    """Store one file."""
    body = await request.body()
    sha256_hex = hashlib.sha256(body).hexdigest()
    await _opened["s3"].put_object(Bucket=os.environ["S3_BUCKET"], Key=name, Body=body)
    return {"sha256": sha256_hex}
