"""Manage webhooks: each belongs to who made it, and shows no more than its owner may see."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from ingest_service.actions.read_feed import FeedTail
from ingest_service.domain.clock import Clock
from ingest_service.domain.ids import make_id
from ingest_service.domain.principal import OPERATE, Principal
from ingest_service.domain.secret_box import SecretBox
from ingest_service.domain.webhook import Webhook, find_fault, format_secret, make_secret
from ingest_service.errors import (
    ANOTHER_OWNER,
    CursorBeyondLog,
    DeadLetterNotFound,
    TooManyWebhooks,
    WebhookNotFound,
    WebhookUrlRefused,
)
from ingest_service.ledger import webhooks
from ingest_service.ledger.connection import Connection, Pool, reading
from ingest_service.ledger.webhooks import DeadLetter

WEBHOOKS_MAX: Final = 200
# Both secrets sign meanwhile, so that a receiver may change over when it likes.
OVERLAP: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a webhook is to be; None = any type, any borough."""

    url: str
    description: str = ""
    types: tuple[str, ...] | None = None
    boroughs: tuple[str, ...] | None = None


async def create_webhook(
    wanted: Wanted,
    principal: Principal,
    *,
    after: int | None,
    may_be_private: bool,
    pool: Pool,
    tail: FeedTail,
    box: SecretBox,
    now: Clock,
) -> tuple[Webhook, str]:
    """Make a webhook that is told of what comes after a log index (None: from now on).

    Returns it with its secret, which is never told again.

    Raises:
        WebhookUrlRefused, CursorBeyondLog, TooManyWebhooks: nothing was recorded.
    """
    _check_url(wanted.url, may_be_private=may_be_private)
    log_size = await tail.look()
    if after is not None and after >= max(log_size, 0) and after != -1:
        raise CursorBeyondLog(after, log_size)
    moment = now()
    webhook_id, secret = make_id(moment), make_secret()
    async with reading(pool) as connection:
        made = await webhooks.insert_webhook(
            connection,
            webhook_id,
            url=wanted.url,
            description=wanted.description,
            owner_kind=principal.kind,
            owner_id=principal.id,
            types=wanted.types,
            boroughs=wanted.boroughs,
            limits=_limits_of(principal),
            secret=box.seal(secret, webhook_id.bytes),
            created_at=moment,
            next_index=log_size if after is None else after + 1,
            webhooks_max=WEBHOOKS_MAX,
        )
    if made is None:
        raise TooManyWebhooks(WEBHOOKS_MAX)
    return made, format_secret(secret)


async def list_webhooks(principal: Principal, *, pool: Pool) -> list[Webhook]:
    """Return the webhooks that a principal may manage."""
    async with reading(pool) as connection:
        return await webhooks.list_webhooks(connection, owner_id=_owner_of(principal))


async def get_webhook(webhook_id: UUID, principal: Principal, *, pool: Pool) -> Webhook:
    """Return a webhook.

    Raises:
        WebhookNotFound: there is none, or not for this principal.
    """
    async with reading(pool) as connection:
        return await _get(connection, webhook_id, principal)


async def change_webhook(
    webhook_id: UUID,
    principal: Principal,
    wanted: Wanted,
    *,
    state: str,
    may_be_private: bool,
    pool: Pool,
) -> Webhook:
    """Change what a webhook is; who may see less than its owner makes it show less.

    Raises:
        WebhookNotFound, WebhookUrlRefused: nothing was changed.
    """
    _check_url(wanted.url, may_be_private=may_be_private)
    async with reading(pool) as connection:
        known = await _get(connection, webhook_id, principal)
        limits = _limits_of(principal)
        if known.limits is not None:
            limits = [borough for borough in known.limits if principal.may_see_borough(borough)]
        changed = await webhooks.change_webhook(
            connection,
            webhook_id,
            url=wanted.url,
            description=wanted.description,
            types=wanted.types,
            boroughs=wanted.boroughs,
            limits=limits,
            state=state,
        )
    if changed is None:
        raise WebhookNotFound(str(webhook_id))
    return changed


async def rotate_secret(
    webhook_id: UUID, principal: Principal, *, pool: Pool, box: SecretBox, now: Clock
) -> str:
    """Give a webhook another secret and return it; the old one signs too for a day.

    Raises:
        WebhookNotFound: nothing was changed.
    """
    secret = make_secret()
    async with reading(pool) as connection:
        await _get(connection, webhook_id, principal)
        kept = box.seal(secret, webhook_id.bytes)
        if not await webhooks.rotate_secret(connection, webhook_id, kept, now() + OVERLAP):
            raise WebhookNotFound(str(webhook_id))
    return format_secret(secret)


async def delete_webhook(webhook_id: UUID, principal: Principal, *, pool: Pool) -> None:
    """Send a webhook nothing more.

    Raises:
        WebhookNotFound: nothing was changed.
    """
    async with reading(pool) as connection:
        await _get(connection, webhook_id, principal)
        await webhooks.delete_webhook(connection, webhook_id)


async def list_dead_letters(
    webhook_id: UUID,
    principal: Principal,
    *,
    after: int,
    state: str | None,
    limit: int,
    pool: Pool,
) -> list[DeadLetter]:
    """Return the events that a webhook did not take.

    Raises:
        WebhookNotFound: there is none, or not for this principal.
    """
    async with reading(pool) as connection:
        await _get(connection, webhook_id, principal)
        return await webhooks.list_deliveries(
            connection, webhook_id, after=after, state=state, limit=limit
        )


async def request_delivery(
    webhook_id: UUID, log_index: int, principal: Principal, *, pool: Pool
) -> DeadLetter:
    """Ask for one more attempt at a dead letter; it comes out of order.

    Raises:
        WebhookNotFound, DeadLetterNotFound: nothing was changed.
    """
    async with reading(pool) as connection:
        await _get(connection, webhook_id, principal)
        letter = await webhooks.request_delivery(connection, webhook_id, log_index)
    if letter is None:
        raise DeadLetterNotFound(webhook_id, log_index)
    return letter


def _check_url(url: str, *, may_be_private: bool) -> None:
    fault = find_fault(url, may_be_private=may_be_private)
    if fault is not None:
        raise WebhookUrlRefused(fault)


def _limits_of(principal: Principal) -> list[str] | None:
    return None if principal.boroughs is None else sorted(principal.boroughs)


def _owner_of(principal: Principal) -> str | None:
    """Operators of the whole force look after everybody's webhooks; all others after their own."""
    is_of_all = OPERATE in principal.scopes and principal.boroughs is None
    return None if is_of_all else principal.id


async def _get(connection: Connection, webhook_id: UUID, principal: Principal) -> Webhook:
    found = await webhooks.list_webhooks(connection, owner_id=None, webhook_id=webhook_id)
    if not found:
        raise WebhookNotFound(str(webhook_id))
    if _owner_of(principal) not in {None, found[0].owner_id}:
        raise WebhookNotFound(str(webhook_id)).hiding(ANOTHER_OWNER)
    return found[0]
