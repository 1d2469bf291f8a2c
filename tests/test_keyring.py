"""The key set of service tokens: re-read when it changes, kept when it cannot be read."""

import asyncio
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from ingest_service.domain.token import import_signing_key, make_private_key
from ingest_service.keyring import (
    BYTES_MAX,
    FETCH_AFTER_S,
    FETCH_PAUSE_S,
    FILE_CHECK_S,
    KeyRing,
    KeyRingUnusable,
    open_keyring,
    parse_key_set,
)


class Ticks:
    """A monotonic clock that moves when told."""

    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def ticks():
    return Ticks()


def make_jwk(kid, **more):
    return {**import_signing_key(make_private_key()).verifying_key.public_jwk, "kid": kid, **more}


def make_set(*jwks):
    return json.dumps({"keys": jwks}).encode()


class Issuer:
    """A real HTTP server with a key set."""

    def __init__(self):
        self.status = 200
        self.content = make_set(make_jwk("first"))
        self.request_count = 0
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                issuer.request_count += 1
                self.send_response(issuer.status)
                if 300 <= issuer.status < 400:
                    self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", str(len(issuer.content)))
                self.end_headers()
                self.wfile.write(issuer.content)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/jwks.json"


@pytest.fixture
def issuer():
    issuer = Issuer()
    thread = Thread(target=issuer.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield issuer
    issuer.server.shutdown()
    issuer.server.server_close()
    thread.join()


# --- reading a set -----------------------------------------------------------------------


def test_keys_go_by_their_kid_or_else_their_thumbprint():
    nameless = make_jwk("x")
    del nameless["kid"]

    keys = parse_key_set(make_set(make_jwk("first"), nameless))
    assert "first" in keys
    assert {key.key_id for name, key in keys.items() if name == key.key_id} == keys.keys() - {
        "first"
    }


def test_keys_that_are_not_taken_are_left_out():
    content = make_set(
        make_jwk("good"),
        make_jwk("for encryption", use="enc"),
        {"kty": "oct", "kid": "secret", "k": "AAAA"},
        {"kty": "AKP", "kid": "new", "alg": "ML-DSA-44", "pub": "AAAA"},
        "nonsense",
        None,
    )

    assert parse_key_set(content).keys() == {"good"}


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"[]", b"{}", b'{"keys":{}}', b"[" * 100_000, b" " * (BYTES_MAX + 1), b"\xff"],
)
def test_what_is_no_key_set_is_refused(content):
    with pytest.raises(KeyRingUnusable):
        parse_key_set(content)


# --- a file ------------------------------------------------------------------------------


async def test_a_changed_file_is_read_again(tmp_path, ticks):
    file = tmp_path / "jwks.json"
    file.write_bytes(make_set(make_jwk("first")))
    keyring = open_keyring(str(file))
    keyring.monotonic = ticks
    await keyring.find_key("first")
    file.write_bytes(make_set(make_jwk("second")))
    ticks.seconds += FILE_CHECK_S

    assert await keyring.find_key("first") is None
    assert await keyring.find_key("second") is not None


@pytest.mark.parametrize("damage", ["half", "gone"])
async def test_a_damaged_file_leaves_the_old_keys(tmp_path, ticks, damage):
    file = tmp_path / "jwks.json"
    file.write_bytes(make_set(make_jwk("first")))
    keyring = open_keyring(str(file))
    keyring.monotonic = ticks
    if damage == "half":
        file.write_bytes(file.read_bytes()[:20])
    else:
        file.unlink()
    ticks.seconds += FILE_CHECK_S

    assert await keyring.find_key("first") is not None


def test_a_missing_file_stops_the_start(tmp_path):
    with pytest.raises(KeyRingUnusable, match=r"missing\.json"):
        open_keyring(str(tmp_path / "missing.json"))


async def test_without_a_source_there_is_no_key():
    assert await open_keyring(None).find_key("first") is None


# --- a URL -------------------------------------------------------------------------------


async def test_an_unknown_key_is_asked_for_but_not_all_day(issuer, ticks):
    keyring = KeyRing(issuer.url, monotonic=ticks)
    assert await keyring.find_key("first") is not None

    for number in range(20):
        await keyring.find_key(f"invented-{number}")
    assert issuer.request_count == 1


async def test_a_new_key_is_found_after_the_pause(issuer, ticks):
    keyring = KeyRing(issuer.url, monotonic=ticks)
    await keyring.find_key("first")
    issuer.content = make_set(make_jwk("first"), make_jwk("second"))
    ticks.seconds += FETCH_PAUSE_S

    assert await keyring.find_key("second") is not None


async def test_a_key_that_was_taken_out_stops_being_good(issuer, ticks):
    keyring = KeyRing(issuer.url, monotonic=ticks)
    await keyring.find_key("first")
    issuer.content = make_set(make_jwk("second"))
    ticks.seconds += FETCH_AFTER_S

    assert await keyring.find_key("first") is None


@pytest.mark.parametrize("trouble", ["status", "redirect", "nonsense", "too long", "down"])
async def test_a_failing_refresh_keeps_the_old_keys(issuer, ticks, trouble):
    keyring = KeyRing(issuer.url, monotonic=ticks)
    await keyring.find_key("first")
    match trouble:
        case "status":
            issuer.status = 500
        case "redirect":
            issuer.status = 302
        case "nonsense":
            issuer.content = b"<html>"
        case "too long":
            issuer.content = b" " * (BYTES_MAX + 1)
        case "down":
            keyring.source = "http://127.0.0.1:1/jwks.json"
    ticks.seconds += FETCH_AFTER_S

    assert await keyring.find_key("first") is not None


async def test_a_burst_of_first_tokens_fetches_once(issuer, ticks):
    keyring = KeyRing(issuer.url, monotonic=ticks)

    found = await asyncio.gather(*(keyring.find_key("first") for _ in range(20)))
    assert (issuer.request_count, None in found) == (1, False)


def test_a_key_set_does_not_come_in_clear_over_a_network():
    with pytest.raises(KeyRingUnusable, match="https"):
        open_keyring("http://idp.example/jwks.json")


async def test_an_absent_issuer_does_not_stop_the_start():
    keyring = open_keyring("http://127.0.0.1:1/jwks.json")

    assert await keyring.find_key("first") is None
