"""Trusted time: a time authority's word on the log, kept, logged, and checked by others."""

import json
import subprocess
from datetime import timedelta

import pytest

from ingest_service.actions.publish_checkpoint import publish_checkpoints
from ingest_service.actions.stamp_checkpoint import get_timestamp, stamp_checkpoint
from ingest_service.domain.checkpoint import parse_checkpoint, verify_checkpoint
from ingest_service.domain.clock import utc_now
from ingest_service.domain.log_paths import checkpoint_key, timestamp_key
from ingest_service.domain.timestamp import (
    TimestampInvalid,
    make_query,
    read_roots,
    verify_timestamp,
)
from ingest_service.errors import LogPartNotFound, VaultUnavailable
from ingest_service.ledger import log
from ingest_service.ledger.connection import reading
from ingest_service.notary.timestamps import AuthorityFailed, TimeAuthority, make_time_authority
from tests.actions.test_custody_log import KEY, list_log, record, sequence
from tests.actions.test_threats import REWRITE
from tests.fakes import MemoryVault
from tests.time_authority import HAS_OPENSSL, LocalAuthority, ServedAuthority

pytestmark = pytest.mark.skipif(not HAS_OPENSSL, reason="the local authority is openssl")


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    return LocalAuthority(tmp_path_factory.mktemp("tsa"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return LocalAuthority(tmp_path_factory.mktemp("stranger"), "Another authority")


@pytest.fixture
def tsa(local):
    served = ServedAuthority(local)
    yield served
    served.stop()


@pytest.fixture
def authority(tsa, local) -> TimeAuthority:
    made = make_time_authority(tsa.url, local.root_file, 86_400)
    assert made is not None
    return made


@pytest.fixture
def vault():
    return MemoryVault()


async def grow(pool, vault, count: int) -> None:
    await record(pool, count)
    while await sequence(pool):
        pass
    await publish_checkpoints(pool=pool, vault=vault)


async def stamp(pool, vault, authority, *, later: timedelta = timedelta(0)):
    return await stamp_checkpoint(
        pool=pool, vault=vault, authority=authority, now=lambda: utc_now() + later
    )


async def test_the_newest_checkpoint_is_stamped_and_the_tokens_hash_is_logged(
    pool, vault, authority
):
    before = utc_now().replace(microsecond=0)
    await grow(pool, vault, 7)

    stamped = await stamp(pool, vault, authority)
    await grow(pool, vault, 1)

    assert stamped.tree_size == 7
    assert before <= stamped.gen_time <= utc_now()
    assert vault.content(timestamp_key(7)) == stamped.token
    (event,) = [each for each in await list_log(pool) if each.type == "log.timestamped"]
    facts = json.loads(event.leaf)["facts"]
    assert facts["token_sha256"] == stamped.token_sha256.hex()
    assert (facts["tree_size"], facts["authority"]) == (7, authority.url)
    assert facts["root"] == parse_checkpoint(stamped.note).checkpoint.root.hex()


async def test_openssl_verifies_the_kept_token(pool, vault, authority, local, tmp_path):
    """With what an expert has: the checkpoint's signed lines, the token, the authority's root."""
    await grow(pool, vault, 7)
    stamped = await stamp(pool, vault, authority)
    (tmp_path / "body.txt").write_text(parse_checkpoint(stamped.note).body)
    (tmp_path / "token.tsr").write_bytes(stamped.token)

    def ask_openssl() -> str:
        done = subprocess.run(
            [
                *("openssl", "ts", "-verify", "-data", "body.txt", "-in", "token.tsr"),
                *("-CAfile", str(local.root_file)),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr

    assert "Verification: OK" in ask_openssl()
    (tmp_path / "body.txt").write_text("police.example/custody\n8\nAAAA\n")
    assert "Verification: FAILED" in ask_openssl()


async def test_a_day_has_one_time_stamp(pool, vault, authority, tsa):
    await grow(pool, vault, 7)
    for _ in range(3):
        await stamp(pool, vault, authority)
        await grow(pool, vault, 1)
    assert tsa.asked == 1

    assert (await stamp(pool, vault, authority, later=timedelta(hours=25))).tree_size > 7
    assert tsa.asked == 2


async def test_a_quiet_log_is_not_stamped_again(pool, vault, authority, tsa):
    await grow(pool, vault, 7)
    await stamp(pool, vault, authority)
    await grow(pool, vault, 0)

    assert await stamp(pool, vault, authority, later=timedelta(days=30)) is None
    assert tsa.asked == 1


async def test_an_empty_log_is_not_stamped(pool, vault, authority, tsa):
    assert await stamp(pool, vault, authority) is None
    assert tsa.asked == 0


@pytest.mark.parametrize("answer", [b"", b"nonsense", b"x" * 100_000, "stranger", "replayed"])
async def test_a_token_that_is_no_good_is_not_kept(
    pool, vault, authority, tsa, local, stranger, answer
):
    await grow(pool, vault, 7)
    body = parse_checkpoint(vault_note(vault, 7)).body.encode()
    if answer == "stranger":
        tsa.authority = stranger
    elif answer == "replayed":
        # Over the same message, but the answer to another question.
        tsa.answer = local.stamp(make_query(body).body)
    else:
        tsa.answer = answer

    with pytest.raises(AuthorityFailed):
        await stamp(pool, vault, authority)
    with pytest.raises(LogPartNotFound):
        await get_timestamp(None, pool=pool)


def vault_note(vault, size: int) -> str:
    return vault.content(checkpoint_key(size)).decode()


async def test_an_authority_that_is_away_costs_nothing(pool, vault, authority, tsa):
    await grow(pool, vault, 7)
    tsa.status = 503
    with pytest.raises(AuthorityFailed):
        await stamp(pool, vault, authority)
    tsa.status = 200

    assert (await stamp(pool, vault, authority)).tree_size == 7


@pytest.mark.parametrize("failure", ["lost", "stored"])
async def test_a_run_that_broke_off_after_the_bucket_is_taken_up(pool, vault, authority, failure):
    await grow(pool, vault, 7)
    vault.fail_next("put_new", failure)
    with pytest.raises(VaultUnavailable):
        await stamp(pool, vault, authority)

    stamped = await stamp(pool, vault, authority)

    assert vault.content(timestamp_key(7)) == stamped.token


async def test_the_oldest_stamp_over_an_event_is_the_one_that_is_given(pool, vault, authority):
    await grow(pool, vault, 7)
    await stamp(pool, vault, authority)
    await grow(pool, vault, 5)
    await stamp(pool, vault, authority, later=timedelta(hours=25))

    assert (await get_timestamp(3, pool=pool)).tree_size == 7
    assert (await get_timestamp(7, pool=pool)).tree_size == 13
    assert (await get_timestamp(None, pool=pool)).tree_size == 13
    with pytest.raises(LogPartNotFound):
        await get_timestamp(13, pool=pool)


def test_a_token_is_good_for_its_own_message_and_roots_only(local, stranger):
    query = make_query(b"a checkpoint")
    token = local.stamp(query.body)
    roots = read_roots(local.root_file.read_bytes())

    verify_timestamp(token, b"a checkpoint", roots, nonce=query.nonce)
    for message, trusted in (
        (b"another", roots),
        (b"a checkpoint", read_roots(stranger.root_file.read_bytes())),
    ):
        with pytest.raises(TimestampInvalid):
            verify_timestamp(token, message, trusted)


async def test_a_log_rewritten_with_the_stolen_key_is_not_what_was_stamped(
    pool, vault, authority, superuser
):
    """Signed anew, event by event: the authority's word is of the history that was."""
    await grow(pool, vault, 9)
    kept = await stamp(pool, vault, authority)
    await superuser.execute("ALTER TABLE log_timestamps DISABLE TRIGGER USER")
    await superuser.execute("DELETE FROM log_timestamps")
    await superuser.execute(REWRITE)
    await sequence(pool, limit=9)
    async with reading(pool) as connection:
        rewritten = await log.find_checkpoint(connection, 9)

    verify_checkpoint(parse_checkpoint(rewritten.note), KEY)
    stamped = parse_checkpoint(kept.note).body.encode()
    assert verify_timestamp(kept.token, stamped, authority.roots) == kept.gen_time
    with pytest.raises(TimestampInvalid):
        verify_timestamp(
            kept.token, parse_checkpoint(rewritten.note).body.encode(), authority.roots
        )


@pytest.mark.parametrize("content", [b"", b"no certificate"])
def test_roots_that_are_none_are_refused(tmp_path, content):
    (tmp_path / "ca.pem").write_bytes(content)

    with pytest.raises(TimestampInvalid):
        make_time_authority("http://tsa.example", tmp_path / "ca.pem", 60)


def test_a_missing_root_file_is_refused(tmp_path):
    with pytest.raises(TimestampInvalid):
        make_time_authority("http://tsa.example", tmp_path / "missing.pem", 60)
