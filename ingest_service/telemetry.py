"""Log set-up, and every metric of the service.

With several processes on one machine the metrics live in files that any of them can add up:
`PROMETHEUS_MULTIPROC_DIR` must then name an empty folder before this module is imported first,
for a metric picks its home when it is made.
"""

import logging
import os
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, Literal

import structlog
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    start_http_server,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

METRICS_DIR_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"


class Tally:
    """One histogram's newest observations, in plain numbers until they are poured into it.

    A histogram takes 4 us for an observation, 7 where several processes add up; this takes a
    tenth of it, so that every statement and every request to the store can be measured.

    Concurrency: one event loop.
    """

    __slots__ = ("_bounds", "_counts", "_histogram", "_sum")

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        # The last bound is infinity.
        self._bounds = histogram._upper_bounds[:-1]  # noqa: SLF001 - no other way in
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0

    def note(self, value: float) -> None:
        """Count one observation."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def pour(self) -> None:
        """Let the histogram have what was counted since."""
        if not any(self._counts):
            return
        for bucket, count in zip(
            self._histogram._buckets,  # noqa: SLF001 - there is no `observe` for many
            self._counts,
            strict=True,
        ):
            if count:
                bucket.inc(count)
        self._histogram._sum.inc(self._sum)  # noqa: SLF001
        self._counts = [0] * len(self._counts)
        self._sum = 0.0


_TALLIES: Final[dict[tuple[int, tuple[str, ...]], Tally]] = {}
_SAMPLERS: Final[list[Callable[[], None]]] = []


def tally(histogram: Histogram, *labels: str) -> Tally:
    """Return the tally of a histogram with these labels; always the same one."""
    key = (id(histogram), labels)
    found = _TALLIES.get(key)
    if found is None:
        found = Tally(histogram.labels(*labels) if labels else histogram)
        _TALLIES[key] = found
    return found


@contextmanager
def sampled(sampler: Callable[[], None]) -> Iterator[None]:
    """Have something measured whenever metrics are sampled; for what is, not for what happens."""
    _SAMPLERS.append(sampler)
    try:
        yield
    finally:
        _SAMPLERS.remove(sampler)


def sample() -> None:
    """Measure what is sampled, and pour the tallies; in the event loop's own thread."""
    for sampler in _SAMPLERS:
        sampler()
    for each in _TALLIES.values():
        each.pour()


# --- requests ----------------------------------------------------------------------------
# `surface` is native, tus, queries, feed, downloads, log, links or ops; `route` is the template,
# never the path with ids.

REQUESTS: Final = Counter(
    "ingest_requests_total", "Requests answered.", ["surface", "method", "route", "status"]
)
REQUEST_SECONDS: Final = Histogram(
    "ingest_request_seconds",
    "From the first byte of the request to the last of the answer.",
    ["surface", "method", "route"],
    # Up to a chunk on a slow uplink: 8 MiB at 1 Mbit/s is a minute.
    buckets=(0.005, 0.02, 0.1, 0.5, 2, 10, 60),
)
PROBLEMS: Final = Counter(
    "ingest_problems_total", "Refusals, by the name at the end of their problem type.", ["problem"]
)
SHED: Final = Counter(
    "ingest_requests_shed_total",
    "Requests refused because too much was in work, by what they wanted; 'urgent': announcements "
    "that claimed priority; 'share': bodies of stations that had their share of those on their "
    "way; 'device': bodies of cameras that had as many.",
    ["kind"],
)
PRIORITY_ADMITTED: Final = Counter(
    "ingest_priority_admitted_total",
    "Announcements let in only because they claimed priority: others were refused.",
)
PRIORITY_CLAIMS: Final = Counter(
    "ingest_priority_claims_total",
    "Claims that a clip matters more than others; 'unfounded': its category may not.",
    ["outcome"],
)
CONNECTIONS_REFUSED: Final = Counter(
    "ingest_connections_refused_total",
    "Connections cut at once because their address had as many as it may have.",
)
ACTIVE_BODIES: Final = Gauge(
    "ingest_active_bodies", "Request bodies on their way in.", multiprocess_mode="livesum"
)
ACTIVE_BODIES_MAX: Final = Gauge(
    "ingest_active_bodies_max",
    "As many may be on their way: INGEST_BODIES_MAX of every process; 0: any number.",
    multiprocess_mode="livesum",
)
REQUESTS_IN_WORK: Final = Gauge(
    "ingest_requests_in_work",
    "Requests that are worked on; not those that wait for their dock's bytes.",
    multiprocess_mode="livesum",
)
REQUESTS_IN_WORK_MAX: Final = Gauge(
    "ingest_requests_in_work_max",
    "As many may be worked on: INGEST_REQUESTS_IN_WORK_MAX of every process.",
    multiprocess_mode="livesum",
)

# --- bytes and uploads -------------------------------------------------------------------

CHUNK_BYTES: Final = Counter(
    "ingest_chunk_bytes_total", "Bytes of footage made durable.", ["surface"]
)
REPLAY_BYTES: Final = Gauge(
    "ingest_replay_bytes", "Memory holding bytes until S3 has them.", multiprocess_mode="livesum"
)
REPLAY_BYTES_MAX: Final = Gauge(
    "ingest_replay_bytes_max",
    "As much memory may: INGEST_REPLAY_BYTES_MAX of every process.",
    multiprocess_mode="livesum",
)
TAKE_OVERS: Final = Counter(
    "ingest_take_overs_total", "Uploads taken from a request that still held them."
)
UPLOADS_OPENED: Final = Counter("ingest_uploads_opened_total", "Uploads opened.", ["surface"])
UPLOADS_FINISHED: Final = Counter(
    "ingest_uploads_finished_total", "Uploads whose object is complete in the vault."
)
UPLOADS_EXPIRED: Final = Counter(
    "ingest_uploads_expired_total", "Uploads abandoned by their dock and cleared away."
)
UPLOADS_FAILED: Final = Counter(
    "ingest_uploads_failed_total", "Uploads whose stored bytes were lost: a human looks."
)

# --- clips -------------------------------------------------------------------------------

CLIPS_ANNOUNCED: Final = Counter("ingest_clips_announced_total", "Clips seen the first time.")
CLIPS_RECEIVED: Final = Counter(
    "ingest_clips_received_total", "Clips whose bytes are complete and stored, by every surface."
)
CLIPS_SECURED: Final = Counter(
    "ingest_clips_secured_total", "Clips read back from storage with the right hash."
)
SECURED_BYTES: Final = Counter("ingest_secured_bytes_total", "Bytes of these clips.")
CLIPS_QUARANTINED: Final = Counter(
    "ingest_clips_quarantined_total", "Clips set aside for a mismatch: a human looks."
)
READ_BACK_BYTES: Final = Counter("ingest_read_back_bytes_total", "Bytes re-read from storage.")
TIME_TO_SECURE: Final = Histogram(
    "ingest_time_to_secure_seconds",
    "From the seal of a clip (all its bytes are here) to its read-back with the right hash.",
    buckets=(1, 2, 5, 10, 30, 60, 120, 300, 900, 3600, 14_400, 86_400),
)
TIME_AT_RISK: Final = Histogram(
    "ingest_time_at_risk_seconds",
    "From the announcement of a clip to its read-back: the dock's sending is in it.",
    buckets=(1, 5, 30, 120, 300, 900, 3600, 14_400, 43_200, 86_400, 604_800),
)

FIXITY_CHECKS: Final = Counter(
    "ingest_fixity_checks_total",
    "Retained objects read again; page someone when result is not 'match'.",
    ["result"],
)
FIXITY_BYTES: Final = Counter("ingest_fixity_bytes_total", "Bytes of retained objects read again.")
FIXITY_OLDEST_S: Final = Gauge(
    "ingest_fixity_oldest_seconds",
    "Since the retained object was read that was read longest ago: more than the days that are "
    "set means that the budget is too small.",
    multiprocess_mode="livemax",
)

MEDIA_PROBES: Final = Counter(
    "ingest_media_probes_total",
    "Secured clips that were looked into; 'flagged': something is odd about the footage.",
    ["result"],
)
MEDIA_PROBE_BYTES: Final = Counter(
    "ingest_media_probe_bytes_total", "Bytes of stored objects read to look into them."
)

# --- retention ---------------------------------------------------------------------------

CLIPS_COMPUTED: Final = Counter(
    "ingest_retention_looked_at_total", "Events and clips whose dates of erasure were looked at."
)
EXPIRY_WARNED: Final = Counter(
    "ingest_expiry_warned_total", "Unclassified clips that were chased before they expire."
)
ERASURES_SCHEDULED: Final = Counter(
    "ingest_erasures_scheduled_total", "Clips whose erasure was announced."
)
ERASURES_EXECUTED: Final = Counter("ingest_erasures_executed_total", "Clips that were erased.")
ERASURES_BLOCKED: Final = Counter(
    "ingest_erasures_blocked_total", "Deletions that the store has refused: a human looks."
)
ERASING_HALTED: Final = Gauge(
    "ingest_erasing_halted",
    "1 = more is due than was forecast: nothing is erased until two people release it.",
    multiprocess_mode="livemax",
)

# --- the custody log ---------------------------------------------------------------------

LOG_LEAVES: Final = Counter("ingest_log_leaves_total", "Events given their place in the log.")
LOG_MENDED: Final = Counter(
    "ingest_log_mended_total",
    "Published parts of the log that the bucket had lost or torn, and that were published again.",
)
LOG_FORKED: Final = Gauge(
    "ingest_log_forked",
    "1 = the ledger's log is not the published one: nothing is sequenced, page someone.",
    multiprocess_mode="livemax",
)

LOG_SIZE: Final = Gauge(
    "ingest_log_size_leaves", "Leaves of the custody log.", multiprocess_mode="livemax"
)
LOG_LAG_S: Final = Gauge(
    "ingest_log_lag_seconds",
    "How long the oldest event waits that no published checkpoint covers; 0: none waits.",
    multiprocess_mode="livemax",
)
LOG_QUORUM_LAG_S: Final = Gauge(
    "ingest_log_quorum_lag_seconds",
    "How long a published checkpoint waits that too few witnesses have cosigned, nor a later one; "
    "0: none waits, or no quorum is set.",
    multiprocess_mode="livemax",
)
WITNESS_ANSWERS: Final = Counter(
    "ingest_witness_answers_total", "What witnesses said to checkpoints.", ["witness", "outcome"]
)

TIMESTAMPS: Final = Counter(
    "ingest_timestamps_total", "Time stamps that were asked for.", ["outcome"]
)

# --- the feed ----------------------------------------------------------------------------

FEED_SEATS: Final = Gauge(
    "ingest_feed_seats",
    "Streams and long polls that wait for events; INGEST_FEED_SEATS_MAX per process.",
    multiprocess_mode="livesum",
)

# --- evidence at risk --------------------------------------------------------------------

AT_RISK_BYTES: Final = Gauge(
    "ingest_at_risk_bytes",
    "Bytes known to be on cameras and not secured here.",
    multiprocess_mode="livemax",
)
AT_RISK_RECORDINGS: Final = Gauge(
    "ingest_at_risk_recordings",
    "Recordings known to be on cameras and not secured here.",
    multiprocess_mode="livemax",
)
AT_RISK_OLDEST_S: Final = Gauge(
    "ingest_at_risk_oldest_seconds",
    "Since the oldest recording is known that is not secured.",
    multiprocess_mode="livemax",
)
STALLED_STATIONS: Final = Gauge(
    "ingest_stalled_stations",
    "Stations whose cameras hold something and from which nothing has come for 30 minutes.",
    multiprocess_mode="livemax",
)
UNACCOUNTED: Final = Gauge(
    "ingest_unaccounted_recordings",
    "Numbers that cameras gave to recordings which neither came in nor are on the camera.",
    multiprocess_mode="livemax",
)

# --- webhooks ----------------------------------------------------------------------------

WEBHOOK_DELIVERIES: Final = Counter(
    "ingest_webhook_deliveries_total",
    "Requests to webhooks: delivered, failed; and events given up: dead.",
    ["outcome"],
)
WEBHOOK_LAG: Final = Gauge(
    "ingest_webhook_lag_events",
    "Events that the webhook which is farthest behind has not been told of.",
    multiprocess_mode="livemax",
)
WEBHOOKS_FAILING: Final = Gauge(
    "ingest_webhooks_failing",
    "Active webhooks whose last attempt failed.",
    multiprocess_mode="livemax",
)
WEBHOOKS_DISABLED: Final = Gauge(
    "ingest_webhooks_disabled",
    "Webhooks that answered 410 and are sent nothing until somebody looks.",
    multiprocess_mode="livemax",
)

# --- queues of the jobs ------------------------------------------------------------------

QUEUE_WAITING: Final = Gauge(
    "ingest_queue_waiting",
    "What waits for a job, counted up to 10,000.",
    ["queue"],
    multiprocess_mode="livemax",
)
QUEUE_OLDEST_S: Final = Gauge(
    "ingest_queue_oldest_seconds",
    "For how long the oldest of them is due; 0: none is.",
    ["queue"],
    multiprocess_mode="livemax",
)

# --- what the service leans on -----------------------------------------------------------

VAULT_SECONDS: Final = Histogram(
    "ingest_vault_seconds",
    "Requests to the evidence storage, each try; 'put' and 'get' from the last byte sent to the "
    "head of the answer, so that no dock's slowness is in it.",
    ["operation"],
    buckets=(0.005, 0.02, 0.1, 0.5, 2, 10, 60),
)
VAULT_ERRORS: Final = Counter(
    "ingest_vault_errors_total",
    "Tries that failed. 'failed': no answer, or one that may pass; 'full': no space; 'lost': it "
    "has no such thing (who deletes or asks may expect that); 'corrupted': bytes and digest "
    "differ, mostly by the dock's doing.",
    ["operation", "kind"],
)
VAULT_BUSY: Final = Gauge(
    "ingest_vault_connections",
    "Connections to the storage that carry a request.",
    ["use"],
    multiprocess_mode="livesum",
)
VAULT_BUSY_MAX: Final = Gauge(
    "ingest_vault_connections_max",
    "As many may carry one, for each use: INGEST_VAULT_CONNECTIONS_MAX of every process.",
    multiprocess_mode="livesum",
)
LEDGER_HELD_SECONDS: Final = Histogram(
    "ingest_ledger_held_seconds",
    "For how long a connection to Postgres was held: one statement or one transaction.",
    buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2, 10),
)
LEDGER_WAIT_SECONDS: Final = Histogram(
    "ingest_ledger_wait_seconds",
    "How long was waited for a connection, where one was not free at once.",
    buckets=(0.005, 0.02, 0.1, 0.5, 2, 10),
)
LEDGER_ERRORS: Final = Counter(
    "ingest_ledger_errors_total",
    "'unavailable': Postgres did not answer, or cut off; 'busy': too many waited already.",
    ["kind"],
)
LEDGER_BUSY: Final = Gauge(
    "ingest_ledger_connections", "Connections to Postgres in use.", multiprocess_mode="livesum"
)
LEDGER_BUSY_MAX: Final = Gauge(
    "ingest_ledger_connections_max",
    "As many may be: INGEST_LEDGER_CONNECTIONS_MAX of every process.",
    multiprocess_mode="livesum",
)
LEDGER_WAITING: Final = Gauge(
    "ingest_ledger_waiting", "Tasks that wait for a connection.", multiprocess_mode="livesum"
)
LEDGER_ARCHIVE_AGE_S: Final = Gauge(
    "ingest_ledger_archive_age_seconds",
    "Since Postgres archived a WAL segment; 0 where it archives none (archive_mode off).",
    multiprocess_mode="livemax",
)
BREAKER_STATE: Final = Gauge(
    "ingest_breaker_state",
    "Whether a process asks 'vault' (S3) and 'ledger' (Postgres): 0 = yes, 2 = no, for it did not "
    "answer; 1 = one request looks whether it is back.",
    ["dependency"],
    multiprocess_mode="livemax",
)
BREAKER_TRIPS: Final = Counter(
    "ingest_breaker_trips_total", "How often a process stopped asking.", ["dependency"]
)
BREAKER_REFUSED: Final = Counter(
    "ingest_breaker_refused_total",
    "What was refused at once meanwhile, instead of waiting for no answer.",
    ["dependency"],
)
CLOCK_OFFSET_S: Final = Gauge(
    "ingest_clock_offset_seconds",
    "How far this machine's clock and that of Postgres are apart, whichever is ahead.",
    multiprocess_mode="livemax",
)
LOOP_LAG_S: Final = Gauge(
    "ingest_loop_lag_seconds",
    "How late the event loop of the slowest process was in the last seconds: it lacks CPU.",
    multiprocess_mode="livemax",
)
KEYRING_REFRESHES: Final = Counter(
    "ingest_keyring_refreshes_total", "Reads of the service tokens' key set.", ["outcome"]
)
JOB_RUNS: Final = Counter("ingest_job_runs_total", "Passes of the jobs.", ["job", "outcome"])
JOB_SECONDS: Final = Histogram(
    "ingest_job_seconds", "One pass of a job.", ["job"], buckets=(0.01, 0.1, 1, 10, 60, 600)
)
SPANS: Final = Counter(
    "ingest_spans_total",
    "Spans of traces, where these are on; 'lost': the collector did not take them in time.",
    ["outcome"],
)


# Counted from 0: what appears with its first count has grown by nothing, and no alert sees it.
for _result in ("match", "mismatch", "not_verifiable"):
    FIXITY_CHECKS.labels(_result)
PROBLEMS.labels("vault-full")
VAULT_ERRORS.labels("put", "full")
for _dependency in ("vault", "ledger"):
    BREAKER_STATE.labels(_dependency)
    BREAKER_TRIPS.labels(_dependency)


def find_registry() -> CollectorRegistry:
    """Return what holds the metrics of every process that adds to ours."""
    if METRICS_DIR_VARIABLE not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library has no types here
    return registry


def render_metrics() -> tuple[bytes, str]:
    """Return the metrics of every process of this machine as text, and its content type."""
    return generate_latest(find_registry()), CONTENT_TYPE_LATEST


def serve_metrics(host: str, port: int) -> None:
    """Answer scrapes in a thread, as long as the process lives: for who has no HTTP API.

    Raises:
        OSError: the port is taken.
    """
    start_http_server(port, addr=host, registry=find_registry())


def forget_process(pid: int) -> None:
    """Drop the gauges of a process that ended; its counters stay in the sums."""
    if METRICS_DIR_VARIABLE in os.environ:
        mark_process_dead(pid)  # type: ignore[no-untyped-call]  # the library has no types here


def forget_dead_processes() -> None:
    """Drop the gauges of processes of this machine that died; whoever replaces them calls it."""
    folder = os.environ.get(METRICS_DIR_VARIABLE)
    if folder is None:
        return
    for path in Path(folder).glob("gauge_live*_*.db"):
        pid = path.stem.rpartition("_")[2]
        if pid.isdigit() and not _is_alive(int(pid)):
            # Two processes that start at once may both find it.
            with suppress(FileNotFoundError):
                forget_process(int(pid))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


# --- the log -----------------------------------------------------------------------------

# What is known of the request being served: shared by every task that serves it, written as one
# line when it ends. None outside a request.
REQUEST_FIELDS: Final[ContextVar[dict[str, object] | None]] = ContextVar(
    "request_fields", default=None
)


# Trace and span that a line belongs to; None while nothing is traced.
find_trace: Callable[[], Mapping[str, str]] | None = None


def add_fields(**fields: object) -> None:
    """Add facts (upload_id, clip_id, bytes, ...) to the line of the request being served.

    No tokens, no footage, no names of people. Outside a request this does nothing.
    """
    known = REQUEST_FIELDS.get()
    if known is not None:
        known.update(fields)


def request_id() -> str | None:
    """Return the id of the request being served; None outside a request."""
    fields = REQUEST_FIELDS.get()
    return None if fields is None else str(fields["request_id"])


def configure_logging(
    *, form: Literal["json", "console"], level: Literal["debug", "info", "warning", "error"]
) -> None:
    """Write the log to standard output: one JSON object per line, or colours for people.

    Lines of libraries (uvicorn, botocore) come out in the same form, from level `warning` on.
    """
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_ids,
    ]
    # Tracebacks come without local variables: those hold tokens and footage.
    bare_traceback = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    renderers: list[structlog.typing.Processor] = (
        [
            structlog.processors.ExceptionRenderer(bare_traceback),
            structlog.processors.JSONRenderer(default=str),
        ]
        if form == "json"
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        # One write a line: lines of several processes in one pipe do not mix.
        logger_factory=structlog.WriteLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(threshold, logging.WARNING), force=True)


def _add_ids(
    _logger: Any,  # noqa: ANN401 - structlog's own signature
    _method: str,
    event: MutableMapping[str, Any],
) -> MutableMapping[str, Any]:
    fields = REQUEST_FIELDS.get()
    if fields is not None and "request_id" not in event:
        event["request_id"] = fields["request_id"]
    if find_trace is not None:
        event.update(find_trace())
    return event
