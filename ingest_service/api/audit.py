"""What auditors ask: who did what, with whose data, and who was refused."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from ingest_service import errors, telemetry
from ingest_service.actions import audit_trail
from ingest_service.actions.audit_trail import Pages, record_audit
from ingest_service.actions.find_clips import get_visible_clip
from ingest_service.actions.record_access import record_access
from ingest_service.api.audit_forms import HEADERS, MEDIA_TYPES, Form, write
from ingest_service.api.deps import Granted, Opened
from ingest_service.api.headers import choose_media_type
from ingest_service.api.problems import documented
from ingest_service.domain.custody import Actor, Happening, format_time
from ingest_service.domain.event_types import VERBS, Verb
from ingest_service.domain.principal import AUDIT_READ, Principal
from ingest_service.ledger.connection import reading
from ingest_service.ledger.security import list_security_events
from ingest_service.resources import Resources
from schemas import audit as bodies
from schemas.announcement import Moment

router = APIRouter(prefix="/v1/audit", tags=["audit"])

_PERIOD_DEFAULT: Final = timedelta(days=31)
_PERIOD_MAX: Final = timedelta(days=366)
_SECURITY_PAGE: Final = 500
_INDEX_MAX: Final = 2**63 - 1
_REFUSALS: Final = (
    errors.Unauthorized,
    errors.TokenExpired,
    errors.KeyRevoked,
    errors.Forbidden,
    errors.InvalidRequest,
    errors.PurposeRequired,
    errors.LedgerUnavailable,
)
Name = Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Auditor = Annotated[Principal, Depends(Granted(AUDIT_READ))]


class AuditQuery(BaseModel):
    """In which form, and why."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["json", "csv", "html"] | None = Field(
        default=None, description="Instead of Accept; html is made to be printed."
    )
    purpose: Text | None = Field(default=None, description="Why; policy may want it.")
    justification: Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$")] | None = None


class PeriodQuery(AuditQuery):
    """From when until when, by the time of recording."""

    start: Moment | None = Field(default=None, alias="from", description="Inclusive.")
    stop: Moment | None = Field(default=None, alias="to", description="Exclusive.")


class DataProtectionQuery(PeriodQuery):
    """By verb, person and period; at most 366 days, 31 days until now if nothing is said."""

    verb: list[Verb] = Field(default=[], max_length=6, description="None: all six.")
    actor: Text | None = Field(default=None, description="actor_id")


def _answers() -> dict[int | str, dict[str, Any]]:
    text = {"schema": {"type": "string"}}
    return {
        200: {
            "model": bodies.AuditAnswer,
            "content": {"text/csv": text, "text/html": text},
            "description": "Every event, streamed. An answer that breaks off is not closed.",
        },
        **documented(*_REFUSALS),
    }


class AuditResponse(StreamingResponse):
    """JSON, unless another form is asked for."""

    media_type = "application/json"


@router.get(
    "/clips/{clip_id}",
    summary="Everything that happened to a clip",
    response_class=AuditResponse,
    responses={**_answers(), **documented(*_REFUSALS, errors.ClipNotFound, errors.UploadBusy)},
)
async def get_clip_audit(
    clip_id: UUID,
    query: Annotated[AuditQuery, Query()],
    request: Request,
    opened: Opened,
    principal: Auditor,
) -> StreamingResponse:
    """Answer with a clip's chain of custody, whole. The looking is its last event."""
    opened.purposes.require(AUDIT_READ, query.purpose)
    await get_visible_clip(clip_id, principal, pool=opened.pool)
    asked = {"clip": str(clip_id)}
    viewed = _make_viewed(asked, query, principal)
    await record_access(clip_id, viewed, pool=opened.pool, now=opened.now)
    pages = audit_trail.read_clip_trail(clip_id, pool=opened.pool)
    return _answer(asked, query, pages, request, opened)


@router.get(
    "/people/{actor_id:path}",
    summary="Everything that somebody did",
    response_class=AuditResponse,
    responses=_answers(),
)
async def get_person_audit(
    actor_id: Name,
    query: Annotated[PeriodQuery, Query()],
    request: Request,
    opened: Opened,
    principal: Auditor,
) -> StreamingResponse:
    """Answer with every event whose actor is this person (or service, or station)."""
    asked = {"person": actor_id, **_show_period(query.start, query.stop)}
    await _record(asked, query, principal, opened)
    pages = audit_trail.read_actor_trail(
        actor_id, start=query.start, stop=query.stop, pool=opened.pool
    )
    return _answer(asked, query, pages, request, opened)


@router.get(
    "/devices/{serial:path}",
    summary="Everything that happened to a device",
    response_class=AuditResponse,
    responses=_answers(),
)
async def get_device_audit(
    serial: Name,
    query: Annotated[PeriodQuery, Query()],
    request: Request,
    opened: Opened,
    principal: Auditor,
) -> StreamingResponse:
    """Answer with every event of a camera and of its clips."""
    asked = {"device": serial, **_show_period(query.start, query.stop)}
    await _record(asked, query, principal, opened, device_serial=serial)
    pages = audit_trail.read_device_trail(
        serial, start=query.start, stop=query.stop, pool=opened.pool
    )
    return _answer(asked, query, pages, request, opened)


@router.get(
    "/data-protection",
    summary="The data-protection log",
    response_class=AuditResponse,
    responses=_answers(),
)
async def get_data_protection(
    query: Annotated[DataProtectionQuery, Query()],
    request: Request,
    opened: Opened,
    principal: Auditor,
) -> StreamingResponse:
    """Answer with the log of UK DPA 2018, section 62: six verbs, who, when, why, to whom."""
    stop = query.stop or opened.now()
    start = query.start or _back(stop, _PERIOD_DEFAULT)
    if not timedelta(0) <= stop - start <= _PERIOD_MAX:
        reason = f"from, to: 'to' comes after 'from', at most {_PERIOD_MAX.days} days"
        raise errors.InvalidRequest(reason)
    verbs = sorted(set(query.verb)) or sorted(VERBS)
    asked = {"verbs": verbs, "person": query.actor, **_show_period(start, stop)}
    await _record(asked, query, principal, opened)
    types = [event_type for verb in verbs for event_type in VERBS[verb]]
    pages = audit_trail.read_period_trail(
        types, query.actor, start=start, stop=stop, pool=opened.pool
    )
    return _answer(asked, query, pages, request, opened)


class SecurityQuery(BaseModel):
    """Which refusals."""

    model_config = ConfigDict(extra="forbid")

    principal: Text | None = Field(default=None, description="principal_id")
    start: Moment | None = Field(default=None, alias="from", description="Inclusive.")
    stop: Moment | None = Field(default=None, alias="to", description="Exclusive.")
    after: int = Field(default=0, ge=0, le=_INDEX_MAX, description="security_event_id")
    purpose: Text | None = Field(default=None, description="Why; policy may want it.")
    justification: Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$")] | None = None


@router.get("/security", summary="The security log", responses=documented(*_REFUSALS))
async def get_security(
    query: Annotated[SecurityQuery, Query()], opened: Opened, principal: Auditor
) -> bodies.SecurityPage:
    """List who was refused what; refusals of one principal and route are counted by the minute."""
    asked = {
        "security": True,
        "principal": query.principal,
        **_show_period(query.start, query.stop),
    }
    await _record(asked, query, principal, opened)
    async with reading(opened.pool) as connection:
        found = await list_security_events(
            connection,
            after=query.after,
            principal_id=query.principal,
            start=query.start,
            stop=query.stop,
            limit=_SECURITY_PAGE + 1,
        )
    page = [
        bodies.SecurityEvent.model_validate(event, from_attributes=True)
        for event in found[:_SECURITY_PAGE]
    ]
    return bodies.SecurityPage(
        events=page,
        next_after=page[-1].security_event_id if len(found) > _SECURITY_PAGE else None,
    )


async def _record(
    asked: dict[str, Any],
    query: AuditQuery | SecurityQuery,
    principal: Principal,
    opened: Resources,
    *,
    device_serial: str | None = None,
) -> None:
    """Record that an auditor looks beyond single clips.

    Raises:
        Forbidden: who may see some boroughs only audits their clips, one by one.
        PurposeRequired: policy wants to know why.
    """
    principal.require_everywhere(AUDIT_READ)
    opened.purposes.require(AUDIT_READ, query.purpose)
    viewed = _make_viewed(asked, query, principal)
    await record_audit(viewed, device_serial=device_serial, pool=opened.pool, now=opened.now)


def _make_viewed(
    asked: dict[str, Any], query: AuditQuery | SecurityQuery, principal: Principal
) -> Happening:
    facts = {name: value for name, value in asked.items() if value is not None}
    if query.justification is not None:
        facts["justification"] = query.justification
    return Happening(
        "audit.viewed",
        Actor.of(principal),
        facts,
        purpose=query.purpose,
        request_id=telemetry.request_id(),
    )


def _answer(
    asked: dict[str, Any], query: AuditQuery, pages: Pages, request: Request, opened: Resources
) -> StreamingResponse:
    chosen = choose_media_type(request.headers, list(MEDIA_TYPES.values()))
    by_accept: Form = next(name for name, media in MEDIA_TYPES.items() if media == chosen)
    form = query.format or by_accept
    headers = {
        **HEADERS[form],
        "Vary": "Accept",
        "Cache-Control": "private, no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return AuditResponse(write(form, asked, opened.now(), pages), 200, headers, MEDIA_TYPES[form])


def _show_period(start: datetime | None, stop: datetime | None) -> dict[str, str | None]:
    return {
        "from": None if start is None else format_time(start),
        "to": None if stop is None else format_time(stop),
    }


def _back(moment: datetime, period: timedelta) -> datetime:
    try:
        return moment - period
    except OverflowError:
        return moment
