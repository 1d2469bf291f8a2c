"""What operators look at: the figures, and the page that shows them."""

from dataclasses import asdict
from enum import IntEnum
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from ingest_service import VERSION, errors
from ingest_service.actions.measure_operations import (
    RATE_OVER_S,
    Operations,
    OperationsBoard,
    find_queue,
)
from ingest_service.api.deps import Granted, Opened, resources_of
from ingest_service.api.health import readiness_check_of, show_readiness
from ingest_service.api.problems import WITH_TOKEN, documented
from ingest_service.api.upload_page import answer_with_file
from ingest_service.domain.principal import OPERATE, Principal
from ingest_service.errors import RouteNotFound
from ingest_service.ledger.operations import Point, Traffic
from schemas import operations as bodies
from schemas.health import Readiness

router = APIRouter(tags=["operations"])

PAGE: Final = "ops.html"
ASSETS: Final = frozenset({"ops.css", "ops.js"})


class Minutes(IntEnum):
    """Lengths of the history."""

    FIVE = 5
    QUARTER = 15
    HOUR = 60


class OperationsQuery(BaseModel):
    """How far back the history goes."""

    model_config = ConfigDict(extra="forbid")

    minutes: Minutes = Field(default=Minutes.HOUR, description="Of the history.")


@router.get(
    "/v1/ops",
    summary="How the whole service stands",
    responses=documented(*WITH_TOKEN, errors.InvalidRequest),
)
async def get_operations(
    query: Annotated[OperationsQuery, Query()],
    request: Request,
    response: Response,
    principal: Annotated[Principal, Depends(Granted(OPERATE))],
) -> bodies.OperationsNow:
    """Answer with rates, uploads, what is at risk, queues, the log's lag and the last hour.

    Measured every two seconds at most, however many ask. Boroughs and stations that a token is not
    for are left out; sums are of the whole service. Needs the scope `operate`.
    """
    found = await _board_of(request).measure(query.minutes)
    checks = await readiness_check_of(request).run()
    response.headers["Cache-Control"] = "no-store"
    return _show(found, query.minutes, principal, show_readiness(checks))


def _board_of(request: Request) -> OperationsBoard:
    """Return the board of this application, made with the first request for it."""
    state, opened = request.app.state, resources_of(request)
    kept: tuple[object, OperationsBoard] | None = getattr(state, "operations", None)
    if kept is None or kept[0] is not opened:
        board = OperationsBoard(
            pool=opened.pool,
            expires_after=opened.rules.expires_after,
            fixity_interval_s=opened.jobs.fixity_interval_s,
            now=opened.now,
        )
        kept = state.operations = (opened, board)
    return kept[1]


def _show(
    found: Operations, minutes: int, principal: Principal, readiness: Readiness
) -> bodies.OperationsNow:
    risk, log, sequencing = found.risk, found.log, find_queue(found.queues, "sequencing")
    return bodies.OperationsNow(
        measured_at=found.measured_at,
        version=VERSION,
        rate=_show_rate(found.recent),
        uploads=bodies.UploadsNow(
            active_count=sum(each.active_count for each in found.active),
            left_bytes=sum(each.left_bytes for each in found.active),
            open_count=found.open_count,
            boroughs=[
                bodies.BoroughUploads(**asdict(each))
                for each in found.active
                if principal.may_see_borough(each.borough)
            ],
        ),
        at_risk=bodies.RiskNow(
            measured_at=found.risk_measured_at,
            unsecured_count=risk.unsecured_count,
            unsecured_bytes=risk.unsecured_bytes,
            unsecured_since=risk.unsecured_since,
            stalled_count=len(risk.stalled),
        ),
        queues=[
            bodies.QueueNow.model_validate({**asdict(each), "is_more": each.is_more})
            for each in found.queues
        ],
        custody_log=bodies.LogNow(
            tree_size=log.tree_size,
            lag_events=sequencing.waiting_count,
            lag_s=found.log_lag.total_seconds(),
            halted_reason=log.halted_reason,
            checkpoint=_show_checkpoint(found),
        ),
        webhooks=bodies.WebhooksNow(**asdict(found.webhooks)),
        stations=[
            bodies.WorstStation.model_validate(asdict(each))
            for each in found.stations
            if principal.may_see_borough(each.borough)
        ],
        readiness=readiness,
        history=bodies.History(
            minutes=minutes,
            step_s=found.step_s,
            points=[_show_point(point, found.step_s) for point in found.points],
        ),
    )


def _show_rate(recent: Traffic) -> bodies.LiveRate:
    return bodies.LiveRate(
        over_s=RATE_OVER_S,
        received_bytes_s=recent.received_bytes / RATE_OVER_S,
        received_clips_s=recent.received_count / RATE_OVER_S,
        secured_bytes_s=recent.secured_bytes / RATE_OVER_S,
        secured_clips_s=recent.secured_count / RATE_OVER_S,
        quarantined_clips_s=recent.quarantined_count / RATE_OVER_S,
        shed_requests_s=recent.shed_count / RATE_OVER_S,
        failed_requests_s=recent.failed_count / RATE_OVER_S,
    )


def _show_checkpoint(found: Operations) -> bodies.CheckpointNow | None:
    log = found.log
    if log.checkpoint_size is None or log.signed_at is None or log.published_at is None:
        return None
    return bodies.CheckpointNow(
        tree_size=log.checkpoint_size,
        signed_at=log.signed_at,
        published_at=log.published_at,
        age_s=max(0.0, (found.measured_at - log.published_at).total_seconds()),
    )


def _show_point(point: Point, step_s: int) -> bodies.HistoryPoint:
    return bodies.HistoryPoint(
        at=point.at,
        received_bytes_s=point.received_bytes / step_s,
        received_clips_s=point.received_count / step_s,
        secured_clips_s=point.secured_count / step_s,
        shed_requests_s=point.shed_count / step_s,
        failed_requests_s=point.failed_count / step_s,
        active_count=point.active_count,
        unsecured_bytes=point.unsecured_bytes,
        finishing_count=point.finishing_count,
        read_back_count=point.read_back_count,
        sequencing_count=point.sequencing_count,
        manifest_count=point.manifest_count,
        log_lag_s=point.log_lag_s,
    )


@router.get(
    "/ops",
    summary="The operations page",
    response_class=Response,
    responses={
        200: {"content": {"text/html": {}}, "description": "The page"},
        304: {"description": "The ETag in If-None-Match is the present one"},
    },
)
async def get_page(request: Request, opened: Opened) -> Response:
    """Answer with the page. It needs no token: the operator enters one, for `GET /v1/ops`."""
    return answer_with_file(PAGE, request, opened.base_url)


@router.get(
    "/ops/{name}",
    summary="A file of the operations page",
    response_class=Response,
    responses={
        200: {"content": {"text/css": {}, "text/javascript": {}}, "description": "The file"},
        304: {"description": "The ETag in If-None-Match is the present one"},
        **documented(RouteNotFound),
    },
)
async def get_asset(name: str, request: Request, opened: Opened) -> Response:
    """Answer with the script or the style sheet."""
    if name not in ASSETS:
        raise RouteNotFound(request.method, f"/ops/{name[:64]}")
    return answer_with_file(name, request, opened.base_url)
