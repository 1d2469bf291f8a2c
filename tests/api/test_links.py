"""/d/{token}: what a recipient gets, after the terms, and what is recorded before that."""

import io
import json
import os
import re
import zipfile
from datetime import timedelta

import pytest

from ingest_service.actions.settle_disclosure import settle_due_disclosures
from ingest_service.domain.clock import utc_now
from ingest_service.domain.link_guard import LinkGuard
from schemas.verify_pack import FAILS, HOLDS, verify_pack
from tests.api.served import assert_problem
from tests.api.test_disclosures import disclose

DATA = os.urandom(150_000)
OTHER = os.urandom(70_000)
NAMES = "Ada <i>Prosecutor</i>"
HTML = {"Accept": "text/html,application/xhtml+xml"}


@pytest.fixture
async def discloser(served):
    async with served.client(served.token("disclosures:write", sub="P-dora")) as client:
        yield client


@pytest.fixture
async def clips(served, dock):
    made = [await dock.secure(DATA, filename="stop.mp4"), await dock.secure(OTHER)]
    await served.publish_log()
    return made


class Link:
    def __init__(self, made, http):
        self.made, self.http = made, http
        self.path = "/d/" + made["link"].rsplit("/", 1)[1]

    async def get(self, tail="", **headers):
        return await self.http.get(self.path + tail, headers=headers)

    async def accept(self, name=NAMES, **fields):
        return await self.http.post(
            self.path + "/accept", data={"name": name, "accept": "yes", **fields}
        )


@pytest.fixture
async def make_link(discloser, stranger):
    async def make(*clip_ids, **changed):
        return Link(await disclose(discloser, *clip_ids, **changed), stranger)

    return make


@pytest.fixture
async def link(make_link, clips):
    return await make_link(*clips)


async def types(reader, clip_id):
    events = (await reader.get(f"/v1/clips/{clip_id}/events")).json()["events"]
    return [event["leaf"] for event in events if event["type"].startswith("disclosure.")]


async def test_the_page_says_who_for_what_and_the_terms(make_link, clips):
    recipient = {"kind": "defence", "organisation": "Kind & <b>Co</b>", "reference": "R-9"}
    link = await make_link(*clips, recipient=recipient, terms="Only <script>you</script>.")

    page = await link.get()

    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "Kind &amp; &lt;b&gt;Co&lt;/b&gt;" in page.text
    assert "Only &lt;script&gt;you&lt;/script&gt;." in page.text
    assert clips[0] not in page.text


async def test_the_page_loads_nothing_and_tells_nobody_where_it_was(link):
    page = await link.get()

    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "script" not in policy
    assert page.headers["referrer-policy"] == "no-referrer"
    assert "no-store" in page.headers["cache-control"]
    assert not re.search(r"<script|src=|https?://", page.text)


@pytest.mark.parametrize("tail", ["/pack", "/clips/{clip_id}"])
async def test_nothing_is_given_out_before_the_terms_are_accepted(served, link, clips, tail):
    async with served.nothing_changes():
        response = await link.get(tail.format(clip_id=clips[0]))

    problem = assert_problem(response, 403, "terms-not-accepted")
    assert "/accept" in problem["remedy"]


async def test_accepting_leads_back_to_the_page_which_lists_the_clips(link, clips, discloser):
    accepted = await link.accept()
    page = await link.get()

    assert (accepted.status_code, accepted.headers["location"]) == (303, f"..{link.path[2:]}")
    assert all(clip_id in page.text for clip_id in clips)
    shown = (await discloser.get(f"/v1/disclosures/{link.made['disclosure_id']}")).json()
    assert shown["acceptances"][0]["name"] == NAMES


@pytest.mark.parametrize(
    ("body", "content_type", "status", "name"),
    [
        ("name=Ada", "application/x-www-form-urlencoded", 422, "invalid-request"),
        ("accept=yes", "application/x-www-form-urlencoded", 422, "invalid-request"),
        ("name=+&accept=yes", "application/x-www-form-urlencoded", 422, "invalid-request"),
        ("name=A%0Ab&accept=yes", "application/x-www-form-urlencoded", 422, "invalid-request"),
        ("name=%ff&accept=yes", "application/x-www-form-urlencoded", 400, "malformed-body"),
        ("a=1&" * 20, "application/x-www-form-urlencoded", 400, "malformed-body"),
        ("name=" + "x" * 5000, "application/x-www-form-urlencoded", 413, "body-too-large"),
        ('{"name": "Ada"}', "application/json", 415, "unsupported-content-type"),
    ],
)  # fmt: skip
async def test_an_acceptance_without_name_or_word_is_none(
    served, link, body, content_type, status, name
):
    async with served.nothing_changes():
        response = await link.http.post(
            link.path + "/accept", content=body, headers={"Content-Type": content_type}
        )

    assert_problem(response, status, name)


async def test_the_pack_of_many_clips_holds(served, link, clips, tmp_path):
    await link.accept()

    response = await link.get("/pack")

    file = tmp_path / "pack.zip"
    file.write_bytes(response.content)
    result = verify_pack(file, [served.resources.signer.verifier_key])
    assert result.verdict == HOLDS, "\n".join(map(str, result.lines))
    with zipfile.ZipFile(file) as archive:
        files = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    listed = json.loads(files["data/disclosure.json"])
    assert [each["clip_id"] for each in listed["clips"]] == sorted(clips)
    assert {files[each["file"]] for each in listed["clips"]} == {DATA, OTHER}


@pytest.mark.parametrize(
    "harm",
    ["a clip is dropped", "clips are swapped", "the list is changed"],
)
async def test_a_pack_that_was_tampered_with_does_not_hold(served, link, clips, tmp_path, harm):
    await link.accept()
    with zipfile.ZipFile(io.BytesIO((await link.get("/pack")).content)) as archive:
        archive.extractall(tmp_path)
    (folder,) = tmp_path.iterdir()
    first, second = (folder / "data" / "clips" / clip_id for clip_id in sorted(clips))
    if harm == "a clip is dropped":
        first.rename(tmp_path / "gone")
    elif harm == "clips are swapped":
        first.rename(tmp_path / "gone")
        second.rename(first)
        (tmp_path / "gone").rename(second)
    else:
        text = (folder / "data" / "disclosure.json").read_text()
        (folder / "data" / "disclosure.json").write_text(text.replace("prosecution", "defence"))

    result = verify_pack(folder, [served.resources.signer.verifier_key])

    assert result.verdict == FAILS


async def test_a_clip_is_given_out_alone_and_by_range(link, clips):
    await link.accept()

    whole = await link.get(f"/clips/{clips[0]}")
    part = await link.get(f"/clips/{clips[0]}", Range="bytes=100-199")

    assert (whole.status_code, whole.content) == (200, DATA)
    assert (part.status_code, part.content) == (206, DATA[100:200])
    assert "no-store" in part.headers["cache-control"]


async def test_every_access_is_in_the_clips_chain_without_names(link, clips, reader, discloser):
    await link.accept()
    await link.get("/pack")
    await link.get(f"/clips/{clips[0]}", Range="bytes=5-9")

    first, second = [await types(reader, clip_id) for clip_id in clips]
    assert [leaf["type"] for leaf in first] == ["disclosure.created", *["disclosure.accessed"] * 2]
    assert [leaf["type"] for leaf in second] == ["disclosure.created", "disclosure.accessed"]
    told = first[-1]["facts"]
    assert (told["what"], told["start"], told["stop"]) == ("clip", 5, 10)
    assert told["counterparty"]["person_sha256"]
    assert not {"Ada", "London", "127.0.0.1"} & set(re.findall(r"[\w.]+", json.dumps(first)))
    shown = (await discloser.get(f"/v1/disclosures/{link.made['disclosure_id']}")).json()
    assert shown["download_count"] == 2
    assert [each["what"] for each in shown["accesses"]] == ["clip", "pack", "accept"]


async def test_what_is_not_disclosed_is_not_given_out(served, link, dock):
    await link.accept()
    other = await dock.secure(OTHER)

    async with served.nothing_changes():
        assert_problem(await link.get(f"/clips/{other}"), 404, "clip-not-found")


@pytest.mark.parametrize(("allowed", "tail"), [("clips", "/pack"), ("pack", "/clips/{clip_id}")])
async def test_what_is_not_allowed_is_not_given_out(make_link, clips, allowed, tail):
    link = await make_link(*clips, allows=[allowed])
    await link.accept()

    response = await link.get(tail.format(clip_id=clips[0]))

    assert_problem(response, 403, "disclosure-forbids")


TAILS = ["", "/pack", "/clips/{clip_id}"]


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("how", ["revoked", "expired"])
async def test_an_ended_link_opens_nothing(served, link, discloser, clips, how, tail):
    await link.accept()
    path = link.path + tail.format(clip_id=clips[0])
    if how == "revoked":
        await discloser.post(
            f"/v1/disclosures/{link.made['disclosure_id']}/revoke", json={"authority": "C-1"}
        )
    with served.changed(now=lambda: utc_now() + timedelta(days=15 if how == "expired" else 0)):
        async with served.nothing_changes():
            problem = await link.http.get(path)
            page = await link.http.get(path, headers=HTML)

    assert assert_problem(problem, 410, "link-ended")["state"] == how
    assert (page.status_code, "text/html" in page.headers["content-type"]) == (410, True)
    assert "Ask who sent the link" in page.text


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("guess", ["x", "A" * 43, "%00", "A" * 200])
async def test_a_guessed_link_is_nothing(served, stranger, guess, tail):
    with served.changed(link_guard=LinkGuard(100)):
        async with served.nothing_changes():
            path = f"/d/{guess}{tail.format(clip_id='0199c0de-5f0a-7b7c-8d1e-2f3a4b5c6d7e')}"
            response = await stranger.get(path)

    assert_problem(response, 404, "link-unknown")


async def test_who_guesses_often_is_made_to_wait(served, stranger, link):
    with served.changed(link_guard=LinkGuard(3)):
        answers = [(await stranger.get(f"/d/guess-{n}")).status_code for n in range(4)]
        last = await stranger.get("/d/guess-9")

    assert answers == [404, 404, 404, 429]
    assert_problem(last, 429, "too-many-misses")
    assert int(last.headers["retry-after"]) > 0


async def test_a_guess_is_in_the_security_log(served, stranger):
    async def count():
        await served.call(served.resources.security.flush(is_last=True))
        (row,) = await served.sql(
            "SELECT COALESCE(sum(denial_count), 0)::int AS guesses FROM security_events"
            " WHERE problem = 'link-unknown'"
        )
        return row["guesses"]

    before = await count()
    await stranger.get("/d/a-guess")

    assert await count() == before + 1


async def test_good_links_cost_nothing_of_the_bucket(served, link):
    with served.changed(link_guard=LinkGuard(2)):
        answers = {(await link.get()).status_code for _ in range(6)}

    assert answers == {200}


async def test_the_token_is_in_no_log_line(served, link, capsys):
    await link.accept()
    await link.get("/pack")
    await link.get("/no/such/path")
    await link.http.get("/d/" + link.path[3:] + "x")

    told = capsys.readouterr()
    assert "/d/{token}/pack" in told.out + told.err
    assert link.path[3:] not in told.out + told.err


async def test_altered_footage_ends_in_no_pack(served, link, clips):
    await link.accept()
    (row,) = await served.sql("SELECT object_key FROM clips WHERE clip_id = $1", sorted(clips)[1])
    served.vault.tamper(row["object_key"], bytes(10))

    with pytest.raises(Exception, match=r"peer closed|incomplete"):
        await link.get("/pack")


async def test_an_expired_link_is_settled_once(served, link, clips, reader):
    with served.changed(now=lambda: utc_now() + timedelta(days=15)):
        opened = served.resources
        # Also those that other tests have left.
        while await served.call(
            settle_due_disclosures(
                pool=opened.pool,
                now=opened.now,
                disclosing=opened.disclosing,
                rules=opened.retention,
                locks_objects=False,
            )
        ):
            pass

    told = [leaf["type"] for leaf in await types(reader, clips[0])]
    assert told == ["disclosure.created", "disclosure.expired"]
