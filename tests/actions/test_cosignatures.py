"""Second parties: receipts carry their word, and none of them holds up a byte."""

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ingest_service.actions.collect_cosignatures import collect_cosignatures
from ingest_service.actions.prove_log import PublishedHead, get_checkpoint
from ingest_service.actions.publish_checkpoint import publish_checkpoints
from ingest_service.domain.checkpoint import parse_checkpoint, parse_proof
from ingest_service.domain.log_paths import checkpoint_key, cosigned_key
from ingest_service.domain.note import NoteInvalid
from ingest_service.errors import LogPartNotFound, VaultUnavailable
from ingest_service.notary.witnesses import Witnesses, make_witnesses
from ingest_service.signer import LocalSigner
from ingest_service.witness.app import make_witness_app
from ingest_service.witness.cosign import Witness
from ingest_service.witness.memory import Memory
from tests.actions.test_custody_log import KEY, SIGNER, prove, record, sequence
from tests.fakes import MemoryVault
from tests.paper_log import PaperLog, check_logged


class SecondParty(httpx.AsyncBaseTransport):
    """A real witness behind a wire that can be cut, and made to tell lies."""

    def __init__(self, name: str, folder) -> None:
        folder.mkdir(exist_ok=True)
        self.name = name
        self.witness = Witness(
            logs=[KEY],
            signer=LocalSigner(Ed25519PrivateKey.generate(), name),
            memory=Memory(folder),
            now=lambda: 1_795_300_000,
        )
        self.entry = f"{self.witness.verifier_key} https://{name}"
        self.asked = 0
        self.is_away = False
        self.lie: httpx.Response | None = None
        self._app = httpx.ASGITransport(make_witness_app(self.witness))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if self.is_away:
            message = "no answer"
            raise httpx.ConnectError(message, request=request)
        return self.lie or await self._app.handle_async_request(request)


class Town(httpx.AsyncBaseTransport):
    """Where the witnesses live."""

    def __init__(self, parties) -> None:
        self._parties = {party.name: party for party in parties}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._parties[request.url.host].handle_async_request(request)


@pytest.fixture
def parties(tmp_path):
    return [SecondParty(f"w{number}.example", tmp_path / f"w{number}") for number in (1, 2)]


def dial(parties, quorum: int) -> Witnesses:
    witnesses = make_witnesses(", ".join(party.entry for party in parties), quorum)
    witnesses._http = httpx.AsyncClient(transport=Town(parties))
    return witnesses


@pytest.fixture
def vault():
    return MemoryVault()


async def grow(pool, vault, count: int) -> None:
    await record(pool, count)
    while await sequence(pool):
        pass
    await publish_checkpoints(pool=pool, vault=vault)


async def collect(pool, witnesses, vault=None) -> int:
    return await collect_cosignatures(pool=pool, vault=vault or MemoryVault(), witnesses=witnesses)


async def test_a_proof_carries_the_cosignatures_of_the_witnesses(pool, vault, parties):
    witnesses = dial(parties, 2)
    await grow(pool, vault, 5)

    assert await collect(pool, witnesses) == 2
    proven = await prove(pool, 3, PublishedHead(witnesses.policy))
    found = witnesses.policy.verify(parse_proof(proven.proof).signed)
    assert [each.name for each in found] == ["w1.example", "w2.example"]
    assert len(parse_proof(proven.proof).signed.lines) == 3


async def test_no_proof_is_given_before_a_quorum_has_cosigned(pool, vault, parties):
    witnesses = dial(parties, 2)
    await grow(pool, vault, 5)
    parties[1].is_away = True
    await collect(pool, witnesses)

    with pytest.raises(LogPartNotFound):
        await prove(pool, 3, PublishedHead(witnesses.policy))


async def test_one_witness_that_is_away_holds_up_nothing_beyond_its_own_word(pool, vault, parties):
    witnesses = dial(parties, 1)
    parties[0].is_away = True
    await grow(pool, vault, 5)

    assert await collect(pool, witnesses) == 1
    proven = await prove(pool, 3, PublishedHead(witnesses.policy))
    assert len(witnesses.policy.verify(parse_proof(proven.proof).signed)) == 1


async def test_without_witnesses_nobody_is_asked_and_nothing_changes(pool, vault):
    await grow(pool, vault, 5)

    assert await collect(pool, Witnesses()) == 0
    proven = await prove(pool, 3)
    assert check_logged(proven.leaf, proven.proof, SIGNER.verifier_key) == 3


async def test_a_witness_is_asked_once_for_a_checkpoint(pool, vault, parties):
    witnesses = dial(parties, 1)
    await grow(pool, vault, 5)

    for _ in range(3):
        await collect(pool, witnesses)

    assert [party.asked for party in parties] == [1, 1]


async def test_a_growing_log_is_cosigned_with_one_question_each_time(pool, vault, parties):
    witnesses = dial(parties, 2)
    for _ in range(4):
        await grow(pool, vault, 90)
        assert await collect(pool, witnesses) == 2

    assert [party.asked for party in parties] == [4, 4]


async def test_a_restarted_service_learns_how_far_a_witness_has_seen(pool, vault, parties):
    await grow(pool, vault, 5)
    await collect(pool, dial(parties, 2))
    await grow(pool, vault, 5)

    assert await collect(pool, dial(parties, 2)) == 2
    assert [party.asked for party in parties] == [3, 3]


async def test_a_witness_that_is_away_is_asked_ever_more_seldom(pool, vault, parties):
    clock = [0.0]
    witnesses = dial(parties[:1], 1)
    witnesses.monotonic = lambda: clock[0]
    parties[0].is_away = True
    await grow(pool, vault, 5)

    for second in range(40):
        clock[0] = float(second)
        await collect(pool, witnesses)

    assert 4 <= parties[0].asked <= 7
    parties[0].is_away = False
    clock[0] += 60
    assert await collect(pool, witnesses) == 1


LIES = {
    "nonsense": httpx.Response(200, text="thank you\n"),
    "nothing": httpx.Response(200, text=""),
    "an error": httpx.Response(500, text="oops"),
    "no size": httpx.Response(409, text="many\n"),
    "too much": httpx.Response(200, text="x" * 10_000_000),
    "not text": httpx.Response(200, content=b"\xff\xff"),
    "a redirect": httpx.Response(301, headers={"Location": "https://w2.example/add-checkpoint"}),
}


@pytest.mark.parametrize("lie", LIES)
async def test_what_is_no_cosignature_is_not_recorded(pool, vault, parties, lie):
    witnesses = dial(parties[:1], 1)
    parties[0].lie = LIES[lie]
    await grow(pool, vault, 5)

    assert await collect(pool, witnesses) == 0
    with pytest.raises(LogPartNotFound):
        await prove(pool, 3, PublishedHead(witnesses.policy))


async def test_the_word_of_another_witness_does_not_count_for_this_one(pool, vault, parties):
    witnesses = dial(parties, 1)
    await grow(pool, vault, 5)
    parties[0].is_away = True
    await collect(pool, witnesses)
    (line,) = (await get_checkpoint(pool=pool, witnesses=witnesses.policy)).splitlines()[-1:]
    parties[0].is_away = False
    parties[0].lie = httpx.Response(200, text=f"{line}\n")

    assert await collect(pool, dial(parties, 1)) == 0


async def test_the_checkpoint_is_served_with_its_cosignatures(pool, vault, parties):
    witnesses = dial(parties, 2)
    await grow(pool, vault, 5)
    await collect(pool, witnesses)

    text = await get_checkpoint(pool=pool, witnesses=witnesses.policy)
    assert len(witnesses.policy.verify(parse_checkpoint(text))) == 2


# --- in the bucket -----------------------------------------------------------------------


async def test_a_cosigned_checkpoint_is_published_with_its_lines(pool, vault, parties):
    witnesses = dial(parties, 2)
    await grow(pool, vault, 5)

    await collect(pool, witnesses, vault)

    published = parse_checkpoint(vault.content(cosigned_key(5)).decode())
    assert published.body == parse_checkpoint(vault.content(checkpoint_key(5)).decode()).body
    assert len(witnesses.policy.verify(published)) == 2


async def test_before_a_quorum_no_cosignatures_are_published(pool, vault, parties):
    witnesses = dial(parties, 2)
    await grow(pool, vault, 5)
    parties[1].is_away = True

    await collect(pool, witnesses, vault)

    assert vault.content(cosigned_key(5)) is None


async def test_a_tick_without_news_asks_nothing_of_the_store(pool, vault, parties):
    await grow(pool, vault, 5)
    before = sum(vault.calls.values())
    await collect(pool, Witnesses(), vault)
    without = sum(vault.calls.values())
    witnesses = dial(parties, 2)

    for _ in range(3):
        await collect(pool, witnesses, vault)

    assert without == before
    assert sum(vault.calls.values()) == before + 1


@pytest.mark.parametrize("failure", ["lost", "stored"])
async def test_cosignatures_that_could_not_be_published_are_published_later(
    pool, vault, parties, failure
):
    witnesses = dial(parties, 2)
    await grow(pool, vault, 5)
    vault.fail_next("put_new", failure)
    with pytest.raises(VaultUnavailable):
        await collect(pool, witnesses, vault)

    await collect(pool, witnesses, vault)

    assert [party.asked for party in parties] == [1, 1]
    published = parse_checkpoint(vault.content(cosigned_key(5)).decode())
    assert len(witnesses.policy.verify(published)) == 2


# --- threats -----------------------------------------------------------------------------


async def test_a_history_rewritten_with_the_stolen_key_gets_no_cosignature(pool, vault, parties):
    """The witness has seen another log under this key: it keeps to what it saw."""
    leaves = [bytes([number]) for number in range(5)]
    seen = PaperLog(SIGNER.name, SIGNER._private_key, leaves)
    town = httpx.AsyncClient(transport=Town(parties))
    for party in parties:
        url = f"https://{party.name}/add-checkpoint"
        answer = await town.post(url, content=f"old 0\n\n{seen.checkpoint()}")
        assert answer.status_code == 200
    witnesses = dial(parties, 1)

    for count in (5, 3):
        await grow(pool, vault, count)
        assert await collect(pool, witnesses) == 0
    with pytest.raises(LogPartNotFound):
        await prove(pool, 3, PublishedHead(witnesses.policy))


async def test_a_ledger_and_a_bucket_restored_together_get_no_cosignature(
    pool, vault, parties, superuser
):
    """Both were set back to five leaves, so they agree; the witness remembers nine."""
    witnesses = dial(parties, 1)
    await grow(pool, vault, 9)
    assert await collect(pool, witnesses) == 2
    await superuser.execute(
        """ALTER TABLE log_cosignatures DISABLE TRIGGER USER;
           ALTER TABLE log_tiles DISABLE TRIGGER USER;
           ALTER TABLE log_leaves DISABLE TRIGGER USER;
           DELETE FROM log_cosignatures; DELETE FROM log_checkpoints; DELETE FROM log_tiles;
           DELETE FROM log_leaves; UPDATE log_state SET tree_size = 0"""
    )

    await grow(pool, MemoryVault(), 5)
    assert await collect(pool, witnesses) == 0
    assert await collect(pool, dial(parties, 1)) == 0
    with pytest.raises(LogPartNotFound):
        await prove(pool, 3, PublishedHead(witnesses.policy))


# --- settings ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "quorum"),
    [
        ("nonsense", 0),
        ("{key}", 0),
        ("{key} w1.example", 0),
        ("{key} https://w1.example", 2),
        ("{key} https://w1.example, {key} https://w2.example", 1),
        (SIGNER.verifier_key + " https://w1.example", 1),
        (None, 1),
    ],
)
def test_witnesses_that_cannot_be_are_refused(parties, setting, quorum):
    text = setting and setting.replace("{key}", parties[0].witness.verifier_key)

    with pytest.raises(NoteInvalid):
        make_witnesses(text, quorum)
