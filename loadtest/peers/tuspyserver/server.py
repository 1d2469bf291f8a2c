"""tuspyserver with its S3 storage, as its README sets it up.

Runs in a venv of its own: `uvicorn server:app`; the store comes from S3_ENDPOINT, S3_BUCKET, AWS_*.
"""

import os

import boto3  # type: ignore[import-not-found]  # only in that venv
from botocore.config import Config
from fastapi import FastAPI
from tuspyserver import (  # type: ignore[import-not-found]  # only in that venv
    create_tus_router,
)
from tuspyserver.storage.s3 import (  # type: ignore[import-not-found]  # only in that venv
    S3Storage,
)

# Its default pool of 10 connections would hold 16 uploads at once back.
client = boto3.client(
    "s3",
    endpoint_url=os.environ["S3_ENDPOINT"],
    config=Config(
        max_pool_connections=64,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"},
    ),
)
storage = S3Storage(
    bucket=os.environ["S3_BUCKET"],
    client=client,
    prefix="tus/",
    part_size=int(os.environ["PART_BYTES"]),
)
app = FastAPI()
app.include_router(create_tus_router(prefix="files", storage=storage))
