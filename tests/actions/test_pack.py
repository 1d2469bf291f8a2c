"""The custody pack: it holds, and whatever is changed, dropped or swapped in it shows."""

import hashlib
import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ingest_service.actions.pack_clip import pack_clip, read_verifier
from ingest_service.actions.sequence_log import sign_checkpoint
from ingest_service.cli.verify import verify_app
from ingest_service.domain.checkpoint import Checkpoint
from ingest_service.domain.clock import utc_now
from ingest_service.domain.custody import Actor, Happening, hash_leaf
from ingest_service.domain.zip_stream import ZipStream
from ingest_service.errors import StoredBytesLost
from ingest_service.signer import make_signing_key, open_local_signer
from schemas.verify_pack import FAILS, HOLDS, UNKNOWN, verify_pack
from tests.actions.engine import get_clip, register_docks
from tests.actions.kept_ledger import SIGNER, fill_ledger
from tests.fakes import MemoryVault

KEYS = [SIGNER.verifier_key]
EXPORT = Happening("export.created", Actor("person", "P-9"), purpose="case 7")


async def make_pack(pool, vault, clip) -> bytes:
    pack = await pack_clip(clip, EXPORT, pool=pool, vault=vault, signer=SIGNER, now=utc_now)
    return b"".join([piece async for piece in pack.pieces])


@pytest.fixture
async def kept(pool):
    await register_docks(pool)
    return await fill_ledger(pool, MemoryVault(part_bytes_min=1))


@pytest.fixture
async def folder(kept, tmp_path):
    """The unpacked pack of a clip that was released."""
    file = tmp_path / "pack.zip"
    file.write_bytes(await make_pack(kept.pool, kept.vault, kept.clips["released"]))
    with zipfile.ZipFile(file) as archive:
        archive.extractall(tmp_path)
    return tmp_path / f"custody-{kept.clips['released'].clip_id}"


def run(command, folder):
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def told(result) -> str:
    return "\n".join(map(str, result.lines))


def list_files(folder) -> list[str]:
    return sorted(
        each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()
    )


def mend_lists(folder) -> None:
    """What a forger does: make the bag's lists fit again."""
    payload = [name for name in list_files(folder) if name.startswith("data/")]
    total = sum((folder / name).stat().st_size for name in payload)
    info = (folder / "bag-info.txt").read_text().splitlines()
    info[-1] = f"Payload-Oxum: {total}.{len(payload)}"
    (folder / "bag-info.txt").write_text("\n".join(info) + "\n")
    write_sums(folder, "manifest-sha256.txt", payload)
    write_sums(
        folder,
        "tagmanifest-sha256.txt",
        ["bag-info.txt", "bagit.txt", "manifest-sha256.txt", "verify.py"],
    )


def write_sums(folder, name, listed) -> None:
    lines = [
        f"{hashlib.sha256((folder / each).read_bytes()).hexdigest()}  {each}\n" for each in listed
    ]
    (folder / name).write_text("".join(lines))


async def test_a_pack_holds_zipped_and_unpacked(kept, folder):
    zipped = verify_pack(folder.parent / "pack.zip", KEYS)

    assert zipped.verdict == HOLDS, told(zipped)
    assert told(verify_pack(folder, KEYS)) == told(zipped)
    assert len(zipped.lines) == 8


async def test_the_command_checks_zip_and_folder(folder):
    for pack in (folder.parent / "pack.zip", folder):
        checked = CliRunner().invoke(verify_app, ["pack", str(pack), "--key", *KEYS])
        assert (checked.exit_code, "fails" in checked.output) == (0, False), checked.output


async def test_the_command_fails_for_a_changed_file(folder):
    (folder / "data" / "report.html").write_text("another report")

    checked = CliRunner().invoke(verify_app, ["pack", str(folder), "--key", *KEYS])

    assert (checked.exit_code, "fails" in checked.output) == (1, True)


async def test_the_verifier_inside_runs_alone_with_nothing_but_python(folder):
    ran = run(
        [sys.executable, "-I", "-S", "verify.py", ".", "--key", *KEYS],
        folder,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ".: holds" in ran.stdout
    assert (folder / "verify.py").read_bytes() == read_verifier()


async def test_sha256sum_checks_the_lists(folder):
    for name in ("manifest-sha256.txt", "tagmanifest-sha256.txt"):
        ran = run(["sha256sum", "--strict", "-c", name], folder)
        assert ran.returncode == 0, ran.stderr


async def test_without_a_key_from_elsewhere_it_is_not_verifiable(folder):
    result = verify_pack(folder)

    assert result.verdict == UNKNOWN
    assert "no --key was given" in told(result)


async def test_under_another_key_it_fails(folder, tmp_path):
    make_signing_key(tmp_path / "other.pem")
    other = open_local_signer(tmp_path / "other.pem", SIGNER.name)

    assert verify_pack(folder, [other.verifier_key]).verdict == FAILS


# Every file of a pack; proofs stand for each other.
EVERY_FILE = [
    *("bag-info.txt", "bagit.txt", "manifest-sha256.txt", "tagmanifest-sha256.txt", "verify.py"),
    *("data/checkpoint.txt", "data/events.jsonl", "data/log-key.txt", "data/manifest.json"),
    *("data/receipt.txt", "data/report.html", "data/proofs/0.txt", "data/proofs/3.txt"),
    "CLIP",
]


def _path(folder, name):
    if name == "CLIP":
        (found,) = (folder / "data/clip").iterdir()
        return found
    return folder / name


async def test_the_list_of_files_is_every_file(folder):
    named = {_path(folder, name).relative_to(folder).as_posix() for name in EVERY_FILE}

    assert {name for name in list_files(folder) if "proofs" not in name} <= named


@pytest.mark.parametrize("name", EVERY_FILE)
async def test_each_file_that_is_changed_dropped_or_swapped_fails(folder, name):
    path = _path(folder, name)
    data = path.read_bytes()
    assert verify_pack(folder, KEYS).verdict == HOLDS

    for at in (0, len(data) // 2, len(data) - 1):
        altered = bytearray(data)
        altered[at] ^= 1
        path.write_bytes(altered)
        assert verify_pack(folder, KEYS).verdict == FAILS, (name, at)
    path.write_bytes(data + b"\n")
    assert verify_pack(folder, KEYS).verdict == FAILS
    path.write_bytes(b"")
    assert verify_pack(folder, KEYS).verdict == FAILS
    path.unlink()
    assert verify_pack(folder, KEYS).verdict == FAILS
    other = _path(folder, "data/report.html" if name != "data/report.html" else "bagit.txt")
    path.write_bytes(other.read_bytes())
    assert verify_pack(folder, KEYS).verdict == FAILS


@pytest.mark.parametrize("name", ["extra.txt", "data/extra.txt", "data/proofs/99.txt"])
async def test_a_file_that_is_on_no_list_fails(folder, name):
    (folder / name).write_bytes(b"more")

    assert verify_pack(folder, KEYS).verdict == FAILS


# --- a forger who makes the lists fit --------------------------------------------------------


def _edit_leaf(folder, number, **changes):
    path = folder / "data/events.jsonl"
    leaves = path.read_bytes().split(b"\n")
    leaf = json.loads(leaves[number]) | changes
    leaves[number] = json.dumps(leaf, sort_keys=True, separators=(",", ":")).encode()
    path.write_bytes(b"\n".join(leaves))


def _edit_text(folder, name, old, new):
    path = folder / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


def _swap(folder, one, other):
    first, second = (folder / one).read_bytes(), (folder / other).read_bytes()
    (folder / one).write_bytes(second)
    (folder / other).write_bytes(first)


def _forge_checkpoint(folder, tmp_path):
    """Another key signs a log of one leaf: the rewritten first event."""
    make_signing_key(tmp_path / "forger.pem")
    forger = open_local_signer(tmp_path / "forger.pem", SIGNER.name)
    leaf = (folder / "data/events.jsonl").read_bytes().split(b"\n")[0]
    note = sign_checkpoint(Checkpoint(SIGNER.name, 1, hash_leaf(leaf)), forger)
    (folder / "data/checkpoint.txt").write_text(note)
    (folder / "data/log-key.txt").write_text(f"{forger.verifier_key}\n")
    (folder / "data/events.jsonl").write_bytes(leaf + b"\n")
    for each in (folder / "data/proofs").iterdir():
        each.unlink()
    proof = f"c2sp.org/tlog-proof@v1\nindex 0\n\n{note}"
    (folder / "data/proofs/0.txt").write_text(proof)
    (folder / "data/receipt.txt").unlink()


def _drop_event(folder, number):
    path = folder / "data/events.jsonl"
    leaves = path.read_bytes().split(b"\n")
    del leaves[number]
    path.write_bytes(b"\n".join(leaves))
    proofs = [folder / f"data/proofs/{at}.txt" for at in range(len(leaves))]
    proofs[number].unlink()
    for at in range(number + 1, len(proofs)):
        proofs[at].rename(proofs[at - 1])


FORGED = {
    "footage exchanged": lambda folder, _: _path(folder, "CLIP").write_bytes(bytes(112)),
    "footage and its event exchanged": lambda folder, _: (
        _path(folder, "CLIP").write_bytes(bytes(112)),
        _edit_text(
            folder,
            "data/events.jsonl",
            '"sha256_readback":"',
            '"sha256_readback":"' + hashlib.sha256(bytes(112)).hexdigest() + '","x":"',
        ),
    ),
    "second footage": lambda folder, _: (folder / "data/clip/b.mp4").write_bytes(b"b"),
    "event rewritten": lambda folder, _: _edit_leaf(folder, 1, occurred_at="2020"),
    "last event rewritten": lambda folder, _: _edit_leaf(folder, 4, occurred_at="2020"),
    "first event dropped": lambda folder, _: _drop_event(folder, 0),
    "event dropped": lambda folder, _: _drop_event(folder, 2),
    "proofs swapped": lambda folder, _: _swap(folder, "data/proofs/0.txt", "data/proofs/1.txt"),
    "proof of another index": lambda folder, _: _edit_text(
        folder, "data/proofs/1.txt", "index ", "index 1"
    ),
    "proof dropped": lambda folder, _: (folder / "data/proofs/1.txt").unlink(),
    "proof too many": lambda folder, _: (folder / "data/proofs/99.txt").write_text("x"),
    "checkpoint cut": lambda folder, _: (folder / "data/checkpoint.txt").write_text("x\n1\n"),
    "checkpoint of another size": lambda folder, _: _edit_text(
        folder, "data/checkpoint.txt", "\n3", "\n4"
    ),
    "checkpoint, key and proofs forged": _forge_checkpoint,
    "manifest exchanged": lambda folder, _: (folder / "data/manifest.json").write_text("{}"),
    "manifest dropped": lambda folder, _: (folder / "data/manifest.json").unlink(),
    "receipt of another event": lambda folder, _: (folder / "data/receipt.txt").write_bytes(
        (folder / "data/events.jsonl").read_bytes().split(b"\n")[0]
        + b"\n"
        + (folder / "data/proofs/0.txt").read_bytes()
    ),
    "receipt without proof": lambda folder, _: (folder / "data/receipt.txt").write_bytes(
        (folder / "data/receipt.txt").read_bytes().split(b"\n")[0] + b"\n"
    ),
    "receipt dropped": lambda folder, _: (folder / "data/receipt.txt").unlink(),
    "key exchanged": lambda folder, _: (folder / "data/log-key.txt").write_text("a+b+c\n"),
}


@pytest.mark.parametrize("what", FORGED)
async def test_a_forger_who_makes_the_lists_fit_fails_at_the_evidence(folder, tmp_path, what):
    FORGED[what](folder, tmp_path)
    mend_lists(folder)

    result = verify_pack(folder, KEYS)

    assert result.verdict == FAILS, told(result)
    assert result.lines[0].verdict == HOLDS or what == "second footage", told(result)


async def test_two_files_of_one_name_in_the_zip_fail(kept, tmp_path):
    file = tmp_path / "pack.zip"
    file.write_bytes(await make_pack(kept.pool, kept.vault, kept.clips["released"]))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(file, "a") as archive:
        archive.writestr(next(n for n in archive.namelist() if n.endswith("events.jsonl")), b"{}")

    assert "same name" in told(verify_pack(file, KEYS))


@pytest.mark.parametrize("cut", [1, 30, 5000])
async def test_a_pack_that_broke_off_is_none(kept, tmp_path, cut):
    file = tmp_path / "pack.zip"
    file.write_bytes((await make_pack(kept.pool, kept.vault, kept.clips["released"]))[:-cut])

    assert verify_pack(file, KEYS).verdict == FAILS


# --- golden ----------------------------------------------------------------------------------

GOLDEN = Path(__file__).parent.parent / "vectors" / "pack" / "pack.zip"


def test_a_pack_that_was_given_out_long_ago_holds():
    result = verify_pack(GOLDEN, KEYS)

    assert result.verdict == HOLDS, told(result)


def test_the_lists_of_a_golden_pack_are_those_of_its_files():
    """By BagIt's own words (RFC 8493), with nothing of the service."""
    with zipfile.ZipFile(GOLDEN) as archive:
        files = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}

    for name, is_listed in (
        ("manifest-sha256.txt", lambda each: each.startswith("data/")),
        ("tagmanifest-sha256.txt", lambda each: "/" not in each and not each.startswith("tagm")),
    ):
        lines = [line.split("  ", 1) for line in files[name].decode().splitlines()]
        assert {each: digest for digest, each in lines} == {
            each: hashlib.sha256(data).hexdigest()
            for each, data in files.items()
            if is_listed(each)
        }


# --- what goes in ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sealed", "altered", "refused"])
async def test_a_clip_that_was_not_secured_is_packed_and_not_verifiable(kept, tmp_path, name):
    file = tmp_path / "pack.zip"
    file.write_bytes(await make_pack(kept.pool, kept.vault, kept.clips[name]))

    result = verify_pack(file, KEYS)

    assert result.verdict == UNKNOWN, told(result)


async def test_altered_footage_breaks_the_pack_off(kept):
    kept.vault.tamper(kept.clips["secured"].object_key, bytes(112))

    with pytest.raises(StoredBytesLost):
        await make_pack(kept.pool, kept.vault, kept.clips["secured"])


async def test_the_export_is_recorded_even_if_nobody_reads_on(kept):
    clip = kept.clips["secured"]
    await pack_clip(clip, EXPORT, pool=kept.pool, vault=kept.vault, signer=SIGNER, now=utc_now)

    assert (await get_clip(kept.pool, clip.clip_id)).event_count == clip.event_count + 1


async def test_a_pack_never_holds_more_than_a_block_of_the_footage(kept):
    """A clip of 3 GiB that is not there: what is held is what one block needs."""
    blocks, size = 3 * 1024, 1024 * 1024

    async def footage():
        block = bytes(size)
        for _ in range(blocks):
            yield block

    stream = ZipStream(utc_now())
    total, largest, last = 0, 0, b""
    async for piece in stream.stream("a/b", blocks * size, footage()):
        largest, total = max(largest, len(piece)), total + len(piece)
    last = stream.finish()
    assert largest < 2 * size
    assert total > blocks * size
    assert b"PK\x06\x06" not in last[:4]


def test_a_large_entry_has_the_zip64_form(tmp_path):
    stream = ZipStream(utc_now())
    stream._zip.open(stream._describe("a/b", 2**32), "w").close()

    head = stream._pipe.take()
    # The extra field of zip64; Python before 3.11.4 names the older version as needed beside it.
    assert head[26 + 4 + 3 : 26 + 4 + 5] == b"\x01\x00"
    stream.finish()


async def test_awkward_names_stay_in_their_folder(kept, tmp_path):
    clip = kept.clips["secured"]
    for number, name in enumerate(("../../etc/passwd", "a\nb", "..", "/", "ä" * 300, ".hidden")):
        odd = replace(clip, announcement={"filename": name})
        file = tmp_path / f"{number}.zip"
        file.write_bytes(await make_pack(kept.pool, kept.vault, odd))
        with zipfile.ZipFile(file) as archive:
            assert all(".." not in each and "\n" not in each for each in archive.namelist())
        assert verify_pack(file, KEYS).verdict == HOLDS
