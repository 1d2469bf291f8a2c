"""Disclose clips: whoever has the link may fetch them, and none of them is erased meanwhile."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from ingest_service.actions.hold_together import hold_prepared, prepare_clips
from ingest_service.actions.place_hold import Order
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import Actor, Happening
from ingest_service.domain.disclosure import (
    Allowed,
    Disclosure,
    DisclosureRules,
    Recipient,
    hash_link_token,
    make_link_token,
    make_salt,
)
from ingest_service.domain.ids import make_id
from ingest_service.domain.principal import Principal
from ingest_service.errors import DisclosureTooWide, InvalidRequest
from ingest_service.ledger import disclosures, holds
from ingest_service.ledger.connection import Pool, reading, writing
from ingest_service.ledger.lifecycle import advance_alike, list_living
from ingest_service.ledger.queries import ClipFilter
from ingest_service.vault import Vault

_HOLD_REASON: Final = "disclosed: nothing that a link opens is erased"


@dataclass(frozen=True, slots=True)
class DisclosureOrder:
    """What somebody asks to be disclosed.

    clips      the clips, or a filter that is resolved now: what matches later is not in it
    purpose, legal_basis  codes and references: they go into the log
    """

    recipient: Recipient
    clips: Sequence[UUID] | ClipFilter
    purpose: str
    legal_basis: str
    expires_at: datetime
    allows: Sequence[Allowed]
    terms: str


async def disclose_clips(
    order: DisclosureOrder,
    principal: Principal,
    *,
    pool: Pool,
    vault: Vault,
    now: Clock,
    rules: DisclosureRules,
    locks_objects: bool,
    request_id: str | None = None,
) -> tuple[Disclosure, str]:
    """Disclose all of the clips or none; return the disclosure and its link's token.

    Of the token only the hash is kept: who loses the answer revokes, and discloses again.
    Disclosure, holds and the events of both are one transaction; the store holds the bytes before.

    Raises:
        InvalidRequest: no clips, or it would be open in the past or for too long.
        DisclosureTooWide: more clips than one disclosure may have.
        ClipsNotDisclosable: one of them is unknown (to this principal), erased or not whole yet.
        ClipBusy: one of them kept changing; ask again.
        StoredBytesLost, VaultUnavailable, LedgerUnavailable: nothing was disclosed.
    """
    _check_expiry(order.expires_at, now(), rules)
    clip_ids = await find_clip_ids(order.clips, principal, pool=pool, now=now, rules=rules)
    prepared = await prepare_clips(
        clip_ids, principal, pool=pool, vault=vault, now=now, locks_objects=locks_objects
    )
    token = make_link_token()
    async with writing(pool) as connection:
        moment = now()
        made = Disclosure(
            make_id(moment),
            order.recipient.kind,
            order.recipient.organisation,
            order.recipient.person,
            order.recipient.reference,
            make_salt(),
            order.purpose,
            order.legal_basis,
            allows=order.allows,
            terms=order.terms,
            boroughs=sorted({clip.borough for clip in prepared}),
            clip_count=len(prepared),
            made_by=principal.id,
            made_at=moment,
            expires_at=order.expires_at,
        )
        hold_order = Order(
            made.hold_kind,
            made.hold_authority,
            _HOLD_REASON,
            Actor.of(principal),
            review_at=order.expires_at,
            group_id=made.disclosure_id,
            request_id=request_id,
        )
        held, placed = await hold_prepared(
            connection, prepared, principal, hold_order, moment, locks_objects=locks_objects
        )
        created = Happening(
            "disclosure.created",
            Actor.of(principal),
            made.describe_order(),
            purpose=made.purpose,
            request_id=request_id,
        )
        await advance_alike(connection, held, created, moment)
        await disclosures.insert_disclosure(
            connection,
            made,
            hash_link_token(token),
            {each.clip_id: each.hold_id for each in placed},
        )
    return made, token


def _check_expiry(expires_at: datetime, moment: datetime, rules: DisclosureRules) -> None:
    if expires_at <= moment:
        reason = "body.expires_at: lies in the past"
        raise InvalidRequest(reason)
    if expires_at > moment + rules.lifetime_max:
        reason = f"body.expires_at: at most {rules.lifetime_max.days} days from now"
        raise InvalidRequest(reason)


async def find_clip_ids(
    asked: Sequence[UUID] | ClipFilter,
    principal: Principal,
    *,
    pool: Pool,
    now: Clock,
    rules: DisclosureRules,
) -> list[UUID]:
    """Return the ids of a list or of what matches a filter now, in order, each once.

    Raises:
        InvalidRequest: there are none.
        DisclosureTooWide: there are more than one disclosure may have.
    """
    if isinstance(asked, ClipFilter):
        limits = None if principal.boroughs is None else sorted(principal.boroughs)
        async with reading(pool) as connection:
            clip_ids = await holds.list_matching(
                connection,
                replace(asked, boroughs=limits),
                now(),
                after=None,
                limit=rules.clips_max + 1,
            )
            living = await list_living(connection, clip_ids)
        # An upload that was given up left no bytes to be held or disclosed.
        clip_ids = [clip.clip_id for clip in living if clip.state != "expired"]
    else:
        clip_ids = sorted(set(asked))
    if not clip_ids:
        reason = "body: there is no such clip to disclose"
        raise InvalidRequest(reason)
    if len(clip_ids) > rules.clips_max:
        raise DisclosureTooWide(rules.clips_max)
    return clip_ids
