"""Take the pictures of /ops and `ingest top` anew, of a real `ingest dev` under a short load.

    python -m tests.e2e.take_pictures [--seconds 300] [--folder docs/pictures]

Twelve stations of six boroughs send clips for some minutes; one of them sends chunks that are not
what it says, one has a poor uplink. Chromium takes the page; the same figures, as the terminal
shows them, become an SVG.
"""

import argparse
import asyncio
import base64
import hashlib
import io
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from ingest_service.actions.register_station import register_station
from ingest_service.cli.top_display import show_screen
from ingest_service.domain.clock import utc_now
from ingest_service.domain.digest import format_content_digest
from ingest_service.domain.token import (
    SigningKey,
    import_signing_key,
    make_private_key,
    sign_station_token,
)
from ingest_service.ledger.connection import close_pool, open_pool
from ingest_service.ledger.stations import Station as Registered
from schemas.operations import OperationsNow
from tests.e2e.chromium import Tab, find_chromium, open_browser, running_chromium

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "pictures"
BOROUGHS = ("Camden", "Croydon", "Hackney", "Lambeth", "Southwark", "Westminster")
START_S = 120
BLOCK = 64 * 1024
# Rich's own frame loads fonts of another host.
FRAME = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
<title>ingest top</title>
<desc>A terminal: rates, active uploads by borough, queues, the custody log's lag, what the service
leans on, and the stations to look at, while twelve stations upload.</desc>
<style>
.{unique_id}-matrix {{ font-family: "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
.frame {{ fill: #171d25; stroke: #9aa7b5; }}
@media (prefers-color-scheme: dark) {{ .frame {{ fill: #0d1117; stroke: #33404f; }} }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>
{lines}</defs>
<rect class="frame" x="1" y="1" width="99.85%" height="99.6%" rx="10" />
<g transform="translate(10, 24)" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}<g class="{unique_id}-matrix">
{matrix}</g></g>
</svg>
"""
SLOW_S = 40e3


@dataclass
class Station:
    """A station of the load; rate_s: of one of its streams, in bytes a second."""

    name: str
    key: SigningKey
    bays: int
    rate_s: float
    is_bad: bool = False

    def token(self) -> str:
        return sign_station_token(
            self.key, self.name, now=utc_now(), lifetime=timedelta(minutes=30)
        )


@contextmanager
def running_dev(folder: Path) -> Iterator[dict[str, Any]]:
    """Run `ingest dev` with two API processes; yields what its dev.json says."""
    command = [sys.executable, "-m", "ingest_service", "dev", f"--data={folder}", "--port=0"]
    environment = {**os.environ, "INGEST_WORKERS": "2", "PYTHONPATH": str(ROOT)}
    log_file = folder.with_name("dev.log")
    with log_file.open("wb") as log:
        dev = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        deadline = time.monotonic() + START_S
        while not (folder / "dev.json").exists():
            assert dev.poll() is None, log_file.read_text()
            assert time.monotonic() < deadline, log_file.read_text()
            time.sleep(0.1)
        yield json.loads((folder / "dev.json").read_bytes())
    finally:
        dev.send_signal(signal.SIGTERM)
        dev.wait(60)


async def register_stations(facts: dict[str, Any]) -> list[Station]:
    """Register two stations per borough; one has a poor uplink, one spoils what it sends."""
    stations = []
    pool = await open_pool(facts["database_url"], connections_max=1, statement_timeout_s=30)
    try:
        for number in range(2 * len(BOROUGHS)):
            borough = BOROUGHS[number // 2]
            name = f"{borough.lower()}-{number % 2 + 1}"
            key = import_signing_key(make_private_key())
            registered = Registered(name, f"{borough} police station", borough)
            await register_station(registered, key.verifying_key.public_jwk, pool=pool)
            stations.append(
                Station(
                    name,
                    key,
                    bays=1 + number % 3,
                    rate_s=SLOW_S if number == 7 else 700e3,
                    is_bad=number == 4,
                )
            )
    finally:
        await close_pool(pool)
    return stations


async def send_clips(station: Station, bay: int, url: str, until: float) -> None:
    """Send one clip after the other, as a bay does, until the time is over."""
    dice = random.Random(f"{station.name} {bay}")  # noqa: S311 - footage of a test
    await asyncio.sleep(dice.random() * 10)
    headers = {"Authorization": f"Bearer {station.token()}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=120) as http:
        while time.monotonic() < until:
            await send_clip(station, http, dice)
            await asyncio.sleep(dice.random() * 3)


async def send_clip(station: Station, http: httpx.AsyncClient, dice: random.Random) -> None:
    size = int(min(12e6, dice.lognormvariate(14.2, 0.8)))
    if station.rate_s == SLOW_S:
        size = 1_500_000
    footage = dice.randbytes(size)
    announced = {
        "device_serial": f"BWC-{dice.randrange(10**6):06}",
        "recording_id": secrets.token_hex(8),
        "size_bytes": size,
    }
    answer = await http.post("/v1/clips", json=announced)
    if answer.status_code != 201:
        return
    plan = answer.json()
    for index in range(plan["chunk_count"]):
        chunk = footage[index * plan["chunk_bytes"] : (index + 1) * plan["chunk_bytes"]]
        is_spoilt = station.is_bad and dice.random() < 0.7
        digest = hashlib.sha256(chunk + b"!" if is_spoilt else chunk)
        with suppress(httpx.TransportError):
            sent = await http.post(
                f"/v1/clips/{plan['clip_id']}/chunks/{index}",
                content=trickle(chunk, station.rate_s),
                headers={
                    "Content-Type": "application/octet-stream",
                    "Content-Length": str(len(chunk)),
                    "Content-Digest": format_content_digest(digest.digest()),
                },
            )
            if sent.status_code >= 400:
                return
    await http.post(f"/v1/clips/{plan['clip_id']}/seal")


async def trickle(data: bytes, rate_s: float):
    """The bytes, as fast as an uplink of this rate."""
    for start in range(0, len(data), BLOCK):
        block = data[start : start + BLOCK]
        yield block
        await asyncio.sleep(len(block) / rate_s)


async def load(stations: list[Station], url: str, seconds: float) -> None:
    until = time.monotonic() + seconds
    bays = [(station, bay) for station in stations for bay in range(station.bays)]
    await asyncio.gather(*(send_clips(station, bay, url, until) for station, bay in bays))


async def open_page(browser: Any, facts: dict[str, Any], *, minutes: int = 5) -> Tab:
    """Open /ops, sign in and choose how far back."""
    tab = await browser.open_tab(f"{facts['base_url']}/ops")
    token = json.dumps(facts["tokens"]["operator"])
    await tab.run(
        f"document.getElementById('token').value = {token},"
        " document.getElementById('form').requestSubmit(), null"
    )
    await tab.until("!document.getElementById('figures').hidden")
    await tab.run(f"document.querySelector('input[value=\"{minutes}\"]').click(), null")
    label = "document.querySelector('figure svg').getAttribute('aria-label')"
    await tab.until(f"{label}.includes('{minutes} minutes')")
    return tab


async def take(seconds: float, folder: Path) -> None:
    """Run the load and take both pictures shortly before it ends."""
    with tempfile.TemporaryDirectory(prefix="ingest-pictures-") as name:
        data = Path(name) / "data"
        with running_dev(data) as facts:
            stations = await register_stations(facts)
            loading = asyncio.create_task(load(stations, facts["base_url"], seconds))
            await asyncio.sleep(max(15.0, seconds - 20))
            with running_chromium(find_chromium() or "chromium", Path(name)) as url:
                async with open_browser(url) as browser:
                    tab = await open_page(browser, facts)
                    await set_screen(tab, 1280, 1400)
                    await asyncio.sleep(4)
                    (folder / "ops.png").write_bytes(await take_main(tab))
            (folder / "top.svg").write_text(await draw_terminal(facts))
            await loading


async def take_main(tab: Tab) -> bytes:
    """Return the page as far as there is something on it."""
    height = await tab.run("Math.ceil(document.body.getBoundingClientRect().height)")
    clip = {"x": 0, "y": 0, "width": 1280, "height": height, "scale": 1}
    shot = await tab.call("Page.captureScreenshot", format="png", clip=clip)
    return base64.b64decode(shot["data"])


async def draw_terminal(facts: dict[str, Any]) -> str:
    """Return what `ingest top` shows just now, as an SVG."""
    headers = {"Authorization": f"Bearer {facts['tokens']['operator']}"}
    async with httpx.AsyncClient(base_url=facts["base_url"], headers=headers) as http:
        answer = await http.get("/v1/ops", params={"minutes": 5})
    now = OperationsNow.model_validate_json(answer.content)
    console = Console(width=118, record=True, file=io.StringIO(), force_terminal=True)
    console.print(show_screen(now, source="ingest dev"))
    return console.export_svg(code_format=FRAME, unique_id="top").rstrip() + "\n"


async def set_screen(tab: Tab, width: int, height: int, *, scheme: str = "light") -> None:
    """Show the page as on a screen of this size."""
    await tab.call(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=height,
        deviceScaleFactor=1,
        mobile=width < 600,
    )
    feature = {"name": "prefers-color-scheme", "value": scheme}
    await tab.call("Emulation.setEmulatedMedia", features=[feature])


def main() -> None:
    parser = argparse.ArgumentParser(description="Take the pictures of /ops and `ingest top`.")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--folder", type=Path, default=PICTURES)
    asked = parser.parse_args()
    asyncio.run(take(asked.seconds, asked.folder))


if __name__ == "__main__":
    main()
