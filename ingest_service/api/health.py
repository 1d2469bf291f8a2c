"""What SREs and their probes ask: alive, ready, metrics."""

import json
from collections.abc import Iterable
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request, Response, status
from starlette.concurrency import run_in_threadpool

from ingest_service import errors, telemetry
from ingest_service.actions.check_readiness import Check, ReadinessCheck
from ingest_service.api.deps import Granted, resources_of
from ingest_service.api.problems import documented
from ingest_service.domain.principal import OPERATE, Principal
from schemas.health import CheckResult, Liveness, Readiness

router: Final = APIRouter(tags=["health"])

_NO_TOKEN: Final = (
    errors.Unauthorized,
    errors.TokenExpired,
    errors.KeyRevoked,
    errors.LedgerUnavailable,
)
_NOT_READY: Final = {
    "status": "not ready",
    "checks": {
        "database": {"ok": True, "detail": "ok"},
        "migrations": {"ok": True, "detail": "ok"},
        "bucket": {"ok": False, "detail": "Evidence storage is not answering"},
        "worker": {"ok": True, "detail": "ok"},
    },
}


@router.get("/livez", summary="Is the process alive?")
async def get_liveness() -> Liveness:
    """Answer 200 as long as the process answers at all. Needs no token."""
    return Liveness()


@router.get(
    "/readyz",
    summary="Can the process do its work?",
    responses={
        status.HTTP_503_SERVICE_UNAVAILABLE: {
            "model": Readiness,
            "description": "Something it leans on is missing; the body says what",
            "content": {"application/json": {"example": _NOT_READY}},
        }
    },
)
async def get_readiness(request: Request, response: Response) -> Readiness:
    """Ask database, schema, bucket and workers; each at most once a second. Needs no token."""
    response.headers["Cache-Control"] = "no-store"
    if resources_of(request).drain.is_leaving:
        # First of all: a balancer is to look elsewhere before anybody has to be refused here.
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        ending = CheckResult(ok=False, detail="it ends; another process takes what is new")
        return Readiness(status="not ready", checks={"process": ending})
    checks = await readiness_check_of(request).run()
    shown = show_readiness(checks)
    if shown.status != "ready":
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    return shown


@router.get(
    "/metrics",
    summary="Metrics of every process of this machine",
    response_class=Response,
    responses={
        status.HTTP_200_OK: {
            "description": "Prometheus text format",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        **documented(*_NO_TOKEN, errors.Forbidden),
    },
)
async def get_metrics(
    _operator: Annotated[Principal, Depends(Granted(OPERATE))],
) -> Response:
    """Return the metrics in Prometheus text format. Needs a token with the scope `operate`."""
    telemetry.sample()
    # With several processes this reads their files.
    text, content_type = await run_in_threadpool(telemetry.render_metrics)
    return Response(text, headers={"Content-Type": content_type, "Cache-Control": "no-store"})


@router.get(
    "/openapi.json",
    summary="This description",
    response_class=Response,
    responses={
        status.HTTP_200_OK: {
            "description": "OpenAPI 3.1",
            "content": {"application/json": {"schema": {"type": "object"}}},
        },
        **documented(*_NO_TOKEN),
    },
)
async def get_openapi(
    request: Request, _anyone: Annotated[Principal, Depends(Granted())]
) -> Response:
    """Return the OpenAPI description of every call. Needs any valid token."""
    return Response(json.dumps(request.app.openapi()), media_type="application/json")


def show_readiness(checks: Iterable[Check]) -> Readiness:
    """Return the checks as they are told."""
    checks = tuple(checks)
    is_ready = all(check.is_ok or not check.is_vital for check in checks)
    return Readiness(
        status="ready" if is_ready else "not ready",
        checks={check.name: CheckResult(ok=check.is_ok, detail=check.detail) for check in checks},
    )


def readiness_check_of(request: Request) -> ReadinessCheck:
    """Return the check of this application, made with the first request for it."""
    state = request.app.state
    check: ReadinessCheck | None = getattr(state, "readiness_check", None)
    if check is None:
        resources = resources_of(request)
        check = ReadinessCheck(
            pool=resources.pool,
            vault=resources.vault,
            worker_stale_after_s=resources.worker_stale_after_s,
            wants_object_lock=resources.jobs.object_lock is not None,
        )
        state.readiness_check = check
    return check
