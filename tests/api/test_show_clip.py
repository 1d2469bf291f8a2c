"""GET /v1/clips/{clip_id} and .../events: one clip, and its chain of custody."""

import hashlib
import json
from uuid import UUID, uuid4

import pytest

from ingest_service.actions.probe_clip import probe_clip
from ingest_service.ledger.media import Claim
from ingest_service.prober.probe import ProbeLimits
from tests.api.served import PART_BYTES, announcement, assert_problem
from tests.videos import make_video


async def show(client, clip_id):
    return await client.get(f"/v1/clips/{clip_id}")


async def trail_of(client, clip_id, **query):
    response = await client.get(f"/v1/clips/{clip_id}/events", params=query)
    assert response.status_code == 200, response.text
    return response.json()


async def test_a_clip_on_its_way_tells_how_far_it_is(dock, reader):
    plan = await dock.announce(3 * PART_BYTES, officer_id="P1042")
    await dock.send(plan["clip_id"], 1, b"x" * PART_BYTES)

    clip = (await show(reader, plan["clip_id"])).json()
    assert (clip["state"], clip["received_bytes"]) == ("receiving", PART_BYTES)
    assert (clip["officer_id"], clip["station_id"]) == ("P1042", dock.station.station_id)
    assert (clip["site_id"], clip["borough"]) == (dock.station.site_id, dock.station.borough)
    assert clip["object_key"] is None
    assert clip["sha256"] is None


async def test_a_secured_clip_tells_where_and_what_it_is(served, dock, reader):
    data = b"footage" * 30_000
    clip_id = await dock.secure(data)

    clip = (await show(reader, clip_id)).json()
    digest = hashlib.sha256(data).hexdigest()
    assert (clip["state"], clip["sha256"], clip["sha256_readback"]) == ("secured", digest, digest)
    assert served.vault.content(clip["object_key"]) == data
    assert [part["length_bytes"] for part in clip["manifest"]["parts"]] == [
        PART_BYTES,
        PART_BYTES,
        PART_BYTES,
        len(data) - 3 * PART_BYTES,
    ]
    assert clip["announced_at"] <= clip["sealed_at"] <= clip["secured_at"]


async def test_the_announcement_is_shown_as_received(dock, reader):
    body = announcement(mood={"a": [1, 2.5, None, True]}, title="słońce", clock_offset_ms=0)
    clip_id = (await dock.http.post("/v1/clips", json=body)).json()["clip_id"]

    assert (await show(reader, clip_id)).json()["announcement"] == body


async def test_a_station_sees_its_own_clip(dock):
    plan = await dock.announce()

    assert (await show(dock.http, plan["clip_id"])).status_code == 200
    assert (await dock.http.get(f"/v1/clips/{plan['clip_id']}/events")).status_code == 200


@pytest.mark.parametrize("path", ["", "/events", "/content"])
async def test_an_unknown_clip_is_a_problem(reader, path):
    assert_problem(await reader.get(f"/v1/clips/{uuid4()}{path}"), 404, "clip-not-found")


@pytest.mark.parametrize("path", ["", "/events", "/content", "/chunks", "/receipt"])
async def test_a_malformed_id_is_a_problem(dock, reader, path):
    client = dock.http if path in {"/chunks", "/receipt"} else reader

    assert_problem(await client.get(f"/v1/clips/nonsense{path}"), 422, "invalid-request")


# --- custody -----------------------------------------------------------------------------


def verify_chain(events: list[dict], clip_id: str) -> None:
    """RFC 6962 leaf hashes, each leaf naming the one before; written anew from the description."""
    previous = None
    for number, event in enumerate(events):
        leaf = json.loads(event["leaf_text"])
        digest = hashlib.sha256(b"\x00" + event["leaf_text"].encode()).hexdigest()
        assert event["leaf_hash"] == digest
        assert leaf == event["leaf"]
        assert leaf["prev"] == previous
        assert leaf["clip_seq"] == event["clip_seq"] == number
        assert leaf["clip_id"] == event["clip_id"] == clip_id
        assert leaf["event_id"] == event["event_id"]
        assert leaf["type"] == event["type"]
        canonical = json.dumps(leaf, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert event["leaf_text"] == canonical
        previous = digest


async def test_the_chain_of_a_clip_is_gapless_and_verifies(dock, reader):
    clip_id = await dock.secure(b"x" * 100, title="not in the leaf: słońce")
    await dock.http.get(f"/v1/clips/{clip_id}/receipt")
    await reader.get(f"/v1/clips/{clip_id}/content", params={"purpose": "słońce"})

    trail = await trail_of(reader, clip_id)
    verify_chain(trail["events"], clip_id)
    assert [event["type"] for event in trail["events"]] == [
        "clip.announced",
        "clip.sealed",
        "readback.verified",
        "clip.secured",
        "release.issued",
        "footage.downloaded",
    ]
    assert trail["next_after"] is None


async def test_no_two_leaves_share_their_salt(dock, reader):
    clip_id = await dock.secure(b"x" * 100)

    events = (await trail_of(reader, clip_id))["events"]
    assert len({event["leaf"]["salt"] for event in events}) == len(events)


async def test_a_quarantined_clip_says_why(served, dock, reader):
    clip_id = await dock.bring_in(b"x" * 100)
    served.vault.tamper((await show(reader, clip_id)).json()["object_key"], b"y" * 100)
    await served.read_back(clip_id)

    events = (await trail_of(reader, clip_id))["events"]
    verify_chain(events, clip_id)
    assert events[-1]["type"] == "clip.quarantined"
    assert any(event["leaf"]["integrity"] == "mismatch" for event in events)


async def test_events_go_on_after_a_number(dock, reader):
    clip_id = await dock.secure(b"x" * 100)
    whole = (await trail_of(reader, clip_id))["events"]

    assert (await trail_of(reader, clip_id, after=1))["events"] == whole[2:]
    assert (await trail_of(reader, clip_id, after=99))["events"] == []


async def test_long_trails_come_in_pages(served, dock, reader):
    clip_id = await dock.bring_in(b"x" * 10)
    await served.sql(
        """INSERT INTO custody_events (event_id, clip_id, clip_seq, type, recorded_at, actor_kind,
                                       actor_id, leaf, leaf_hash)
           SELECT gen_random_uuid(), $1, number, 'test', now(), 'policy', 'test', '{}'::bytea,
                  sha256('\\x007b7d'::bytea)
             FROM generate_series(2, 600) AS number""",
        UUID(clip_id),
    )

    first = await trail_of(reader, clip_id)
    rest = await trail_of(reader, clip_id, after=first["next_after"])
    assert (len(first["events"]), first["next_after"]) == (500, 499)
    assert (len(rest["events"]), rest["next_after"]) == (101, None)


@pytest.mark.parametrize("after", ["-2", str(2**31), "x", "1.5"])
async def test_a_number_that_is_none_is_refused(dock, reader, after):
    plan = await dock.announce()

    response = await reader.get(f"/v1/clips/{plan['clip_id']}/events", params={"after": after})
    assert_problem(response, 422, "invalid-request")


# --- what the footage is -------------------------------------------------------------------


async def probe(served, clip_id):
    await served.sql(
        "INSERT INTO media_probes (clip_id, due_at, attempt)"
        " VALUES ($1, now() + interval '1 hour', 1) RETURNING clip_id",
        UUID(clip_id),
    )
    opened = served.resources
    facts = await served.call(
        probe_clip(
            Claim(UUID(clip_id), 1),
            pool=opened.pool,
            vault=opened.vault,
            now=opened.now,
            limits=ProbeLimits(),
        )
    )
    assert facts is not None


async def test_a_probed_clip_tells_what_its_footage_is(served, dock, reader):
    clip_id = await dock.secure(make_video(has_sound=True))
    assert (await show(reader, clip_id)).json()["media"] is None

    await probe(served, clip_id)

    media = (await show(reader, clip_id)).json()["media"]
    assert (media["container"], media["codec"], media["flags"]) == ("mp4", "h264", [])
    assert (media["width"], media["height"], media["fps"]) == (64, 64, 25.0)
    assert media["audio_present"] is True
    [event] = [
        each
        for each in (await trail_of(reader, clip_id))["events"]
        if each["type"] == "media.probed"
    ]
    assert event["leaf"]["facts"]["codec"] == "h264"


async def test_a_probe_changes_the_entity_tag(served, dock, reader):
    clip_id = await dock.secure(b"text" * 10)
    before = (await show(reader, clip_id)).headers["etag"]

    await probe(served, clip_id)

    assert (await show(reader, clip_id)).headers["etag"] != before


async def test_both_intervals_are_told_and_what_the_correction_rests_on(dock, reader):
    plan = await dock.announce(
        started_at="2026-11-20T10:00:00Z",
        ended_at="2026-11-20T10:05:00Z",
        clock_offset_ms=-60_000,
        clock_uncertainty_ms=35,
    )

    clip = (await show(reader, plan["clip_id"])).json()

    assert (clip["started_at"], clip["ended_at"]) == (
        "2026-11-20T10:00:00Z",
        "2026-11-20T10:05:00Z",
    )
    assert (clip["started_at_corrected"], clip["ended_at_corrected"]) == (
        "2026-11-20T09:59:00Z",
        "2026-11-20T10:04:00Z",
    )
    assert clip["clock"] == {
        "offset_ms": -60_000,
        "uncertainty_ms": 35,
        "rests_on": "dock_contact",
    }


async def test_without_a_measured_offset_nothing_is_corrected(dock, reader):
    plan = await dock.announce(started_at="2026-11-20T10:00:00Z")

    clip = (await show(reader, plan["clip_id"])).json()

    assert clip["clock"] == {"offset_ms": None, "uncertainty_ms": None, "rests_on": None}
    assert clip["ended_at_corrected"] is None


async def test_clips_are_found_by_what_is_odd_about_their_footage(served, dock, reader):
    odd = await dock.secure(b"this is a letter, not a video\n" * 40)
    sound = await dock.secure(make_video())
    for clip_id in (odd, sound):
        await probe(served, clip_id)

    async def listed(**query):
        answer = await reader.get("/v1/clips", params={"device": await device_of(odd), **query})
        assert answer.status_code == 200, answer.text
        return [clip["clip_id"] for clip in answer.json()["clips"]]

    async def device_of(clip_id):
        return (await show(reader, clip_id)).json()["device_serial"]

    flagged = await reader.get("/v1/clips", params={"media_flag": "not_a_video"})
    assert odd in [clip["clip_id"] for clip in flagged.json()["clips"]]
    assert sound not in [clip["clip_id"] for clip in flagged.json()["clips"]]
    assert odd in await listed(media_flag="not_a_video")
    assert odd not in await listed(media_flag="truncated")


async def test_a_media_flag_that_there_is_not_is_refused(reader):
    answer = await reader.get("/v1/clips", params={"media_flag": "boring"})

    assert_problem(answer, 422, "invalid-request")
