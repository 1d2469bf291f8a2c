"""The page /upload in a real browser: what an officer does when a dock is out of order."""

import asyncio
import json
import os
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from ingest_service.domain.receipt import verify_receipt
from schemas.receipt import Receipt
from tests.e2e.chromium import Browser, Tab, find_chromium, open_browser
from tests.e2e.honest_dock import Recording, make_recording
from tests.e2e.relay import Relay, open_relay
from tests.e2e.stage import Stage

CHROMIUM = find_chromium()
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.s3,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH (apt install chromium)"),
]

PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "upload.png"
CLIP_BYTES = 11_000_000
# More than the sockets on the way hold: what was not sent yet is to be most of it.
LONG_BYTES = 40_000_000
SLOW_BYTES_S = 4_000_000
UNSIGNED = "not.a.token"
ROW = "document.querySelector('#list li')"


@dataclass
class Clip:
    """A file on the officer's desk, in the shape that the judge knows."""

    recording: Recording
    file: Path
    path: str | None = None
    clip_id: str | None = None


@dataclass
class Desk:
    """A browser in front of a running service."""

    browser: Browser
    stage: Stage
    relay: Relay
    folder: Path

    def lay(self, name: str, length_bytes: int = CLIP_BYTES) -> Clip:
        """Put a new recording onto the desk."""
        recording = make_recording(length_bytes)
        file = self.folder / name
        file.write_bytes(recording.content)
        return Clip(recording, file)

    async def open(self) -> Tab:
        return await self.browser.open_tab(f"{self.relay.url}/upload")

    async def fill_in(self, tab: Tab, clip: Clip, *, token: str | None = None) -> None:
        await set_value(tab, "token", token or self.stage.token)
        await set_value(tab, "device_serial", clip.recording.serial)
        await tab.choose_files("#files", clip.file)
        await tab.until(f"{ROW}?.dataset.state === 'ready'")

    async def start(self, clip: Clip) -> Tab:
        """Open a page and start to send a clip."""
        tab = await self.open()
        await self.fill_in(tab, clip)
        await press(tab, "Start upload")
        return tab

    async def offset(self, clip: Clip) -> int:
        (upload,) = await self.stage.uploads_of(clip)
        return upload["offset_bytes"]

    async def settled_offset(self, clip: Clip) -> int:
        """Return the offset, once it stands still."""
        last = -1
        async with asyncio.timeout(60):
            while (found := await self.offset(clip)) != last:
                last = found
                await asyncio.sleep(1.5)
        return last

    async def until_received(self, clip: Clip, least_bytes: int) -> None:
        async with asyncio.timeout(30):
            while True:
                uploads = await self.stage.uploads_of(clip)
                if uploads and uploads[0]["offset_bytes"] >= least_bytes:
                    return
                await asyncio.sleep(0.05)

    async def judge(self, tab: Tab, clip: Clip) -> None:
        """Do the worker's part; the page then shows the receipt, and the clip is what it was."""
        await tab.until(f"{ROW}.dataset.state === 'stored'", within_s=90)
        await self.stage.secure(clip)
        await self.stage.publish_log()
        await tab.until(f"{ROW}.dataset.state === 'secured'")
        (upload,) = await self.stage.uploads_of(clip)
        clip.path = f"/files/{upload['upload_id']}"
        async with httpx.AsyncClient(
            base_url=self.relay.url, headers={"Authorization": f"Bearer {self.stage.token}"}
        ) as http:
            await self.stage.judge(clip, http)


@pytest.fixture
async def relay():
    async with open_relay() as opened:
        yield opened


@pytest.fixture
async def desk(stage, relay, chromium, tmp_path):
    process = await stage.start(base_url=relay.url)
    relay.lead_to(await process.hear("listens_at", 10))
    folder = tmp_path / "desk"
    folder.mkdir()
    async with open_browser(chromium) as browser:
        yield Desk(browser, stage, relay, folder)


async def set_value(tab: Tab, name: str, value: str) -> None:
    field = f"document.getElementById({json.dumps(name)})"
    await tab.run(
        f"{field}.value = {json.dumps(value)}, {field}.dispatchEvent(new Event('input')), null"
    )


async def press(tab: Tab, label: str) -> None:
    """Press the button that says this, as soon as there is one."""
    found = f"[...document.querySelectorAll('button')].find(b => b.innerText === '{label}')"
    await tab.until(f"!!{found}")
    await tab.run(f"{found}.click()")


async def test_a_clip_is_uploaded_by_hand_and_its_receipt_is_kept(desk):
    clip = desk.lay("Körper kamera 7.mp4")
    tab = await desk.open()
    await set_value(tab, "started_at", "2026-03-01T14:05:09")
    await set_value(tab, "officer_id", "PC 1234")
    await desk.fill_in(tab, clip)
    await press(tab, "Start upload")

    await desk.judge(tab, clip)
    downloads = desk.folder / "downloads"
    await desk.browser.call(
        "Browser.setDownloadBehavior",
        behavior="allow",
        downloadPath=str(downloads),
        browserContextId=desk.browser.context,
    )
    await press(tab, "Download receipt")
    receipt = await downloaded(downloads)
    found = await desk.stage.find_clip(clip)
    facts = verify_receipt(receipt, desk.stage.opened.signer.verifier_key)
    assert (str(facts.clip_id), facts.sha256) == (str(found["clip_id"]), clip.recording.sha256)
    said = json.loads(found["announcement"])
    assert said["filename"] == "Körper kamera 7.mp4"
    assert said["recording_id"] == "Körper kamera 7"
    assert said["officer_id"] == "PC 1234"
    assert said["upload_tool"] == "upload page"
    assert said["started_at"].startswith("2026-03-01T")
    assert tab.complaints == []


async def downloaded(folder: Path) -> Receipt:
    async with asyncio.timeout(10):
        while not (found := find_receipts(folder)):  # noqa: ASYNC110 - the browser's doing
            await asyncio.sleep(0.05)
    return Receipt.model_validate_json(found[0].read_bytes())


def find_receipts(folder: Path) -> list[Path]:
    return list(folder.glob("receipt-*.json"))


async def test_the_token_is_in_no_address_and_in_no_storage(desk):
    clip = desk.lay("clip.mp4", 200_000)
    tab = await desk.start(clip)
    await desk.judge(tab, clip)

    kept = await tab.run(
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    )
    signature = desk.stage.token.rsplit(".", 1)[1]
    assert signature not in kept + " ".join(tab.requested) + await tab.run("location.href")
    assert clip.recording.serial in kept, "nothing to go on by after a reload"


async def test_the_page_loads_nothing_from_elsewhere(desk):
    clip = desk.lay("clip.mp4", 200_000)
    tab = await desk.start(clip)
    await desk.judge(tab, clip)

    own = ("data:", desk.relay.url)
    assert [url for url in tab.requested if not url.startswith(own)] == []


async def test_a_paused_upload_sends_nothing_until_it_goes_on(desk):
    desk.relay.bytes_s = SLOW_BYTES_S
    clip = desk.lay("clip.mp4", LONG_BYTES)
    tab = await desk.start(clip)
    await desk.until_received(clip, 5_000_000)
    await press(tab, "Pause")

    # What the browser had handed on may still come in.
    desk.relay.bytes_s = None
    assert await desk.settled_offset(clip) < LONG_BYTES
    assert await tab.run(f"{ROW}.dataset.state") == "paused"
    await press(tab, "Continue")
    await desk.judge(tab, clip)


async def test_a_reloaded_page_goes_on_where_it_stopped(desk):
    desk.relay.bytes_s = SLOW_BYTES_S
    clip = desk.lay("clip.mp4", LONG_BYTES)
    tab = await desk.start(clip)
    await desk.until_received(clip, 5_000_000)
    await tab.reload()
    kept = await desk.offset(clip)
    desk.relay.bytes_s = None
    await desk.fill_in(tab, clip)
    await press(tab, "Start upload")

    await desk.judge(tab, clip)
    assert 5_000_000 <= kept < LONG_BYTES
    posts = [url for url in tab.requested if url.endswith("/files")]
    assert len(posts) == 1, "the reloaded page opened another upload"


async def test_a_file_that_was_sent_before_leads_to_its_receipt(desk):
    clip = desk.lay("clip.mp4", 300_000)
    tab = await desk.start(clip)
    await tab.until(f"{ROW}.dataset.state === 'stored'")
    await tab.reload()
    await desk.fill_in(tab, clip)
    await press(tab, "Start upload")

    await desk.judge(tab, clip)


async def test_two_tabs_send_one_file_once(desk):
    desk.relay.bytes_s = SLOW_BYTES_S
    clip = desk.lay("clip.mp4")
    first = await desk.start(clip)
    await desk.until_received(clip, 1)
    second = await desk.start(clip)
    await second.until(f"{ROW}.dataset.state === 'waiting'")
    desk.relay.bytes_s = None

    await desk.judge(first, clip)
    await second.until(f"{ROW}.dataset.state === 'secured'")
    assert len(await desk.stage.uploads_of(clip)) == 1


async def test_two_tabs_send_two_files_at_once(desk):
    clips = [desk.lay("one.mp4"), desk.lay("two.mp4")]
    tabs = [await desk.start(clip) for clip in clips]

    for tab, clip in zip(tabs, clips, strict=True):
        await desk.judge(tab, clip)


async def test_a_cut_connection_is_mended_without_the_person(desk):
    clip = desk.lay("clip.mp4")
    desk.relay.break_after(5_000_000, "cut")
    tab = await desk.start(clip)

    await desk.judge(tab, clip)
    assert desk.relay.broken.is_set()


async def test_who_enters_a_new_token_goes_on(desk):
    clip = desk.lay("clip.mp4", 300_000)
    tab = await desk.open()
    await desk.fill_in(tab, clip, token=UNSIGNED)
    await press(tab, "Start upload")
    await tab.until(f"{ROW}.dataset.state === 'failed'")
    shown = await tab.run(f"{ROW}.innerText")
    await set_value(tab, "token", desk.stage.token)
    await press(tab, "Continue")

    assert "access token" in shown
    await desk.judge(tab, clip)


async def test_one_that_failed_does_not_hold_up_the_next(desk):
    failed, clip = desk.lay("failed.mp4", 300_000), desk.lay("clip.mp4", 300_000)
    tab = await desk.open()
    await desk.fill_in(tab, failed, token=UNSIGNED)
    await press(tab, "Start upload")
    await tab.until(f"{ROW}.dataset.state === 'failed'")
    await press(tab, "Stop and remove")
    await desk.fill_in(tab, clip)
    await press(tab, "Start upload")

    await desk.judge(tab, clip)


async def test_what_is_removed_is_taken_back(desk):
    desk.relay.bytes_s = SLOW_BYTES_S
    clip = desk.lay("clip.mp4")
    tab = await desk.start(clip)
    await desk.until_received(clip, 1)
    await press(tab, "Pause")
    desk.relay.bytes_s = None
    await press(tab, "Stop and remove")

    async with asyncio.timeout(20):
        while True:
            (upload,) = await desk.stage.uploads_of(clip)
            if upload["state"] == "terminated":
                return
            await asyncio.sleep(0.05)


async def test_a_clip_in_quarantine_is_to_be_kept_on_the_camera(desk):
    clip = desk.lay("clip.mp4", 300_000)
    tab = await desk.start(clip)
    await tab.until(f"{ROW}.dataset.state === 'stored'")
    await desk.stage.owner.execute(
        "UPDATE clips SET state = 'quarantined', quarantine_reason = 'test'"
    )

    await tab.until(f"{ROW}.dataset.state === 'quarantined'")
    assert "Keep the recording on the camera" in await tab.run(f"{ROW}.innerText")


async def test_what_is_missing_is_said_and_nothing_is_sent(desk):
    tab = await desk.open()
    complaints = []
    for name, value in (("token", desk.stage.token), ("device_serial", "BWC-1"), (None, "")):
        await press(tab, "Start upload")
        complaints.append(await tab.run("document.getElementById('problem').innerText"))
        if name:
            await set_value(tab, name, value)

    assert [complaint.split(" ")[-1] for complaint in complaints] == [
        "station.",
        "camera.",
        "file.",
    ]
    assert not [url for url in tab.requested if "/files" in url]


async def test_all_of_it_can_be_done_without_a_mouse_and_read_aloud(desk):
    desk.relay.bytes_s = SLOW_BYTES_S
    clip = desk.lay("clip.mp4")
    tab = await desk.open()
    await tab.press("Tab")
    await tab.type(desk.stage.token)
    await tab.press("Tab")
    await tab.type(clip.recording.serial)
    await tab.run("document.getElementById('files').focus()")
    await tab.choose_files("#files", clip.file)
    await tab.press("Tab")
    await tab.press("Enter")
    await desk.until_received(clip, 1)
    controls = await tab.controls()
    await tab.press("Tab")
    await tab.press("Enter")
    await tab.until(f"{ROW}.dataset.state === 'paused'")
    told = await tab.run("document.querySelector('[role=status]').innerText")
    desk.relay.bytes_s = None
    # The focus went from Pause to Continue.
    await tab.press("Enter")

    assert [role for role, name in controls if not name] == []
    assert ("button", "Pause: clip.mp4") in controls
    assert "Paused" in told
    await desk.judge(tab, clip)


async def test_the_picture_of_the_documents_is_of_this_page(desk):
    """With WRITE_PICTURES set it is taken anew."""
    clips = [
        desk.lay("BWC-000042 14-05.mp4", 6_000_000),
        desk.lay("BWC-000042 14-21.mp4", 9_000_000),
    ]
    tab = await desk.open()
    await set_value(tab, "token", desk.stage.token)
    for name, value in (
        ("device_serial", clips[0].recording.serial),
        ("started_at", "2026-11-21T14:05:09"),
        ("officer_id", "PC 1234"),
        ("incident_id", "CAD 4711/21NOV26"),
        ("title", "Traffic stop, Euston Road"),
    ):
        await set_value(tab, name, value)
    await tab.choose_files("#files", clips[0].file)
    await press(tab, "Start upload")
    await tab.until(f"{ROW}.dataset.state === 'stored'")
    await desk.stage.secure(clips[0])
    await desk.stage.publish_log()
    await tab.until(f"{ROW}.dataset.state === 'secured'")
    desk.relay.bytes_s = SLOW_BYTES_S
    await tab.choose_files("#files", clips[1].file)
    await press(tab, "Start upload")
    await tab.until("document.querySelectorAll('progress')[1]?.value > 55")
    # Made up, so that every picture is the same but for what changed on the page.
    await set_value(tab, "device_serial", "BWC-000042")
    picture = await tab.take_picture()

    assert len(picture) > 20_000
    if os.environ.get("WRITE_PICTURES"):
        PICTURE.write_bytes(picture)
    assert PICTURE.exists()
