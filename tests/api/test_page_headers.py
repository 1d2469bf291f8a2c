"""What a browser is told with a page: of every route that answers with one, found by asking all.

Each route is sent the request of `test_authorisation` by somebody who prefers HTML. So a new route
is asked here, too, and one that answers with a page that tells less than the others fails.
"""

import base64
import hashlib
import re
import secrets
from html.parser import HTMLParser

import httpx
import pytest

from tests.api import test_authorisation as matrix

facts = matrix.facts
world = matrix.world

WANTS_PAGE = {"Accept": "text/html"}
# The same for everybody, without a token: a browser may keep them, and asks whether they changed.
IMPERSONAL = {"/upload", "/ops"}
# What a browser shows as a document of ours, with scripts where it has any.
DOCUMENTS = re.compile(r"text/html|text/xml|application/xml|[\w./-]+\+xml")
SAME_FOR_ALL = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
LEADING = {"src", "href", "action", "srcset", "poster", "data", "formaction", "background"}


class Leads(HTMLParser):
    """Collects where a page leads or loads from, and what of script and style stands in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.scripts_in_text: list[str] = []
        self.styles: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self._inside = tag if tag == "style" else ""
        self.targets += [value or "" for name, value in attrs if name in LEADING]
        if tag == "script" and "src" not in given:
            self.scripts_in_text.append(tag)
        self.scripts_in_text += [name for name in given if name.startswith("on") or name == "style"]

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside:
            self.styles.append(data)


def is_page(response: httpx.Response) -> bool:
    kind = response.headers.get("content-type", "").partition(";")[0]
    # What is said to be nothing is taken for what it looks like.
    return bool(DOCUMENTS.fullmatch(kind)) or (not kind and bool(response.content))


def find_faults(response: httpx.Response, own_origin: str, *, is_personal: bool) -> list[str]:
    """Return what a browser is not told, or is allowed, that it should not be."""
    headers = response.headers
    faults = [
        f"{name}: {headers.get(name)}"
        for name, value in SAME_FOR_ALL.items()
        if headers.get(name) != value
    ]
    if headers.get("content-type") != "text/html; charset=utf-8":
        faults.append(f"content-type: {headers.get('content-type')}")
    if is_personal and "no-store" not in headers.get("cache-control", ""):
        faults.append(f"cache-control: {headers.get('cache-control')}")
    leads = Leads(response.text)
    faults += find_policy_faults(headers.get("content-security-policy", ""), own_origin, leads)
    faults += [f"leads to {each}" for each in leads.targets if re.match(r"[a-z]*:?//", each)]
    faults += [f"in the page: {each}" for each in leads.scripts_in_text]
    return faults


def find_policy_faults(text: str, own_origin: str, leads: Leads) -> list[str]:
    policy = [directive.split() for directive in text.split(";") if directive]
    stated = {name for name, *sources in policy if sources}
    hashed = [
        f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'"
        for style in leads.styles
    ]
    allowed = {
        "default-src": {"'none'"},
        "base-uri": {"'none'"},
        "frame-ancestors": {"'none'"},
        # This does not fall back to default-src.
        "form-action": {"'none'", "'self'"},
        "script-src": {"'self'"},
        "style-src": {"'self'", *hashed},
        "img-src": {"'self'", "data:"},
        "connect-src": {"'self'", own_origin},
        "require-trusted-types-for": {"'script'"},
        "trusted-types": {"'none'"},
        "sandbox": set(),
    }
    faults = [
        f"no {name}"
        for name in ("default-src", "base-uri", "frame-ancestors", "form-action")
        if name not in stated
    ]
    for name, *sources in policy:
        faults += [f"{name} {each}" for each in sources if each not in allowed.get(name, ())]
    return faults


async def test_every_page_tells_the_browser_to_load_and_frame_nothing_else(world):
    faults: dict[str, list[str]] = {}
    met = set()
    everything = world.served.token(*matrix.EVERYTHING, sub="P-page", kind="person")
    async with (
        world.served.client() as nobody,
        world.served.client(everything) as person,
        matrix.open_dock(world.served, world.facts.station, world.facts.key) as dock,
    ):
        for asker in (nobody, person, dock.http):
            asker.headers.update(WANTS_PAGE)
            for (method, path), send in matrix.RECIPES.items():
                response = await send(world, asker)
                if not is_page(response):
                    continue
                met.add((method, path))
                is_personal = path not in IMPERSONAL
                found = find_faults(response, world.served.base_url, is_personal=is_personal)
                if found:
                    faults[f"{method} {path}: {response.status_code}"] = found

    assert faults == {}
    declared = {
        (method.upper(), path)
        for path, operations in world.served.app.openapi()["paths"].items()
        for method, operation in operations.items()
        for status, answer in operation["responses"].items()
        if status == "200" and "text/html" in answer.get("content", {})
    }
    assert {(method, path.replace(":path", "")) for method, path in met} == declared


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/d/{unknown}", 404),
        ("GET", "/d/{unknown}/pack", 404),
        ("GET", "/d/{unknown}/clips/{clip_id}", 404),
        ("POST", "/d/{link}/accept", 415),
    ],
)
async def test_a_refusal_that_is_a_page_tells_no_less(world, method, path, status):
    filled = path.format(unknown=secrets.token_hex(8), **vars(world.facts))
    async with world.served.client() as nobody:
        response = await nobody.request(method, filled, headers=WANTS_PAGE)

    assert (response.status_code, is_page(response)) == (status, True)
    assert find_faults(response, world.served.base_url, is_personal=True) == []


@pytest.mark.parametrize("path", ["/nothing", "/d", "/v1/clips", "/ops/nothing", "/files"])
async def test_no_other_refusal_is_a_page_whatever_is_asked_for(world, path):
    async with world.served.client() as nobody:
        response = await nobody.get(path, headers=WANTS_PAGE)

    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("policy", "fault"),
    [
        ("script-src 'self' 'unsafe-inline'", "script-src 'unsafe-inline'"),
        ("script-src https://cdn.example.com", "script-src https://cdn.example.com"),
        ("style-src *", "style-src *"),
        ("font-src 'self'", "font-src 'self'"),
        ("frame-ancestors 'self'", "frame-ancestors 'self'"),
    ],
)
def test_a_policy_that_allows_more_is_a_fault(policy, fault):
    strict = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    assert find_policy_faults(strict, "http://own", Leads("")) == []

    assert fault in find_policy_faults(f"{strict}; {policy}", "http://own", Leads(""))
