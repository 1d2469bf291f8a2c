"""Tell webhooks of events; several at once, so that a slow one holds up only itself."""

from ingest_service import telemetry
from ingest_service.actions.deliver_webhook import deliver_next_webhook
from ingest_service.actions.reseal_webhooks import reseal_webhooks
from ingest_service.ledger.connection import reading
from ingest_service.ledger.webhooks import measure_webhooks
from ingest_service.resources import Resources


async def deliver_webhooks(opened: Resources) -> int:
    """Deliver a batch to the webhook that waits longest; returns 0 when none waits."""
    return await deliver_next_webhook(
        pool=opened.pool,
        tail=opened.feed,
        courier=opened.courier,
        source=opened.signer.name,
        rules=opened.jobs.delivery,
        box=opened.box,
        now=opened.now,
    )


async def measure_lag(opened: Resources) -> int:
    """Measure how far webhooks are behind; seal secrets that an older key, or none, has sealed."""
    await reseal_webhooks(pool=opened.pool, box=opened.box)
    log_size = await opened.feed.look()
    async with reading(opened.pool) as connection:
        lag, failing, disabled = await measure_webhooks(connection, log_size)
    telemetry.WEBHOOK_LAG.set(lag)
    telemetry.WEBHOOKS_FAILING.set(failing)
    telemetry.WEBHOOKS_DISABLED.set(disabled)
    return 0
