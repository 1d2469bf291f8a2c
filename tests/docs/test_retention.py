"""The calls of docs/retention.md, made as they stand there; the clock is moved between them."""

import asyncio
import re
import secrets
import shutil
import subprocess
from contextlib import contextmanager
from datetime import timedelta

import pytest

from ingest_service.domain.clock import utc_now
from ingest_service.domain.principal import CLIPS_READ, HOLDS_WRITE, OPERATE, RETENTION_WRITE
from ingest_service.domain.token import sign_station_token
from ingest_service.jobs.compute_retention import compute_retention
from ingest_service.jobs.enforce_retention import enforce_retention
from tests.api.served import Dock, Served
from tests.docs.documents import ROOT

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "curl", "python3"))), reason="needs these tools"
)

PAGE = ROOT / "docs/retention.md"
BLOCKS = [
    (label.strip() or "now", body)
    for label, body in re.findall(
        r"^```bash([^\n]*)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE
    )
]
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def service(postgres, ledger_template, tmp_path_factory):
    postgres.copy_database("ledger_docs", template=ledger_template)
    service = Served(postgres.service_dsn("ledger_docs"), tmp_path_factory.mktemp("served"))
    service.start()
    yield service
    service.stop()


@contextmanager
def later(service, days):
    with service.changed(now=lambda: utc_now() + days * DAY):
        yield


async def work(service):
    for _ in range(4):
        await service.publish_log()
        await service.call(compute_retention(service.resources))
        await service.call(enforce_retention(service.resources))
    await service.publish_log()


async def secure_clip(service, incident):
    station, key = await service.register()
    token = sign_station_token(key, station.station_id, now=utc_now())
    async with service.client(token) as http:
        dock = Dock(service, station, key, token, http)
        return await dock.secure(
            b"footage", incident_id=incident, evidential_state="non_evidential"
        )


def run(service, folder, clip, incident, *labels):
    """Do what the page says under these labels; return what is printed."""
    scopes = (CLIPS_READ, HOLDS_WRITE, RETENTION_WRITE, OPERATE)
    environment = {
        "api": service.base_url,
        "anna": service.token(*scopes, sub="P-anna", kind="person"),
        "ben": service.token(*scopes, sub="P-ben", kind="person"),
        "clip": clip,
        "incident": incident,
        "no_proxy": "127.0.0.1",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
    }
    script = BLOCKS[0][1] + "".join(body for label, body in BLOCKS[1:] if label in labels)
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_the_page_works_from_the_date_to_the_certificate(service, tmp_path):
    incident = f"CAD-{secrets.token_hex(4)}"
    clip = asyncio.run(secure_clip(service, "CAD-1"))
    asyncio.run(secure_clip(service, incident))
    asyncio.run(work(service))

    now = run(service, tmp_path, clip, incident, "now")
    with later(service, 32):
        asyncio.run(work(service))
        restored = run(service, tmp_path, clip, incident, "restore")
    for days in (64, 72):
        with later(service, days):
            asyncio.run(work(service))
    erased = run(service, tmp_path, clip, incident, "certificate")

    assert now[1:] == [
        "default/1: 31 days, every clip; not earlier than 31 days after it was secured",
        "floor/secured",
        "P-ben",
        "2",
        "P-ben",
        "1",
        "1",
    ]
    assert restored == ["secured"]
    assert erased == [
        "default/1: 31 days, every clip; not earlier than 31 days after it was restored",
        "c2sp.org/tlog-proof@v1",
    ]
