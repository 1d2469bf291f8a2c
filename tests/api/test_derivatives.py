"""POST /v1/clips/{clip_id}/derivatives: a redacted copy points at its master, everywhere."""

import hashlib
import io
import json
import os
import secrets
import zipfile
from random import Random
from uuid import uuid4

import pytest

from schemas.verify_pack import FAILS, HOLDS, UNKNOWN, verify_pack
from tests.actions.test_pack import mend_lists
from tests.api.served import assert_problem

# The same in every process: names of tests carry the hash, and all workers must collect alike.
MASTER = Random("master").randbytes(90_000)  # noqa: S311  no secret is made of it
REDACTED = Random("redacted").randbytes(80_000)  # noqa: S311
NO_CLIP = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
async def redactor(served):
    token = served.token("disclosures:write", "clips:read", "content:read", sub="P-rae")
    async with served.client(token) as client:
        yield client


@pytest.fixture
async def master(dock):
    return await dock.secure(MASTER)


@pytest.fixture
async def redacted(dock):
    return await dock.secure(REDACTED)


def order(**changed):
    made = {
        "kind": "redaction",
        "tool": "blur 4.2",
        "parameters": {"faces": True, "radius_px": 24, "note": "Ünder the bridge"},
        "made_by": "P1042",
        **changed,
    }
    return {name: value for name, value in made.items() if value is not None}


async def register(client, master, **changed):
    return await client.post(f"/v1/clips/{master}/derivatives", json=order(**changed))


async def leaves_of(client, clip_id):
    events = (await client.get(f"/v1/clips/{clip_id}/events")).json()["events"]
    return [event["leaf"] for event in events if event["type"] == "derivative.registered"]


async def test_both_say_so(redactor, master, redacted):
    response = await register(redactor, master, derivative_clip_id=redacted)

    assert response.status_code == 201
    made = response.json()
    assert made["master_sha256"] == hashlib.sha256(MASTER).hexdigest()
    assert (made["sha256"], made["size_bytes"]) == (
        hashlib.sha256(REDACTED).hexdigest(),
        len(REDACTED),
    )
    assert (await redactor.get(f"/v1/clips/{redacted}")).json()["derived_from"] == [made]
    assert (await redactor.get(f"/v1/clips/{master}")).json()["derivatives"] == [made]
    told = [(await leaves_of(redactor, clip_id))[0]["facts"] for clip_id in (master, redacted)]
    assert [facts["role"] for facts in told] == ["master", "derivative"]
    assert "bridge" not in json.dumps(told)


async def test_a_copy_that_is_elsewhere_is_known_by_its_hash(redactor, master):
    sha256 = secrets.token_hex(32)

    response = await register(redactor, master, sha256=sha256, size_bytes=7)

    assert response.status_code == 201
    (shown,) = (await redactor.get(f"/v1/clips/{master}")).json()["derivatives"]
    assert (shown["sha256"], shown["derivative_clip_id"]) == (sha256, None)


async def test_a_clip_without_lineage_says_so(redactor, master):
    shown = (await redactor.get(f"/v1/clips/{master}")).json()

    assert (shown["derived_from"], shown["derivatives"]) == ([], [])


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"sha256": "0" * 64},
        {"size_bytes": 7},
        {"sha256": "0" * 63, "size_bytes": 7},
        {"sha256": "0" * 64, "size_bytes": -1},
        {"sha256": "0" * 64, "size_bytes": 7, "derivative_clip_id": NO_CLIP},
        {"sha256": "0" * 64, "size_bytes": 7, "kind": "forgery"},
        {"sha256": "0" * 64, "size_bytes": 7, "tool": None},
        {"sha256": "0" * 64, "size_bytes": 7, "parameters": {"radius": 0.5}},
        {"sha256": "0" * 64, "size_bytes": 7, "parameters": {"radius": 2**53}},
        {"sha256": "0" * 64, "size_bytes": 7, "parameters": {"": 1}},
        {"sha256": "0" * 64, "size_bytes": 7, "parameters": {"a": {"b": 1}}},
        {"sha256": "0" * 64, "size_bytes": 7, "surprise": 1},
        {"sha256": hashlib.sha256(MASTER).hexdigest(), "size_bytes": len(MASTER)},
    ],
    ids=repr,
)
async def test_bad_input_registers_nothing(served, redactor, master, changed):
    async with served.nothing_changes():
        assert_problem(await register(redactor, master, **changed), 422, "invalid-request")


async def test_a_derivative_is_registered_once(served, redactor, master, redacted):
    await register(redactor, master, derivative_clip_id=redacted)

    async with served.nothing_changes():
        again = await register(redactor, master, derivative_clip_id=redacted)
    assert_problem(again, 409, "derivative-conflict")


async def test_nothing_is_made_from_itself(served, redactor, dock, master, redacted):
    excerpt = await dock.secure(os.urandom(1000))
    await register(redactor, master, derivative_clip_id=redacted)
    await register(redactor, redacted, derivative_clip_id=excerpt, kind="excerpt")

    async with served.nothing_changes():
        ring = await register(redactor, excerpt, derivative_clip_id=master)
        itself = await register(redactor, master, derivative_clip_id=master)
    assert_problem(ring, 409, "derivative-conflict")
    assert_problem(itself, 409, "derivative-conflict")


async def test_only_what_is_secured_is_tied(served, redactor, dock, master):
    receiving = (await dock.announce())["clip_id"]

    async with served.nothing_changes():
        from_it = await register(redactor, receiving, sha256="0" * 64, size_bytes=7)
        to_it = await register(redactor, master, derivative_clip_id=receiving)
    assert_problem(from_it, 409, "derivative-conflict")
    assert_problem(to_it, 409, "derivative-conflict")


async def test_unknown_clips_and_those_of_other_boroughs_do_not_exist(
    served, redactor, make_dock, master
):
    elsewhere = await (await make_dock(borough="Hackney")).secure(REDACTED)
    token = served.token("disclosures:write", boroughs=["Camden"])

    async with served.client(token) as client, served.nothing_changes():
        answers = [
            await register(client, uuid4(), sha256="0" * 64, size_bytes=7),
            await register(client, master, derivative_clip_id=str(uuid4())),
            await register(client, master, derivative_clip_id=elsewhere),
            await register(client, elsewhere, derivative_clip_id=master),
        ]
    for answer in answers:
        assert_problem(answer, 404, "clip-not-found")


async def test_only_who_may_disclose_registers(served, master):
    async with served.client(served.token("clips:read", "holds:write")) as client:
        response = await register(client, master, sha256="0" * 64, size_bytes=7)
    assert_problem(response, 403, "forbidden")


# --- packs ---------------------------------------------------------------------------------


async def unpack(served, client, clip_id, folder):
    response = await client.get(f"/v1/clips/{clip_id}/pack")
    assert response.status_code == 200, response.text
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        archive.extractall(folder)
    return folder / f"custody-{clip_id}"


def check(served, folder):
    return verify_pack(folder, [served.resources.signer.verifier_key])


@pytest.mark.parametrize("which", ["master", "redacted"])
async def test_the_pack_has_the_lineage(served, redactor, master, redacted, tmp_path, which):
    await register(redactor, master, derivative_clip_id=redacted)
    await served.publish_log()
    clip_id = {"master": master, "redacted": redacted}[which]

    folder = await unpack(served, redactor, clip_id, tmp_path)

    result = check(served, folder)
    assert result.verdict == HOLDS, "\n".join(map(str, result.lines))
    assert "the lineage is the one of its events" in [line.what for line in result.lines]
    lineage = json.loads((folder / "data/lineage.json").read_text())
    (entry,) = lineage["derivatives" if which == "master" else "derived_from"]
    assert entry["master_sha256"] == hashlib.sha256(MASTER).hexdigest()
    assert entry["parameters"]["radius_px"] == 24


@pytest.mark.parametrize("harm", ["parameters", "master_sha256", "tool", "entry", "file"])
async def test_a_lineage_that_was_changed_does_not_hold(
    served, redactor, master, redacted, tmp_path, harm
):
    await register(redactor, master, derivative_clip_id=redacted)
    await served.publish_log()
    folder = await unpack(served, redactor, redacted, tmp_path)
    file = folder / "data/lineage.json"
    lineage = json.loads(file.read_text())
    entry = lineage["derived_from"][0]
    if harm == "parameters":
        entry["parameters"]["radius_px"] = 1
    elif harm == "entry":
        lineage["derived_from"] = []
    else:
        entry[harm] = "0" * 64
    file.write_text(json.dumps(lineage))
    if harm == "file":
        file.unlink()
    mend_lists(folder)

    assert check(served, folder).verdict == FAILS


async def test_what_was_registered_after_the_checkpoint_is_not_verifiable(
    served, redactor, master, tmp_path
):
    await register(redactor, master, sha256=secrets.token_hex(32), size_bytes=7)

    folder = await unpack(served, redactor, master, tmp_path)

    assert check(served, folder).verdict == UNKNOWN
