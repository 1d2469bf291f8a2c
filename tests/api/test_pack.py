"""GET /v1/clips/{clip_id}/pack: all that a stranger needs to check a clip."""

import io
import json
import os
import zipfile

import pytest

from schemas.verify_pack import HOLDS, UNKNOWN, verify_pack
from tests.api.served import PART_BYTES, assert_problem

DATA = os.urandom(2 * PART_BYTES + 17)


@pytest.fixture
async def discloser(served):
    async with served.client(served.token("content:read", "disclosures:write")) as client:
        yield client


@pytest.fixture
async def clip_id(served, dock):
    made = await dock.secure(DATA, filename="../../Ünder the bridge.mp4", title="<b>Market</b>")
    await served.publish_log()
    return made


async def fetch(client, clip_id, **params):
    return await client.get(f"/v1/clips/{clip_id}/pack", params=params)


def opened(response) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


async def test_a_pack_holds_under_the_published_key(served, discloser, clip_id, tmp_path):
    response = await fetch(discloser, clip_id, purpose="case 7")

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/zip"
    assert f"custody-{clip_id}.zip" in response.headers["content-disposition"]
    file = tmp_path / "pack.zip"
    file.write_bytes(response.content)
    result = verify_pack(file, [served.resources.signer.verifier_key])
    assert result.verdict == HOLDS, [str(line) for line in result.lines]


async def test_the_footage_has_a_tame_name_and_its_bytes(discloser, clip_id):
    files = opened(await fetch(discloser, clip_id))

    (name,) = [name for name in files if name.startswith("data/clip/")]
    assert files[name] == DATA
    assert name == "data/clip/nder_the_bridge.mp4"


async def test_the_report_shows_what_was_told_without_believing_it(discloser, clip_id):
    report = opened(await fetch(discloser, clip_id))["data/report.html"].decode()

    assert clip_id in report
    assert "clip.secured" in report
    assert "<script" not in report


async def test_the_export_is_an_event_before_a_byte_leaves(discloser, reader, clip_id):
    await fetch(discloser, clip_id, purpose="case 7")

    events = (await reader.get(f"/v1/clips/{clip_id}/events")).json()["events"]
    leaf = events[-1]["leaf"]
    assert (leaf["type"], leaf["purpose"]) == ("export.created", "case 7")


async def test_the_next_pack_shows_who_had_the_one_before(served, discloser, clip_id, tmp_path):
    await fetch(discloser, clip_id)
    await served.publish_log()

    files = opened(await fetch(discloser, clip_id))

    types = [json.loads(line)["type"] for line in files["data/events.jsonl"].splitlines()]
    assert types.count("export.created") == 1


@pytest.mark.parametrize(
    "scopes",
    [
        ("content:read",),
        ("disclosures:write",),
        ("clips:read", "events:read", "audit:read", "operate"),
        ("content:read", "assertions:write"),
    ],
)
async def test_a_pack_is_for_who_may_disclose_or_hold(served, clip_id, scopes):
    async with served.client(served.token(*scopes)) as client, served.nothing_changes():
        assert_problem(await fetch(client, clip_id), 403, "forbidden")


async def test_a_custodian_may_have_it(served, clip_id):
    async with served.client(served.token("content:read", "holds:write")) as client:
        assert (await fetch(client, clip_id)).status_code == 200


async def test_another_boroughs_clip_does_not_exist(served, clip_id):
    token = served.token("content:read", "disclosures:write", boroughs=["Hackney"])
    async with served.client(token) as client, served.nothing_changes():
        assert_problem(await fetch(client, clip_id), 404, "clip-not-found")


async def test_a_station_gets_no_packs(dock, clip_id):
    assert_problem(await fetch(dock.http, clip_id), 403, "forbidden")


async def test_a_clip_without_bytes_has_no_pack(served, dock, discloser):
    plan = await dock.announce()

    async with served.nothing_changes():
        assert_problem(await fetch(discloser, plan["clip_id"]), 410, "content-gone")


async def test_before_anything_is_published_there_is_nothing_to_prove_it_with(
    served, dock, discloser
):
    clip_id = await dock.bring_in(DATA)

    async with served.nothing_changes():
        assert_problem(await fetch(discloser, clip_id), 404, "log-part-not-found")


async def test_a_sealed_clip_is_packed_and_said_not_to_be_secured(
    served, dock, discloser, tmp_path
):
    clip_id = await dock.bring_in(DATA)
    await served.publish_log()

    file = tmp_path / "pack.zip"
    file.write_bytes((await fetch(discloser, clip_id)).content)

    result = verify_pack(file, [served.resources.signer.verifier_key])
    assert result.verdict == UNKNOWN
    assert "not secured" in "\n".join(map(str, result.lines))


async def test_altered_footage_ends_in_no_pack(served, discloser, clip_id):
    (row,) = await served.sql("SELECT object_key FROM clips WHERE clip_id = $1", clip_id)
    served.vault.tamper(row["object_key"], bytes(len(DATA)))

    with pytest.raises(Exception, match=r"peer closed|incomplete"):
        await fetch(discloser, clip_id)


async def test_missing_footage_is_a_problem_and_no_torn_file(served, discloser, clip_id):
    (row,) = await served.sql("SELECT object_key FROM clips WHERE clip_id = $1", clip_id)
    served.vault._versions.pop(row["object_key"])

    response = await fetch(discloser, clip_id)
    assert response.status_code == 500
    assert response.json()["type"] == "urn:ingest:problem:stored-bytes-lost"
