"""Deliver: tell a webhook of the next events, in log order, each at least once."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import structlog

from ingest_service import telemetry
from ingest_service.actions.read_feed import FeedTail
from ingest_service.courier.webhooks import Answer, Courier
from ingest_service.domain.clock import Clock
from ingest_service.domain.feed import FeedEvent, FeedFilter, dump_cloud_event
from ingest_service.domain.secret_box import SecretBox, SecretUnreadable
from ingest_service.domain.webhook import Webhook, choose_rest, parse_retry_after, sign_message
from ingest_service.ledger import webhooks
from ingest_service.ledger.connection import Pool, reading
from ingest_service.ledger.feed import scan_feed
from ingest_service.ledger.webhooks import Progress

log = structlog.get_logger()
CONTENT_TYPE: Final = "application/cloudevents+json"
_EVENTS_MAX: Final = 50
_BATCH_S: Final = 20.0
# Longer than a batch and the one request that it may still begin then take together.
LEASE_S: Final = 60.0
_GONE: Final = 410
# Until somebody has set the key again.
_UNREADABLE_REST_S: Final = 60.0
_ASKS_FOR_TIME: Final = frozenset({429, 503})


@dataclass(frozen=True, slots=True)
class DeliveryRules:
    """How long one event is tried.

    attempts_max  then it is a dead letter, and the next one is tried
    """

    attempts_max: int = 12


async def deliver_next_webhook(
    *,
    pool: Pool,
    tail: FeedTail,
    courier: Courier,
    source: str,
    rules: DeliveryRules,
    box: SecretBox,
    now: Clock,
    chance: Callable[[], float] = random.random,
) -> int:
    """Deliver a batch to the webhook that waits longest; return 0 when none waits.

    A crash anywhere before the last statement leaves the cursor where it was: when the lease has
    run out another worker sends the same events again, under the same ids.

    Raises:
        LedgerUnavailable: as after a crash.
    """
    log_size = await tail.look()
    async with reading(pool) as connection:
        webhook = await webhooks.claim_webhook(connection, log_size=log_size, lease_s=LEASE_S)
    if webhook is None:
        return 0
    round_ = _Round(webhook, courier, source, box, now)
    try:
        webhook.secrets_at(now(), box)
    except SecretUnreadable as error:
        # Nothing is wrong with the receiver: no event is given up for it.
        log.warning("webhook_secret_unreadable", webhook_id=str(webhook.webhook_id))
        stuck = Progress(
            webhook.next_index, webhook.attempts, _UNREADABLE_REST_S, has_delivered=False
        )
        async with reading(pool) as connection:
            await webhooks.record_progress(connection, webhook, replace(stuck, failure=str(error)))
        return 1
    await _redeliver(round_, log_size, pool)
    page = await tail.read_on(_filter_of(webhook), webhook.next_index - 1, _EVENTS_MAX)
    progress = await _deliver(round_, page.events, page.scanned_to + 1, rules, chance)
    async with reading(pool) as connection:
        await webhooks.record_progress(connection, webhook, progress)
    return 1


def _filter_of(webhook: Webhook) -> FeedFilter:
    return FeedFilter(
        types=None if webhook.types is None else frozenset(webhook.types),
        boroughs=None if webhook.boroughs is None else frozenset(webhook.boroughs),
        limits=None if webhook.limits is None else frozenset(webhook.limits),
    )


@dataclass(slots=True)
class _Round:
    """One webhook in hand."""

    webhook: Webhook
    courier: Courier
    source: str
    box: SecretBox
    now: Clock

    async def send(self, event: FeedEvent) -> Answer:
        body = dump_cloud_event(event, self.source)
        moment = self.now()
        signing = self.webhook.secrets_at(moment, self.box)
        signed = sign_message(str(event.event_id), moment, body, signing)
        answer = await self.courier.send(
            self.webhook.url, body, {**signed, "Content-Type": CONTENT_TYPE}
        )
        outcome = "delivered" if answer.failure is None else "failed"
        telemetry.WEBHOOK_DELIVERIES.labels(outcome).inc()
        return answer


async def _redeliver(round_: _Round, log_size: int, pool: Pool) -> None:
    """Try dead letters again that somebody asked for; they come out of order."""
    webhook_id = round_.webhook.webhook_id
    async with reading(pool) as connection:
        asked = await webhooks.list_deliveries(
            connection, webhook_id, after=-1, state="requested", limit=1
        )
    for letter in asked:
        index = letter.log_index
        async with reading(pool) as connection:
            # The filters may be others by now; what its owner may see is what counts.
            limits = round_.webhook.limits
            found = await scan_feed(
                connection,
                FeedFilter(limits=None if limits is None else frozenset(limits)),
                after=index - 1,
                stop=min(index + 1, log_size),
                limit=1,
            )
        failure: str | None = "the webhook's owner may not see that event"
        for event in found:
            failure = (await round_.send(event)).failure
        async with reading(pool) as connection:
            await webhooks.settle_delivery(connection, webhook_id, index, failure)


async def _deliver(
    round_: _Round,
    events: list[FeedEvent],
    next_index: int,
    rules: DeliveryRules,
    chance: Callable[[], float],
) -> Progress:
    """Send the events in order until one is not taken, or the time is up."""
    began = round_.now()
    attempts = round_.webhook.attempts
    has_delivered = False
    for event in events:
        if _seconds_since(began, round_.now()) >= _BATCH_S:
            return Progress(event.log_index, attempts, 0.0, has_delivered)
        answer = await round_.send(event)
        if answer.failure is not None:
            return _note_failure(
                round_, event, answer, attempts + 1, rules, chance(), has_delivered=has_delivered
            )
        attempts, has_delivered = 0, True
    # Nothing of interest up to here, too.
    return Progress(next_index, attempts, 0.0, has_delivered)


def _seconds_since(began: datetime, moment: datetime) -> float:
    return (moment - began).total_seconds()


def _note_failure(
    round_: _Round,
    event: FeedEvent,
    answer: Answer,
    attempts: int,
    rules: DeliveryRules,
    chance: float,
    *,
    has_delivered: bool,
) -> Progress:
    if answer.status == _GONE:
        return Progress(
            event.log_index,
            attempts,
            0.0,
            has_delivered,
            answer.failure,
            disabled_reason="the receiver answered 410 Gone",
        )
    retry_after_s = (
        parse_retry_after(answer.retry_after, round_.now())
        if answer.status in _ASKS_FOR_TIME
        else None
    )
    rest_s = choose_rest(attempts, chance, retry_after_s)
    if attempts < rules.attempts_max:
        return Progress(event.log_index, attempts, rest_s, has_delivered, answer.failure)
    telemetry.WEBHOOK_DELIVERIES.labels("dead").inc()
    return Progress(
        event.log_index + 1,
        0,
        rest_s,
        has_delivered,
        answer.failure,
        dead=(event.log_index, event.event_id, attempts),
    )
