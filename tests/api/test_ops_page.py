"""The page /ops in a real browser: what an operator sees, also when the service is away."""

import json

import httpx
import pytest

from ingest_service.actions.record_traffic import TrafficMeter
from ingest_service.jobs.sample_backlog import sample_backlog
from tests.api.served import PART_BYTES
from tests.e2e.chromium import find_chromium, open_browser

CHROMIUM = find_chromium()
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH (apt install chromium)"),
]

CLIP = b"p" * (2 * PART_BYTES)
STATE = "document.getElementById('state-text').textContent"
BANNER = "document.getElementById('banner').textContent"
BIG = "document.querySelector('#tile-{} .big').textContent"
LABELS = "[...document.querySelectorAll('figure svg')].map(s => s.getAttribute('aria-label'))"


@pytest.fixture
async def tab(served, chromium):
    await served.sql("DELETE FROM worker_beats")
    await served.sql("INSERT INTO worker_beats VALUES ('w1', now())")
    await served.publish_log()
    with served.changed():
        async with open_browser(chromium) as browser:
            yield await browser.open_tab(f"{served.base_url}/ops")


async def sign_in(tab, token):
    await tab.run(
        f"document.getElementById('token').value = {json.dumps(token)},"
        " document.getElementById('form').requestSubmit(), null"
    )


async def until_shown(tab):
    await tab.until("!document.getElementById('figures').hidden")


async def set_screen(tab, width, height, scheme="light"):
    await tab.call(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=height,
        deviceScaleFactor=1,
        mobile=width < 600,
    )
    feature = {"name": "prefers-color-scheme", "value": scheme}
    await tab.call("Emulation.setEmulatedMedia", features=[feature])


async def test_it_shows_a_real_upload_in_figures_charts_and_words(served, make_dock, tab):
    dock = await make_dock(borough="Tower Hamlets")
    meter = TrafficMeter()
    await dock.bring_in(CLIP)
    await dock.announce(10**9)
    await served.call(meter.flush(served.resources.pool))
    await served.sql("DELETE FROM backlog_samples")
    await served.call(sample_backlog(served.resources))

    await sign_in(tab, served.token("operate"))
    await until_shown(tab)
    await tab.until(f"{STATE}.startsWith('Ready')")
    # The sample is whole some seconds after it was written.
    await tab.until(f"{LABELS}[0].includes('kB/s')")
    assert await tab.run("document.getElementById('boroughs').innerText.includes('Tower Hamlets')")
    assert int((await tab.run(BIG.format("uploads"))).replace(",", "")) >= 1
    labels = await tab.run(LABELS)
    assert len(labels) == 6
    assert all("over 60 minutes" in label for label in labels)

    await tab.run("document.querySelector('input[value=\"5\"]').click(), null")
    await tab.until(f"{LABELS}.every(label => label.includes('over 5 minutes'))")
    # The worker's sample is in it too, once its step is whole.
    await tab.until("document.querySelectorAll('figure path.curve').length >= 6")
    await tab.reload()
    await until_shown(tab)
    # Who reloads sees the same history, by the same choice, and does not sign in again.
    await tab.until(f"{LABELS}[0]?.includes('over 5 minutes') && {LABELS}[0].includes('kB/s')")
    assert tab.complaints == []
    hosts = {httpx.URL(url).netloc.decode() for url in tab.requested if url.startswith("http")}
    assert hosts == {httpx.URL(served.base_url).netloc.decode()}
    assert not [url for url in tab.requested if "eyJ" in url]


async def test_it_fits_a_phone_and_the_dark_and_can_be_operated_by_name(served, tab):
    await sign_in(tab, served.token("operate"))
    await until_shown(tab)
    light = await tab.run("getComputedStyle(document.body).backgroundColor")
    await set_screen(tab, 390, 844, "dark")
    dark = await tab.run("getComputedStyle(document.body).backgroundColor")
    picture = await tab.take_picture()
    controls = await tab.controls()

    assert light != dark
    assert await tab.run("document.documentElement.scrollWidth") <= 390
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 20_000
    assert ("button", "Sign out") in controls
    assert all(name for _, name in controls)


async def test_a_token_that_is_refused_says_what_to_bring(served, dock, tab):
    await sign_in(tab, dock.token)
    await tab.until(f"{BANNER} !== ''")

    assert "scope" in (await tab.run(BANNER)).lower()
    assert await tab.run("document.getElementById('figures').hidden")
    assert await tab.run("sessionStorage.getItem('ingest-ops-token')") is None


async def test_a_service_that_is_away_is_said_and_comes_back_by_itself(served, tab):
    await sign_in(tab, served.token("operate"))
    await until_shown(tab)
    link = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    await tab.call("Network.emulateNetworkConditions", offline=True, **link)
    await tab.until(f"{STATE} === 'Unreachable'")
    banner = await tab.run(BANNER)
    await tab.until("document.body.dataset.stale === 'yes'", within_s=40)
    measured = await tab.run("document.getElementById('measured').textContent")
    await tab.call("Network.emulateNetworkConditions", offline=False, **link)

    assert "does not answer" in banner
    assert "known last" in banner
    assert measured.startswith("Stale")
    await tab.until(f"{STATE}.startsWith('Ready') && document.body.dataset.stale === 'no'")
    assert await tab.run(BANNER) == ""


class Gone:
    """A pool whose database does not answer."""

    line = None

    def get_idle_size(self):
        return 1

    def acquire(self, **_options):
        raise OSError


async def test_without_its_ledger_the_page_says_that_it_is_the_ledger(served, tab):
    with served.changed(pool=Gone()):
        await sign_in(tab, served.token("operate"))
        await tab.until(f"{BANNER}.includes('Database')")

    await until_shown(tab)
