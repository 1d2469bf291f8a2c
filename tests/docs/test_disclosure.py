"""The calls of docs/disclosure.md, made as they stand there."""

import asyncio
import os
import re
import secrets
import shutil
import subprocess

import pytest

from ingest_service.domain.clock import utc_now
from ingest_service.domain.principal import CLIPS_READ, DISCLOSURES_WRITE
from ingest_service.domain.token import sign_station_token
from tests.api.served import Dock, Served
from tests.docs.documents import ROOT

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "curl", "python3"))), reason="needs these tools"
)

PAGE = ROOT / "docs/disclosure.md"
BLOCKS = re.findall(r"^```bash\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
# Up to the disclosure; what follows finds its variables, and the log published.
FIRST = next(number for number, block in enumerate(BLOCKS, 1) if "link=" in block)


@pytest.fixture(scope="module")
def service(postgres, ledger_template, tmp_path_factory):
    postgres.copy_database("ledger_disclosure", template=ledger_template)
    service = Served(postgres.service_dsn("ledger_disclosure"), tmp_path_factory.mktemp("served"))
    service.start()
    yield service
    service.stop()


async def secure_clips(service, incident):
    station, key = await service.register()
    token = sign_station_token(key, station.station_id, now=utc_now())
    async with service.client(token) as http:
        dock = Dock(service, station, key, token, http)
        return [await dock.secure(os.urandom(1000), incident_id=incident) for _ in range(2)]


def test_the_page_works_from_the_redacted_copy_to_the_answered_request(service, tmp_path):
    incident = f"CAD-{secrets.token_hex(4)}"
    clip, redacted = asyncio.run(secure_clips(service, incident))
    scopes = (CLIPS_READ, DISCLOSURES_WRITE)
    tokens = {
        "dora": service.token(*scopes, sub="P-dora", kind="person"),
        "eve": service.token(*scopes, sub="P-eve", kind="person"),
    }
    variables = {"api": service.base_url, "clip": clip, "redacted": redacted, "incident": incident}

    def run(*blocks):
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", "".join(blocks)],
            cwd=tmp_path,
            env={**os.environ, **tokens, **variables, "no_proxy": "127.0.0.1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()

    printed = run(*BLOCKS[:FIRST], "declare -p disclosure link > variables\n")
    asyncio.run(service.publish_log())
    printed += run(BLOCKS[0], "source ./variables\n", *BLOCKS[FIRST:])

    assert printed == [
        "redaction",
        "2",
        "urn:ingest:problem:terms-not-accepted",
        "clips.zip: holds",
        "2",
        "revoked",
        "revoked",
        "2",
        "fulfilled",
    ]
    assert len((tmp_path / "part.bin").read_bytes()) == 4
