"""From a simulated day and measured costs to pods, cores, memory, connections and rates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from loadtest.capacity.costs import GIB_MB, Costs
from loadtest.capacity.day import CHUNK_MB, Day, Service

# A core that is planned to be busier than this answers late.
BUSY_MAX: Final = 0.6
PODS_MIN: Final = 3  # one in each of three zones
SPARE_PODS: Final = 1
MEMORY_MARGIN: Final = 1.5
# What the store must move against the ingest peak: every byte written, and read back once.
STORE_FACTOR: Final = 2.2
# A primary server that is not exotic.
POSTGRES_CORES_MAX: Final = 32
CONNECTIONS_PER_PROCESS: Final = 10  # INGEST_LEDGER_CONNECTIONS_MAX
READ_BACKS_PER_POD: Final = 8
EVENTS_PER_S_MAX: Final = 5000  # what one sequencer is designed for
# Announce, seal and receipt; chunks come on top. One line of the request log is about so long.
REQUESTS_PER_CLIP: Final = 3
LOG_LINE_BYTES: Final = 450
DAYS_PER_YEAR: Final = 365


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile; 0 if there is none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(len(ordered) * percent / 100) - 1)]


@dataclass(frozen=True, slots=True)
class Sizing:
    """What a fleet needs.

    pods            of the API, one process and one core each, one of them spare
    pod_memory_mib  limit of one of them
    job_pods        of `ingest work`, one core each
    docks           connections from cameras at the peak
    """

    pods: int
    api_cores: float
    pod_memory_mib: float
    job_pods: int
    docks: int
    database_connections: int
    postgres_cores: float
    transactions_per_s: float
    wal_mb_per_s: float
    events_per_s: float
    log_lines_per_s: float
    log_gb_per_day: float
    ledger_gb_per_year: float
    network_gbit_s: float
    store_mb_s: float
    stored_tb_per_day: float

    def service(self, costs: Costs) -> Service:
        """Return the service so sized, spare pod included, as the simulation takes it."""
        return Service(
            ingest_mb_s=self.pods / costs.api_s_per_mb,
            store_mb_s=self.store_mb_s,
            read_back_mb_s=self.job_pods / costs.jobs_s_per_mb,
            read_backs_at_once=self.job_pods * READ_BACKS_PER_POD,
            clip_cost_mb=costs.clip_cost_mb,
        )


def size_for(day: Day, costs: Costs, *, factor: int = 1) -> Sizing:
    """Return what the busiest minute of a day needs.

    factor  the fleet is so many times as large; its sites are independent, so the peaks add up
    """
    mb_s, clips_s = day.peak_mb_s * factor, day.peak_clips_s * factor
    chunks_s = mb_s / CHUNK_MB + clips_s / 2  # half a chunk is left over at the end of a clip
    day_mb = sum(day.clips_mb) * factor
    day_clips = len(day.clips_mb) * factor
    api_cores = mb_s * costs.api_s_per_mb + clips_s * costs.api_s_per_clip
    pods = max(math.ceil(api_cores / BUSY_MAX), PODS_MIN - SPARE_PODS) + SPARE_PODS
    uploads_per_pod = day.peak_uploads * factor / (pods - SPARE_PODS)
    pod_memory_mib = MEMORY_MARGIN * (
        costs.api_base_mib + uploads_per_pod * costs.api_mib_per_upload
    )
    job_cores = mb_s * costs.jobs_s_per_mb + clips_s * costs.jobs_s_per_clip
    job_pods = max(math.ceil(job_cores / BUSY_MAX), 2)
    postgres_cores = chunks_s * costs.postgres_s_per_chunk + clips_s * costs.postgres_s_per_clip
    wal_bytes_s = chunks_s * costs.wal_bytes_per_chunk + clips_s * costs.wal_bytes_per_clip
    requests_per_day = day_mb / CHUNK_MB + day_clips * (REQUESTS_PER_CLIP + 0.5)
    return Sizing(
        pods=pods,
        api_cores=api_cores,
        pod_memory_mib=pod_memory_mib,
        job_pods=job_pods,
        docks=day.peak_docked * factor,
        database_connections=(pods + job_pods) * CONNECTIONS_PER_PROCESS,
        postgres_cores=postgres_cores,
        transactions_per_s=chunks_s * costs.transactions_per_chunk
        + clips_s * costs.transactions_per_clip,
        wal_mb_per_s=wal_bytes_s / 1e6,
        events_per_s=clips_s * costs.events_per_clip,
        log_lines_per_s=chunks_s + clips_s * REQUESTS_PER_CLIP,
        log_gb_per_day=requests_per_day * LOG_LINE_BYTES / 1e9,
        ledger_gb_per_year=day_clips * DAYS_PER_YEAR * costs.ledger_bytes_per_clip / 1e9,
        network_gbit_s=mb_s * 8 / 1000,
        store_mb_s=STORE_FACTOR * mb_s,
        stored_tb_per_day=day_mb / 1e6,
    )


def machine_service(costs: Costs, *, cores: float) -> Service:
    """Return a machine that runs everything: API, jobs, ledger, store and the generator.

    All of them share its cores, so a byte costs what it costs all of them.
    """
    per_mb = (costs.api_s_per_gib + costs.jobs_s_per_gib + costs.store_s_per_gib) / GIB_MB
    per_mb += costs.postgres_s_per_chunk / CHUNK_MB
    per_clip = (
        costs.api_s_per_clip
        + costs.jobs_s_per_clip
        + costs.postgres_s_per_clip
        + costs.store_s_per_clip
    )
    return Service(ingest_mb_s=cores / per_mb, clip_cost_mb=per_clip / per_mb)
