"""The null S3 with what peers ask of a store besides: listings, and small objects kept whole.

Peers keep their own records of an upload as small objects in S3 (body and x-amz-meta-*), and derive
its offset from a listing of its parts.

    python -m loadtest.peers.null_store --port-file FILE
"""

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

import uvloop

from loadtest.null_s3 import CHECKED_BODY_BYTES_MAX, Held, NullS3, Store

_LISTED_MAX: Final = 1000


class PeerNullS3(NullS3):
    """One connection; `whole` is shared by all: small objects' bodies and x-amz-meta-* lines."""

    def __init__(self, store: Store, whole: dict[str, tuple[bytes, str]]) -> None:
        super().__init__(store)
        self._whole = whole

    def _store(self, key: str, held: Held) -> None:
        super()._store(key, held)
        if held.length_bytes <= CHECKED_BODY_BYTES_MAX:
            kept = [item for item in self.headers.items() if item[0].startswith("x-amz-meta-")]
            lines = "".join(f"{name}: {value}\r\n" for name, value in kept)
            self._whole[key] = bytes(self.body), lines
        else:
            self._whole.pop(key, None)

    def _get(self, key: str, query: dict[str, str]) -> None:
        if not key and "list-type" in query:
            self._list_objects(query)
        elif "uploadId" in query:
            self._list_parts(query["uploadId"])
        elif key in self._whole and key in self.store.objects and "range" not in self.headers:
            body, lines = self._whole[key]
            self._send("200 OK", body, f'ETag: "{self.store.objects[key].etag}"\r\n{lines}')
        else:
            super()._get(key, query)

    def _list_objects(self, query: dict[str, str]) -> None:
        prefix, after = query.get("prefix", ""), query.get("continuation-token", "")
        keys = sorted(key for key in self.store.objects if key.startswith(prefix) and key > after)
        page = keys[:_LISTED_MAX]
        inner = "".join(
            f"<Contents><Key>{escape(key)}</Key>"
            f"<Size>{self.store.objects[key].length_bytes}</Size></Contents>"
            for key in page
        )
        is_cut = len(keys) > len(page)
        if is_cut:
            inner += f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>"
        inner += f"<IsTruncated>{str(is_cut).lower()}</IsTruncated>"
        self._send_xml("ListBucketResult", inner)

    def _list_parts(self, upload_id: str) -> None:
        parts = self.store.uploads.get(upload_id)
        if parts is None:
            self._refuse("404 Not Found", "NoSuchUpload")
            return
        inner = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;{piece.etag}&quot;</ETag>"
            f"<Size>{piece.length_bytes}</Size></Part>"
            for number, piece in sorted(parts.items())
        )
        self._send_xml("ListPartsResult", f"{inner}<IsTruncated>false</IsTruncated>")


async def serve(port_file: Path) -> None:
    """Serve until SIGTERM or SIGINT; the chosen port goes to the file once it answers."""
    loop = asyncio.get_running_loop()
    store, whole = Store(), dict[str, tuple[bytes, str]]()
    server = await loop.create_server(
        lambda: PeerNullS3(store, whole), "127.0.0.1", 0, backlog=4096
    )
    part = port_file.with_suffix(".part")
    part.write_text(f"{server.sockets[0].getsockname()[1]}\n")
    part.replace(port_file)
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    await stopping.wait()
    server.close()


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--port-file", type=Path, required=True, help="the port is written here")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(arguments.port_file))
    return 0


if __name__ == "__main__":
    sys.exit(main())
