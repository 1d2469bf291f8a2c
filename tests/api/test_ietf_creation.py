"""IETF resumable uploads: lines K, L, M, Q and R of the checklist."""

import base64
import hashlib

import httpx
import pytest

from tests.api.ietf import COMPLETE, INCOMPLETE, append, create, digest, expect_104, head
from tests.api.served import PART_BYTES, TUS, assert_problem

FOOTAGE = bytes(range(256)) * (PART_BYTES * 5 // 512)
TYPES = "https://iana.org/assignments/http-problem-types#"


async def content(served, location) -> bytes | None:
    upload_id = location.rsplit("/", 1)[1]
    (row,) = await served.sql("SELECT object_key FROM clips WHERE upload_id = $1", upload_id)
    return served.vault.content(row["object_key"])


@pytest.mark.parametrize("version", [None, "4", "10", "nine", "9.0"])
async def test_k01_who_does_not_name_a_served_version_gets_no_104(dock, wire, version):
    named = {} if version is None else {"Upload-Draft-Interop-Version": version}
    headers = {**dock.authorization, **COMPLETE, **named, "Content-Length": "5"}
    await wire.ask("POST", "/files", headers, b"bytes")

    assert (await wire.answer()).status == 201


@pytest.mark.parametrize("version", ["3", "5", "6", "8", "9"])
async def test_k02_the_104_names_the_version_of_the_request(dock, wire, version):
    field = {"Upload-Incomplete": "?0"} if version == "3" else COMPLETE
    interim, final = await expect_104(dock, wire, b"bytes", version=version, **field)

    assert interim["upload-draft-interop-version"] == version
    assert final.status == 201


async def test_k03_a_plain_client_sees_one_answer(dock, wire):
    await wire.ask("POST", "/files", {**dock.authorization, **INCOMPLETE, "Content-Length": "0"})

    assert (await wire.answer()).status == 201


@pytest.mark.parametrize("value", ["true", "1", "?2", "", '"?1"', "?1, ?1"])
async def test_k04_what_is_no_boolean_is_ignored(served, dock, value):
    async with served.nothing_changes():
        response = await dock.http.post("/files", headers={"Upload-Complete": value})

    # Without the field it is an ordinary upload, which is tus' here.
    assert_problem(response, 412, "unsupported-protocol-version")


@pytest.mark.parametrize("value", ["-1", "1.5", "abc", "1" * 16, "+3"])
async def test_k05_what_is_no_integer_is_ignored(dock, value):
    response = await create(dock, b"", complete=False, **{"Upload-Length": value})
    state = await head(dock, response.headers["location"])

    assert response.status_code == 201
    assert "upload-length" not in state.headers


async def test_k06_parameters_are_tolerated(dock):
    headers = {"Upload-Complete": "?0;x=1", "Upload-Length": "10;y"}
    response = await dock.http.post("/files", headers=headers)

    assert (await head(dock, response.headers["location"])).headers["upload-length"] == "10"


async def test_k10_contradicting_lengths_are_refused(served, dock):
    async with served.nothing_changes():
        response = await create(dock, b"bytes", complete=True, **{"Upload-Length": "6"})

    assert response.status_code == 400
    assert response.json()["type"] == f"{TYPES}inconsistent-upload-length"
    assert response.headers["upload-complete"] == "?0"


async def test_k10_a_length_once_told_stays(dock):
    location = (await create(dock, b"123", complete=False, **{"Upload-Length": "6"})).headers[
        "location"
    ]
    other = await append(dock, location, 3, b"4", complete=False, **{"Upload-Length": "7"})
    short = await append(dock, location, 3, b"4", complete=True)

    for response in (other, short):
        assert response.status_code == 400
        assert response.json()["type"] == f"{TYPES}inconsistent-upload-length"
    assert (await head(dock, location)).headers["upload-offset"] == "3"


async def test_k11_the_last_request_tells_the_length(dock):
    location = (await create(dock, b"123", complete=False)).headers["location"]
    unknown = await head(dock, location)
    await append(dock, location, 3, b"456", complete=True)

    assert "upload-length" not in unknown.headers
    assert (await head(dock, location)).headers["upload-length"] == "6"


async def test_k12_all_bytes_are_not_yet_a_complete_upload(served, dock):
    location = await create(dock, FOOTAGE, complete=False, **{"Upload-Length": str(len(FOOTAGE))})
    location = location.headers["location"]
    before = await head(dock, location)
    last = await append(dock, location, len(FOOTAGE), b"", complete=True)
    after = await head(dock, location)

    assert before.headers["upload-offset"] == before.headers["upload-length"] == str(len(FOOTAGE))
    assert before.headers["upload-complete"] == "?0"
    assert last.status_code == 204
    assert after.headers["upload-complete"] == "?1"
    assert await content(served, location) == FOOTAGE


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_k12_offset_and_length_match_upon_completion(dock, is_chunked):
    """Said without any Content-Length, too (http-extensions, pull request 3463)."""
    created = await create(dock, b"123", complete=False, **{"Upload-Length": "10"})
    location = created.headers["location"]
    short = await append(dock, location, 3, b"456", complete=True, is_chunked=is_chunked)

    assert short.status_code == 400
    assert short.json()["type"] == f"{TYPES}inconsistent-upload-length"
    assert short.headers["upload-complete"] == "?0"
    assert (await head(dock, location)).headers["upload-complete"] == "?0"


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_m01_an_upload_may_be_opened_by_another_method(served, dock, method):
    begun = await create(dock, b"123", complete=False, method=method)
    location = begun.headers["location"]
    await append(dock, location, 3, b"45", complete=True)
    whole = await create(dock, b"whole", complete=True, method=method)

    assert (begun.status_code, whole.status_code) == (201, 201)
    assert begun.headers["upload-complete"] == "?0"
    assert whole.headers["upload-complete"] == "?1"
    assert await content(served, location) == b"12345"


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_m12_only_post_opens_an_upload_that_is_not_resumable(served, dock, method):
    async with served.nothing_changes():
        response = await dock.http.request(method, "/files", content=b"bytes")

    assert_problem(response, 400, "invalid-header")


async def test_l01_options_tell_the_limits(stranger):
    response = await stranger.options("/files")

    assert response.headers["upload-limit"].startswith("max-size=10737418240")


@pytest.mark.parametrize("complete", [True, False])
async def test_l04_limits_are_integers(dock, complete):
    location = (await create(dock, b"", complete=False)).headers["location"]
    limit = (await head(dock, location)).headers["upload-limit"]

    members = dict(member.split("=") for member in limit.split(", "))
    assert set(members) == {"max-size", "max-age"}
    assert all(value.isdigit() for value in members.values())


async def test_l05_a_creation_tells_the_limits(dock, wire):
    interim, final = await expect_104(dock, wire, b"bytes", **INCOMPLETE)

    assert "max-size" in interim["upload-limit"]
    assert "max-size" in final.headers["upload-limit"]


async def test_l06_limits_do_not_get_stricter(dock):
    location = (await create(dock, b"", complete=False)).headers["location"]
    first = (await head(dock, location)).headers["upload-limit"]
    await append(dock, location, 0, b"x", complete=False)
    second = (await head(dock, location)).headers["upload-limit"]

    assert int(second.split("max-age=")[1]) >= int(first.split("max-age=")[1]) - 1


async def test_l07_a_length_beyond_the_limit_is_refused(served, dock):
    async with served.nothing_changes():
        response = await create(dock, b"", complete=False, **{"Upload-Length": str(10**12)})

    assert response.status_code == 413


async def test_m01_the_url_is_told_before_the_content_is_there(dock, wire):
    headers = {
        **dock.authorization,
        **COMPLETE,
        "Upload-Draft-Interop-Version": "9",
        "Content-Length": str(len(FOOTAGE)),
    }
    await wire.ask("POST", "/files", headers, FOOTAGE[:1000])
    interim = await wire.answer(method="HEAD")

    assert interim.status == 104
    assert "/files/" in interim.headers["location"]


async def test_m02_the_100_is_sent_all_the_same(dock, wire):
    headers = {
        **dock.authorization,
        **COMPLETE,
        "Upload-Draft-Interop-Version": "9",
        "Content-Length": "5",
        "Expect": "100-continue",
    }
    await wire.ask("POST", "/files", headers)
    interims = {
        (await wire.answer(method="HEAD")).status,
        (await wire.answer(method="HEAD")).status,
    }
    await wire.send(b"bytes")

    assert interims == {100, 104}
    assert (await wire.answer()).status == 201


@pytest.mark.parametrize("length", [0, 1, PART_BYTES, len(FOOTAGE)])
@pytest.mark.parametrize("is_chunked", [True, False])
async def test_m03_a_clip_in_one_request(served, dock, length, is_chunked):
    data = FOOTAGE[:length]
    response = await create(dock, data, complete=True, is_chunked=is_chunked)

    assert response.status_code == 201
    assert response.headers["upload-complete"] == "?1"
    assert await content(served, response.headers["location"]) == data


async def test_m04_an_incomplete_creation_is_a_201(dock):
    response = await create(dock, b"first", complete=False)

    assert response.status_code == 201
    assert response.headers["upload-complete"] == "?0"
    assert response.headers["upload-offset"] == "5"
    assert "upload-limit" in response.headers


async def test_m05_the_url_is_the_same_in_both_answers(dock, wire):
    interim, final = await expect_104(dock, wire, b"bytes", **INCOMPLETE)

    assert interim["location"] == final.headers["location"]


async def test_m07_a_careful_creation_has_no_content(dock):
    response = await create(dock, b"", complete=False)

    assert (await head(dock, response.headers["location"])).headers["upload-offset"] == "0"


async def test_m08_a_cut_keeps_what_came(served, dock, wire):
    headers = {
        **dock.authorization,
        **COMPLETE,
        "Upload-Draft-Interop-Version": "9",
        "Content-Length": str(len(FOOTAGE)),
    }
    await wire.ask("POST", "/files", headers, FOOTAGE[: PART_BYTES + 100])
    location = (await wire.answer(method="HEAD")).headers["location"]
    await served.leased(httpx.URL(location).path)
    await wire.hang_up()
    state = await head(dock, location)
    offset = int(state.headers["upload-offset"])

    assert PART_BYTES <= offset <= PART_BYTES + 100
    assert state.headers["upload-complete"] == "?0"
    await append(dock, location, offset, FOOTAGE[offset:], complete=True)
    assert await content(served, location) == FOOTAGE


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('inline; filename="clip.mp4"', "clip.mp4"),
        ("inline; filename=clip.mp4", "clip.mp4"),
        ("inline; filename*=UTF-8''s%C5%82o%C5%84ce.mp4; filename=\"x\"", "słońce.mp4"),
        ('inline; filename="../../etc/passwd"', "passwd"),
        ('inline; filename="C:\\\\clip.mp4"', "clip.mp4"),
    ],
)
async def test_m09_the_headers_describe_the_clip(served, dock, disposition, name):
    response = await create(
        dock,
        b"bytes",
        complete=True,
        **{"Content-Type": "video/mp4", "Content-Disposition": disposition},
    )
    upload_id = response.headers["location"].rsplit("/", 1)[1]
    (row,) = await served.sql("SELECT announcement FROM clips WHERE upload_id = $1", upload_id)

    assert row["announcement"]["filename"] == name
    assert row["announcement"]["content_type"] == "video/mp4"


async def test_m10_the_length_may_be_unknown_to_the_end(served, dock):
    location = (await create(dock, FOOTAGE, complete=False, is_chunked=True)).headers["location"]
    response = await append(dock, location, len(FOOTAGE), FOOTAGE, complete=True, is_chunked=True)

    assert response.status_code == 204, response.text
    assert await content(served, location) == FOOTAGE * 2


async def test_m12_an_ordinary_upload_is_not_served_here(served, dock):
    async with served.nothing_changes():
        response = await dock.http.post("/files", content=b"bytes")

    assert response.status_code == 412


@pytest.mark.parametrize("algorithm", ["sha-256", "sha-512"])
async def test_q01_the_digest_of_the_content_is_verified(served, dock, algorithm):
    location = (await create(dock, b"", complete=False)).headers["location"]
    wrong = {"Content-Digest": digest(b"other", algorithm)}
    refused = await append(dock, location, 0, FOOTAGE, complete=True, **wrong)
    offset = (await head(dock, location)).headers["upload-offset"]
    right = {"Content-Digest": digest(FOOTAGE, algorithm)}
    accepted = await append(dock, location, 0, FOOTAGE, complete=True, **right)

    assert (refused.status_code, offset, accepted.status_code) == (400, "0", 204)
    assert await content(served, location) == FOOTAGE


async def test_q02_another_representation_than_announced_is_quarantined(served, dock):
    careful = await create(
        dock, b"", complete=False, **{"Repr-Digest": digest(b"other", "sha-256")}
    )
    location = careful.headers["location"]
    response = await append(dock, location, 0, b"bytes", complete=True)
    (row,) = await served.sql(
        "SELECT state FROM clips WHERE upload_id = $1", location.rsplit("/", 1)[1]
    )

    assert_problem(response, 422, "chunk-corrupted")
    assert response.headers["upload-complete"] == "?1"
    assert row["state"] == "quarantined"


async def test_q06_unknown_algorithms_and_malformed_fields_are_ignored(dock):
    for value in ("md9=:AAAA:", "sha-256=AAAA", "sha-256=:AAAA:", "?"):
        response = await create(dock, b"bytes", complete=True, **{"Content-Digest": value})
        assert response.status_code == 201


async def test_q06_of_several_digests_all_must_match(dock):
    both = f"{digest(b'bytes', 'sha-256')}, {digest(b'other', 'sha-512')}"
    response = await create(dock, b"bytes", complete=True, **{"Content-Digest": both})

    assert response.status_code == 400


@pytest.mark.parametrize("data", [b"bytes", b"other"])
async def test_q08_the_digest_may_come_in_the_trailer(dock, wire, data):
    headers = {
        **dock.authorization,
        **COMPLETE,
        "Transfer-Encoding": "chunked",
        "Trailer": "Content-Digest",
    }
    trailer = f"Content-Digest: {digest(b'bytes', 'sha-256')}".encode()
    await wire.ask("POST", "/files", headers, b"5\r\n%b\r\n0\r\n%b\r\n\r\n" % (data, trailer))

    assert (await wire.answer()).status == (201 if data == b"bytes" else 400)


async def test_q04_a_wanted_digest_is_told_at_the_end(dock):
    response = await create(dock, b"bytes", complete=True, **{"Want-Repr-Digest": "sha-256=10"})

    assert response.headers["repr-digest"] == digest(b"bytes", "sha-256")


async def test_q03_a_repr_digest_on_an_append_is_not_that_of_the_clip(served, dock):
    location = (await create(dock, b"first", complete=False)).headers["location"]
    of_patch = {"Repr-Digest": digest(b"second", "sha-256")}
    response = await append(dock, location, 5, b"second", complete=True, **of_patch)

    assert response.status_code == 204


async def test_q09_the_digest_of_a_complete_upload_is_told(dock):
    response = await create(dock, FOOTAGE, complete=True, **{"Want-Repr-Digest": "sha-256=10"})
    state = await head(dock, response.headers["location"])

    digest_of_all = base64.b64encode(hashlib.sha256(FOOTAGE).digest()).decode()
    assert response.headers["repr-digest"] == f"sha-256=:{digest_of_all}:"
    assert state.headers["repr-digest"] == response.headers["repr-digest"]


async def test_tus_still_answers_those_who_name_it(dock):
    response = await dock.http.post("/files", headers={**TUS, "Upload-Length": "1", **COMPLETE})

    assert response.status_code == 201
    assert "upload-complete" not in response.headers
