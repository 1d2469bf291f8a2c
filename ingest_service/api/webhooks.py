"""Webhooks as their owners manage them."""

from typing import Annotated, Any, Final, Literal
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Path, Query, Response, status

from ingest_service import errors
from ingest_service.actions import manage_webhooks
from ingest_service.actions.manage_webhooks import OVERLAP, Wanted
from ingest_service.api.bodies import JsonRoute
from ingest_service.api.deps import Granted, Opened
from ingest_service.api.problems import documented
from ingest_service.domain.event_types import AUDITORS_ONLY, EVENT_TYPES
from ingest_service.domain.feed import TYPE_PREFIX
from ingest_service.domain.principal import EVENTS_READ, WEBHOOKS_WRITE, Principal
from ingest_service.domain.webhook import Webhook
from ingest_service.resources import Resources
from schemas import webhook as bodies

router = APIRouter(prefix="/v1", tags=["webhooks"], route_class=JsonRoute)

_PAGE: Final = 100
_INDEX_MAX: Final = 2**63 - 2
_LOG: Final = structlog.get_logger("ingest.webhooks")
_REFUSALS: Final = (
    errors.Unauthorized,
    errors.TokenExpired,
    errors.KeyRevoked,
    errors.Forbidden,
    errors.LedgerUnavailable,
)
_JSON: Final = (
    errors.InvalidRequest,
    errors.MalformedBody,
    errors.UnsupportedContentType,
    errors.BodyTooLarge,
    errors.BodyStalled,
    errors.InvalidHeader,
)
Manager = Annotated[Principal, Depends(Granted(WEBHOOKS_WRITE))]
Index = Annotated[int, Path(ge=0, le=_INDEX_MAX)]


@router.post(
    "/webhooks",
    summary="Make a webhook",
    status_code=status.HTTP_201_CREATED,
    responses=documented(
        *_REFUSALS,
        *_JSON,
        errors.WebhookUrlRefused,
        errors.CursorBeyondLog,
        errors.TooManyWebhooks,
    ),
)
async def post_webhook(
    wanted: bodies.NewWebhook, opened: Opened, principal: Manager
) -> bodies.CreatedWebhook:
    """Have events sent to a URL, signed after Standard Webhooks; also needs `events:read`.

    One event a request, in log order, each at least once: a repeat has the same `webhook-id`. The
    secret is in this answer and nowhere else.
    """
    principal.require(EVENTS_READ)
    made, secret = await manage_webhooks.create_webhook(
        Wanted(
            wanted.url,
            wanted.description,
            _read_types(wanted.types),
            None if wanted.boroughs is None else tuple(wanted.boroughs),
        ),
        principal,
        after=wanted.after,
        may_be_private=opened.courier.may_be_private,
        pool=opened.pool,
        tail=opened.feed,
        box=opened.box,
        now=opened.now,
    )
    _LOG.info("webhook_created", webhook_id=str(made.webhook_id), owner_id=made.owner_id)
    return bodies.CreatedWebhook(**_show(made, opened), secret=secret)


@router.get("/webhooks", summary="List webhooks", responses=documented(*_REFUSALS))
async def get_webhooks(opened: Opened, principal: Manager) -> bodies.WebhookList:
    """List your webhooks; operators see everybody's, unless they are limited to boroughs."""
    await opened.feed.look()
    found = await manage_webhooks.list_webhooks(principal, pool=opened.pool)
    return bodies.WebhookList(webhooks=[bodies.Webhook(**_show(each, opened)) for each in found])


@router.get(
    "/webhooks/{webhook_id}",
    summary="One webhook",
    responses=documented(*_REFUSALS, errors.WebhookNotFound),
)
async def get_webhook(webhook_id: UUID, opened: Opened, principal: Manager) -> bodies.Webhook:
    """Tell how far a webhook is, and what failed last. Never its secret."""
    await opened.feed.look()
    found = await manage_webhooks.get_webhook(webhook_id, principal, pool=opened.pool)
    return bodies.Webhook(**_show(found, opened))


@router.patch(
    "/webhooks/{webhook_id}",
    summary="Change a webhook",
    responses=documented(*_REFUSALS, *_JSON, errors.WebhookNotFound, errors.WebhookUrlRefused),
)
async def patch_webhook(
    webhook_id: UUID, change: bodies.WebhookChange, opened: Opened, principal: Manager
) -> bodies.Webhook:
    """Change members that are given; it is tried again at once, from where it is."""
    principal.require(EVENTS_READ)
    known = await manage_webhooks.get_webhook(webhook_id, principal, pool=opened.pool)
    given = change.model_fields_set
    changed = await manage_webhooks.change_webhook(
        webhook_id,
        principal,
        Wanted(
            change.url or known.url,
            known.description if change.description is None else change.description,
            _read_types(change.types if "types" in given else known.types),
            _as_tuple(change.boroughs if "boroughs" in given else known.boroughs),
        ),
        state=change.state or known.state,
        may_be_private=opened.courier.may_be_private,
        pool=opened.pool,
    )
    _LOG.info("webhook_changed", webhook_id=str(webhook_id), by=principal.id)
    return bodies.Webhook(**_show(changed, opened))


@router.post(
    "/webhooks/{webhook_id}/secret",
    summary="Change a webhook's secret",
    responses=documented(*_REFUSALS, errors.WebhookNotFound),
)
async def post_secret(webhook_id: UUID, opened: Opened, principal: Manager) -> bodies.WebhookSecret:
    """Make another secret; for a day messages carry the signatures of both."""
    secret = await manage_webhooks.rotate_secret(
        webhook_id, principal, pool=opened.pool, box=opened.box, now=opened.now
    )
    _LOG.info("webhook_secret_rotated", webhook_id=str(webhook_id), by=principal.id)
    return bodies.WebhookSecret(secret=secret, old_secret_until=opened.now() + OVERLAP)


@router.delete(
    "/webhooks/{webhook_id}",
    summary="Delete a webhook",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=documented(*_REFUSALS, errors.WebhookNotFound),
)
async def delete_webhook(webhook_id: UUID, opened: Opened, principal: Manager) -> Response:
    """Send it nothing more; a request that is under way may still arrive."""
    await manage_webhooks.delete_webhook(webhook_id, principal, pool=opened.pool)
    _LOG.info("webhook_deleted", webhook_id=str(webhook_id), by=principal.id)
    return Response(status_code=status.HTTP_204_NO_CONTENT)


@router.get(
    "/webhooks/{webhook_id}/deliveries",
    summary="Dead letters of a webhook",
    responses=documented(*_REFUSALS, errors.InvalidRequest, errors.WebhookNotFound),
)
async def get_deliveries(
    webhook_id: UUID,
    opened: Opened,
    principal: Manager,
    after: Annotated[int, Query(ge=-1, le=_INDEX_MAX, description="log_index to go on after")] = -1,
    state: Literal["dead", "requested", "delivered"] | None = None,
) -> bodies.DeadLetterPage:
    """List events that it did not take, and what became of them."""
    found = await manage_webhooks.list_dead_letters(
        webhook_id, principal, after=after, state=state, limit=_PAGE + 1, pool=opened.pool
    )
    page = [_show_letter(letter) for letter in found[:_PAGE]]
    return bodies.DeadLetterPage(
        deliveries=page, next_after=page[-1].log_index if len(found) > _PAGE else None
    )


@router.post(
    "/webhooks/{webhook_id}/deliveries/{log_index}/redeliver",
    summary="Try a dead letter again",
    status_code=status.HTTP_202_ACCEPTED,
    responses=documented(
        *_REFUSALS, errors.InvalidRequest, errors.WebhookNotFound, errors.DeadLetterNotFound
    ),
)
async def post_redeliver(
    webhook_id: UUID, log_index: Index, opened: Opened, principal: Manager
) -> bodies.DeadLetter:
    """Have an event sent once more, out of order, when the webhook is active."""
    letter = await manage_webhooks.request_delivery(
        webhook_id, log_index, principal, pool=opened.pool
    )
    return _show_letter(letter)


def _show(webhook: Webhook, opened: Resources) -> dict[str, Any]:
    shown = {name: getattr(webhook, name) for name in _SHOWN}
    return {**shown, "lag_events": max(0, opened.feed.log_size - webhook.next_index)}


_SHOWN: Final = [name for name in bodies.Webhook.model_fields if name != "lag_events"]


def _show_letter(letter: object) -> bodies.DeadLetter:
    return bodies.DeadLetter.model_validate(letter, from_attributes=True)


def _read_types(types: list[str] | None) -> tuple[str, ...] | None:
    if types is None:
        return None
    bare = tuple(name.removeprefix(TYPE_PREFIX) for name in types)
    unknown = [name for name in bare if name not in EVENT_TYPES or name in AUDITORS_ONLY]
    if unknown:
        reason = "types: no such type of event; docs/feed.md lists them"
        raise errors.InvalidRequest(reason)
    return bare


def _as_tuple(names: list[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)
