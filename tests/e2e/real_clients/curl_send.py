"""curl, as a shell script would use it, told by a JSON object; see the tests that run it."""

import base64
import hashlib
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TRIES = 20
WAIT_S = 0.5
TUS = ["-H", "Tus-Resumable: 1.0.0"]
APPEND = [*TUS, "-H", "Content-Type: application/offset+octet-stream"]


class Curl:
    def __init__(self, order):
        self._order = order
        self._chunk_bytes = order.get("chunk_bytes")
        self._content = Path(order["file"]).read_bytes()

    def run(self):
        if count := self._order.get("parallel"):
            self._send_parallel(count)
            return
        url = self._order.get("upload_url") or self._open(
            f"Upload-Length: {len(self._content)}", f"Upload-Metadata: {self._metadata()}"
        )
        self._send(url, self._content)

    def _send_parallel(self, count):
        step = -(-len(self._content) // count)
        pieces = [self._content[at : at + step] for at in range(0, len(self._content), step)]

        def send(piece):
            url = self._open(f"Upload-Length: {len(piece)}", "Upload-Concat: partial")
            self._send(url, piece)
            return url

        with ThreadPoolExecutor(count) as pool:
            urls = list(pool.map(send, pieces))
        self._open(f"Upload-Concat: final;{' '.join(urls)}", f"Upload-Metadata: {self._metadata()}")

    def _send(self, url, content):
        """Append what is missing, ask, and again; a script has nothing but the offset."""
        for _ in range(TRIES):
            offset = self._ask(url)
            while offset is not None and offset < len(content):
                offset = self._append(url, content, offset)
                if offset and self._order.get("terminate"):
                    self._curl("-X", "DELETE", *TUS, url)
                    return
            if offset == len(content):
                return
            time.sleep(WAIT_S)
        message = "gave up"
        raise SystemExit(message)

    def _append(self, url, content, offset):
        piece = content[offset : offset + (self._chunk_bytes or len(content))]
        checksum = []
        if self._order.get("checksum"):
            digest = base64.b64encode(hashlib.sha256(piece).digest()).decode()
            checksum = ["-H", f"Upload-Checksum: sha256 {digest}"]
        # -T - is chunked coding, and curl asks for 100 Continue first.
        _, headers = self._curl(
            *["-X", "PATCH", *APPEND, *checksum],
            *["-H", f"Upload-Offset: {offset}", "-T", "-", url],
            body=piece,
        )
        return int(headers["upload-offset"]) if "upload-offset" in headers else None

    def _ask(self, url):
        status, headers = self._curl("-I", *TUS, url)
        return int(headers["upload-offset"]) if status == "200" else None

    def _open(self, *fields):
        named = [part for field in fields for part in ("-H", field)]
        status, headers = self._curl("-X", "POST", *TUS, *named, self._order["endpoint"])
        if status != "201":
            message = f"POST was answered with {status}"
            raise SystemExit(message)
        return headers["location"]

    def _curl(self, *arguments, body=b""):
        """Return (status, headers) of the last answer; ("", {}) when there was none."""
        token = f"Authorization: Bearer {self._order['token']}"
        command = ["curl", "-sS", "-H", token, "-D", "-", "-o", "/dev/null", *arguments]
        done = subprocess.run(command, input=body, stdout=subprocess.PIPE, check=False)
        heads = done.stdout.decode().strip().split("\r\n\r\n")
        first, *lines = heads[-1].splitlines() or ["none"]
        fields = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in fields}
        return "" if done.returncode else first.split(" ")[1], headers

    def _metadata(self):
        return ",".join(
            f"{name} {base64.b64encode(value.encode()).decode()}"
            for name, value in self._order["metadata"].items()
        )


if __name__ == "__main__":
    Curl(json.loads(sys.argv[1])).run()
