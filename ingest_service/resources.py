"""Everything that is open while the process runs: opened together, closed in reverse."""

import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
)
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import structlog

from ingest_service import telemetry
from ingest_service.actions.deliver_webhook import DeliveryRules
from ingest_service.actions.identify_principal import Authenticator
from ingest_service.actions.prove_log import PublishedHead
from ingest_service.actions.read_feed import FeedTail
from ingest_service.actions.record_denials import SecurityLog
from ingest_service.actions.record_traffic import TrafficMeter
from ingest_service.actions.sample_metrics import sampling
from ingest_service.actions.take_upload import Holders
from ingest_service.courier.webhooks import Courier
from ingest_service.domain.admission import Bodies, Door
from ingest_service.domain.breaker import Breaker, BreakerState
from ingest_service.domain.bytestream import ReplayBudget
from ingest_service.domain.clock import Clock, utc_now
from ingest_service.domain.disclosure import DisclosureRules
from ingest_service.domain.draining import Drain
from ingest_service.domain.holds import KINDS, HoldKind
from ingest_service.domain.link_guard import LinkGuard
from ingest_service.domain.purpose import PurposePolicy
from ingest_service.domain.read_back_lag import ReadBackLag
from ingest_service.domain.retention import ObjectLock, RetentionRules
from ingest_service.domain.secret_box import SecretBox
from ingest_service.domain.token import TokenRules
from ingest_service.domain.upload import UploadRules
from ingest_service.keyring import open_keyring
from ingest_service.ledger.connection import Pool, close_pool, open_pool
from ingest_service.ledger.directory import Directory
from ingest_service.ledger.interrupts import listening
from ingest_service.ledger.policy_book import PolicyBook
from ingest_service.ledger.traced import TracedPool
from ingest_service.notary.timestamps import TimeAuthority, make_time_authority
from ingest_service.notary.witnesses import Witnesses, make_witnesses
from ingest_service.prober.probe import ProbeLimits
from ingest_service.settings import Settings
from ingest_service.signer import Signer, open_local_signer
from ingest_service.tracing import spans
from ingest_service.vault import Vault
from ingest_service.vault.s3 import open_s3_vault
from ingest_service.vault.traced import TracedVault

_TOOL_CONNECTIONS_MAX: Final = 32
# One listens, and one may hold the lead of the log.
_SESSIONS_MAX: Final = 2
_DAY_S: Final = 86_400.0
_BREAKER_LEVELS: Final[dict[BreakerState, int]] = {"closed": 0, "half_open": 1, "open": 2}
_LOG: Final = structlog.get_logger("ingest.breaker")


@dataclass(frozen=True, slots=True)
class JobRules:
    """The knobs of `ingest work`.

    probe            what looking into a clip may cost; None = nobody does
    drain_timeout_s  from the signal to the end of the process
    """

    interval_s: float
    read_back_concurrency: int
    read_back_yield_s: float
    fixity_interval_s: float = 90 * _DAY_S
    fixity_bytes_per_s: float = 50e6
    object_lock: ObjectLock | None = None
    delivery: DeliveryRules = field(default_factory=DeliveryRules)
    probe: ProbeLimits | None = None
    drain_timeout_s: float = 30


@dataclass(frozen=True, slots=True)
class Resources:
    """What handlers and jobs work with.

    base_url  origin of every absolute URL that is handed out
    door      lets requests in, or not
    bodies    lets a station's bytes in, or not
    lag       how long docks wait for their receipts
    feed      the end of the log, for those who wait there
    security  who was refused what
    box       seals the secrets that the ledger keeps
    policies  of retention, remembered
    traffic   what this process does, for the operators
    drain     how far the end of this process has come
    direct    sessions of Postgres itself, where `pool` leads to a pooler; None: `pool` has them
    """

    pool: Pool
    directory: Directory
    vault: Vault
    signer: Signer
    authenticator: Authenticator
    holders: Holders
    budget: ReplayBudget
    rules: UploadRules
    jobs: JobRules
    now: Clock
    base_url: str
    json_bytes_max: int
    worker_stale_after_s: float
    door: Door
    lag: ReadBackLag
    feed: FeedTail
    security: SecurityLog
    head: PublishedHead = field(default_factory=PublishedHead)
    witnesses: Witnesses = field(default_factory=Witnesses)
    time_authority: TimeAuthority | None = None
    courier: Courier = field(default_factory=Courier)
    retention: RetentionRules = field(default_factory=RetentionRules)
    policies: PolicyBook = field(default_factory=PolicyBook)
    purposes: PurposePolicy = field(default_factory=PurposePolicy)
    disclosing: DisclosureRules = field(default_factory=DisclosureRules)
    link_guard: LinkGuard = field(default_factory=LinkGuard)
    box: SecretBox = field(default_factory=SecretBox)
    bodies: Bodies = field(default_factory=Bodies)
    traffic: TrafficMeter = field(default_factory=TrafficMeter)
    drain: Drain = field(default_factory=Drain)
    direct: Pool | None = None

    @property
    def sessions(self) -> Pool:
        """Connections that keep their session: for locks and LISTEN that outlive a transaction."""
        return self.direct or self.pool

    @property
    def locks_objects(self) -> bool:
        """Whether the store sets legal holds too."""
        return self.jobs.object_lock is not None


def open_vault(
    *,
    endpoint: str,
    bucket: str,
    access_key: str,
    secret_key: str,
    region: str = "us-east-1",
    timeout_s: float = 60,
    attempts: int = 3,
) -> AbstractAsyncContextManager[Vault]:
    """Open the evidence storage alone, for tools that work beside the service."""
    return open_s3_vault(
        endpoint=endpoint,
        region=region,
        bucket=bucket,
        access_key=access_key,
        secret_key=secret_key,
        # Not asked: the question would be an object in the bucket.
        checks_sha256="yes",
        connections_max=_TOOL_CONNECTIONS_MAX,
        timeout_s=timeout_s,
        attempts=attempts,
    )


@asynccontextmanager
async def open_resources(settings: Settings) -> AsyncIterator[Resources]:
    """Open pool, vault, keys and the ear for interruptions.

    Raises:
        LedgerUnavailable: Postgres does not answer.
        SigningKeyUnusable, ValueError: a key file is missing or open to others.
        TimestampInvalid: the time authority's certificates cannot be read.
        NoteInvalid: the witnesses cannot be read, or are fewer than their quorum.
    """
    signer = open_local_signer(
        settings.signing_key_file, settings.signing_key_name, settings.signing_key_second_file
    )
    witnesses = make_witnesses(settings.witnesses, settings.witness_quorum)
    time_authority = make_time_authority(
        settings.tsa_url, settings.tsa_ca_file, settings.tsa_interval_s
    )
    async with AsyncExitStack() as stack:
        # First, for what is opened before is not traced; and closed last.
        if settings.tracing_endpoint is not None:
            stack.enter_context(_trace(settings.tracing_endpoint, settings.tracing_sample_ratio))
        pool = await open_pool(
            settings.ledger_dsn.get_secret_value(),
            connections_max=settings.ledger_connections_max,
            statement_timeout_s=settings.ledger_statement_timeout_s,
            wait_max_s=settings.ledger_wait_max_s,
            keeps_sessions=settings.ledger_direct_dsn is None,
            breaker=_make_breaker("ledger", settings),
            pool_class=Pool if spans.tracer is None else TracedPool,
        )
        stack.push_async_callback(close_pool, pool)
        direct: Pool | None = None
        if settings.ledger_direct_dsn is not None:
            direct = await open_pool(
                settings.ledger_direct_dsn.get_secret_value(),
                connections_max=_SESSIONS_MAX,
                statement_timeout_s=settings.ledger_statement_timeout_s,
            )
            stack.push_async_callback(close_pool, direct)
        vault: Vault = await stack.enter_async_context(
            open_s3_vault(
                endpoint=settings.vault_endpoint,
                region=settings.vault_region,
                bucket=settings.vault_bucket,
                access_key=settings.vault_access_key.get_secret_value(),
                secret_key=settings.vault_secret_key.get_secret_value(),
                checks_sha256=settings.vault_checks_sha256,
                connections_max=settings.vault_connections_max,
                timeout_s=settings.vault_timeout_s,
                attempts=settings.vault_attempts,
                breaker=_make_breaker("vault", settings),
            )
        )
        if spans.tracer is not None:
            vault = TracedVault(vault)
        await vault.find_abilities()
        keyring = open_keyring(settings.jwks)
        holders = Holders(f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}")
        feed = FeedTail(pool=pool, seats_max=settings.feed_seats_max)
        security = SecurityLog(pool=pool)
        await stack.enter_async_context(security.running())
        traffic = TrafficMeter()
        await stack.enter_async_context(traffic.running(pool))
        await stack.enter_async_context(listening(direct or pool, holders.interrupt, feed.ring))
        stack.push_async_callback(witnesses.close)
        budget = ReplayBudget(settings.replay_bytes_max)
        door = Door(settings.requests_in_work_max, pressure=pool.line.pressure)
        bodies = Bodies(settings.bodies_max, settings.bodies_per_device_max)
        await stack.enter_async_context(
            sampling(pool=pool, door=door, bodies=bodies, budget=budget, now=utc_now)
        )
        courier = Courier(may_be_private=settings.webhook_allow_private)
        stack.push_async_callback(courier.close)
        yield Resources(
            pool=pool,
            direct=direct,
            directory=Directory(),
            vault=vault,
            signer=signer,
            authenticator=Authenticator(
                pool=pool,
                keyring=keyring,
                rules=TokenRules(
                    audience=settings.token_audience,
                    issuer=settings.token_issuer,
                    leeway_s=settings.token_leeway_s,
                    station_lifetime_max_s=settings.station_token_lifetime_max_s,
                ),
            ),
            holders=holders,
            budget=budget,
            rules=UploadRules(
                part_bytes=settings.part_bytes,
                clip_bytes_max=settings.clip_bytes_max,
                expires_after=timedelta(seconds=settings.upload_expires_after_s),
                take_over_wait_s=settings.take_over_wait_s,
                body_stall_timeout_s=settings.body_stall_timeout_s,
                finish_wait_s=settings.finish_wait_s,
                body_bytes_s_min=settings.body_bytes_s_min,
                urgent_categories=frozenset(
                    each.strip() for each in settings.priority_categories.split(",") if each.strip()
                ),
            ),
            jobs=JobRules(
                interval_s=settings.job_interval_s,
                read_back_concurrency=settings.read_back_concurrency,
                read_back_yield_s=settings.read_back_yield_s,
                fixity_interval_s=settings.fixity_interval_days * _DAY_S,
                fixity_bytes_per_s=settings.fixity_bytes_per_s,
                object_lock=None
                if settings.object_lock == "off"
                else ObjectLock(settings.object_lock, timedelta(days=settings.object_lock_days)),
                delivery=DeliveryRules(settings.webhook_attempts_max),
                probe=ProbeLimits(settings.probe_timeout_s, bytes_max=settings.probe_bytes_max)
                if settings.probe_media
                else None,
                drain_timeout_s=settings.drain_timeout_s,
            ),
            now=utc_now,
            base_url=settings.base_url,
            json_bytes_max=settings.json_bytes_max,
            worker_stale_after_s=settings.worker_stale_after_s,
            door=door,
            lag=ReadBackLag(),
            feed=feed,
            security=security,
            head=PublishedHead(witnesses.policy),
            witnesses=witnesses,
            time_authority=time_authority,
            courier=courier,
            retention=make_retention_rules(settings),
            purposes=PurposePolicy(settings.purpose_scopes),
            disclosing=DisclosureRules(
                timedelta(days=settings.disclosure_days_max),
                settings.disclosure_clips_max,
                keeps_holds=settings.disclosure_keep_holds,
            ),
            link_guard=LinkGuard(settings.link_misses_per_minute),
            box=_open_box(settings),
            traffic=traffic,
            bodies=bodies,
        )


def _trace(endpoint: str, sample_ratio: float) -> AbstractContextManager[None]:
    # Of an extra: whoever does not ask for traces need not have it, nor load it.
    from ingest_service.tracing.exporting import make_exporter, tracing  # noqa: PLC0415

    return tracing(make_exporter(endpoint), sample_ratio=sample_ratio)


def _make_breaker(dependency: str, settings: Settings) -> Breaker:
    gauge = telemetry.BREAKER_STATE.labels(dependency)
    gauge.set(_BREAKER_LEVELS["closed"])

    def tell(before: BreakerState, after: BreakerState) -> None:
        gauge.set(_BREAKER_LEVELS[after])
        if before == "closed":
            telemetry.BREAKER_TRIPS.labels(dependency).inc()
            _LOG.error("breaker_opened", dependency=dependency)
        elif after == "closed":
            _LOG.warning("breaker_closed", dependency=dependency)

    return Breaker(
        settings.breaker_failures,
        window_s=settings.breaker_window_s,
        rest_s=settings.breaker_rest_s,
        tell=tell,
    )


def _open_box(settings: Settings) -> SecretBox:
    if settings.webhook_keys is None:
        return SecretBox()
    try:
        return SecretBox.parse(settings.webhook_keys.get_secret_value())
    except ValueError as error:
        message = f"INGEST_WEBHOOK_KEYS: {error}"
        raise ValueError(message) from None


def make_retention_rules(settings: Settings) -> RetentionRules:
    """Return the knobs of retention."""
    purposes: dict[str, HoldKind] = {}
    for entry in filter(None, (each.strip() for each in settings.hold_purposes.split(","))):
        purpose, _, name = entry.partition("=")
        purposes[purpose.strip().lower()] = _read_kind(name)
    names = (each.strip() for each in settings.hold_release_by_another.split(","))
    return RetentionRules(
        floor=timedelta(days=settings.retention_floor_days),
        notice=timedelta(days=settings.erase_notice_days),
        warning=timedelta(days=settings.expiry_warning_days),
        deviation_share=settings.erase_deviation_percent / 100,
        deviation_clips=settings.erase_deviation_clips,
        clips_per_day_max=settings.erase_clips_per_day_max,
        by_another=frozenset(_read_kind(name) for name in names if name),
        purposes=purposes,
        locks_objects=settings.object_lock != "off",
    )


def _read_kind(name: str) -> HoldKind:
    for kind in KINDS:
        if kind == name.strip():
            return kind
    message = f"there is no kind of hold called {name!r}; there are: {', '.join(KINDS)}"
    raise ValueError(message)
