"""Counts of clips: by borough, day, category and state."""

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ingest_service import errors
from ingest_service.actions.count_clips import count_clips
from ingest_service.api.clips import NOT_MODIFIED, Text, answer_conditionally
from ingest_service.api.deps import Granted, Opened
from ingest_service.api.problems import WITH_TOKEN, documented
from ingest_service.domain.clip_status import EVIDENTIAL_STATES, STATES
from ingest_service.domain.principal import CLIPS_READ, Principal
from ingest_service.ledger.counts import Counted, CountFilter
from schemas.announcement import ClipState, EvidentialState
from schemas.stats import ClipCount, ClipCounts, CountGroup

router = APIRouter(prefix="/v1", tags=["clips"])


class StatsQuery(BaseModel):
    """By what is counted, and which clips."""

    model_config = ConfigDict(extra="forbid")

    by: list[CountGroup] = Field(default_factory=list, max_length=5, description="May repeat.")
    borough: Text | None = None
    category: Text | None = None
    state: ClipState | None = None
    evidential_state: EvidentialState | None = None
    day_from: date | None = Field(default=None, description="Day of announcement, UTC.")
    day_before: date | None = Field(default=None, description="Exclusive.")

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> "StatsQuery":
        if self.day_from and self.day_before and self.day_from >= self.day_before:
            message = "day_from must be before day_before"
            raise ValueError(message)
        return self


@router.get(
    "/stats",
    summary="How many clips there are",
    response_model=ClipCounts,
    responses={
        **NOT_MODIFIED,
        **documented(*WITH_TOKEN, errors.InvalidRequest),
    },
)
async def get_stats(
    query: Annotated[StatsQuery, Query()],
    request: Request,
    opened: Opened,
    principal: Annotated[Principal, Depends(Granted(CLIPS_READ))],
) -> Response:
    """Count clips and their bytes, exact at the moment of asking."""
    asked = CountFilter(
        query.day_from,
        query.day_before,
        None if query.borough is None else [query.borough],
        query.category,
        None if query.state is None else STATES.index(query.state),
        None if query.evidential_state is None else EVIDENTIAL_STATES.index(query.evidential_state),
    )
    by = frozenset(query.by)
    found = await count_clips(asked, principal, by=by, pool=opened.pool)
    body = ClipCounts(
        counts=[_show(each, by) for each in found],
        clip_count=sum(each.clip_count for each in found),
        total_bytes=sum(each.total_bytes for each in found),
    )
    return answer_conditionally(request, body)


def _show(counted: Counted, by: frozenset[str]) -> ClipCount:
    state, evidential = counted.state_number, counted.evidential_number
    return ClipCount.model_validate(
        {
            "day": counted.day,
            "borough": counted.borough,
            # '' is the ledger's word for none.
            "category": (counted.category or None) if "category" in by else None,
            "state": None if state is None else STATES[state],
            "evidential_state": None if evidential is None else EVIDENTIAL_STATES[evidential],
            "clip_count": counted.clip_count,
            "total_bytes": counted.total_bytes,
        }
    )
