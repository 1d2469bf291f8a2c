"""A time authority on this machine: `openssl ts` behind a small HTTP server."""

import http.server
import shutil
import subprocess
import threading
from pathlib import Path

CONFIG = """
[req]
distinguished_name = name
prompt = no
[name]
CN = {name}
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[tsa_certificate]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[tsa]
default_tsa = stamp
[stamp]
serial = {folder}/serial
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha512
accuracy = secs:1
ess_cert_id_alg = sha256
"""


class LocalAuthority:
    """Certificates in a folder, and `stamp`, which answers queries."""

    def __init__(self, folder: Path, name: str = "Test time authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._lock = threading.Lock()
        (folder / "serial").write_text("01\n")
        self._configure(name)
        run = self._openssl
        run("req -x509 -new -config c -extensions ca -newkey rsa:2048 -nodes -keyout ca.key"
            " -out ca.pem -days 3650")  # fmt: skip
        self._configure(f"{name} unit")
        run("req -new -config c -newkey rsa:2048 -nodes -keyout tsa.key -out tsa.csr")
        run("x509 -req -in tsa.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile c"
            " -extensions tsa_certificate -days 3650 -out tsa.pem")  # fmt: skip
        self.root_file = folder / "ca.pem"

    def stamp(self, query: bytes) -> bytes:
        with self._lock:
            (self._folder / "query").write_bytes(query)
            self._openssl("ts -reply -config c -section stamp -queryfile query -out reply")
            return (self._folder / "reply").read_bytes()

    def _configure(self, name: str) -> None:
        (self._folder / "c").write_text(CONFIG.format(name=name, folder=self._folder))

    def _openssl(self, words: str) -> None:
        done = subprocess.run(
            ["openssl", *words.split()],
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


class ServedAuthority:
    """The same, on a port of 127.0.0.1; `answer` may be put in place of honest answers."""

    def __init__(self, authority: LocalAuthority) -> None:
        outer = self
        self.authority = authority
        self.answer: bytes | None = None
        self.status = 200
        self.asked = 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                query = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.headers["Content-Type"] == "application/timestamp-query"
                outer.asked += 1
                reply = outer.authority.stamp(query) if outer.answer is None else outer.answer
                self.send_response(outer.status)
                self.send_header("Content-Type", "application/timestamp-reply")
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/tsa"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


HAS_OPENSSL = shutil.which("openssl") is not None
