"""Browsers on other origins: lines J1 to J4 of the checklist."""

import pytest

from tests.api.served import TUS

ORIGIN = {"Origin": "https://desk.example"}
PREFLIGHT = {
    **ORIGIN,
    "Access-Control-Request-Method": "PATCH",
    "Access-Control-Request-Headers": "authorization, tus-resumable, upload-offset",
}


def listed(response, name):
    return {each.strip().lower() for each in response.headers[name].split(",")}


@pytest.mark.parametrize("path", ["/files", "/files/01a3c0de-0000-7000-8000-000000000000"])
async def test_j01_a_preflight_needs_no_token(stranger, path):
    response = await stranger.options(path, headers=PREFLIGHT)

    assert response.status_code in {200, 204}
    assert response.headers["access-control-allow-origin"] == "*"
    assert {"post", "head", "patch", "delete"} <= listed(response, "access-control-allow-methods")
    wanted = {"authorization", "tus-resumable", "upload-offset", "upload-checksum", "upload-concat"}
    assert wanted <= listed(response, "access-control-allow-headers")
    assert response.headers["access-control-max-age"] == "86400"


async def test_j02_every_answer_may_be_read(dock, stranger):
    path = await dock.open(5)
    answers = [
        await dock.head(path, **ORIGIN),
        await dock.append(path, 0, b"bytes", **ORIGIN),
        await dock.append(path, 9, b"bytes", **ORIGIN),
        await dock.http.head(path, headers=ORIGIN),
        await stranger.head(path, headers={**TUS, **ORIGIN}),
    ]

    assert [answer.status_code for answer in answers] == [200, 204, 409, 412, 401]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == "*"
        wanted = {"upload-offset", "location", "upload-length", "tus-resumable", "upload-expires"}
        assert wanted <= listed(answer, "access-control-expose-headers")


async def test_j03_plain_options_are_answered_as_ever(stranger):
    response = await stranger.options("/files")

    assert response.headers["tus-version"] == "1.0.0"
    assert "access-control-allow-origin" not in response.headers


async def test_j04_no_origin_is_echoed_and_no_cookie_is_asked_for(stranger):
    response = await stranger.options("/files", headers=PREFLIGHT)

    assert "access-control-allow-credentials" not in response.headers
    assert "vary" not in response.headers
