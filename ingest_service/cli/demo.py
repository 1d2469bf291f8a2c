"""`ingest demo`: one clip through two cuts and a crash, and the proof that nothing was lost."""

import asyncio
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

import aiofiles
import httpx
import typer

from ingest_service.cli.faulty_link import FaultyLink, open_link
from ingest_service.dev.process import Child, StartFailed
from ingest_service.dock.display import BarDisplay, LineDisplay, open_display, printable
from ingest_service.dock.failures import DockFailure
from ingest_service.dock.progress import Step
from ingest_service.dock.recording import hash_file, identify_file
from ingest_service.dock.release import verify_release
from ingest_service.dock.service import open_service
from ingest_service.dock.target import Target, read_dev_target
from ingest_service.dock.upload import Dock, Outcome, Policy, upload_recording
from schemas.receipt import Receipt

EXIT_FAILED: Final = 1
EXIT_INTERRUPTED: Final = 130
BLOCK_BYTES: Final = 1024 * 1024
CLIP_BYTES: Final = 200_000_000
SERIAL: Final = "BWC-000001"
# Where in the clip things go wrong: no multiple of a chunk, so always in the middle of one.
FIRST_CUT: Final = 0.26
KILL: Final = 0.51
SECOND_CUT: Final = 0.76

_START_TIMEOUT_S: Final = 120.0
_STOP_GRACE_S: Final = 30.0
_UPLOAD_TIMEOUT_S: Final = 300.0
_POLL_S: Final = 0.1
_METADATA: Final = {
    "officer_id": "P1042",
    "category": "stop_and_search",
    "started_at": "2026-11-21T22:14:05Z",
    "clock_state": "synced",
}
# A moving picture with fresh noise in every frame: it compresses as badly as a real street does.
_PICTURE: Final = "testsrc2=size=1280x720:rate=25,noise=alls=14:allf=t"
_SOUND: Final = "sine=frequency=440:sample_rate=48000"


class DemoFailed(Exception):
    """Something that was promised did not hold; the message says what."""


@dataclass(slots=True)
class Faults:
    """What was done to the upload, as it happened."""

    killed_pid: int = 0
    new_pid: int = 0


class Story:
    """Tells what happens, with the seconds since the beginning."""

    def __init__(self, display: BarDisplay | LineDisplay) -> None:
        self.display = display
        self._began_at = time.monotonic()

    def tell(self, text: str) -> None:
        """Print one line."""
        self.display.say(f"[{self.elapsed_s():6.1f} s] {text}")

    def show(self, path: Path, label: str, done_bytes: int, size_bytes: int) -> None:
        """Move a bar; the name is enough, all happens in one folder."""
        self.display.show(Path(path.name), label, done_bytes, size_bytes)

    def end(self, path: Path) -> None:
        """Take a bar away."""
        self.display.end(Path(path.name))

    def elapsed_s(self) -> float:
        """Return the seconds since the beginning."""
        return time.monotonic() - self._began_at


def demo(
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the folder with clip, receipt and logs.")
    ] = False,
) -> None:
    """Take a real clip from a dock to secured evidence, through two cuts and a crash.

    Starts the whole service on free ports in a temporary folder, makes an H.264 MP4 of 200 MB and
    uploads it; on the way the connection is cut twice and the API is killed once (SIGKILL). Then
    it downloads the clip, compares hashes, and checks the receipt offline. Exit 0 only if all
    of that holds.
    """
    folder = Path(tempfile.mkdtemp(prefix="ingest-demo-"))
    exit_code = 0
    try:
        with open_display(sys.stdout) as display:
            story = Story(display)
            exit_code = asyncio.run(_run(folder, story))
    except (KeyboardInterrupt, asyncio.CancelledError):
        typer.echo("interrupted", err=True)
        exit_code = EXIT_INTERRUPTED
    finally:
        if keep:
            typer.echo(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if exit_code == EXIT_FAILED and not keep:
        typer.echo("--keep keeps clip, receipt and logs of such a run", err=True)
    raise typer.Exit(exit_code)


async def _run(folder: Path, story: Story) -> int:
    task = asyncio.current_task()
    if task is not None:
        # So that `kill` cleans up as Ctrl-C does.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await _tell_story(folder, story)
    except (DemoFailed, DockFailure, StartFailed, TimeoutError, httpx.HTTPError) as error:
        story.tell(f"FAILED: {error or type(error).__name__}")
        return EXIT_FAILED
    return 0


async def _tell_story(folder: Path, story: Story) -> None:
    camera = folder / SERIAL
    camera.mkdir()
    clip = camera / "20261121-221405.mp4"
    ffmpeg = _find_ffmpeg()
    async with _open_dev(folder / "data", story) as facts:
        await _make_clip(ffmpeg, clip, story)
        await _require_h264(ffmpeg, clip)
        target = read_dev_target(folder / "data")
        outcome, faults, link = await _upload(clip, target, folder / "data", story)
        copy = folder / "downloaded.mp4"
        await _download(outcome, copy, facts, story)
        sha256_hex = await _require_equal(clip, copy, outcome, story)
        await _require_receipt(outcome, target, sha256_hex, story)
        await _require_playable(ffmpeg, copy, story)
    _sum_up(outcome, faults, link, story)


@asynccontextmanager
async def _open_dev(data: Path, story: Story) -> AsyncIterator[dict[str, Any]]:
    """Start `ingest dev` as anybody would, and yield what it says of itself."""
    story.tell("starting Postgres, S3, API and jobs on free ports")
    dev = Child(
        "ingest dev",
        [sys.executable, "-m", "ingest_service", "dev", "--data", str(data), "--port", "0"],
        environment=dict(os.environ),
        log_file=data.with_name("dev.log"),
        pid_file=data.with_name("dev.pid"),
        stop_signal=signal.SIGTERM,
    )
    dev.start()
    try:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not (data / "dev.json").exists():
            if not dev.is_alive():
                raise DemoFailed(dev.failure("did not start"))
            if time.monotonic() > deadline:
                raise DemoFailed(dev.failure(f"was not ready within {_START_TIMEOUT_S:.0f} s"))
            await asyncio.sleep(_POLL_S)
        facts = _read_facts(data)
        story.tell(f"the service is ready at {facts['base_url']}")
        yield facts
    finally:
        story.tell("stopping the service")
        dev.stop(grace_s=_STOP_GRACE_S)


def _read_facts(data: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((data / "dev.json").read_bytes())
    return facts


def _find_ffmpeg() -> str:
    # Of an extra that servers in production do not have, so it is not imported above.
    try:
        return str(importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        message = f"ffmpeg is missing: install the extra 'embedded' ({error})"
        raise DemoFailed(message) from error


async def _make_clip(ffmpeg: str, clip: Path, story: Story) -> None:
    story.tell(f"making an H.264 clip of about {CLIP_BYTES // 1_000_000} MB")
    encoder = await asyncio.create_subprocess_exec(
        *(ffmpeg, "-hide_banner", "-nostdin", "-v", "error", "-progress", "pipe:1"),
        *("-f", "lavfi", "-i", _PICTURE, "-f", "lavfi", "-i", _SOUND),
        *("-c:v", "libx264", "-preset", "ultrafast", "-crf", "23", "-pix_fmt", "yuv420p"),
        *("-c:a", "aac", "-movflags", "+faststart", "-fs", str(CLIP_BYTES), str(clip)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        progress: AsyncIterable[bytes] = encoder.stdout or asyncio.StreamReader()
        async for line in progress:
            name, _, value = line.decode().strip().partition("=")
            if name == "total_size" and value.isdigit():
                story.show(clip, "encoding", int(value), CLIP_BYTES)
        if await encoder.wait() != 0:
            message = f"ffmpeg could not make a clip (status {encoder.returncode})"
            raise DemoFailed(message)
    finally:
        story.end(clip)
        if encoder.returncode is None:
            encoder.kill()
            await encoder.wait()


async def _require_h264(ffmpeg: str, clip: Path) -> None:
    _, said = await _call(ffmpeg, "-hide_banner", "-nostdin", "-i", str(clip))
    if "Video: h264" not in said or "mov,mp4" not in said:
        message = f"not an H.264 MP4: {said}"
        raise DemoFailed(message)


async def _require_playable(ffmpeg: str, clip: Path, story: Story) -> None:
    await _require_h264(ffmpeg, clip)
    status, said = await _call(
        *(ffmpeg, "-hide_banner", "-nostdin", "-v", "error", "-xerror"),
        *("-i", str(clip), "-f", "null", "-"),
    )
    if status != 0 or said.strip():
        message = f"the downloaded clip does not play: {said.strip()}"
        raise DemoFailed(message)
    story.tell("the downloaded clip is H.264 in MP4, and every frame of it decodes")


async def _call(*command: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, said.decode(errors="replace")


async def _upload(
    clip: Path, target: Target, data: Path, story: Story
) -> tuple[Outcome, Faults, FaultyLink]:
    """Upload the clip over a link that breaks, to a service that dies."""
    faults = Faults()
    size_bytes = identify_file(clip).size_bytes
    service_port = httpx.URL(target.url).port or 80

    def observe(step: Step) -> None:
        if step.note:
            story.tell(f"dock: {step.stage}: {step.note}")
        else:
            story.show(step.path, step.stage, step.done_bytes, step.size_bytes)

    async with open_link(service_port) as link:

        def cut() -> None:
            story.tell(f"*** connection cut after {link.sent_bytes:,} bytes, inside a chunk")
            link.cut()

        def kill() -> None:
            faults.killed_pid = int(_read_facts(data)["pids"]["serve"])
            os.kill(faults.killed_pid, signal.SIGKILL)
            story.tell(f"*** API server (process {faults.killed_pid}) killed with SIGKILL")

        link.plan(int(FIRST_CUT * size_bytes), cut)
        link.plan(int(KILL * size_bytes), kill)
        link.plan(int(SECOND_CUT * size_bytes), cut)
        through_link = replace(target, url=f"http://127.0.0.1:{link.port}")
        policy = Policy(verifier_key=target.verifier_key, give_up_after_s=_UPLOAD_TIMEOUT_S)
        story.tell(f"uploading {size_bytes:,} bytes as camera {SERIAL}")
        async with open_service(through_link, connections_max=1) as service:
            dock = Dock(service, policy, _METADATA, observe)
            outcome = await upload_recording(clip, dock=dock)
        story.end(clip)
    faults.new_pid = int(_read_facts(data)["pids"]["serve"])
    if link.cut_count != 2 or not faults.killed_pid or faults.new_pid == faults.killed_pid:  # noqa: PLR2004  two cuts planned
        message = f"not everything went wrong that should have: {link.cut_count} cuts, {faults}"
        raise DemoFailed(message)
    if outcome.state != "secured":
        message = f"the clip is {outcome.state}, not secured"
        raise DemoFailed(message)
    story.tell(f"secured: received, and read back from storage with SHA-256 {outcome.sha256_hex}")
    return outcome, faults, link


async def _download(outcome: Outcome, copy: Path, facts: dict[str, Any], story: Story) -> None:
    story.tell("downloading it with the reader's token")
    url = f"{facts['base_url']}/v1/clips/{outcome.clip_id}/content"
    headers = {"Authorization": f"Bearer {facts['tokens']['reader']}"}
    done_bytes = 0
    async with (
        httpx.AsyncClient(trust_env=False, timeout=60) as http,
        http.stream("GET", url, params={"purpose": "demo"}, headers=headers) as response,
    ):
        if response.status_code != httpx.codes.OK:
            message = f"download: {response.status_code} {(await response.aread()).decode()}"
            raise DemoFailed(message)
        async with aiofiles.open(copy, "wb") as file:
            async for block in response.aiter_bytes(BLOCK_BYTES):
                await file.write(block)
                done_bytes += len(block)
                story.show(copy, "downloading", done_bytes, outcome.size_bytes)
    story.end(copy)


async def _require_equal(clip: Path, copy: Path, outcome: Outcome, story: Story) -> str:
    """Return the SHA-256 of the original, once it is that of the copy too."""
    original, downloaded = [(await hash_file(path)).hex() for path in (clip, copy)]
    story.tell(f"original    {original}  {identify_file(clip).size_bytes:,} bytes")
    story.tell(f"downloaded  {downloaded}  {identify_file(copy).size_bytes:,} bytes")
    if not original == downloaded == outcome.sha256_hex:
        message = "the downloaded bytes are not the original's"
        raise DemoFailed(message)
    return original


async def _require_receipt(outcome: Outcome, target: Target, sha256_hex: str, story: Story) -> None:
    if outcome.receipt_path is None:
        message = "the dock kept no receipt"
        raise DemoFailed(message)
    async with aiofiles.open(outcome.receipt_path, "rb") as file:
        receipt = Receipt.model_validate_json(await file.read())
    facts = verify_release(
        receipt,
        verifier_key=target.verifier_key,
        clip_id=outcome.clip_id,
        sha256_hex=sha256_hex,
        size_bytes=identify_file(outcome.path).size_bytes,
    )
    story.tell(
        f"receipt verified offline under {receipt.key_name}+{receipt.key_id}: "
        f"leaf {receipt.log_index} of the log, "
        f"{facts.bucket}/{facts.object_key}, version {facts.object_version}"
    )


def _sum_up(outcome: Outcome, faults: Faults, link: FaultyLink, story: Story) -> None:
    twice_bytes = max(0, link.sent_bytes - outcome.size_bytes)
    story.display.say(
        f"\nEverything holds, after {story.elapsed_s():.0f} s:\n"
        f"  clip        {outcome.clip_id}\n"
        f"  camera      {SERIAL}, {printable(Path(outcome.path.name))}\n"
        f"  bytes       {outcome.size_bytes:,}; {twice_bytes:,} of them were sent twice\n"
        f"  went wrong  {link.cut_count} cuts; API process {faults.killed_pid} killed, "
        f"{faults.new_pid} took over\n"
        f"  SHA-256     {outcome.sha256_hex}\n"
        f"              on the camera, as received, as read back, and as downloaded\n"
        f"  receipt     verified offline; the camera may erase its copy\n"
    )
