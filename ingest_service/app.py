"""The HTTP API as one ASGI application."""

import ctypes
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI

from ingest_service import VERSION
from ingest_service.api import (
    access_requests,
    assertions,
    audit,
    chunks,
    clips,
    completeness,
    derivatives,
    disclosures,
    feed,
    health,
    holds,
    links,
    log,
    operations,
    packs,
    retention,
    stats,
    tus,
    upload_page,
    webhooks,
)
from ingest_service.api.admission import Admission
from ingest_service.api.draining import draining
from ingest_service.api.middleware import ObserveRequests
from ingest_service.api.problems import add_problem_handlers
from ingest_service.api.tus_gate import TusGate
from ingest_service.api.wire import CONNECTIONS_MAX
from ingest_service.domain.draining import plan_drain
from ingest_service.resources import Resources, open_resources
from ingest_service.settings import Settings, load_settings
from ingest_service.telemetry import configure_logging, forget_dead_processes

DESCRIPTION = """Docking stations send clips in resumable chunks; downstream services read metadata.

Every refusal is an `application/problem+json` document whose `type` is stable and whose `action`
says what to do next: fix, retry (after Retry-After) or stop."""

# Net new objects before cycles are looked for. With Python's 700 the looking is 2 % of what a small
# clip costs; with many more, a cycle could keep blocks of footage for long.
_OBJECTS_BEFORE_COLLECTION: Final = 5_000
# For glibc; the numbers are those of its malloc.h.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_KEPT_BYTES_MAX: Final = 64 * 1024 * 1024
_MMAPPED_BYTES_MIN: Final = 8 * 1024 * 1024

# The ways of the bytes come first: routes are matched in this order.
_SURFACES: Final = (
    tus,
    chunks,
    clips,
    assertions,
    stats,
    holds,
    retention,
    derivatives,
    disclosures,
    access_requests,
    links,
    packs,
    log,
    feed,
    webhooks,
    completeness,
    audit,
    health,
    upload_page,
    operations,
)


def make_app() -> FastAPI:
    """Return the application of a server process, from the environment (uvicorn's factory)."""
    _keep_freed_memory()
    settings = load_settings()
    configure_logging(form=settings.log_format, level=settings.log_level)
    forget_dead_processes()
    return create_app(settings)


def _keep_freed_memory() -> None:
    """Keep memory that was freed for the next block, instead of handing it back at once.

    Blocks of footage are as large as what glibc takes from the kernel and gives back one by one:
    page faults were a tenth of what a clip costs. Other libraries (musl) have no such switch.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES_MAX)
        mallopt(_M_MMAP_THRESHOLD, _MMAPPED_BYTES_MIN)


def create_app(settings: Settings, resources: Resources | None = None) -> FastAPI:
    """Return the application; tests pass resources of their own, which they also close."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, int]]:
        state = {CONNECTIONS_MAX: settings.connections_per_address_max}
        if resources is not None:
            app.state.resources = resources
            yield state
            return
        async with open_resources(settings) as opened:
            app.state.resources = opened
            # What start-up made lives as long as the process: no collection looks at it again.
            gc.collect()
            gc.freeze()
            gc.set_threshold(_OBJECTS_BEFORE_COLLECTION)
            times = plan_drain(
                notice_s=settings.drain_notice_s,
                timeout_s=settings.drain_timeout_s,
                workers=settings.workers,
            )
            with draining(opened.drain, times):
                yield state

    app = FastAPI(
        title="Evidence ingest",
        version=VERSION,
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_url=None,  # served by api/health with a token
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Ours (telemetry.py) says more, and costs less.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    add_problem_handlers(app)
    for module in _SURFACES:
        # Not `include_router`: an included router is matched twice, route by route, for each
        # request.
        app.router.routes.extend(module.router.routes)
    # The last one is met first: also who is refused at the door gets an id and tus's own headers.
    app.add_middleware(Admission)
    app.add_middleware(TusGate)
    app.add_middleware(ObserveRequests)
    return app
