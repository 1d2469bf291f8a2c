"""Completeness: what cameras recorded against what came in, and what is at risk."""

from dataclasses import asdict
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from ingest_service import errors
from ingest_service.actions import count_completeness
from ingest_service.api.deps import Granted, Opened
from ingest_service.api.problems import documented
from ingest_service.domain.principal import CLIPS_READ, Principal
from ingest_service.ledger.completeness import Completeness, CompletenessFilter
from schemas import completeness as bodies

router = APIRouter(prefix="/v1", tags=["completeness"])

_PAGE_MAX: Final = 500
_REFUSALS: Final = (
    errors.Unauthorized,
    errors.TokenExpired,
    errors.KeyRevoked,
    errors.Forbidden,
    errors.InvalidRequest,
    errors.LedgerUnavailable,
)
Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]
Reader = Annotated[Principal, Depends(Granted(CLIPS_READ))]


class CompletenessQuery(BaseModel):
    """Which cameras; all given filters must hold."""

    model_config = ConfigDict(extra="forbid")

    device: Text | None = Field(default=None, description="device_serial")
    station: Text | None = Field(default=None, description="Where it was last.")
    borough: Text | None = None
    incomplete: bool = Field(
        default=False, description="Only cameras with something pending or unaccounted for."
    )
    after: str = Field(
        default="", max_length=200, pattern=r"^[^\x00]*$", description="Serial to go on after."
    )
    limit: int = Field(default=100, ge=1, le=_PAGE_MAX)


@router.get("/completeness", summary="Recorded against received", responses=documented(*_REFUSALS))
async def get_completeness(
    query: Annotated[CompletenessQuery, Query()], opened: Opened, principal: Reader
) -> bodies.CompletenessPage:
    """Compare cameras' own counters with what came in; counted again some seconds after a change.

    The totals are of all cameras that the filters name, also of complete ones.
    """
    totals, page, next_after = await count_completeness.list_completeness(
        CompletenessFilter(
            query.device, query.station, query.borough, only_incomplete=query.incomplete
        ),
        principal,
        after=query.after,
        limit=query.limit,
        pool=opened.pool,
    )
    return bodies.CompletenessPage(
        totals=bodies.CompletenessTotals(**asdict(totals)),
        devices=[_show(device) for device in page],
        next_after=next_after,
    )


def _show(device: Completeness) -> bodies.DeviceCompleteness:
    gaps = [{"first_seq": first, "last_seq": last} for first, last in device.gaps]
    return bodies.DeviceCompleteness.model_validate({**asdict(device), "gaps": gaps})


class RiskQuery(BaseModel):
    """Which stations."""

    model_config = ConfigDict(extra="forbid")

    station: Text | None = None
    borough: Text | None = None


@router.get("/at-risk", summary="Evidence at risk", responses=documented(*_REFUSALS))
async def get_at_risk(
    query: Annotated[RiskQuery, Query()], opened: Opened, principal: Reader
) -> bodies.AtRisk:
    """Tell what cameras hold that is not safe here, and which stations do not get on.

    A station is stalled when cameras that were last there hold something and nothing has come from
    it for 30 minutes.
    """
    risk = await count_completeness.measure_risk(
        station=query.station,
        borough=query.borough,
        limits=None if principal.boroughs is None else sorted(principal.boroughs),
        expires_after=opened.rules.expires_after,
        pool=opened.pool,
        now=opened.now,
    )
    stalled = {each.station_id for each in risk.stalled}
    return bodies.AtRisk(
        measured_at=opened.now(),
        unsecured_count=risk.unsecured_count,
        unsecured_bytes=risk.unsecured_bytes,
        unsecured_since=risk.unsecured_since,
        stalled_count=len(stalled),
        stations=[
            bodies.StationAtRisk(**asdict(each), is_stalled=each.station_id in stalled)
            for each in risk.stations
        ],
    )
