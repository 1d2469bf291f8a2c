"""The page /upload as it is served; `tests/e2e/test_upload_page.py` uses it in a browser."""

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from ingest_service.api.upload_page import ASSETS
from loadtest.peers.installs import NotInstalled, install_npm
from tests.api.ietf import append, create
from tests.api.served import assert_problem

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "ingest_service" / "api" / "pages"
SOURCES = ROOT / "web" / "uppy"
OF_OURS = ("upload.html", "upload.css", "upload.js")


@pytest.mark.parametrize("path", ["/upload", *(f"/upload/{name}" for name in sorted(ASSETS))])
async def test_everything_comes_with_strict_headers_and_needs_no_token(served, stranger, path):
    response = await stranger.get(path)

    assert response.status_code == 200
    policy = dict(each.strip().split(" ", 1) for each in policy_of(response))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["connect-src"] == f"'self' {served.base_url}"
    for directive in ("base-uri", "form-action", "frame-ancestors", "trusted-types"):
        assert policy[directive] == "'none'"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["cross-origin-opener-policy"] == "same-origin"


def policy_of(response: httpx.Response) -> list[str]:
    return response.headers["content-security-policy"].split(";")


async def test_what_did_not_change_is_not_sent_again(stranger):
    first = await stranger.get("/upload")
    again = await stranger.get("/upload", headers={"If-None-Match": first.headers["etag"]})

    assert (again.status_code, again.content) == (304, b"")
    assert policy_of(again) == policy_of(first)


@pytest.mark.parametrize("name", ["upload.html", "nothing.js", "%2e%2e%2fupload_page.py"])
async def test_nothing_else_is_served(stranger, name):
    assert_problem(await stranger.get(f"/upload/{name}"), 404, "route-not-found")


@pytest.mark.parametrize("name", OF_OURS)
def test_the_page_names_no_other_host_and_has_no_script_or_style_in_its_text(name):
    text = (PAGES / name).read_text()

    assert "://" not in text
    assert not re.search(r"\son\w+=|\sstyle=|<script>|<style", text)


async def test_every_answer_of_tus_names_the_clip(dock):
    created = await dock.create(10)
    path = httpx.URL(created.headers["location"]).path
    answers = [created, await dock.head(path), await dock.append(path, 0, b"0123456789")]

    (clip_id,) = {answer.headers["ingest-clip-id"] for answer in answers}
    receipt = await dock.http.get(f"/v1/clips/{clip_id}/receipt")
    assert receipt.status_code == 202


async def test_every_answer_of_the_ietf_names_the_clip(dock):
    created = await create(dock, b"123", complete=False)
    appended = await append(dock, created.headers["location"], 3, b"45", complete=True)

    assert created.headers["ingest-clip-id"] == appended.headers["ingest-clip-id"]


async def test_a_partial_is_no_clip(dock):
    created = await dock.create(10, **{"Upload-Concat": "partial"})

    assert "ingest-clip-id" not in created.headers


def test_the_bundle_is_the_one_that_was_built_of_these_sources():
    for line in (SOURCES / "built.sha256").read_text().splitlines():
        digest, name = line.split()
        built = hashlib.sha256((ROOT / name).read_bytes()).hexdigest()

        assert built == digest, f"{name} changed: run `make page` and commit"


def test_whoever_builds_the_bundle_gets_the_same_bytes(tmp_path):
    try:
        installed = install_npm("uppy", SOURCES)
    except NotInstalled as reason:
        pytest.skip(f"Uppy cannot be bundled here: {reason}")
    node = shutil.which("node") or "node"
    subprocess.run([node, SOURCES / "build.mjs", installed, tmp_path], check=True)

    for name in ("uppy.js", "uppy.LICENSES.txt"):
        assert (tmp_path / name).read_bytes() == (PAGES / name).read_bytes()
