"""A pack with what others said of its log: a time authority's token, witnesses' cosignatures."""

import sys
import zipfile

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from ingest_service.actions.pack_clip import pack_clip
from ingest_service.actions.stamp_checkpoint import stamp_checkpoint
from ingest_service.cli.verify import verify_app
from ingest_service.domain.checkpoint import parse_checkpoint
from ingest_service.domain.clock import utc_now
from ingest_service.domain.cosignature import cosigned_message, format_cosignature, make_policy
from ingest_service.domain.merkle import prove_consistency
from ingest_service.domain.note import COSIGNATURE_TYPE, compute_key_id, make_verifier_key
from ingest_service.domain.timestamp import make_query
from ingest_service.ledger import log
from ingest_service.ledger.connection import reading
from ingest_service.notary.timestamps import make_time_authority
from schemas.verify_pack import (
    COSIGNED,
    FAILS,
    HOLDS,
    STAMP_SIGNED,
    UNKNOWN,
    is_prefix,
    read_token,
    verify_pack,
)
from tests.actions.engine import register_docks
from tests.actions.kept_ledger import SIGNER, fill_ledger, place_and_publish
from tests.actions.test_custody_log import record
from tests.actions.test_pack import EXPORT, KEYS, mend_lists, run, told
from tests.domain.test_merkle import ROOTS, STORE
from tests.fakes import MemoryVault
from tests.time_authority import HAS_OPENSSL, LocalAuthority, ServedAuthority

pytestmark = pytest.mark.skipif(not HAS_OPENSSL, reason="the local authority is openssl")
WITNESS = "witness.example/w1"


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    return LocalAuthority(tmp_path_factory.mktemp("tsa"))


@pytest.fixture(scope="module")
def witness():
    key = Ed25519PrivateKey.generate()
    public_key = key.public_key().public_bytes_raw()
    return key, make_verifier_key(WITNESS, public_key, kind=COSIGNATURE_TYPE)


async def stamp(kept, local) -> bytes:
    served = ServedAuthority(local)
    try:
        authority = make_time_authority(served.url, local.root_file, 1)
        stamped = await stamp_checkpoint(
            pool=kept.pool, vault=kept.vault, authority=authority, now=utc_now
        )
    finally:
        served.stop()
    return stamped.token


async def cosign(kept, witness) -> None:
    """Do as a witness does that saw the log grow to its newest checkpoint."""
    key, _ = witness
    key_id = compute_key_id(WITNESS, key.public_key().public_bytes_raw(), kind=COSIGNATURE_TYPE)
    async with reading(kept.pool) as connection:
        newest = await log.find_newest_checkpoint(connection, only_published=True)
        signature = key.sign(cosigned_message(parse_checkpoint(newest.note).body, 1_795_300_000))
        line = format_cosignature(WITNESS, key_id, 1_795_300_000, signature)
        await log.insert_cosignature(connection, newest.tree_size, WITNESS, line)


@pytest.fixture
async def folder(pool, local, witness, tmp_path):
    """The unpacked pack of a clip: stamped, then the log grew, then it was cosigned."""
    await register_docks(pool)
    kept = await fill_ledger(pool, MemoryVault(part_bytes_min=1))
    await stamp(kept, local)
    await record(pool, 40)
    await place_and_publish(pool, kept.vault)
    await cosign(kept, witness)
    pack = await pack_clip(
        kept.clips["released"],
        EXPORT,
        pool=pool,
        vault=kept.vault,
        signer=SIGNER,
        now=utc_now,
        witnesses=make_policy([witness[1]], 1),
    )
    file = tmp_path / "pack.zip"
    file.write_bytes(b"".join([piece async for piece in pack.pieces]))
    with zipfile.ZipFile(file) as archive:
        archive.extractall(tmp_path)
    return tmp_path / f"custody-{kept.clips['released'].clip_id}"


def verdicts(result) -> dict[str, str]:
    return {line.what: line.verdict for line in result.lines}


async def test_all_holds_but_what_needs_openssl_and_that_command_verifies_it(
    folder, witness, local
):
    result = verify_pack(folder, KEYS, [witness[1]])

    found = verdicts(result)
    assert found.pop(STAMP_SIGNED) == UNKNOWN
    assert set(found.values()) == {HOLDS}, told(result)
    assert found[COSIGNED] == HOLDS
    (line,) = [each for each in result.lines if each.what == STAMP_SIGNED]
    command = line.detail.rpartition(": ")[2].replace("TSA-ROOT.pem", str(local.root_file))
    ran = run(command.split(), folder)
    assert ran.returncode == 0, ran.stderr
    assert "Verification: OK" in ran.stdout + ran.stderr


async def test_the_verifier_inside_says_not_verifiable_and_prints_the_command(folder, witness):
    words = ["verify.py", ".", "--key", *KEYS, "--witness-key", witness[1]]
    ran = run([sys.executable, "-I", "-S", *words], folder)

    assert ran.returncode == 3, ran.stdout + ran.stderr
    assert "openssl ts -verify -data data/timestamp/checkpoint-body.txt" in ran.stdout
    assert f"HOLDS: {COSIGNED}: by {WITNESS} at 2026-11-21T22:26:40Z" in ran.stdout


async def test_the_command_vouches_for_the_time_with_the_authoritys_root(folder, witness, local):
    words = ["pack", str(folder), "--key", *KEYS, "--witness-key", witness[1]]
    checked = CliRunner().invoke(verify_app, [*words, "--tsa-ca", str(local.root_file)])

    assert checked.exit_code == 0, checked.output
    assert "the stamped log existed at" in checked.output


async def test_the_command_fails_under_another_authoritys_root(folder, tmp_path_factory):
    stranger = LocalAuthority(tmp_path_factory.mktemp("stranger"), "Another authority")
    words = ["pack", str(folder), "--key", *KEYS, "--tsa-ca", str(stranger.root_file)]

    assert CliRunner().invoke(verify_app, words).exit_code == 1


async def test_a_pack_without_a_time_stamp_fails_who_asks_for_one(folder, local):
    for each in (folder / "data/timestamp").iterdir():
        each.unlink()
    mend_lists(folder)
    words = ["pack", str(folder), "--key", *KEYS, "--tsa-ca", str(local.root_file)]

    assert CliRunner().invoke(verify_app, words).exit_code == 1


async def test_cosignatures_are_not_verifiable_without_the_witnesss_key(folder):
    assert verdicts(verify_pack(folder, KEYS))[COSIGNED] == UNKNOWN


async def test_a_witness_that_has_not_cosigned_fails(folder):
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    key = make_verifier_key("other.example", other, kind=COSIGNATURE_TYPE)

    assert verdicts(verify_pack(folder, KEYS, [key]))[COSIGNED] == FAILS


def _flip(folder, name, at) -> None:
    data = bytearray((folder / name).read_bytes())
    data[at] ^= 1
    (folder / name).write_bytes(data)


def _forge_time(folder) -> None:
    """The stated time lies in the clear: what catches the change is the authority's signature."""
    token = (folder / "data/timestamp/token.tsr").read_bytes()
    _, claimed = read_token(token)
    year = claimed[:4].encode()
    (folder / "data/timestamp/token.tsr").write_bytes(token.replace(year, b"2001"))


STAMP = "data/timestamp/"
FORGED = {
    "body changed": lambda folder: _flip(folder, f"{STAMP}checkpoint-body.txt", -5),
    "body of another log": lambda folder: _flip(folder, f"{STAMP}checkpoint-body.txt", 0),
    "body of another size": lambda folder: (folder / f"{STAMP}checkpoint-body.txt").write_text(
        "\n".join(
            [
                (folder / f"{STAMP}checkpoint-body.txt").read_text().split("\n")[0],
                "3",
                *(folder / f"{STAMP}checkpoint-body.txt").read_text().split("\n")[2:],
            ]
        )
    ),
    "body dropped": lambda folder: (folder / f"{STAMP}checkpoint-body.txt").unlink(),
    "token cut": lambda folder: (folder / f"{STAMP}token.tsr").write_bytes(
        (folder / f"{STAMP}token.tsr").read_bytes()[:100]
    ),
    "token emptied": lambda folder: (folder / f"{STAMP}token.tsr").write_bytes(b""),
    "token no token": lambda folder: (folder / f"{STAMP}token.tsr").write_bytes(b"\x30\x80" * 99),
    "token dropped": lambda folder: (folder / f"{STAMP}token.tsr").unlink(),
    "consistency changed": lambda folder: (folder / f"{STAMP}consistency.txt").write_text(
        "AAAA\n" + (folder / f"{STAMP}consistency.txt").read_text()
    ),
    "consistency emptied": lambda folder: (folder / f"{STAMP}consistency.txt").write_bytes(b""),
    "consistency dropped": lambda folder: (folder / f"{STAMP}consistency.txt").unlink(),
    "cosignature dropped": lambda folder: (folder / "data/checkpoint.txt").write_text(
        "".join((folder / "data/checkpoint.txt").read_text().splitlines(keepends=True)[:-1])
    ),
}


@pytest.mark.parametrize("what", FORGED)
async def test_a_forger_who_makes_the_lists_fit_fails_at_the_words_of_others(folder, witness, what):
    FORGED[what](folder)
    mend_lists(folder)

    result = verify_pack(folder, KEYS, [witness[1]])

    assert result.verdict == FAILS, told(result)
    assert result.lines[0].verdict == HOLDS, told(result)


async def test_a_token_of_another_checkpoint_fails(folder, witness, local):
    query = make_query(b"another log\n")
    (folder / f"{STAMP}token.tsr").write_bytes(local.stamp(query.body))
    mend_lists(folder)

    result = verify_pack(folder, KEYS, [witness[1]])

    assert "the token is over something else" in told(result)
    assert result.verdict == FAILS


async def test_a_forged_time_fails_at_the_authoritys_signature(folder, local):
    _forge_time(folder)
    mend_lists(folder)
    words = ["pack", str(folder), "--key", *KEYS, "--tsa-ca", str(local.root_file)]

    checked = CliRunner().invoke(verify_app, words)

    assert checked.exit_code == 1, checked.output


async def test_a_false_cosignature_of_a_known_witness_fails(folder, witness):
    path = folder / "data/checkpoint.txt"
    *lines, last = path.read_text().splitlines(keepends=True)
    at = len(last) - 20
    swapped = "B" if last[at] == "A" else "A"
    path.write_text("".join(lines) + last[:at] + swapped + last[at + 1 :])
    mend_lists(folder)

    assert verdicts(verify_pack(folder, KEYS, [witness[1]]))[COSIGNED] == FAILS


@pytest.mark.parametrize("old_size", [size for size in sorted(ROOTS) if size])
async def test_the_verifiers_own_consistency_check_agrees(old_size):
    for new_size in [size for size in sorted(ROOTS) if size >= old_size]:
        path = await prove_consistency(old_size, new_size, STORE.read)
        old, new = (old_size, ROOTS[old_size]), (new_size, ROOTS[new_size])

        assert is_prefix(*old, *new, path)
        assert not is_prefix(old_size, bytes(32), *new, path)
        assert not is_prefix(*old, new_size, bytes(32), path)
        assert not is_prefix(*old, *new, [*path, bytes(32)])
        assert old_size == new_size or not is_prefix(*old, *new, path[:-1])
