"""`ingest top`: on a terminal, in a pipe, and what it says when it is told nothing."""

import asyncio
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time

import pytest
from typer.testing import CliRunner

from ingest_service.cli import app
from ingest_service.cli.top_display import show_bytes, spark
from tests.api.served import PART_BYTES

CLIP = b"t" * (PART_BYTES + 3)
PROGRAM = [
    *(sys.executable, "-c"),
    "import typer; from ingest_service.cli.top import top; typer.run(top)",
]


@pytest.fixture
def token(served):
    return served.token("operate")


async def run(*arguments, env=None):
    return await asyncio.to_thread(
        CliRunner().invoke, app, ["top", *map(str, arguments)], env=env or {}
    )


def lines_of(result):
    """What the command printed; the service logs into the same output here."""
    return [line for line in result.output.splitlines() if "event=" not in line]


async def test_one_line_has_the_figures_of_a_real_upload(served, dock, token):
    await dock.announce(len(CLIP))
    with served.changed():
        result = await run("--url", served.base_url, "--token", token, "--once")

    assert result.exit_code == 0, result.output
    (line,) = lines_of(result)
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ received=\d", line)
    assert int(re.search(r"active=(\d+)", line)[1]) >= 1
    assert "read-back=" in line
    assert "log-lag=" in line


async def test_json_is_what_the_endpoint_says(served, token):
    result = await run("--url", served.base_url, "--token", token, "--once", "--json")

    (line,) = lines_of(result)
    assert set(json.loads(line)) >= {"rate", "uploads", "at_risk", "queues", "custody_log"}


async def test_a_data_folder_is_enough(served, token, tmp_path):
    facts = {"base_url": served.base_url, "tokens": {"operator": token}}
    (tmp_path / "dev.json").write_text(json.dumps(facts))

    result = await run("--dev", tmp_path, "--once")
    assert result.exit_code == 0, result.output


async def test_a_token_may_come_from_a_file(served, token, tmp_path):
    file = tmp_path / "operator.token"
    file.write_text(f"{token}\n")

    result = await run("--once", env={"OPS_URL": served.base_url, "OPS_TOKEN": f"@{file}"})
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("arguments", "remedy", "status"),
    [
        ([], "name a data folder|--url", 2),
        (["--url", "http://127.0.0.1:9"], "'operate'", 2),
        (["--url", "ingest.example", "--token", "x"], "begins with https://", 2),
        (["--dev", "/nowhere"], "running `ingest dev`", 2),
        (["--url", "http://127.0.0.1:9", "--token", "@/nowhere"], "cannot read the token", 2),
        (["--url", "http://127.0.0.1:9", "--token", "x", "--once"], "does not answer", 1),
    ],
    ids=["no address", "no token", "no scheme", "no folder", "no file", "nobody there"],
)
async def test_what_is_wrong_is_said_with_its_remedy(arguments, remedy, status):
    result = await run(*arguments)

    assert result.exit_code == status
    assert re.search(remedy, " ".join(result.output.split()))
    assert "Traceback" not in result.output


async def test_a_token_without_the_scope_ends_it_and_names_the_scope(served, dock):
    result = await run("--url", served.base_url, "--token", dock.token)

    assert result.exit_code == 1
    assert "'operate'" in result.output


def test_the_help_has_examples():
    result = CliRunner().invoke(app, ["top", "--help"])

    assert "ingest top --dev data --once --json" in " ".join(result.output.split())


def read_until(terminal, wanted, *, within_s):
    seen = b""
    deadline = time.monotonic() + within_s
    while wanted not in seen and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 65536)
    return seen


async def test_on_a_terminal_it_draws_a_screen_until_ctrl_c_and_leaves_the_terminal_as_it_was(
    served, token
):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 120))
    # Who runs the tests may have told their own width.
    told = {"COLUMNS": "120", "LINES": "40", "TERM": "xterm"}
    environment = {**os.environ, **told, "OPS_URL": served.base_url, "OPS_TOKEN": token}
    process = subprocess.Popen(  # noqa: ASYNC220 - a moment, before anything else runs
        [*PROGRAM, "--interval", "1"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        shown = await asyncio.to_thread(read_until, ours, b"stations to look at", within_s=60)
        process.send_signal(signal.SIGINT)
        rest = await asyncio.to_thread(read_until, ours, b"\x1b[?1049l", within_s=30)
        status = await asyncio.to_thread(process.wait, 30)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(ours)

    text = shown.decode()
    # The other screen: what stood on the terminal before comes back.
    assert "\x1b[?1049h" in text
    assert "\x1b[?1049l" in rest.decode()
    for part in ("receiving", "active uploads", "read-back", "leans on", "last 5 minutes"):
        assert part in text
    assert status == 0


async def test_in_a_pipe_it_goes_on_while_the_service_is_away(served, token):
    process = await asyncio.create_subprocess_exec(
        *PROGRAM,
        *("--interval", "1", "--url", "http://127.0.0.1:9", "--token", token),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        lines = [await asyncio.wait_for(process.stderr.readline(), 60) for _ in range(2)]
    finally:
        process.kill()
        await process.wait()

    assert all(b"does not answer" in line for line in lines)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (12_340_000, "12.3 MB"),
        (999_999_999, "1.00 GB"),
        (7.2e17, "720 PB"),
    ],
)
def test_sizes_are_short(size, text):
    assert show_bytes(size) == text


def test_a_spark_line_shows_the_last_values_and_copes_with_none():
    assert spark([]) == ""
    assert spark([0, 0]) == "▁▁"
    assert spark([0, 7, 14], cells=2) == "▅█"
