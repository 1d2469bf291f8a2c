"""Retention: why a clip has its date, who decides, what will be erased, what was."""

from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response

from ingest_service import errors, telemetry
from ingest_service.actions.explain_retention import Explanation, explain_retention
from ingest_service.actions.find_clips import get_visible_clip
from ingest_service.actions.forecast_erasure import forecast_erasure
from ingest_service.actions.halt_erasure import list_halts, release_halt
from ingest_service.actions.issue_certificate import issue_certificate
from ingest_service.actions.make_policy import approve_policy, list_policies, make_policy
from ingest_service.actions.restore_clip import restore_clip
from ingest_service.api.bodies import JsonRoute
from ingest_service.api.deps import Granted, Opened
from ingest_service.api.holds import show_hold
from ingest_service.api.problems import WITH_JSON, WITH_TOKEN, documented
from ingest_service.domain.principal import (
    CLIPS_READ,
    HOLDS_WRITE,
    OPERATE,
    RETENTION_WRITE,
    Principal,
)
from ingest_service.domain.retention import Considered, Policy, Rule, list_in_force
from ingest_service.ledger import erasures
from schemas import retention as bodies
from schemas.announcement import Moment
from schemas.certificate import ErasureCertificate, PendingCertificate
from schemas.hold import ReleaseOrder

router = APIRouter(prefix="/v1", tags=["retention"], route_class=JsonRoute)

_FORECAST_DAYS: Final = 31
_FORECAST_DAYS_MAX: Final = 366
Reader = Annotated[Principal, Depends(Granted(CLIPS_READ))]
Custodian = Annotated[Principal, Depends(Granted(RETENTION_WRITE))]


# --- policies --------------------------------------------------------------------------------


@router.get(
    "/retention/policies", summary="Every retention policy", responses=documented(*WITH_TOKEN)
)
async def get_policies(opened: Opened, _principal: Reader) -> bodies.PolicyList:
    """List every version of every policy, and which are in force."""
    policies = await list_policies(pool=opened.pool)
    in_force = list_in_force(policies, opened.now())
    return bodies.PolicyList(
        policies=[_show_policy(policy, is_in_force=policy in in_force) for policy in policies]
    )


@router.post(
    "/retention/policies",
    status_code=201,
    summary="Make a version of a retention policy",
    responses=documented(*WITH_TOKEN, *WITH_JSON, errors.PolicyConflict),
)
async def post_policy(
    asked: bodies.NewPolicy, opened: Opened, principal: Custodian
) -> bodies.RetentionPolicy:
    """Record the next version. Nothing changes before another person has approved it.

    Of every policy the newest approved version is in force, and of all of them the longest rule
    that applies to a clip wins. Look at GET /v1/retention/forecast after an approval. A policy is
    of the whole force, so is who makes it: not for tokens that are limited to boroughs.
    """
    principal.require_everywhere(RETENTION_WRITE)
    policy = await make_policy(
        asked.policy_id,
        tuple(Rule(rule.category, rule.evidential_state, rule.days) for rule in asked.rules),
        principal,
        effective_from=asked.effective_from,
        reason=asked.reason,
        pool=opened.pool,
        now=opened.now,
    )
    return _show_policy(policy, is_in_force=False)


@router.post(
    "/retention/policies/{policy_id}/versions/{version}/approve",
    summary="Approve a version of a retention policy",
    responses=documented(
        *WITH_TOKEN,
        errors.InvalidRequest,
        errors.PolicyNotFound,
        errors.PolicyConflict,
        errors.AnotherPersonNeeded,
    ),
)
async def post_approval(
    policy_id: bodies.PolicyId, version: int, opened: Opened, principal: Custodian
) -> bodies.RetentionPolicy:
    """Put a version in force. Who made it does not approve it."""
    principal.require_everywhere(RETENTION_WRITE)
    policy = await approve_policy(policy_id, version, principal, pool=opened.pool, now=opened.now)
    return _show_policy(policy, is_in_force=policy.effective_from <= opened.now())


def _show_policy(policy: Policy, *, is_in_force: bool) -> bodies.RetentionPolicy:
    return bodies.RetentionPolicy(**asdict(policy), is_in_force=is_in_force)


# --- one clip --------------------------------------------------------------------------------


@router.get(
    "/clips/{clip_id}/retention",
    summary="Why a clip is erased on its date",
    responses=documented(*WITH_TOKEN, errors.InvalidRequest, errors.ClipNotFound),
)
async def get_retention(clip_id: UUID, opened: Opened, principal: Reader) -> bodies.RetentionAnswer:
    """Answer with the date, every input, the rule that won, and what lost."""
    await get_visible_clip(clip_id, principal, pool=opened.pool)
    explained = await explain_retention(
        clip_id, pool=opened.pool, rules=opened.retention, now=opened.now
    )
    return _show_retention(explained)


def _show_retention(explained: Explanation) -> bodies.RetentionAnswer:
    clip, decision = explained.clip, explained.decision
    erasure = None
    if clip.phase is not None and clip.scheduled_at is not None and clip.erase_after is not None:
        erasure = bodies.ErasureState(
            phase=clip.phase,
            scheduled_at=clip.scheduled_at,
            erase_after=clip.erase_after,
            intended_at=clip.intended_at,
        )
    return bodies.RetentionAnswer(
        clip_id=clip.clip_id,
        state=clip.state,
        is_held=clip.is_held,
        holds=[show_hold(hold) for hold in explained.holds],
        erase_due_at=None if decision is None else decision.erase_due_at,
        reason="counted once the clip is secured" if decision is None else decision.reason,
        basis=None if decision is None else decision.basis,
        basis_at=None if decision is None else decision.basis_at,
        basis_reason=None if decision is None else decision.basis_reason,
        policy=None if decision is None else decision.policy,
        won=None if decision is None or decision.won is None else _show_rule(decision.won),
        lost=[] if decision is None else [_show_rule(each) for each in decision.lost],
        inputs=bodies.RetentionInputs(
            category=clip.category,
            evidential_state=clip.evidential_state,
            clock_state=clip.clock_state,
            started_at=clip.started_at,
            started_at_corrected=clip.started_at_corrected,
            announced_at=clip.announced_at,
            secured_at=clip.secured_at,
            restored_at=clip.restored_at,
            counted_from_before=clip.basis_at,
        ),
        policies_in_force=[policy.name for policy in explained.policies],
        recorded_at=clip.computed_at,
        warned_at=clip.warned_at,
        erasure=erasure,
    )


def _show_rule(considered: Considered) -> bodies.ConsideredRule:
    return bodies.ConsideredRule(**asdict(considered))


@router.post(
    "/clips/{clip_id}/restore",
    summary="Take a clip back from an announced erasure",
    responses=documented(
        *WITH_TOKEN, *WITH_JSON, errors.ClipNotFound, errors.NothingToRestore, errors.ErasureBegun
    ),
)
async def post_restore(
    clip_id: UUID,
    order: ReleaseOrder,
    opened: Opened,
    principal: Annotated[Principal, Depends(Granted(HOLDS_WRITE))],
) -> bodies.RetentionAnswer:
    """Call the erasure off; the clip gets its shortest term once more. To keep it, place a hold."""
    await get_visible_clip(clip_id, principal, pool=opened.pool)
    await restore_clip(
        clip_id,
        principal,
        authority=order.authority,
        pool=opened.pool,
        rules=opened.retention,
        now=opened.now,
        request_id=telemetry.request_id(),
    )
    return await get_retention(clip_id, opened, principal)


@router.get(
    "/clips/{clip_id}/certificate",
    summary="The certificate of an erasure",
    responses={
        202: {"model": PendingCertificate, "description": "Erased; its proof is not published yet"},
        **documented(
            *WITH_TOKEN,
            errors.InvalidRequest,
            errors.ClipNotFound,
            errors.CertificateNotFound,
            errors.LogForked,
        ),
    },
)
async def get_certificate(
    clip_id: UUID, opened: Opened, principal: Reader, response: Response
) -> ErasureCertificate | PendingCertificate:
    """Answer with what proves the erasure: the event's exact bytes and their place in the log."""
    clip = await get_visible_clip(clip_id, principal, pool=opened.pool)
    certificate = await issue_certificate(
        clip, pool=opened.pool, signer=opened.signer, head=opened.head
    )
    if certificate is None:
        response.status_code = 202
        response.headers["Retry-After"] = "1"
        return PendingCertificate(clip_id=clip_id, state=clip.state)
    return certificate


# --- all clips -------------------------------------------------------------------------------


@router.get(
    "/retention/forecast",
    summary="What will be erased",
    responses=documented(*WITH_TOKEN, errors.InvalidRequest),
)
async def get_forecast(
    opened: Opened,
    principal: Reader,
    until: Annotated[
        Moment | None, Query(description="Default: 31 days from now; at most a year.")
    ] = None,
) -> bodies.Forecast:
    """Dry run: counts and bytes by day, category and borough. Held clips are not in it."""
    now = opened.now()
    latest = now + timedelta(days=_FORECAST_DAYS_MAX)
    end = min(until, latest) if until is not None else now + timedelta(days=_FORECAST_DAYS)
    lines = await forecast_erasure(end, principal, pool=opened.pool, now=opened.now)
    return bodies.Forecast(
        until=end,
        clip_count=sum(line.clip_count for line in lines),
        total_bytes=sum(line.total_bytes for line in lines),
        lines=[bodies.ForecastLine(**asdict(line)) for line in lines],
    )


@router.get("/retention/halts", summary="What stands in the way", responses=documented(*WITH_TOKEN))
async def get_halts(
    opened: Opened, _principal: Annotated[Principal, Depends(Granted(OPERATE))]
) -> bodies.HaltList:
    """List the halt under which nothing is erased, and earlier ones."""
    halts = await list_halts(pool=opened.pool, now=opened.now)
    return bodies.HaltList(halts=[_show_halt(halt) for halt in halts])


@router.post(
    "/retention/halts/{halt_id}/release",
    summary="Release the erasing",
    responses=documented(*WITH_TOKEN, *WITH_JSON, errors.HaltNotFound, errors.AnotherPersonNeeded),
)
async def post_halt_release(
    halt_id: UUID,
    order: ReleaseOrder,
    opened: Opened,
    principal: Annotated[Principal, Depends(Granted(OPERATE))],
) -> bodies.Halt:
    """Say that the erasing may go on. It does once a second person has said so."""
    principal.require_everywhere(OPERATE)
    halt = await release_halt(
        halt_id,
        principal,
        authority=order.authority,
        pool=opened.pool,
        now=opened.now,
        request_id=telemetry.request_id(),
    )
    return _show_halt(halt)


def _show_halt(halt: erasures.Halt) -> bodies.Halt:
    return bodies.Halt(**asdict(halt), is_released=halt.released_at is not None)
