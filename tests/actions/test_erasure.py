"""Erasure in two phases: announced, taken back or not, intended, deleted by version, certified."""

import asyncio
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from ingest_service.actions.check_fixity import check_fixity
from ingest_service.actions.issue_certificate import issue_certificate
from ingest_service.actions.prove_log import PublishedHead
from ingest_service.actions.rebuild_ledger import RebuildTools, rebuild_ledger
from ingest_service.cli.verify import verify_app
from ingest_service.domain.note import parse_verifier_key
from ingest_service.domain.receipt import ReceiptInvalid, verify_certificate, verify_receipt
from ingest_service.errors import (
    CertificateNotFound,
    ErasureBegun,
    NothingToRestore,
    VaultUnavailable,
)
from ingest_service.ledger.connection import open_pool
from tests.actions.engine import Crash, Mortality, MortalPool, MortalVault, list_event_types
from tests.actions.kept_ledger import audit
from tests.actions.life import DAY, SIGNER, Life


async def certify(life: Life, clip_id):
    return await issue_certificate(
        await life.get(clip_id), pool=life.pool, signer=SIGNER, head=PublishedHead()
    )


async def test_a_clip_whose_date_has_come_is_announced_and_stays(life):
    clip = await life.announced()

    assert clip.state == "erase_pending"
    assert life.bytes_of(clip) is not None
    assert (await life.types(clip.clip_id))[-1] == "erase.scheduled"


async def test_a_clip_whose_date_has_not_come_is_left_alone(life):
    clip = await life.secure(evidential_state="non_evidential")
    life.later(30.9)

    assert await life.schedule() == 0
    assert (await life.get(clip.clip_id)).state == "secured"


async def test_nothing_is_deleted_before_the_notice_is_over(life):
    clip = await life.announced()
    life.later(6.9)

    assert await life.intend() == 0
    assert life.bytes_of(clip) is not None


async def test_an_erased_clip_has_no_bytes_and_keeps_its_record(life):
    clip = await life.announced()
    await life.erase()

    erased = await life.get(clip.clip_id)
    assert (erased.state, life.bytes_of(clip)) == ("erased", None)
    assert (erased.sha256, erased.size_bytes) == (clip.sha256, clip.size_bytes)
    assert (await life.types(clip.clip_id))[-2:] == ["erase.intended", "erase.executed"]


async def test_every_version_under_the_clips_keys_goes(life):
    clip = await life.announced()
    life.vault._store(clip.object_key, b"an earlier try", "etag")
    life.vault._store(f"{clip.object_key}.chunk-1", b"a leftover", "etag")

    await life.erase()

    assert [key for key in list(life.vault.keys()) if str(clip.clip_id) in key] == [
        f"manifests/{clip.clip_id}/{clip.manifest_sha256.hex()}.json"
    ]


async def test_nothing_is_deleted_before_the_intent_is_published(life):
    clip = await life.announced()
    life.later(7)
    await life.intend()

    before = await life.execute()
    kept = life.bytes_of(clip)
    await life.publish()
    after = await life.execute()

    assert (before.waiting, before.executed, kept is not None) == (1, 0, True)
    assert (after.executed, life.bytes_of(clip)) == (1, None)


async def test_a_clip_that_became_evidence_is_not_announced(life):
    """The log was not followed yet: the row itself is looked at."""
    clip = await life.secure(evidential_state="non_evidential")
    life.later(32)
    await life.asserted(clip.clip_id, "x.silent", evidential_state="evidential")

    assert await life.schedule() == 0
    assert (await life.get(clip.clip_id)).erase_due_at is None


async def test_a_clip_that_became_evidence_during_its_notice_is_not_deleted(life):
    clip = await life.announced()
    life.later(7)
    await life.asserted(clip.clip_id, "x.silent", evidential_state="evidential")

    assert await life.intend() == 0
    assert (await life.get(clip.clip_id)).state == "secured"
    assert (await life.types(clip.clip_id))[-1] == "erase.restored"


async def test_a_restored_clip_has_its_shortest_term_once_more(life):
    clip = await life.announced()

    await life.restore(clip.clip_id)

    restored = await life.get(clip.clip_id)
    assert restored.state == "secured"
    assert restored.erase_due_at - life.clock() > 30 * DAY
    assert await life.schedule() == 0


async def test_what_is_not_about_to_be_erased_cannot_be_restored(life):
    clip = await life.secure()

    with pytest.raises(NothingToRestore):
        await life.restore(clip.clip_id)


async def test_what_is_being_deleted_cannot_be_restored(life):
    clip = await life.announced()
    life.later(7)
    await life.intend()

    with pytest.raises(ErasureBegun):
        await life.restore(clip.clip_id)


# --- the store ----------------------------------------------------------------------------


async def test_what_the_store_refuses_to_delete_stays_and_can_be_held(life):
    clip = await life.announced()
    await life.vault.set_legal_hold(clip.object_key, clip.object_version, is_on=True)
    life.later(7)
    await life.intend()
    await life.publish()

    outcome = await life.execute()

    assert (outcome.blocked, outcome.executed) == (1, 0)
    assert life.bytes_of(clip) is not None
    assert (await life.types(clip.clip_id))[-1] == "erase.blocked"
    await life.hold(clip.clip_id)
    assert (await life.get(clip.clip_id)).state == "secured"


async def test_what_the_store_refused_is_tried_again_later(life):
    clip = await life.announced()
    await life.vault.set_legal_hold(clip.object_key, clip.object_version, is_on=True)
    life.later(7)
    await life.intend()
    await life.publish()
    await life.execute()
    await life.vault.set_legal_hold(clip.object_key, clip.object_version, is_on=False)

    assert await life.intend() == 0
    life.later(1)
    await life.work()

    assert (await life.get(clip.clip_id)).state == "erased"


@pytest.mark.parametrize("failure", ["lost", "stored"])
@pytest.mark.parametrize("call", ["delete", "sweep", "get_facts"])
async def test_a_failing_store_only_delays_an_erasure(life, call, failure):
    clip = await life.announced()
    life.later(7)
    await life.intend()
    await life.publish()
    life.vault.fail_next(call, failure)

    with pytest.raises(VaultUnavailable):
        await life.execute()
    between = await life.get(clip.clip_id)
    life.clock.moved_by += timedelta(minutes=6)
    await life.execute()

    assert between.state == "erase_pending"
    assert (await life.get(clip.clip_id)).state == "erased"
    assert (await life.types(clip.clip_id)).count("erase.executed") == 1


async def test_a_store_that_only_says_so_is_not_believed(life, monkeypatch):
    clip = await life.announced()
    life.later(7)
    await life.intend()
    await life.publish()

    async def say_yes(*_arguments, **_options):
        return 0

    monkeypatch.setattr(life.vault, "delete", say_yes)
    monkeypatch.setattr(life.vault, "sweep", say_yes)
    outcome = await life.execute()

    assert outcome.executed == 0
    assert (await life.get(clip.clip_id)).state == "erase_pending"


STEPS = [
    *[("ledger", number) for number in range(1, 4)],
    *[(call, 1) for call in ("delete", "sweep", "get_facts")],
]


class Dying(Mortality):
    """Dies at the nth call of one name, before or after it took effect."""

    def __init__(self, name, number, moment):
        super().__init__()
        self.name, self.left, self.moment = name, number, moment
        self.is_last = False

    def before(self, step):
        self.check()
        self.is_last = False
        if step == self.name:
            self.left -= 1
            self.is_last = self.left == 0
        if self.is_last and self.moment == "before":
            self.die()

    def after(self, step):
        if self.is_last and step == self.name:
            self.die()
        self.check()


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(("name", "number"), STEPS)
async def test_a_process_that_dies_at_any_step_of_a_deletion_is_gone_on_from(
    life, name, number, moment
):
    clip = await life.announced()
    life.later(7)
    await life.intend()
    await life.publish()
    mortality = Dying(name, number, moment)

    try:
        await life.execute(
            pool=MortalPool(life.pool, mortality), vault=MortalVault(life.vault, mortality)
        )
        died = False
    except Crash:
        died = True
    life.clock.moved_by += timedelta(minutes=6)
    await life.work()

    assert died
    assert ((await life.get(clip.clip_id)).state, life.bytes_of(clip)) == ("erased", None)
    assert (await life.types(clip.clip_id)).count("erase.executed") == 1


async def test_two_workers_at_once_erase_a_clip_once(life):
    clips = [await life.secure(evidential_state="non_evidential") for _ in range(3)]
    life.later(32)

    await asyncio.gather(life.schedule(), life.schedule())
    life.later(7)
    await asyncio.gather(life.intend(), life.intend())
    await life.publish()
    await asyncio.gather(life.execute(), life.execute())

    for clip in clips:
        types = await life.types(clip.clip_id)
        assert types[-3:] == ["erase.scheduled", "erase.intended", "erase.executed"]
        assert len(set(types)) == len(types)


async def test_bytes_that_are_gone_by_intent_are_no_loss(life):
    """The worker died between the deletion and its record."""
    clip = await life.announced()
    life.later(7)
    await life.intend()
    life.vault._versions[clip.object_key].clear()

    result = await check_fixity(
        clip, pool=life.pool, vault=life.vault, now=life.clock, pace=lambda _: asyncio.sleep(0)
    )
    await life.publish()
    state = await audit(life.pool, life.vault)

    assert result is None
    assert state.findings == []


# --- the certificate ----------------------------------------------------------------------


async def test_the_certificate_says_what_was_erased_and_why(life):
    clip = await life.announced()
    await life.erase()
    await life.publish()

    facts = verify_certificate(await certify(life, clip.clip_id), SIGNER.verifier_key)

    assert facts.sha256 == clip.sha256.hex()
    assert facts.size_bytes == clip.size_bytes
    # Rule and floor ask for 31 days, the floor from a moment later.
    assert facts.policy == "default/1"
    assert "not earlier than 31 days after it was secured" in facts.reason
    assert facts.inputs["evidential_state"] == "non_evidential"
    assert facts.no_hold_existed_at <= facts.erased_at


async def test_a_certificate_is_no_receipt(life):
    clip = await life.announced()
    await life.erase()
    await life.publish()
    certificate = await certify(life, clip.clip_id)

    with pytest.raises(ReceiptInvalid):
        verify_receipt(certificate, SIGNER.verifier_key)


@pytest.mark.parametrize("member", ["leaf", "proof", "signature", "key_id", "log_index"])
async def test_a_changed_certificate_does_not_verify(life, member):
    clip = await life.announced()
    await life.erase()
    await life.publish()
    certificate = await certify(life, clip.clip_id)
    value = getattr(certificate, member)
    changed = value + 1 if isinstance(value, int) else value.replace(value[-5], "~", 1)

    with pytest.raises(ReceiptInvalid):
        verify_certificate(certificate.model_copy(update={member: changed}), SIGNER.verifier_key)


async def test_the_tool_verifies_a_certificate_offline(life, tmp_path):
    clip = await life.announced()
    await life.erase()
    await life.publish()
    certificate = await certify(life, clip.clip_id)
    file, key_file = tmp_path / "certificate.json", tmp_path / "log.vkey"
    key_file.write_text(SIGNER.verifier_key)
    words = ["certificate", str(file), "--key-file", str(key_file)]

    file.write_text(certificate.model_dump_json())
    honest = CliRunner().invoke(verify_app, words)
    changed = certificate.leaf.replace(str(clip.size_bytes), "113")
    file.write_text(certificate.model_copy(update={"leaf": changed}).model_dump_json())
    forged = CliRunner().invoke(verify_app, words)
    receipt = CliRunner().invoke(verify_app, ["receipt", *words[1:]])

    assert (honest.exit_code, forged.exit_code, receipt.exit_code) == (0, 1, 1)
    assert f"erased clip {clip.clip_id}" in honest.output


async def test_there_is_no_certificate_before_its_proof_is_published(life):
    clip = await life.announced()
    await life.erase()

    assert await certify(life, clip.clip_id) is None


async def test_there_is_no_certificate_of_a_clip_that_was_not_erased(life):
    clip = await life.announced()

    with pytest.raises(CertificateNotFound):
        await certify(life, clip.clip_id)


# --- audit and rebuild --------------------------------------------------------------------


async def test_the_audit_knows_erased_clips(life):
    await life.announced()
    await life.erase()
    await life.publish()

    state = await audit(life.pool, life.vault)

    assert state.findings == []


async def test_the_audit_finds_bytes_that_should_have_been_erased(life):
    clip = await life.announced()
    found = life.vault._find(clip.object_key, clip.object_version)
    await life.erase()
    await life.publish()
    life.vault._versions[clip.object_key].append(found)

    state = await audit(life.pool, life.vault)

    [finding] = state.findings
    assert finding.detail == "the clip was erased, and its bytes are there"


@pytest.mark.parametrize("share", [0.0000001, 1.0])
async def test_a_storage_move_that_deletes_originals_is_found(life, share):
    """An incident elsewhere: a storage move deleted 96,174 originals, unnoticed for weeks."""
    kept = await life.secure()
    lost = [await life.secure() for _ in range(3)]
    await life.publish()
    for clip in lost:
        life.vault._versions[clip.object_key].clear()

    state = await audit(life.pool, life.vault, share=share)

    found = {finding.subject.split("?")[0]: finding.verdict for finding in state.findings}
    assert found == {clip.object_key: "not_verifiable" for clip in lost}
    assert kept.object_key not in found


async def test_a_rebuilt_ledger_knows_holds_dates_and_erasures(life, postgres, ledger_template):
    erased = await life.announced()
    await life.erase()
    held = await life.secure()
    hold = await life.hold(held.clip_id)
    over = await life.hold(held.clip_id, kind="complaint")
    await life.release(over.hold_id)
    pending = await life.announced()
    restored = await life.announced()
    await life.restore(restored.clip_id)
    await life.publish()
    clips = [erased, held, pending, restored]
    before = [await life.living(clip.clip_id) for clip in clips]

    name = "rebuilt_life"
    postgres.copy_database(name, template=ledger_template)
    fresh = await open_pool(postgres.service_dsn(name), connections_max=4, statement_timeout_s=10)
    try:
        await rebuild_ledger(
            RebuildTools(
                pool=fresh,
                vault=life.vault,
                signer=SIGNER,
                keys=[parse_verifier_key(SIGNER.verifier_key)],
                now=life.clock,
                tell=lambda *_: None,
            )
        )
        again = Life(fresh, life.vault, clock=life.clock)
        after = [await again.living(clip.clip_id) for clip in clips]
        with pytest.raises(ErasureBegun):
            await again.hold(erased.clip_id)
        types = await list_event_types(fresh, held.clip_id)
        await again.release(hold.hold_id)
    finally:
        await fresh.close()
        postgres.run_sql(f'DROP DATABASE "{name}" WITH (FORCE)')

    names = ("state", "is_held", "erase_due_at", "phase", "erase_after", "restored_at", "basis_at")
    assert [[getattr(clip, name) for name in names] for clip in after] == [
        [getattr(clip, name) for name in names] for clip in before
    ]
    assert types == await life.types(held.clip_id)
