"""tuspy, told by a JSON object in its first argument; see the tests that run it."""

import json
import sys

from tusclient.client import TusClient

RETRIES = 10
RETRY_DELAY_S = 1


def main(order):
    client = TusClient(order["endpoint"], headers={"Authorization": f"Bearer {order['token']}"})
    chosen = {"chunk_size": order["chunk_bytes"]} if order.get("chunk_bytes") else {}
    uploader = client.uploader(
        order["file"],
        url=order.get("upload_url"),
        metadata=order["metadata"],
        retries=RETRIES,
        retry_delay=RETRY_DELAY_S,
        upload_checksum=order.get("checksum", False),
        **chosen,
    )
    uploader.upload()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
