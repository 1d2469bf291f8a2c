"""What tus and IETF uploads share: a request's body on its way into an upload."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from fastapi import Request
from starlette.datastructures import Headers

from ingest_service import telemetry
from ingest_service.actions.announce_clip import Announced
from ingest_service.actions.append_bytes import Completion, append_bytes
from ingest_service.actions.finish_upload import wait_until_finished
from ingest_service.actions.store_whole import store_whole
from ingest_service.api.body import receiving
from ingest_service.api.headers import parse_integer
from ingest_service.domain.checksum import BodyCheck
from ingest_service.domain.principal import Principal
from ingest_service.domain.upload import Upload
from ingest_service.errors import (
    LengthExceeded,
    OffsetMismatch,
    StoredBytesLost,
    UploadBusy,
    UploadClosed,
    UploadNotFound,
)
from ingest_service.resources import Resources

CLIP_ID: Final = "Ingest-Clip-Id"
RECEIPT_AFTER: Final = "Ingest-Receipt-After"


@dataclass(frozen=True, slots=True)
class Sent:
    """What the headers of a request say about its body.

    body_bytes     None when it comes in chunked coding
    upload_length  of the whole upload, where this request declares it
    """

    offset_bytes: int
    body_bytes: int | None
    upload_length: int | None = None
    completion: Completion = "when_full"
    check: BodyCheck | None = None
    surface: str = "tus"
    progress: Callable[[int], None] | None = None


async def receive_bytes(
    request: Request,
    upload_id: UUID,
    sent: Sent,
    opened: Resources,
    principal: Principal,
    *,
    was_let_in: bool = False,
) -> Upload:
    """Append the body of a request and return the upload as it stands then.

    was_let_in  the request has opened the upload, and `refuse_crowd` was asked before

    Raises:
        ClientDisconnect, and whatever `append_bytes` and `finish` raise.
    """
    telemetry.add_fields(upload_id=str(upload_id))
    try:
        with receiving(
            request, opened, principal.id, upload_id=upload_id, was_let_in=was_let_in
        ) as body:
            upload = await append_bytes(
                upload_id,
                principal.id,
                sent.offset_bytes,
                sent.body_bytes,
                body,
                pool=opened.pool,
                vault=opened.vault,
                holders=opened.holders,
                budget=opened.budget,
                rules=opened.rules,
                now=opened.now,
                upload_length=sent.upload_length,
                completion=sent.completion,
                check=sent.check,
                progress=sent.progress,
                place=body.place,
            )
    except (UploadClosed, UploadBusy) as closed:
        upload = await _answer_repeat(upload_id, sent, opened, closed)
    telemetry.CHUNK_BYTES.labels(sent.surface).inc(upload.offset_bytes - sent.offset_bytes)
    if upload.state == "finishing":
        return await finish(upload_id, opened)
    return upload


async def receive_whole(request: Request, announced: Announced, opened: Resources) -> Upload:
    """Store the body of a request as the whole of the clip that the request opened.

    Raises:
        ClientDisconnect, and whatever `store_whole` raises.
    """
    station_id = announced.upload.station_id
    with receiving(request, opened, station_id, was_let_in=True) as body:
        if body.place is not None:
            body.place.name_device(announced.clip.device_serial, announced.upload.upload_id)
        upload = await store_whole(
            announced,
            body,
            pool=opened.pool,
            vault=opened.vault,
            holders=opened.holders,
            budget=opened.budget,
            rules=opened.rules,
            now=opened.now,
        )
    telemetry.CHUNK_BYTES.labels("tus").inc(upload.offset_bytes)
    telemetry.UPLOADS_FINISHED.inc()
    return upload


async def _answer_repeat(
    upload_id: UUID, sent: Sent, opened: Resources, closed: UploadClosed | UploadBusy
) -> Upload:
    """An empty append at the end of a complete upload is a repeat: it drives the finishing on."""
    upload = await wait_until_finished(
        upload_id, pool=opened.pool, vault=opened.vault, now=opened.now, wait_s=0
    )
    is_empty = sent.body_bytes == 0 and sent.completion != "not_yet"
    if is_empty and sent.offset_bytes == upload.offset_bytes == upload.length_bytes:
        return upload
    if upload.offset_bytes != sent.offset_bytes:
        raise OffsetMismatch(upload.offset_bytes, sent.offset_bytes) from closed
    if isinstance(closed, UploadClosed) and sent.body_bytes:
        raise LengthExceeded(upload.length_bytes or 0) from closed
    raise closed


async def finish(upload_id: UUID, opened: Resources) -> Upload:
    """Wait until the object is whole: only then is the last byte acknowledged.

    Raises:
        UploadBusy: it takes longer. StoredBytesLost: what was acknowledged is gone.
    """
    upload = await wait_until_finished(
        upload_id,
        pool=opened.pool,
        vault=opened.vault,
        now=opened.now,
        wait_s=opened.rules.finish_wait_s,
    )
    if upload.state == "finishing":
        raise UploadBusy(upload_id, "being finished")
    if upload.state == "failed":
        reason = f"upload {upload_id} lost stored bytes"
        raise StoredBytesLost(reason)
    telemetry.UPLOADS_FINISHED.inc()
    return upload


def name_clip(upload: Upload) -> dict[str, str]:
    """Return the field that names an upload's clip; its receipt is `/v1/clips/{id}/receipt`.

    The line of the request names it too.
    """
    if upload.clip_id is None:
        return {}
    telemetry.add_fields(clip_id=str(upload.clip_id))
    return {CLIP_ID: str(upload.clip_id)}


def tell_receipt_time(upload: Upload, opened: Resources) -> dict[str, str]:
    """Return the field that says after how many seconds to ask for the receipt; none: ask at once.

    Only of a complete upload: who asks too early asks twice.
    """
    if upload.state != "finished" or upload.clip_id is None:
        return {}
    wait_s = opened.lag.choose_first_wait()
    return {RECEIPT_AFTER: str(wait_s)} if wait_s else {}


def content_type(request: Request) -> str:
    """Return the media type of the body without its parameters."""
    return request.headers.get("content-type", "").split(";", 1)[0].strip().lower()


def body_length(request: Request) -> int | None:
    """Return the announced length of the body; None when it comes in chunked coding."""
    if request.headers.get("transfer-encoding") is not None:
        return None
    if request.headers.get("content-length") is None:
        return 0
    return parse_integer(request.headers, "Content-Length")


def announces_trailer(request: Request, name: str) -> bool:
    """Tell whether a field is to come behind the body (RFC 9110, section 6.6.2)."""
    announced = request.headers.get("trailer", "").lower().split(",")
    return body_length(request) is None and name.lower() in {each.strip() for each in announced}


def find_trailer(request: Request, name: str) -> str | None:
    """Return a field of the trailer section, once the body is read to its end."""
    wire = (request.scope.get("extensions") or {}).get("ingest.wire", {})
    return Headers(raw=list(wire.get("trailers", ()))).get(name)


def parse_id(upload_id: str) -> UUID:
    """Return the id of an upload's URL.

    Raises:
        UploadNotFound: no upload has such a name.
    """
    try:
        return UUID(upload_id)
    except ValueError:
        raise UploadNotFound(upload_id[:64]) from None
