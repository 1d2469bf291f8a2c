"""The one sequencer: places waiting events, signs checkpoints, publishes them."""

import asyncio
from time import monotonic
from typing import Final

import structlog

from ingest_service import telemetry
from ingest_service.actions.collect_cosignatures import collect_cosignatures
from ingest_service.actions.publish_checkpoint import (
    check_published,
    mend_published,
    publish_checkpoints,
)
from ingest_service.actions.sequence_log import BATCH_MAX, Sequencer, sequence_log
from ingest_service.domain.retention import LockTerm
from ingest_service.errors import LedgerUnavailable, LogForked, Unavailable
from ingest_service.jobs.every import rest
from ingest_service.ledger import log
from ingest_service.ledger.connection import Connection, reading
from ingest_service.resources import Resources
from ingest_service.tracing import spans

_LOG: Final = structlog.get_logger("ingest.log")
TICK_S: Final = 0.1
_LOOK_S: Final = 1.0
# As long as publishing took, but never so long that docks would wait for it.
_REST_MAX_S: Final = 0.25
# Events get their places although the store does not answer: who follows the feed needs no store.
UNPUBLISHED_WAIT_S: Final = 1.0
_FOLLOWER_PAUSE_S: Final = 1.0
_FORKED_PAUSE_S: Final = 10.0
# The leader asks ten times a second; a batch in hard times takes some seconds. Before that it reads
# what is published, from a store that may be slow.
LEAD_SILENT_S: Final = 20.0
_CHECK_SILENT_S: Final = 600.0


async def lead_log(opened: Resources, stop: asyncio.Event | None = None) -> int:
    """Lead while this process may; return when the lead is lost or the log may not go on.

    stop  told to end: what is being published still is, then another process leads

    The lead is an advisory lock of one connection: when it breaks, or nothing is heard of it for
    LEAD_SILENT_S, another process takes over.
    It only spares work; two leaders at once would still write one log.
    """
    stop = stop or asyncio.Event()
    # The lock lasts as long as its session does.
    async with reading(opened.sessions) as connection:
        if not await log.try_lead(connection):
            await rest(_FOLLOWER_PAUSE_S, stop)
            return 0
        _LOG.info("log_lead_taken", worker=opened.holders.name)
        try:
            await log.limit_lead(connection, idle_s=_CHECK_SILENT_S)
            await check_published(pool=opened.pool, vault=opened.vault, signer=opened.signer)
            await mend_published(pool=opened.pool, vault=opened.vault, term=begin_lock(opened))
            await log.set_halt(connection, None)
            await log.limit_lead(connection, idle_s=LEAD_SILENT_S)
            await _lead(connection, opened, stop)
        except LogForked as forked:
            telemetry.LOG_FORKED.set(1)
            _LOG.critical("log_forked", reason=forked.reason)
            await log.set_halt(connection, forked.reason)
            await rest(_FORKED_PAUSE_S, stop)
        finally:
            await _give_up_lead(connection)
    return 0


async def _give_up_lead(connection: Connection) -> None:
    try:
        await log.stop_leading(connection)
    except OSError:
        # The connection is gone, and the lock with it.
        return


async def _lead(connection: Connection, opened: Resources, stop: asyncio.Event) -> None:
    sequencer = Sequencer()
    telemetry.LOG_FORKED.set(0)
    publishing: asyncio.Task[float] | None = None
    collecting: asyncio.Task[None] | None = None
    sequence_at = look_at = 0.0
    try:
        while not stop.is_set():
            # Asked on the leader's own connection: a broken one ends the lead here.
            waiting = await log.has_queued(connection)
            if publishing is not None and publishing.done():
                sequence_at = min(sequence_at, publishing.result())
                publishing = None
            if waiting and monotonic() >= sequence_at:
                with spans.job("sequence_log") as found:
                    placed = await sequence_log(
                        sequencer, pool=opened.pool, signer=opened.signer, now=opened.now
                    )
                    found.append(placed)
                telemetry.LOG_LEAVES.inc(placed)
                # The next one when this one is published; soon, too, while the store is away.
                sequence_at = 0.0 if placed == BATCH_MAX else monotonic() + UNPUBLISHED_WAIT_S
                look_at = 0.0
            if publishing is None and monotonic() >= look_at:
                # Without a new one too, now and then: what failed, or what another one left.
                look_at = monotonic() + _LOOK_S
                publishing = asyncio.create_task(_publish(opened))
            if opened.witnesses.posts and (collecting is None or collecting.done()):
                # Beside publication: what a witness does or does not holds up nothing.
                collecting = asyncio.create_task(_collect(opened))
            await asyncio.sleep(TICK_S)
        if publishing is not None:
            await publishing
    except LedgerUnavailable as error:
        _LOG.warning("log_lead_lost", reason=error.reason)
    finally:
        running = [task for task in (publishing, collecting) if task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def begin_lock(opened: Resources) -> LockTerm | None:
    """Return the lock of what is published now; None when none is set."""
    lock = opened.jobs.object_lock
    return None if lock is None else lock.begin(opened.now())


async def _publish(opened: Resources) -> float:
    """Publish what waits; return the moment until which no new checkpoint is made.

    Each costs several requests of the store: where these take long, much else goes on, and events
    wait for each other so that fewer checkpoints are enough.
    """
    began = monotonic()
    try:
        with spans.job("publish_checkpoints") as found:
            while published := await publish_checkpoints(
                pool=opened.pool, vault=opened.vault, term=begin_lock(opened)
            ):
                found.append(published)
    except Unavailable as error:
        # What waits is published when it is looked at again.
        _LOG.warning("log_publish_postponed", reason=str(error.facts()))
    ended = monotonic()
    return ended + min(ended - began, _REST_MAX_S)


async def _collect(opened: Resources) -> None:
    try:
        with spans.job("collect_cosignatures") as found:
            cosigned = await collect_cosignatures(
                pool=opened.pool,
                vault=opened.vault,
                witnesses=opened.witnesses,
                term=begin_lock(opened),
            )
            found.append(cosigned)
    except Unavailable as error:
        _LOG.warning("log_collect_postponed", reason=str(error.facts()))
    except Exception:  # noqa: BLE001 - whatever a witness makes of us, it may not end the lead
        _LOG.exception("log_collect_failed")
