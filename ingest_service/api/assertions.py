"""What custodians and dispatch systems say of clips: recorded beside what was said before."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request, status

from ingest_service import errors, telemetry
from ingest_service.actions.assert_batch import assert_batch
from ingest_service.actions.assert_metadata import AssertTools, assert_metadata
from ingest_service.actions.find_clips import get_visible_clip
from ingest_service.actions.recall_assertions import list_history
from ingest_service.api.bodies import JsonRoute
from ingest_service.api.deps import Granted, Opened
from ingest_service.api.problems import WITH_JSON, WITH_TOKEN, documented
from ingest_service.api.raw_json import read_raw_object
from ingest_service.domain import assertion as domain
from ingest_service.domain.custody import Actor
from ingest_service.domain.principal import ASSERTIONS_WRITE, CLIPS_READ, Principal
from ingest_service.resources import Resources
from schemas.assertion import (
    Assertion,
    AssertionBatch,
    Assertions,
    BatchOutcome,
    BatchOutcomes,
    NewAssertions,
    RecordedAssertions,
)

router = APIRouter(prefix="/v1", tags=["clips"], route_class=JsonRoute)


@router.post(
    "/clips/{clip_id}/assertions",
    status_code=status.HTTP_201_CREATED,
    summary="Say what a clip is",
    responses=documented(
        *WITH_TOKEN,
        *WITH_JSON,
        errors.ClipNotFound,
        errors.CorrectionMismatch,
        errors.ClipBusy,
        errors.VaultUnavailable,
    ),
)
async def post_assertions(
    clip_id: UUID,
    body: NewAssertions,
    request: Request,
    opened: Opened,
    principal: Annotated[Principal, Depends(Granted(ASSERTIONS_WRITE))],
) -> RecordedAssertions:
    """Record one or several fields of a clip; what was said before is kept.

    An officer or category that the directory does not know is flagged, never refused.
    """
    await read_raw_object(request)
    telemetry.add_fields(clip_id=str(clip_id))
    await get_visible_clip(clip_id, principal, pool=opened.pool)
    said = domain.Statement(
        body.fields.said(),
        Actor.of(principal),
        body.source or principal.kind,
        body.corrects,
        request_id=telemetry.request_id(),
    )
    asserted = await assert_metadata(clip_id, said, tools=_tools(opened))
    return RecordedAssertions(
        clip_id=clip_id,
        assertions=show_assertions(asserted.assertions),
        flags=asserted.clip.flags,
    )


@router.get(
    "/clips/{clip_id}/assertions",
    summary="All that was said of a clip",
    responses=documented(*WITH_TOKEN, errors.ClipNotFound),
)
async def get_assertions(
    clip_id: UUID, opened: Opened, principal: Annotated[Principal, Depends(Granted(CLIPS_READ))]
) -> Assertions:
    """List every assertion of a clip, oldest first; what the dock announced comes first."""
    telemetry.add_fields(clip_id=str(clip_id))
    clip = await get_visible_clip(clip_id, principal, pool=opened.pool)
    history = await list_history(clip, pool=opened.pool)
    return Assertions(clip_id=clip_id, assertions=show_assertions(history))


@router.post(
    "/assertions",
    summary="Say what many clips are",
    responses=documented(*WITH_TOKEN, *WITH_JSON, errors.BatchKeyReused, errors.VaultUnavailable),
)
async def post_batch(
    body: AssertionBatch,
    request: Request,
    opened: Opened,
    principal: Annotated[Principal, Depends(Granted(ASSERTIONS_WRITE))],
) -> BatchOutcomes:
    """Record a shift's assertions; of each clip all fields or none, with an outcome per clip.

    The same key with the same items may be sent again at any time: what is recorded stays, what
    is missing is done.
    """
    await read_raw_object(request)
    outcomes = await assert_batch(
        body,
        principal,
        tools=_tools(opened),
        request_id=telemetry.request_id(),
    )
    counted = [each.outcome for each in outcomes]
    asserted, repeated = counted.count("asserted"), counted.count("repeated")
    return BatchOutcomes(
        key=body.key,
        asserted_count=asserted,
        repeated_count=repeated,
        refused_count=len(outcomes) - asserted - repeated,
        outcomes=[
            BatchOutcome(
                item=each.item,
                clip_id=each.clip_id,
                outcome=each.outcome,
                assertion_ids=each.assertion_ids,
                flags=each.flags,
            )
            for each in outcomes
        ],
    )


def _tools(opened: Resources) -> AssertTools:
    return AssertTools(opened.pool, opened.vault, opened.directory, opened.retention, opened.now)


def show_assertions(assertions: Sequence[domain.Assertion]) -> list[Assertion]:
    """Return assertions as downstream services see them."""
    return [
        Assertion(
            assertion_id=each.assertion_id,
            field=each.field,
            value=each.value,
            source=each.source,
            asserted_by_kind=each.asserted_by_kind,
            asserted_by_id=each.asserted_by_id,
            asserted_at=each.asserted_at,
            corrects=each.corrects,
            clip_seq=each.clip_seq,
        )
        for each in assertions
    ]
