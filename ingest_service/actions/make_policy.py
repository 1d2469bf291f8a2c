"""Make a version of a retention policy, and have another person approve it."""

from datetime import datetime

from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import Actor, Happening, format_time, make_device_events
from ingest_service.domain.principal import Principal
from ingest_service.domain.retention import Policy, Rule
from ingest_service.errors import AnotherPersonNeeded, PolicyConflict, PolicyNotFound
from ingest_service.ledger import retention
from ingest_service.ledger.connection import Connection, Pool, reading, writing
from ingest_service.ledger.custody import insert_device_events


async def list_policies(*, pool: Pool) -> list[Policy]:
    """Return every version of every policy."""
    async with reading(pool) as connection:
        return await retention.list_policies(connection)


async def make_policy(
    policy_id: str,
    rules: tuple[Rule, ...],
    principal: Principal,
    *,
    effective_from: datetime | None,
    reason: str,
    pool: Pool,
    now: Clock,
) -> Policy:
    """Record the next version of a policy; nothing changes before somebody else approves it.

    effective_from  None: as soon as it is approved

    Raises:
        PolicyConflict: somebody made a version at the same time; nothing was recorded.
    """
    async with writing(pool) as connection:
        moment = now()
        known = await retention.list_policies(connection)
        latest = max((p.version for p in known if p.policy_id == policy_id), default=0)
        policy = Policy(
            policy_id,
            latest + 1,
            rules,
            effective_from or moment,
            reason,
            made_by=principal.id,
            made_at=moment,
        )
        if not await retention.insert_policy(connection, policy):
            raise PolicyConflict(policy_id, policy.version, "was made just now by somebody else")
        facts = {
            "policy_id": policy_id,
            "version": policy.version,
            "rules": retention.dump_rules(rules),
            "effective_from": format_time(policy.effective_from),
            "reason": reason,
        }
        await _log(
            connection, Happening("retention.policy_made", Actor.of(principal), facts), moment
        )
    return policy


async def approve_policy(
    policy_id: str, version: int, principal: Principal, *, pool: Pool, now: Clock
) -> Policy:
    """Put a version in force; whoever approved it before may say so again.

    Raises:
        PolicyNotFound: there is no such version.
        AnotherPersonNeeded: who made a version does not approve it.
        PolicyConflict: somebody else has approved it.
    """
    async with writing(pool) as connection:
        policy = await _get_policy(connection, policy_id, version)
        if policy.made_by == principal.id:
            raise AnotherPersonNeeded(principal.id, "made this version and may not approve it")
        moment = now()
        if await retention.insert_approval(connection, policy, principal.id, moment):
            facts = {"policy_id": policy_id, "version": version}
            await _log(
                connection,
                Happening("retention.policy_approved", Actor.of(principal), facts),
                moment,
            )
        policy = await _get_policy(connection, policy_id, version)
    if policy.approved_by != principal.id:
        raise PolicyConflict(policy_id, version, f"was approved by {policy.approved_by}")
    return policy


async def _get_policy(connection: Connection, policy_id: str, version: int) -> Policy:
    for policy in await retention.list_policies(connection):
        if (policy.policy_id, policy.version) == (policy_id, version):
            return policy
    raise PolicyNotFound(policy_id, version)


async def _log(connection: Connection, happening: Happening, moment: datetime) -> None:
    await insert_device_events(connection, make_device_events(None, [happening], now=moment))
