"""A witness cosigns one history of a log, never two, and never a step back."""

import asyncio
import base64

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ingest_service.domain.note import parse_verifier_key
from ingest_service.signer import LocalSigner
from ingest_service.witness.app import BODY_BYTES_MAX, make_witness_app
from ingest_service.witness.cosign import Witness
from ingest_service.witness.memory import Memory, MemoryUnusable, claimed_folder
from tests.paper_log import PaperLog, list_growth, make_key_id

ORIGIN = "police.example/custody"
NAME = "witness.example.org"
LOG_KEY = Ed25519PrivateKey.generate()
WITNESS_KEY = Ed25519PrivateKey.generate()
LEAVES = [bytes([number]) for number in range(40)]
LOG = PaperLog(ORIGIN, LOG_KEY, LEAVES)
TIME_S = 1_795_300_000


def make_app(folder, logs=(LOG,)):
    keys = [parse_verifier_key(log.verifier_key) for log in logs]
    signer = LocalSigner(WITNESS_KEY, NAME)
    return make_witness_app(
        Witness(logs=keys, signer=signer, memory=Memory(folder), now=lambda: TIME_S + 0.9)
    )


@pytest.fixture
def open_witness(tmp_path):
    """Start the witness on its memory; again is a restart."""

    def start(**options):
        transport = httpx.ASGITransport(make_app(tmp_path, **options))
        return httpx.AsyncClient(transport=transport, base_url="http://witness")

    return start


@pytest.fixture
def witness(open_witness):
    return open_witness()


def request(old: int, size: int, log: PaperLog = LOG, *, path: list[bytes] | None = None) -> str:
    if path is None:
        path = list_growth(old, log.leaves[:size]) if 0 < old < size else []
    lines = "".join(f"{base64.b64encode(each).decode()}\n" for each in path)
    return f"old {old}\n{lines}\n{log.checkpoint(size)}"


async def add(witness, *args, **options) -> httpx.Response:
    content = args[0] if isinstance(args[0], str) else request(*args, **options)
    return await witness.post("/add-checkpoint", content=content)


def check_line(line: str, log: PaperLog, size: int) -> int:
    """Return the time of a cosignature, checked by the words of tlog-cosignature."""
    dash, name, encoded = line.rstrip("\n").split(" ")
    blob = base64.b64decode(encoded)
    public_key = WITNESS_KEY.public_key().public_bytes_raw()
    assert (dash, name) == ("—", NAME)
    assert blob[:4] == make_key_id(NAME, b"\x04" + public_key)
    time_s = int.from_bytes(blob[4:12], "big")
    body = log.checkpoint(size).partition("\n\n")[0] + "\n"
    message = f"cosignature/v1\ntime {time_s}\n{body}".encode()
    Ed25519PublicKey.from_public_bytes(public_key).verify(blob[12:], message)
    return time_s


async def test_a_growing_log_is_cosigned_step_by_step(witness):
    for old, size in ((0, 3), (3, 8), (8, 9), (9, 40), (40, 40)):
        response = await add(witness, old, size)

        assert response.status_code == 200, response.text
        assert check_line(response.text, LOG, size) == TIME_S


async def test_the_key_that_it_shows_is_the_one_it_signs_with(witness):
    name, key_id, encoded = (await witness.get("/key")).text.strip().split("+", 2)

    public_key = WITNESS_KEY.public_key().public_bytes_raw()
    assert base64.b64decode(encoded) == b"\x04" + public_key
    assert (name, key_id) == (NAME, make_key_id(NAME, b"\x04" + public_key).hex())


async def test_who_does_not_know_the_size_is_told_it(witness):
    await add(witness, 0, 7)
    response = await add(witness, 0, 9)

    assert (response.status_code, response.text) == (409, "7\n")
    assert response.headers["content-type"] == "text/x.tlog.size"


async def test_a_step_back_is_not_cosigned(witness):
    await add(witness, 0, 9)

    for old in (0, 5):
        assert (await add(witness, old, 5)).status_code == 409
    assert (await add(witness, 9, 5)).status_code == 400
    assert (await add(witness, 9, 12)).status_code == 200


async def test_a_rewritten_history_is_not_cosigned_even_with_the_logs_own_key(witness):
    """The administrator has the key and signs another history: its proof cannot exist."""
    await add(witness, 0, 9)
    rewritten = PaperLog(ORIGIN, LOG_KEY, [b"rewritten", *LEAVES[1:]])

    for path in (None, list_growth(9, LEAVES[:12]), []):
        response = await add(witness, 9, 12, rewritten, path=path)
        assert response.status_code == 422
    assert (await add(witness, 9, 12)).status_code == 200


async def test_two_histories_of_one_size_are_not_both_cosigned(witness):
    await add(witness, 0, 9)
    other = PaperLog(ORIGIN, LOG_KEY, [*LEAVES[:8], b"other"])

    response = await add(witness, 9, 9, other)
    assert (response.status_code, response.text) == (409, "9\n")


async def test_a_first_checkpoint_comes_without_a_proof(witness):
    assert (await add(witness, 0, 9, path=[bytes(32)])).status_code == 422


async def test_a_log_that_is_not_watched_is_refused(witness):
    stranger = PaperLog("stranger.example/log", LOG_KEY, LEAVES)

    assert (await add(witness, 0, 5, stranger)).status_code == 404


async def test_a_checkpoint_that_the_log_did_not_sign_is_refused(witness):
    thief = PaperLog(ORIGIN, Ed25519PrivateKey.generate(), LEAVES)

    assert (await add(witness, 0, 5, thief)).status_code == 403


@pytest.mark.parametrize(
    "content",
    [
        "",
        "old 0\n",
        "old 0\n\n",
        request(0, 5).replace("old 0", "old 00"),
        request(0, 5).replace("old 0", "old -1"),
        request(0, 5).replace("old 0", "new 0"),
        request(0, 5).replace("\n5\n", "\n05\n"),
        "old 0\nAAAA\n\n" + LOG.checkpoint(5),
        "old 0\n" + "A" * 43 + "=\n" * 64 + "\n" + LOG.checkpoint(5),
        "old 0\n\n" + LOG.checkpoint(5).replace("—", "-"),
        "x" * (BODY_BYTES_MAX + 1),
    ],
)
async def test_a_malformed_request_is_refused(witness, content):
    assert (await add(witness, content)).status_code == 400


async def test_a_request_that_is_not_text_is_refused(witness):
    assert (await witness.post("/add-checkpoint", content=b"\xff\xfe")).status_code == 400


# --- memory ------------------------------------------------------------------------------


async def test_a_restart_forgets_nothing(open_witness):
    await add(open_witness(), 0, 9)
    restarted = open_witness()

    assert (await add(restarted, 0, 9)).text == "9\n"
    assert (await add(restarted, 9, 12)).status_code == 200


async def test_logs_are_remembered_apart(open_witness):
    other = PaperLog("other.example/log", Ed25519PrivateKey.generate(), LEAVES)
    witness = open_witness(logs=(LOG, other))

    assert (await add(witness, 0, 9)).status_code == 200
    assert (await add(witness, 0, 5, other)).status_code == 200
    assert (await add(witness, 5, 9, other)).status_code == 200


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff"])
async def test_a_memory_that_cannot_be_read_is_never_an_empty_one(open_witness, tmp_path, content):
    await add(open_witness(), 0, 9)
    (file,) = tmp_path.glob("*.checkpoint")
    file.write_bytes(content)

    assert (await add(open_witness(), 0, 5)).status_code == 503
    assert file.read_bytes() == content


async def test_a_memory_of_another_log_is_not_taken_for_this_ones(open_witness, tmp_path):
    await add(open_witness(), 0, 9)
    (file,) = tmp_path.glob("*.checkpoint")
    file.write_text(PaperLog("other.example/log", LOG_KEY, LEAVES).checkpoint(3))

    assert (await add(open_witness(), 3, 5)).status_code == 503


async def test_what_cannot_be_remembered_is_not_signed(open_witness, tmp_path):
    await add(open_witness(), 0, 9)
    (file,) = tmp_path.glob("*.checkpoint")
    file.with_suffix(".tmp").mkdir()

    response = await add(open_witness(), 9, 12)
    assert response.status_code == 503
    assert "—" not in response.text


async def test_of_two_continuations_at_once_one_is_cosigned(witness):
    """Two histories that both continue the remembered one: checking and keeping is one step."""
    await add(witness, 0, 9)
    other = PaperLog(ORIGIN, LOG_KEY, [*LEAVES[:9], b"a", b"b", b"c"])

    answers = await asyncio.gather(add(witness, 9, 12), add(witness, 9, 12, other))

    assert sorted(answer.status_code for answer in answers) == [200, 409]


def test_a_second_process_on_the_same_memory_is_refused(tmp_path):
    with (
        claimed_folder(tmp_path),
        pytest.raises(MemoryUnusable, match="another witness"),
        claimed_folder(tmp_path),
    ):
        pass
