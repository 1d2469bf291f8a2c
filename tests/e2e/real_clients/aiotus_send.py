"""aiotus, told by a JSON object in its first argument; see the tests that run it."""

import asyncio
import io
import json
import sys
from pathlib import Path

import aiohttp
import aiotus
from aiotus.core import upload_buffer
from yarl import URL

CHUNK_BYTES = 64 * 1024 * 1024


async def send(order, content):
    headers = {"Authorization": f"Bearer {order['token']}"}
    metadata = {name: value.encode() for name, value in order["metadata"].items()}
    chunk_bytes = order.get("chunk_bytes") or CHUNK_BYTES
    if order.get("upload_url"):
        async with aiohttp.ClientSession() as session:
            buffer = io.BytesIO(content)
            url = URL(order["upload_url"])
            await upload_buffer(session, url, buffer, chunksize=chunk_bytes, headers=headers)
        return True
    if count := order.get("parallel"):
        step = -(-len(content) // count)
        pieces = [content[start : start + step] for start in range(0, len(content), step)]
        return await aiotus.upload_multiple(
            order["endpoint"],
            [io.BytesIO(piece) for piece in pieces],
            metadata,
            headers=headers,
            chunksize=chunk_bytes,
            parallel_uploads=count,
        )
    return await aiotus.upload(
        order["endpoint"],
        io.BytesIO(content),
        metadata,
        headers=headers,
        chunksize=chunk_bytes,
    )


def main():
    order = json.loads(sys.argv[1])
    return 0 if asyncio.run(send(order, Path(order["file"]).read_bytes())) else 1


if __name__ == "__main__":
    sys.exit(main())
