"""/log and /v1/events/{log_index}/proof: what outsiders check the custody log with."""

import base64
import json
from dataclasses import replace
from datetime import datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ingest_service.actions.stamp_checkpoint import stamp_checkpoint
from ingest_service.api.log import get_key
from ingest_service.domain.merkle import verify_consistency
from ingest_service.domain.timestamp import read_roots, verify_timestamp
from ingest_service.notary.timestamps import make_time_authority
from ingest_service.signer import LocalSigner
from tests.api.served import assert_problem
from tests.paper_log import check_logged, hash_leaf, read_checkpoint
from tests.time_authority import LocalAuthority, ServedAuthority

BAD_NUMBERS = ["-1", "+1", "1.0", "01", "x", "0x1", "1e3", "٣", "9" * 19, "%20"]


@pytest.fixture
async def auditor(served):
    async with served.client(served.token("audit:read")) as client:
        yield client


@pytest.fixture
async def size(served, dock):
    """The log's size, with everything in it published."""
    await dock.secure(b"x" * 100)
    return (await served.sql("SELECT tree_size FROM log_state"))[0]["tree_size"]


async def read_head(served, stranger):
    text = (await stranger.get("/log/checkpoint")).text
    return read_checkpoint(text, served.resources.signer.verifier_key)


async def test_the_checkpoint_is_public_and_signed_by_the_published_key(served, stranger, size):
    key = (await stranger.get("/log/key")).text.strip()
    response = await stranger.get("/log/checkpoint")

    assert key == served.resources.signer.verifier_key
    assert read_checkpoint(response.text, key)[0] == size
    assert response.headers["content-type"].startswith("text/plain")
    assert "immutable" not in response.headers["cache-control"]


async def test_while_keys_are_changed_both_are_told_the_one_of_receipts_first(served):
    now, other = (LocalSigner(Ed25519PrivateKey.generate(), "a.example/log") for _ in range(2))
    changing = LocalSigner(now._private_key, now.name, other)

    answer = await get_key(replace(served.resources, signer=changing))

    assert answer.body.decode() == f"{now.verifier_key}\n{other.verifier_key}\n"


@pytest.mark.parametrize("where", ["first", "middle", "last"])
async def test_an_event_is_proved_to_be_in_the_log(served, auditor, size, where):
    index = {"first": 0, "middle": size // 2, "last": size - 1}[where]
    response = await auditor.get(f"/v1/events/{index}/proof")

    told = response.json()
    key = served.resources.signer.verifier_key
    assert response.status_code == 200
    assert told["log_index"] == check_logged(told["leaf"].encode(), told["proof"], key) == index
    assert json.loads(told["leaf"])["schema_version"] == 1


async def test_the_proof_as_text_is_the_leaf_on_one_line_and_the_proof(served, auditor, size):
    told = (await auditor.get("/v1/events/1/proof")).json()
    response = await auditor.get("/v1/events/1/proof", headers={"Accept": "text/plain"})

    leaf, _, proof = response.text.partition("\n")
    assert response.headers["content-type"].startswith("text/plain")
    assert leaf == told["leaf"]
    assert check_logged(leaf.encode(), proof, served.resources.signer.verifier_key) == 1


@pytest.mark.parametrize("number", BAD_NUMBERS)
async def test_an_index_that_is_no_number_is_refused(auditor, number):
    response = await auditor.get(f"/v1/events/{number}/proof")

    assert_problem(response, 400, "invalid-log-range")


async def test_an_index_beyond_the_log_is_refused(auditor, size):
    assert_problem(await auditor.get(f"/v1/events/{size}/proof"), 400, "invalid-log-range")
    assert_problem(await auditor.get(f"/v1/events/{10**17}/proof"), 400, "invalid-log-range")


async def test_leaves_are_for_auditors(stranger, reader, dock, size):
    assert_problem(await stranger.get("/v1/events/0/proof"), 401, "unauthorized")
    for client in (reader, dock.http):
        assert_problem(await client.get("/v1/events/0/proof"), 403, "forbidden")


async def test_an_auditor_of_one_borough_sees_no_leaves_of_the_others(served, size):
    async with served.client(served.token("audit:read", boroughs=["Camden"])) as auditor:
        assert_problem(await auditor.get("/v1/events/0/proof"), 403, "forbidden")


# --- growth ------------------------------------------------------------------------------


async def test_anybody_can_check_that_the_log_only_grew(served, stranger, dock, size):
    old_size, old_root = await read_head(served, stranger)
    await dock.secure(b"y" * 100)
    new_size, new_root = await read_head(served, stranger)

    asked = {"from": old_size, "to": new_size}
    told = (await stranger.get("/log/consistency", params=asked)).json()
    path = [base64.b64decode(each) for each in told["path"]]
    verify_consistency(old_size, old_root, new_size, new_root, path)
    assert (told["old_size"], told["new_size"]) == (old_size, new_size)

    headers = {"Accept": "text/plain"}
    text = (await stranger.get("/log/consistency", params=asked, headers=headers)).text
    assert text.splitlines() == told["path"]


@pytest.mark.parametrize("number", BAD_NUMBERS)
@pytest.mark.parametrize("name", ["from", "to"])
async def test_sizes_that_are_no_numbers_are_refused(stranger, name, number):
    query = {"from": "0", "to": "0"} | {name: number}
    url = f"/log/consistency?from={query['from']}&to={query['to']}".replace("+", "%2B")

    assert_problem(await stranger.get(url), 400, "invalid-log-range")


async def test_sizes_in_the_wrong_order_or_beyond_the_log_are_refused(stranger, size):
    for old, new in ((size, size - 1), (0, size + 1), (size + 1, size + 2)):
        response = await stranger.get(f"/log/consistency?from={old}&to={new}")
        assert_problem(response, 400, "invalid-log-range")


@pytest.mark.parametrize("query", ["", "from=0", "to=0"])
async def test_growth_needs_both_sizes(stranger, query):
    assert_problem(await stranger.get(f"/log/consistency?{query}"), 422, "invalid-request")


# --- tiles -------------------------------------------------------------------------------


async def test_tiles_and_entry_bundles_hold_the_log(served, stranger, auditor, size):
    width = min(size, 255)
    tile = (await stranger.get(f"/log/tile/0/000.p/{width}")).content
    bundle = (await auditor.get(f"/log/tile/entries/000.p/{width}")).content

    leaves = []
    while bundle:
        length = int.from_bytes(bundle[:2], "big")
        leaves.append(bundle[2 : 2 + length])
        bundle = bundle[2 + length :]
    assert [hash_leaf(leaf) for leaf in leaves] == [
        tile[start : start + 32] for start in range(0, len(tile), 32)
    ]


async def test_entry_bundles_are_for_auditors_and_tiles_for_everybody(stranger, reader, size):
    assert (await stranger.get("/log/tile/0/000.p/1")).status_code == 200
    assert_problem(await stranger.get("/log/tile/entries/000.p/1"), 401, "unauthorized")
    assert_problem(await reader.get("/log/tile/entries/000.p/1"), 403, "forbidden")


async def test_what_the_log_has_not_is_not_found(stranger, size):
    assert_problem(await stranger.get("/log/tile/0/x999/000"), 404, "log-part-not-found")


@pytest.mark.parametrize(
    "path", ["0/0", "0/000.p/0", "0/000.p/256", "0/x000/000", "64/000", "-1/000", "0/000.p/01"]
)
async def test_malformed_tile_paths_are_refused(stranger, path):
    assert_problem(await stranger.get(f"/log/tile/{path}"), 400, "invalid-log-range")


async def test_only_the_published_log_is_proved(served, dock, auditor, size):
    """What is placed but not published yet may still be refused by the bucket."""
    await dock.bring_in(b"z" * 100)
    await served.sequence_log()
    placed = (await served.sql("SELECT tree_size FROM log_state"))[0]["tree_size"]
    last = f"/v1/events/{placed - 1}/proof"

    assert_problem(await auditor.get(last), 404, "log-part-not-found")
    await served.publish_log()
    assert (await auditor.get(last)).status_code == 200


# --- time --------------------------------------------------------------------------------


@pytest.mark.parametrize("number", BAD_NUMBERS)
async def test_a_time_stamp_over_no_index_is_refused(stranger, number):
    response = await stranger.get("/log/timestamp", params={"covering": number})

    assert_problem(response, 400, "invalid-log-range")


async def test_what_no_time_stamp_covers_yet_is_not_found(stranger, size):
    response = await stranger.get("/log/timestamp", params={"covering": str(size - 1)})

    assert_problem(response, 404, "log-part-not-found")


async def test_a_time_stamp_is_public_and_checked_with_the_authoritys_root(
    served, stranger, size, tmp_path
):
    local = LocalAuthority(tmp_path / "tsa")
    tsa = ServedAuthority(local)
    opened = served.resources
    try:
        await served.call(
            stamp_checkpoint(
                pool=opened.pool,
                vault=opened.vault,
                authority=make_time_authority(tsa.url, local.root_file, 60),
                now=opened.now,
            )
        )
    finally:
        tsa.stop()

    told = (await stranger.get("/log/timestamp", params={"covering": "0"})).json()
    assert read_checkpoint(told["checkpoint"], opened.signer.verifier_key)[0] == told["tree_size"]
    body = told["checkpoint"].partition("\n\n")[0] + "\n"
    roots = read_roots(local.root_file.read_bytes())
    stated = verify_timestamp(base64.b64decode(told["token"]), body.encode(), roots)
    assert datetime.fromisoformat(told["gen_time"]) == stated


@pytest.mark.parametrize("kind", ["entries", "0", "63"])
async def test_a_tile_beyond_every_log_is_refused(served, kind):
    async with served.client(served.token("audit:read")) as auditor:
        response = await auditor.get(f"/log/tile/{kind}/" + "x999/" * 5 + "999")

    assert_problem(response, 400, "invalid-log-range")
