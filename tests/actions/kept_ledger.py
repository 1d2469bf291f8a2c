"""A ledger with clips in every state, its log published: what audits and rebuilds start from."""

from dataclasses import dataclass
from typing import Any

from ingest_service.actions.audit_ledger import audit_ledger, find_log_keys, open_audit
from ingest_service.actions.audit_tools import AuditTools
from ingest_service.actions.issue_receipt import issue_receipt
from ingest_service.actions.prove_log import PublishedHead
from ingest_service.actions.publish_checkpoint import publish_checkpoints
from ingest_service.actions.sequence_log import Sequencer, sequence_log
from ingest_service.actions.store_manifest import add_manifest
from ingest_service.domain.audit import AuditState
from ingest_service.domain.clip import Clip
from ingest_service.domain.clock import utc_now
from ingest_service.domain.note import parse_verifier_key
from ingest_service.ledger.connection import Pool
from ingest_service.vault import Vault
from tests.actions.engine import (
    DOCK,
    Process,
    cut_chunks,
    describe_recording,
    get_clip,
    make_footage,
)
from tests.actions.test_custody_log import SIGNER, record

__all__ = ["SIGNER", "KeptLedger", "audit", "fill_ledger", "place_and_publish"]


async def place_and_publish(pool: Pool, vault: Vault, *, limit: int = 4096) -> None:
    """Give every waiting event its place, and publish."""
    while await sequence_log(Sequencer(), pool=pool, signer=SIGNER, now=utc_now, limit=limit):
        pass
    while await publish_checkpoints(pool=pool, vault=vault):
        pass


@dataclass
class KeptLedger:
    pool: Pool
    vault: Any
    clips: dict[str, Clip]


async def _seal(service: Process, name: str, *, order=None, **announced: Any) -> Clip:
    footage = make_footage(112, name)
    clip = (await service.announce(describe_recording(footage, **announced))).clip
    chunks = cut_chunks(footage)
    for index in order or range(len(chunks)):
        await service.store(clip.clip_id, index, chunks[index])
    return await service.seal(clip.clip_id)


async def fill_ledger(pool: Pool, vault: Any, *, device_events: int = 300) -> KeptLedger:
    """Bring in clips that end in different states; place and publish all of it."""
    service = Process("filler", pool, vault)
    made = {
        "secured": await _seal(service, "one", officer_id="P-1", title="High Street"),
        "unordered": await _seal(service, "two", order=(3, 1, 2, 0)),
        "altered": await _seal(service, "three"),
        "refused": await _seal(service, "four", sha256_device="0" * 64),
        "released": await _seal(service, "five", incident_id="I-5"),
    }
    vault.tamper(made["altered"].object_key, bytes(112))
    for name in ("secured", "unordered", "altered", "released"):
        await service.read_back(made[name].clip_id)
    for name in ("refused",):
        await add_manifest(made[name].clip_id, pool=pool, vault=vault, now=utc_now)
    made["sealed"] = await _seal(service, "six")
    footage = make_footage(112, "seven")
    made["receiving"] = (await service.announce(describe_recording(footage))).clip
    await service.store(made["receiving"].clip_id, 0, cut_chunks(footage)[0])
    await record(pool, device_events)
    await place_and_publish(pool, vault, limit=97)
    await issue_receipt(
        made["released"].clip_id,
        DOCK.station_id,
        pool=pool,
        signer=SIGNER,
        head=PublishedHead(),
        now=utc_now,
    )
    await place_and_publish(pool, vault)
    now = {name: await get_clip(pool, clip.clip_id) for name, clip in made.items()}
    return KeptLedger(pool, vault, now)


async def audit(pool: Pool, vault: Any, *, share: float = 1.0, saved=None) -> AuditState:
    """Audit everything; `saved` collects the states on the way."""
    state = await open_audit(pool=pool, objects_share=share)
    await audit_ledger(state, await make_tools(pool, vault, saved))
    return state


async def make_tools(pool: Pool, vault: Any, saved=None) -> AuditTools:
    return AuditTools(
        pool=pool,
        vault=vault,
        keys=await find_log_keys(pool, [parse_verifier_key(SIGNER.verifier_key)]),
        tell=lambda _step, _done, _total: None,
        save=lambda state: None if saved is None else saved.append(state.dump()),
    )
