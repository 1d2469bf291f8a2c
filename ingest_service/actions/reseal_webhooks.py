"""Reseal: webhooks' secrets that stand in clear, or under an older key, get the newest one."""

import structlog

from ingest_service.domain.secret_box import SecretBox, SecretUnreadable
from ingest_service.domain.webhook import Webhook
from ingest_service.ledger import webhooks
from ingest_service.ledger.connection import Pool, reading

log = structlog.get_logger()


async def reseal_webhooks(*, pool: Pool, box: SecretBox) -> int:
    """Seal what is not sealed by the newest key; return how many webhooks that were.

    One whose key is not set is left as it is. A secret that is changed meanwhile is another one:
    the next pass looks at it.

    Raises:
        LedgerUnavailable: the rest is done by the next pass.
    """
    if not box.keys:
        return 0
    count = 0
    async with reading(pool) as connection:
        for webhook in await webhooks.list_webhooks(connection, owner_id=None):
            if _is_current(webhook, box):
                continue
            owner = webhook.webhook_id.bytes
            try:
                secret = box.seal(box.open(webhook.secret, owner), owner)
                old = webhook.old_secret
                old_secret = None if old is None else box.seal(box.open(old, owner), owner)
            except SecretUnreadable as error:
                log.warning(
                    "webhook_secret_unreadable",
                    webhook_id=str(webhook.webhook_id),
                    reason=str(error),
                )
                continue
            count += await webhooks.reseal_secrets(connection, webhook, secret, old_secret)
    return count


def _is_current(webhook: Webhook, box: SecretBox) -> bool:
    kept = (webhook.secret, webhook.old_secret)
    return all(box.is_current(each) for each in kept if each is not None)
