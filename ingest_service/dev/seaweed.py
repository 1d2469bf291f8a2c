"""SeaweedFS from a wheel, as a child process: an S3 store with versions and object lock."""

import hashlib
import http.client
import json
import os
import secrets
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Final

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from ingest_service.dev.ports import LOOPBACK, find_free_port, is_port_free
from ingest_service.dev.private_file import write_private
from ingest_service.dev.process import Child, StartFailed, end_leftover

BUCKET: Final = "evidence"
REGION: Final = "us-east-1"

_SERVERS: Final = ("s3", "master", "filer", "volume", "admin")
# The worker inside `weed mini` looks for the admin server's gRPC at its port + 10000.
_GRPC_DISTANCE: Final = 10_000
_START_TIMEOUT_S: Final = 60.0
_STOP_GRACE_S: Final = 6.0
_POLL_S: Final = 0.05
_REQUEST_TIMEOUT_S: Final = 2.0
_START_ATTEMPTS: Final = 3


class EmbeddedSeaweed:
    """An S3 server of our own in one folder, reachable on 127.0.0.1 only, with one bucket.

    The bucket has object lock and so versions. The folder keeps the objects, the log, the ports
    and the keys: a second start finds everything as it was, on the same ports if still free.
    Its filer, master and volume ports ask for no keys: for one machine that you trust, only.

    folder   made if missing
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.bucket = BUCKET
        self._binary = _find_weed()
        self._objects = self.folder / "objects"
        self._state_file = self.folder / "seaweed.json"
        self._pid_file = self.folder / "seaweed.pid"
        self._child: Child | None = None
        self._ports: dict[str, int] = {}
        self.access_key = ""
        self.secret_key = ""

    @property
    def endpoint(self) -> str:
        """The URL of the S3 API."""
        return f"http://{LOOPBACK}:{self._ports['s3']}"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._child.pid if self._child is not None else None

    def start(self) -> None:
        """Start the server and wait until an object can be written; make the bucket if missing.

        Raises:
            StartFailed: with the reason and the end of the log; no server is left running.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._objects.mkdir(mode=0o700, exist_ok=True)
        end_leftover(
            self._pid_file, str(self._objects), name="SeaweedFS", stop_signal=signal.SIGTERM
        )
        self._load_state()
        for attempt in range(1, _START_ATTEMPTS + 1):
            self._choose_ports()
            try:
                self._start_once()
            except StartFailed:
                # Somebody may have taken a port between our look and the server's bind.
                if attempt == _START_ATTEMPTS or self._are_ports_free():
                    raise
            else:
                return

    def stop(self) -> None:
        """Stop the server in good order; it takes a second or two, at most six."""
        if self._child is not None:
            self._child.stop(grace_s=_STOP_GRACE_S)
            self._remove_sockets()

    def kill(self) -> None:
        """Kill the server as a crash would; `start` finds every object that was acknowledged."""
        if self._child is not None:
            self._child.kill()
            self._remove_sockets()

    def is_alive(self) -> bool:
        """Tell whether the server process runs."""
        return self._child is not None and self._child.is_alive()

    def ending(self) -> str:
        """Say how the server ended: by which signal or with which status."""
        return "was not started" if self._child is None else self._child.ending()

    def failure(self, what: str) -> str:
        """Return a message that says what went wrong, with the end of the server's log."""
        return what if self._child is None else self._child.failure(what)

    def _load_state(self) -> None:
        try:
            state = json.loads(self._state_file.read_text(encoding="utf-8"))
            self._ports = {name: int(state["ports"][name]) for name in _SERVERS}
            self.access_key = str(state["access_key"])
            self.secret_key = str(state["secret_key"])
        except FileNotFoundError:
            # Keys are not kept in the store, so new ones open it as well as the old ones did.
            self.access_key = secrets.token_hex(10)
            self.secret_key = secrets.token_hex(24)
        except (ValueError, KeyError, TypeError) as error:
            message = f"{self._state_file} cannot be read: remove it, new keys will be made"
            raise StartFailed(message) from error

    def _choose_ports(self) -> None:
        if not self._ports or not self._are_ports_free():
            chosen: dict[str, int] = {}
            for name in _SERVERS:
                port = find_free_port(avoiding=chosen.values())
                while not is_port_free(port + _GRPC_DISTANCE):
                    port = find_free_port(avoiding=chosen.values())
                chosen[name] = port
            self._ports = chosen
        state = {
            "ports": self._ports,
            "access_key": self.access_key,
            "secret_key": self.secret_key,
        }
        write_private(self._state_file, json.dumps(state, indent=2) + "\n")

    def _are_ports_free(self) -> bool:
        return all(
            is_port_free(port) and is_port_free(port + _GRPC_DISTANCE)
            for port in self._ports.values()
        )

    def _start_once(self) -> None:
        command = [
            str(self._binary),
            "-logtostderr=true",
            "mini",
            f"-dir={self._objects}",
            f"-ip={LOOPBACK}",
            f"-ip.bind={LOOPBACK}",
            # What nobody asked for stays off.
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.iam=false",
            "-webdav=false",
            "-admin.ui=false",
            "-master.telemetry=false",
            # A store of evidence: no bucket by accident, none removed with what it holds.
            "-s3.autoCreateBucket=false",
            "-s3.allowDeleteBucketNotEmpty=false",
            "-volume.preStopSeconds=0",
        ]
        for name, port in self._ports.items():
            command += [f"-{name}.port={port}", f"-{name}.port.grpc={port + _GRPC_DISTANCE}"]
        environment = {
            # A foreign bucket list or endpoint in the environment must not reach it.
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AWS_", "S3_", "WEED_"))
        } | {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}
        self._child = Child(
            "SeaweedFS",
            command,
            environment=environment,
            log_file=self.folder / "seaweed.log",
            pid_file=self._pid_file,
        )
        self._child.start()
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._is_ready():
            if not self._child.is_alive():
                raise StartFailed(self._child.failure("did not start"))
            if time.monotonic() > deadline:
                message = self._child.failure(f"took no object within {_START_TIMEOUT_S:.0f} s")
                self._child.kill()
                raise StartFailed(message)
            time.sleep(_POLL_S)

    def _is_ready(self) -> bool:
        """Tell whether the bucket is there and takes an object; the probe leaves no version."""
        made, _ = self._ask("PUT", f"/{BUCKET}", {"x-amz-bucket-object-lock-enabled": "true"})
        if made not in {200, 409}:
            return False
        probe = f"/{BUCKET}/.ready-{secrets.token_hex(4)}"
        written, version = self._ask("PUT", probe, {})
        if written != http.HTTPStatus.OK or version is None:
            return False
        removed, _ = self._ask("DELETE", f"{probe}?versionId={version}", {})
        return removed == http.HTTPStatus.NO_CONTENT

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str | None]:
        """Send one signed request; return its status (0: no answer) and the object's version."""
        request = AWSRequest(
            method=method,
            url=f"{self.endpoint}{path}",
            headers={**headers, "x-amz-content-sha256": hashlib.sha256(b"").hexdigest()},
        )
        S3SigV4Auth(Credentials(self.access_key, self.secret_key), "s3", REGION).add_auth(request)
        connection = http.client.HTTPConnection(
            LOOPBACK, self._ports["s3"], timeout=_REQUEST_TIMEOUT_S
        )
        try:
            connection.request(method, path, headers=dict(request.headers.items()))
            response = connection.getresponse()
            response.read()
            return response.status, response.getheader("x-amz-version-id")
        except (OSError, http.client.HTTPException):
            return 0, None
        finally:
            connection.close()

    def _remove_sockets(self) -> None:
        # weed listens on unix sockets beside its ports and does not always remove them.
        for name, port in self._ports.items():
            for file in (f"seaweedfs-{name}-{port}", f"seaweedfs-{name}-grpc-{port + 10_000}"):
                Path(f"/tmp/{file}.sock").unlink(missing_ok=True)  # noqa: S108 - weed's choice


def _find_weed() -> Path:
    beside_python = Path(sys.executable).parent / "weed"
    found = beside_python if beside_python.exists() else shutil.which("weed")
    if found is None:
        message = "the embedded SeaweedFS is not installed: run `make install`"
        raise StartFailed(message)
    return Path(found)
