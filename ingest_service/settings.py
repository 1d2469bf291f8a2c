"""Every knob of the service: one frozen object, built once where the process starts."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.announcement import URGENT_CATEGORIES

PREFIX = "INGEST_"
PURPOSE_SCOPES = frozenset({"content:read", "audit:read"})


class Settings(BaseSettings):
    """Settings from INGEST_* environment variables; a misspelt one stops the start."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    # --- addresses -------------------------------------------------------------------
    base_url: str = Field(
        default="http://127.0.0.1:8080",
        description="How docks reach this service; the origin of every absolute URL it hands out.",
    )
    ledger_dsn: SecretStr = Field(description="Postgres of the ledger, as the service role.")
    ledger_direct_dsn: SecretStr | None = Field(
        default=None,
        description="The same Postgres without a pooler in between. Set it when INGEST_LEDGER_DSN "
        "leads to PgBouncer in transaction mode: two connections per process, for what needs a "
        "session of its own, go here, and the others prepare nothing ahead.",
    )
    ledger_connections_max: int = Field(
        default=10,
        ge=4,
        le=200,
        description="Connections per process; more only queue in Postgres.",
    )
    ledger_statement_timeout_s: float = Field(
        default=10, gt=0, le=600, description="A statement that takes longer is given up."
    )
    ledger_wait_max_s: float = Field(
        default=2,
        gt=0,
        le=60,
        description="Who would wait longer for a connection is refused at once; new requests are "
        "refused from a quarter of it on. A queue that is not served in time does harm only.",
    )
    vault_endpoint: str = Field(description="URL of the S3-compatible storage.")
    vault_region: str = Field(default="us-east-1", description="Region used in signatures.")
    vault_bucket: str = Field(min_length=3, description="Bucket that holds the evidence.")
    vault_access_key: SecretStr = Field(description="S3 access key id.")
    vault_secret_key: SecretStr = Field(description="S3 secret access key.")
    vault_checks_sha256: Literal["probe", "yes", "no"] = Field(
        default="probe",
        description="Whether the store refuses bytes that do not match x-amz-checksum-sha256; "
        "'probe' asks it at start-up. If not, chunks are hashed twice.",
    )
    vault_connections_max: int = Field(
        default=128,
        ge=1,
        le=10_000,
        description="Open requests to the store per process: so many to read and so many to write.",
    )
    vault_timeout_s: float = Field(
        default=60, gt=0, le=3600, description="A silent request to the store is given up."
    )
    object_lock: Literal["off", "governance", "compliance"] = Field(
        default="off",
        description="Lock that the store sets on an object before its clip is secured, on manifests"
        " and on what is published of the log; 'compliance' also blocks a lawful early erasure of"
        " clips. The bucket must have object lock.",
    )
    object_lock_days: float = Field(
        default=31, gt=0, le=36_500, description="How long that lock lasts."
    )
    vault_attempts: int = Field(
        default=3, ge=1, le=10, description="Tries of a request whose bytes are still in memory."
    )

    breaker_failures: int = Field(
        default=20,
        ge=0,
        le=10_000,
        description="After so many failures of S3, or of Postgres, in the time below and not one "
        "success between them, a process refuses at once what needs it, but for one request in "
        "`INGEST_BREAKER_REST_S` that looks. 0: every request waits for its own timeout.",
    )
    breaker_window_s: float = Field(
        default=10, gt=0, le=600, description="The time within which they must have come."
    )
    breaker_rest_s: float = Field(
        default=2, gt=0, le=60, description="From such a failure to the next request that looks."
    )

    # --- keys ------------------------------------------------------------------------
    signing_key_file: Path = Field(
        description="Ed25519 private key (PEM, mode 0600) that signs receipts."
    )
    signing_key_second_file: Path | None = Field(
        default=None,
        description="While keys are changed (`ingest key rotate`): the key that signs checkpoints "
        "beside the first one, the new one before the change and the old one after it.",
    )
    signing_key_name: str = Field(
        default="ingest.local/custody", description="Name of the key in its C2SP verifier key."
    )
    jwks: str | None = Field(
        default=None,
        description="File path or https URL of the JSON Web Key Set that service tokens are "
        "checked against. Unset: no service tokens are accepted.",
    )
    token_issuer: str | None = Field(default=None, description="Required `iss` of service tokens.")
    token_audience: str = Field(default="ingest", description="Required `aud` of every token.")
    token_leeway_s: int = Field(
        default=30, ge=0, le=300, description="Clock difference that is forgiven in tokens."
    )
    station_token_lifetime_max_s: int = Field(
        default=3600, ge=60, description="Longest `exp - iat` that a station may sign for itself."
    )

    purpose_required: str = Field(
        default="",
        description="Scopes, separated by commas, whose use must be given a `purpose`: "
        "content:read (footage and custody packs), audit:read.",
    )

    # --- the custody log ---------------------------------------------------------------
    witnesses: str | None = Field(
        default=None,
        description="Second parties that cosign checkpoints: '<verifier key> <url>', separated by "
        "commas. `ingest witness` is one.",
    )
    witness_quorum: int = Field(
        default=0,
        ge=0,
        le=20,
        description="So many of them must have cosigned before a receipt is given out. A witness "
        "that is away then holds up receipts, never uploads: have more than the quorum.",
    )
    tsa_url: str | None = Field(
        default=None,
        description="Time authority (RFC 3161) that is asked to stamp the newest checkpoint.",
    )
    tsa_ca_file: Path | None = Field(
        default=None, description="Its root certificates (PEM); needed with INGEST_TSA_URL."
    )
    tsa_interval_s: float = Field(
        default=24 * 3600, ge=60, description="Time between two time stamps."
    )

    # --- uploads ---------------------------------------------------------------------
    part_bytes: int = Field(
        default=8 * 1024 * 1024,
        ge=5 * 1024 * 1024,
        le=1024 * 1024 * 1024,
        description="Grid of S3 parts and size of a native chunk; S3 wants at least 5 MiB.",
    )
    clip_bytes_max: int = Field(
        default=256 * 1024**3, ge=1, description="Longer clips are refused at the announcement."
    )
    priority_categories: str = Field(
        default=",".join(URGENT_CATEGORIES),
        description="Categories, separated by commas, whose clips may claim priority "
        "(`Priority: u=0`). A claim for another one is flagged and counted.",
    )
    upload_expires_after_s: int = Field(
        default=7 * 24 * 3600,
        ge=60,
        description="An upload without progress this long is abandoned.",
    )
    body_stall_timeout_s: float = Field(
        default=30, gt=0, description="A request body that is silent this long is cut."
    )
    body_bytes_s_min: int = Field(
        default=0,
        ge=0,
        description="A request body that brings fewer bytes a second, over the time above, is cut; "
        "0: however slow.",
    )
    take_over_wait_s: float = Field(
        default=0.6,
        ge=0,
        le=10,
        description="How long a newcomer waits for the interrupted holder to store its prefix.",
    )
    replay_bytes_max: int = Field(
        default=64 * 1024 * 1024,
        ge=0,
        description="Memory per process for bytes kept until S3 has them, so that a cut connection "
        "keeps its prefix and a failed S3 request is retried.",
    )
    finish_wait_s: float = Field(
        default=20, ge=0, description="How long a sealing request waits before it answers 202."
    )

    # --- serving ---------------------------------------------------------------------
    host: str = Field(default="127.0.0.1", description="Address that `ingest serve` binds.")
    port: int = Field(default=8080, ge=0, le=65535, description="Port that `ingest serve` binds.")
    workers: int = Field(default=1, ge=1, le=64, description="API processes on this machine.")
    backlog: int = Field(default=4096, ge=1, description="Connections waiting to be accepted.")
    connections_per_address_max: int = Field(
        default=0,
        ge=0,
        description="Connections that one address may have with one process at once; more are cut "
        "at once. 0: any number. Behind a proxy all have the proxy's address: set the limit there.",
    )
    requests_in_work_max: int = Field(
        default=256,
        ge=8,
        le=100_000,
        description="Requests per process that are worked on at once, those that wait for their "
        "dock's bytes not counted. Announcements are refused from 40 % of it on, questions for "
        "receipts from 80 % on, chunks and seals when it is full.",
    )
    bodies_max: int = Field(
        default=512,
        ge=0,
        le=100_000,
        description="Request bodies per process that are on their way at once, those of slow docks "
        "too. From nine tenths of it on only stations with less than an equal share of them may "
        "bring one more; the others come back. 0: any number.",
    )
    bodies_per_device_max: int = Field(
        default=32,
        ge=0,
        le=100_000,
        description="Of them, of one camera (the clip's `device_serial`, at its station): more "
        "than a dock sends for it, far less than its station's share. 0: any number.",
    )
    feed_seats_max: int = Field(
        default=200,
        ge=1,
        le=100_000,
        description="How many may wait for events per process, streams and long polls together.",
    )
    keep_alive_s: int = Field(default=75, ge=1, description="Idle connections are kept this long.")
    drain_timeout_s: int = Field(
        default=30,
        ge=1,
        description="So long after SIGTERM a process is gone. Uploads in flight may run until some "
        "seconds before; then they are cut, and what came of them is kept.",
    )
    drain_notice_s: float = Field(
        default=0,
        ge=0,
        le=300,
        description="So long after SIGTERM the API still takes everything, while /readyz says that "
        "it is not ready: for load balancers that look there. At most half of the time above.",
    )
    json_bytes_max: int = Field(
        default=256 * 1024, ge=1024, description="Larger JSON bodies are refused."
    )
    metrics_dir: Path | None = Field(
        default=None,
        description="Folder shared by the API processes for their metrics; set by `ingest serve` "
        "itself when unset.",
    )
    work_metrics_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="Port of INGEST_HOST on which `ingest work` answers scrapes, without a token: "
        "for Prometheus alone. 0: none; on one machine `/metrics` of the API holds the jobs' too, "
        "where both have one `PROMETHEUS_MULTIPROC_DIR`.",
    )
    log_format: Literal["json", "console"] = Field(
        default="json", description="'json': one object per line; 'console': for people."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Lines below this level are dropped."
    )

    # --- traces ----------------------------------------------------------------------
    tracing_endpoint: str | None = Field(
        default=None,
        description="URL of a collector that takes traces as OTLP over HTTP, such as "
        "`http://127.0.0.1:4318/v1/traces`; needs the extra `tracing` (docs/tracing.md). Unset: "
        "nothing is traced.",
    )
    tracing_sample_ratio: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Share of requests and of jobs' rounds that are traced; of a request that "
        "comes with a `traceparent` its caller has decided it.",
    )

    # --- retention -------------------------------------------------------------------
    retention_floor_days: float = Field(
        default=31,
        ge=0,
        le=36_500,
        description="No clip is erased earlier than this after its secure receipt, whatever its "
        "camera's clock said and whatever a policy says.",
    )
    erase_notice_days: float = Field(
        default=7,
        ge=0,
        le=365,
        description="Between the announcement of an erasure and the deletion; so long the clip can "
        "be restored.",
    )
    expiry_warning_days: float = Field(
        default=7,
        ge=0,
        le=365,
        description="An unclassified clip is chased this long before its erasure is announced.",
    )
    erase_deviation_percent: float = Field(
        default=20,
        ge=0,
        le=1000,
        description="When more clips of a day are due than was forecast before that day, by more "
        "than this, nothing is erased until two people release it.",
    )
    erase_deviation_clips: int = Field(
        default=100, ge=0, description="So few clips more than forecast never halt the erasing."
    )
    erase_clips_per_day_max: int = Field(
        default=50_000,
        ge=0,
        description="More on one day, announced or deleted, halt the erasing as well.",
    )
    hold_release_by_another: str = Field(
        default="evidence,case,subject_access_request,complaint,legal",
        description="Kinds of holds, separated by commas, that whoever placed them may not "
        "release.",
    )
    hold_purposes: str = Field(
        default="complaint=complaint",
        description="Purpose codes of reading footage that place a hold: 'code=kind', separated "
        "by commas.",
    )

    # --- disclosure ------------------------------------------------------------------
    disclosure_days_max: float = Field(
        default=90, gt=0, le=3650, description="No link to disclosed clips is open longer."
    )
    disclosure_clips_max: int = Field(
        default=200,
        ge=1,
        le=2000,
        description="Clips of one disclosure, or of one subject access request; they are held in "
        "one transaction.",
    )
    disclosure_keep_holds: bool = Field(
        default=False,
        description="Holds of a disclosure stay after its link has expired, and those of a subject "
        "access request after it was fulfilled, until somebody releases them.",
    )

    link_misses_per_minute: int = Field(
        default=30,
        ge=1,
        le=100_000,
        description="So many links that do not exist are looked up per address and process; more "
        "are refused with 429. Behind a proxy all callers have its address.",
    )

    # --- jobs ------------------------------------------------------------------------
    job_interval_s: float = Field(
        default=1.0, gt=0, le=3600, description="How often `ingest work` looks for work unasked."
    )
    read_back_concurrency: int = Field(
        default=2, ge=1, le=64, description="Objects re-read at once by `ingest work`."
    )
    read_back_yield_s: float = Field(
        default=10,
        ge=0,
        le=3600,
        description="While footage comes in, a sealed clip waits so long for its read-back, and"
        " what is not urgent waits too: receiving comes first. 0: nothing waits.",
    )
    fixity_interval_days: float = Field(
        default=90,
        gt=0,
        le=3650,
        description="Every retained object is read again within so many days; begun at half of"
        " it, while footage comes in at three quarters.",
    )
    fixity_bytes_per_s: float = Field(
        default=50e6,
        ge=1e5,
        description="At most so many bytes a second are read again, per `ingest work`: a day at "
        "50 MB/s is 4.3 TB.",
    )
    probe_media: bool = Field(
        default=True,
        description="Whether `ingest work` looks into secured clips for container, codec, size, "
        "duration, sound and creation time: 0.2 s of a core each, when no footage comes in.",
    )
    probe_timeout_s: float = Field(
        default=20,
        gt=0,
        le=600,
        description="A clip that is looked into for longer is flagged `probe_timed_out`; waiting "
        "for the store is not counted.",
    )
    probe_bytes_max: int = Field(
        default=32 * 1024 * 1024,
        ge=128 * 1024,
        description="At most so much of a clip is read for it.",
    )
    webhook_attempts_max: int = Field(
        default=12,
        ge=1,
        le=100,
        description="So often an event is sent to a webhook before it becomes a dead letter; the "
        "waits between grow from 2 s to an hour, 12 attempts take some two hours.",
    )
    webhook_allow_private: bool = Field(
        default=False,
        description="Webhooks may also lead into this network, and without TLS.",
    )
    webhook_keys: SecretStr | None = Field(
        default=None,
        description="Seals webhooks' secrets in the ledger (AES-256-GCM): 32 bytes in Base64, as "
        "`openssl rand -base64 32` makes them. To change it put the new one before the old one, "
        "separated by a comma, everywhere; secrets are sealed anew by `ingest work` within "
        "seconds. Unset: they stand there in clear.",
    )
    worker_stale_after_s: float = Field(
        default=30, gt=0, description="/readyz complains when `ingest work` was silent this long."
    )

    @property
    def purpose_scopes(self) -> frozenset[str]:
        """Scopes whose use must be given a purpose."""
        return frozenset(name.strip() for name in self.purpose_required.split(",") if name.strip())

    @model_validator(mode="after")
    def _purposes_are_of_scopes(self) -> Self:
        unknown = self.purpose_scopes - PURPOSE_SCOPES
        if unknown:
            message = f"INGEST_PURPOSE_REQUIRED names {', '.join(sorted(unknown))}; it may name "
            raise ValueError(message + ", ".join(sorted(PURPOSE_SCOPES)))
        return self

    @model_validator(mode="after")
    def _time_authority_is_whole(self) -> Self:
        if (self.tsa_url is None) != (self.tsa_ca_file is None):
            message = "INGEST_TSA_URL and INGEST_TSA_CA_FILE are set together or not at all"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _traces_can_be_sent(self) -> Self:
        if self.tracing_endpoint is None:
            return self
        url = urlsplit(self.tracing_endpoint)
        if url.scheme not in {"http", "https"} or not url.hostname or "@" in url.netloc:
            message = (
                "INGEST_TRACING_ENDPOINT is a URL such as http://127.0.0.1:4318/v1/traces, "
                "without a user; what the collector asks for goes into OTEL_EXPORTER_OTLP_HEADERS"
            )
            raise ValueError(message)
        if not _has_tracing():
            message = (
                "INGEST_TRACING_ENDPOINT needs the extra `tracing`, which is not installed: "
                "requirements/tracing.txt has it"
            )
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _base_url_is_an_origin(self) -> Self:
        if not self.base_url.startswith(("http://", "https://")) or self.base_url.endswith("/"):
            message = "INGEST_BASE_URL is scheme://host[:port][/prefix] without a trailing slash"
            raise ValueError(message)
        return self


def _has_tracing() -> bool:
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


def load_settings() -> Settings:
    """Build the settings from the environment.

    Raises:
        ValueError: a variable is missing, out of bounds, or an INGEST_* name is unknown.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
    if unknown:
        message = f"unknown settings: {', '.join(unknown)}"
        raise ValueError(message)
    return Settings()
