"""Every refusal of the service.

The family tells the dock what to do next:

Rejected         fix the request; the same again is refused again     4xx
├─ Unauthorized  get a valid token                                    401
├─ Forbidden     stop; this principal may not                         403
├─ NotFound      stop; there is no such thing (for this principal)    404
└─ Conflict      ask for the state, then go on from there             409
Unavailable      send the same again, later                           503 + Retry-After
CustodyBroken    stop; a human is paged                               500

Errors carry facts, never status codes: `api/problems.py` holds the only map to HTTP.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, Final, Literal, Self
from uuid import UUID

# Why something does not exist for somebody: whose it is.
Denial = Literal["another-borough", "another-station", "another-owner"]
ANOTHER_BOROUGH: Final = "another-borough"
ANOTHER_STATION: Final = "another-station"
ANOTHER_OWNER: Final = "another-owner"


@dataclass(eq=False)
class IngestError(Exception):
    """The root; never raised itself."""

    title: ClassVar[str] = "The request failed"
    detail: ClassVar[str] = ""
    remedy: ClassVar[str] = "Ask the operator."

    def __str__(self) -> str:
        return self.detail.format(**self.facts()) if self.detail else self.title

    def facts(self) -> dict[str, object]:
        """Return what is known of the error, by name: members of the problem document."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(eq=False)
class Rejected(IngestError):
    """The request is wrong; the dock fixes it before it sends again.

    denial  why a thing that is there was called unknown. Not a fact: no answer tells it, only the
            security log
    """

    denial = ""

    def hiding(self, denial: Denial | None) -> Self:
        """Note for the security log that the thing is there, but not for who asks; return self."""
        self.denial = denial or ""
        return self


@dataclass(eq=False)
class Unavailable(IngestError):
    """The service cannot now; the dock sends the same again, later. Facts stay inside."""

    remedy: ClassVar[str] = "Send the same request again after Retry-After seconds."


@dataclass(eq=False)
class CustodyBroken(IngestError):
    """What is stored is not what was acknowledged: the dock stops, a human is paged."""

    remedy: ClassVar[str] = "Keep the recording on the camera; an operator has been told."


# --- who is asking -----------------------------------------------------------------------


@dataclass(eq=False)
class Unauthorized(Rejected):
    """No usable token."""

    title: ClassVar[str] = "A valid bearer token is needed"
    detail: ClassVar[str] = "{reason}"
    remedy: ClassVar[str] = "Send 'Authorization: Bearer <token>' with a fresh, valid token."
    reason: str


@dataclass(eq=False)
class TokenExpired(Unauthorized):
    """The token was good once."""

    title: ClassVar[str] = "The token has expired"
    remedy: ClassVar[str] = "Sign or fetch a new token; GET /v1/time tells the server's clock."


@dataclass(eq=False)
class KeyRevoked(Unauthorized):
    """The key that signed the token was revoked."""

    title: ClassVar[str] = "The signing key was revoked"
    remedy: ClassVar[str] = "Stop using this key; ask the operator to register a new one."


@dataclass(eq=False)
class Forbidden(Rejected):
    """A known principal asks for what it may not."""

    title: ClassVar[str] = "Not allowed"
    detail: ClassVar[str] = "this token does not grant '{scope}'"
    remedy: ClassVar[str] = "Stop; use a token that grants the scope named in the detail."
    scope: str


@dataclass(eq=False)
class PurposeRequired(Rejected):
    """Policy wants to know why."""

    title: ClassVar[str] = "A purpose is required"
    detail: ClassVar[str] = "policy wants a purpose for '{scope}'"
    remedy: ClassVar[str] = "Say why in the parameter 'purpose'; it becomes part of the record."
    scope: str


# --- things that are not there -----------------------------------------------------------


@dataclass(eq=False)
class NotFound(Rejected):
    """There is no such thing, or not for this principal."""

    title: ClassVar[str] = "Not found"
    remedy: ClassVar[str] = "Check the identifier; do not retry unchanged."


@dataclass(eq=False)
class RouteNotFound(NotFound):
    """No such path."""

    title: ClassVar[str] = "No such path"
    detail: ClassVar[str] = "{method} {path} is not part of this API"
    method: str
    path: str


@dataclass(eq=False)
class ClipNotFound(NotFound):
    """No clip of that id is visible to this principal."""

    title: ClassVar[str] = "Unknown clip"
    detail: ClassVar[str] = "no clip {clip_id}"
    clip_id: str


@dataclass(eq=False)
class UploadNotFound(NotFound):
    """No upload of that id is visible to this principal."""

    title: ClassVar[str] = "Unknown upload"
    detail: ClassVar[str] = "no upload {upload_id}"
    remedy: ClassVar[str] = "Announce the clip again to learn its upload."
    upload_id: str


@dataclass(eq=False)
class LogPartNotFound(NotFound):
    """The log has no such checkpoint, tile or leaf (yet)."""

    title: ClassVar[str] = "Not in the custody log"
    detail: ClassVar[str] = "{reason}"
    remedy: ClassVar[str] = "Ask /log/checkpoint for the log's size; newer leaves come in a second."
    reason: str


@dataclass(eq=False)
class CursorBeyondLog(Rejected):
    """The consumer has seen events that this log does not have: it followed another one."""

    title: ClassVar[str] = "The cursor is beyond the end of the log"
    detail: ClassVar[str] = "after={after}, and the published log has {log_size} events"
    remedy: ClassVar[str] = (
        "Check that base URL and `source` are those that the cursor came from; do not start over "
        "by yourself: an operator decides."
    )
    after: int
    log_size: int


@dataclass(eq=False)
class WebhookNotFound(NotFound):
    """No webhook of that id is this principal's to manage."""

    title: ClassVar[str] = "Unknown webhook"
    detail: ClassVar[str] = "no webhook {webhook_id}"
    webhook_id: str


@dataclass(eq=False)
class DeadLetterNotFound(NotFound):
    """The webhook took that event, or was never sent it."""

    title: ClassVar[str] = "No such dead letter"
    detail: ClassVar[str] = "webhook {webhook_id} has no dead letter of log index {log_index}"
    remedy: ClassVar[str] = "List its deliveries; events it took are in the feed."
    webhook_id: UUID
    log_index: int


@dataclass(eq=False)
class WebhookUrlRefused(Rejected):
    """Nothing is sent to such an address."""

    title: ClassVar[str] = "Nothing is sent to that URL"
    detail: ClassVar[str] = "{reason}"
    remedy: ClassVar[str] = "Name an https URL of a public host, without user name or fragment."
    reason: str


@dataclass(eq=False)
class TooManyWebhooks(Rejected):
    """There are as many as may be."""

    title: ClassVar[str] = "There are too many webhooks"
    detail: ClassVar[str] = "there may be {webhooks_max} webhooks"
    remedy: ClassVar[str] = "Delete one that nobody needs, or follow the feed."
    webhooks_max: int


@dataclass(eq=False)
class StationNotFound(NotFound):
    """No station of that id is registered."""

    title: ClassVar[str] = "Unknown station"
    detail: ClassVar[str] = "no station {station_id}"
    station_id: str


@dataclass(eq=False)
class NotYetKnown(NotFound):
    """What was believed is asked for a time before the clip was announced."""

    title: ClassVar[str] = "The clip was not known then"
    detail: ClassVar[str] = "clip {clip_id} was announced at {announced_at}"
    remedy: ClassVar[str] = "Ask for a time after the announcement."
    clip_id: UUID
    announced_at: str


@dataclass(eq=False)
class HoldNotFound(NotFound):
    """No hold of that id is visible to this principal."""

    title: ClassVar[str] = "Unknown hold"
    detail: ClassVar[str] = "no hold {hold_id}"
    hold_id: str


@dataclass(eq=False)
class PolicyNotFound(NotFound):
    """No such version of a retention policy."""

    title: ClassVar[str] = "Unknown retention policy"
    detail: ClassVar[str] = "no policy {policy_id}/{version}"
    policy_id: str
    version: int


@dataclass(eq=False)
class HaltNotFound(NotFound):
    """Erasing was never halted under this id."""

    title: ClassVar[str] = "Unknown halt"
    detail: ClassVar[str] = "no halt {halt_id}"
    halt_id: str


@dataclass(eq=False)
class DisclosureNotFound(NotFound):
    """No disclosure of that id is visible to this principal."""

    title: ClassVar[str] = "Unknown disclosure"
    detail: ClassVar[str] = "no disclosure {disclosure_id}"
    disclosure_id: str


@dataclass(eq=False)
class AccessRequestNotFound(NotFound):
    """No subject access request of that id is visible to this principal."""

    title: ClassVar[str] = "Unknown subject access request"
    detail: ClassVar[str] = "no subject access request {access_request_id}"
    access_request_id: str


@dataclass(eq=False)
class LinkUnknown(NotFound):
    """There is no such link; nothing tells how near a guess was."""

    title: ClassVar[str] = "There is no such link"
    detail: ClassVar[str] = "nothing is disclosed by this link"
    remedy: ClassVar[str] = "Check that the whole link was copied; else ask who sent it."


@dataclass(eq=False)
class CertificateNotFound(NotFound):
    """The clip was not erased."""

    title: ClassVar[str] = "There is no erasure certificate"
    detail: ClassVar[str] = "clip {clip_id} is {state}"
    remedy: ClassVar[str] = "Nothing to do: the clip was not erased."
    clip_id: str
    state: str


@dataclass(eq=False)
class UploadGone(Rejected):
    """The upload was here: it expired, was terminated, or lost its stored bytes."""

    title: ClassVar[str] = "The upload is gone"
    detail: ClassVar[str] = "upload {upload_id} is {state}"
    remedy: ClassVar[str] = "Announce the clip again and send it from the first byte."
    upload_id: UUID
    state: str


@dataclass(eq=False)
class ContentGone(Rejected):
    """The clip has no bytes (any more, or yet)."""

    title: ClassVar[str] = "The clip has no content to read"
    detail: ClassVar[str] = "clip {clip_id} is {state}"
    remedy: ClassVar[str] = "Ask for the clip's state; content is readable once it is sealed."
    clip_id: UUID
    state: str


@dataclass(eq=False)
class StationKeyNotFound(NotFound):
    """No station key of that id is registered."""

    title: ClassVar[str] = "Unknown station key"
    detail: ClassVar[str] = "no station key {key_id}"
    remedy: ClassVar[str] = "List the keys; an id is the key's RFC 7638 thumbprint."
    key_id: str


# --- the request does not fit the state --------------------------------------------------


@dataclass(eq=False)
class Conflict(Rejected):
    """The request does not fit what is already recorded."""

    title: ClassVar[str] = "Conflict with what is recorded"
    remedy: ClassVar[str] = "Ask for the current state and go on from there."


@dataclass(eq=False)
class OffsetMismatch(Conflict):
    """The bytes do not start where the upload ends; the dock resumes from expected_offset."""

    title: ClassVar[str] = "Wrong offset"
    detail: ClassVar[str] = (
        "the request starts at {provided_offset}, the upload ends at {expected_offset}"
    )
    remedy: ClassVar[str] = "Resume from expected_offset."
    expected_offset: int
    provided_offset: int


@dataclass(eq=False)
class ChunkConflict(Conflict):
    """Another content is recorded (or being sent) for this chunk index."""

    title: ClassVar[str] = "The chunk was already stored with other content"
    detail: ClassVar[str] = "chunk {index} is held with another digest"
    remedy: ClassVar[str] = "Stop: the recording on the camera is not the one that was announced."
    index: int


@dataclass(eq=False)
class AnnouncementConflict(Conflict):
    """The same identity was announced before, with other content."""

    title: ClassVar[str] = "This recording was announced before with other content"
    detail: ClassVar[str] = "clip {clip_id} holds this identity; it differs in: {differs_in}"
    remedy: ClassVar[str] = "Stop; an operator decides which announcement is right."
    clip_id: UUID
    differs_in: str


@dataclass(eq=False)
class ChunksMissing(Conflict):
    """The clip cannot be sealed: chunks are missing."""

    title: ClassVar[str] = "Chunks are missing"
    detail: ClassVar[str] = "{missing_count} chunks are missing"
    remedy: ClassVar[str] = "Send the chunks in `missing`, then seal again."
    missing_count: int
    missing: list[list[int]]


@dataclass(eq=False)
class SurfaceMismatch(Conflict):
    """An upload begun by one protocol cannot go on by the other."""

    title: ClassVar[str] = "The upload was begun by another protocol"
    detail: ClassVar[str] = "upload {upload_id} goes on by the {surface} protocol"
    remedy: ClassVar[str] = "Go on with the protocol that sent the first byte."
    upload_id: UUID
    surface: str


@dataclass(eq=False)
class UploadClosed(Conflict):
    """Nothing more is written to this upload: it is complete."""

    title: ClassVar[str] = "The upload is complete"
    detail: ClassVar[str] = "upload {upload_id} is {state}"
    remedy: ClassVar[str] = "Send nothing more; ask for the clip's receipt."
    upload_id: UUID
    state: str


@dataclass(eq=False)
class UploadBusy(Conflict):
    """Another request holds the upload, or it is being finished; asking again soon works."""

    title: ClassVar[str] = "The upload is busy"
    detail: ClassVar[str] = "upload {upload_id} is busy: {reason}"
    remedy: ClassVar[str] = "Ask for the offset again in a second."
    upload_id: UUID
    reason: str


@dataclass(eq=False)
class TakenOver(Conflict):
    """A newer request took this upload while this one was sending."""

    title: ClassVar[str] = "A newer request took over this upload"
    detail: ClassVar[str] = "upload {upload_id} was taken over"
    remedy: ClassVar[str] = "Ask for the offset before sending again."
    upload_id: UUID


@dataclass(eq=False)
class ClipBusy(Conflict):
    """Too many wrote to the clip's chain of custody at once; nothing was recorded."""

    title: ClassVar[str] = "The clip is being written to"
    detail: ClassVar[str] = "clip {clip_id} kept changing"
    remedy: ClassVar[str] = "Send the same request again in a second."
    clip_id: UUID


@dataclass(eq=False)
class CorrectionMismatch(Conflict):
    """A correction names what is no assertion of these fields of this clip; nothing changed."""

    title: ClassVar[str] = "There is no such assertion to correct"
    detail: ClassVar[str] = "{assertion_id} is no assertion of the named fields of this clip"
    remedy: ClassVar[str] = "Ask for the clip's assertions; correct one per field at most."
    assertion_id: UUID


@dataclass(eq=False)
class BatchKeyReused(Conflict):
    """The batch's key came with another content before; nothing was recorded."""

    title: ClassVar[str] = "The key stands for another batch"
    detail: ClassVar[str] = "key {key} was used for other items"
    remedy: ClassVar[str] = "Send another batch under a new key."
    key: str


@dataclass(eq=False)
class StationConflict(Conflict):
    """The station is registered already, in another place; clips were recorded under that one."""

    title: ClassVar[str] = "The station is registered in another place"
    detail: ClassVar[str] = "station {station_id} is at site {site_id}, borough {borough}"
    remedy: ClassVar[str] = "Register a station that moved under a new id."
    station_id: str
    site_id: str
    borough: str


@dataclass(eq=False)
class StationKeyConflict(Conflict):
    """The key is registered already, for another station or revoked; nothing was changed."""

    title: ClassVar[str] = "The key cannot be registered"
    detail: ClassVar[str] = "key {key_id} {reason}"
    remedy: ClassVar[str] = "Make a new key; a key belongs to one station and is never revived."
    key_id: str
    reason: str


@dataclass(eq=False)
class AppendToFinal(Rejected):
    """A clip that is joined from partials takes no bytes of its own."""

    title: ClassVar[str] = "This upload is joined from others"
    detail: ClassVar[str] = "upload {upload_id} is a final upload"
    remedy: ClassVar[str] = "Append to the partial uploads, before they are joined."
    upload_id: UUID


@dataclass(eq=False)
class PartialUnusable(Rejected):
    """A final names something that is not a complete partial upload of the same station."""

    title: ClassVar[str] = "A listed upload cannot be joined"
    detail: ClassVar[str] = "{reason}"
    remedy: ClassVar[str] = "List complete partial uploads of your own."
    reason: str


@dataclass(eq=False)
class TerminationRefused(Rejected):
    """Evidence is not deleted by the one who brought it."""

    title: ClassVar[str] = "A complete upload is evidence and cannot be terminated"
    detail: ClassVar[str] = "upload {upload_id} is {state}"
    remedy: ClassVar[str] = "Nothing to do: retention decides when evidence is erased."
    upload_id: UUID
    state: str


@dataclass(eq=False)
class ErasureBegun(Conflict):
    """The intent to delete the clip's bytes is committed: nothing holds or restores it any more."""

    title: ClassVar[str] = "The clip is being erased"
    detail: ClassVar[str] = "the erasure of clip {clip_id} was begun: its state is {state}"
    remedy: ClassVar[str] = "Stop: the bytes are gone or going. GET its certificate."
    clip_id: UUID
    state: str


@dataclass(eq=False)
class NothingToRestore(Conflict):
    """The clip is not about to be erased."""

    title: ClassVar[str] = "The clip is not about to be erased"
    detail: ClassVar[str] = "clip {clip_id} is {state}"
    remedy: ClassVar[str] = "Nothing to do. To keep a clip beyond its date, place a hold."
    clip_id: UUID
    state: str


@dataclass(eq=False)
class HoldReleased(Conflict):
    """Somebody else has released the hold before."""

    title: ClassVar[str] = "The hold was released before"
    detail: ClassVar[str] = "hold {hold_id} was released by {released_by}"
    remedy: ClassVar[str] = "Nothing to do."
    hold_id: UUID
    released_by: str


@dataclass(eq=False)
class HoldNeeded(Conflict):
    """The hold keeps what an open link gives out."""

    title: ClassVar[str] = "An open disclosure needs the hold"
    detail: ClassVar[str] = "hold {hold_id} keeps what disclosure {disclosure_id} gives out"
    remedy: ClassVar[str] = "Revoke the disclosure first, or wait until its link has expired."
    hold_id: UUID
    disclosure_id: UUID


@dataclass(eq=False)
class PreviewOutdated(Conflict):
    """A bulk hold is not what its dry run has counted; nothing was held."""

    title: ClassVar[str] = "The dry run does not hold any more"
    detail: ClassVar[str] = "{reason}"
    remedy: ClassVar[str] = "Make the dry run again, look at its counts, and send its token."
    reason: str


@dataclass(eq=False)
class PolicyConflict(Conflict):
    """Another version of the policy was made, or approved, meanwhile."""

    title: ClassVar[str] = "The policy was changed meanwhile"
    detail: ClassVar[str] = "{policy_id}/{version} {reason}"
    remedy: ClassVar[str] = "GET the policies, and decide again."
    policy_id: str
    version: int
    reason: str


@dataclass(eq=False)
class AnotherPersonNeeded(Rejected):
    """What one person has done is undone, or confirmed, by another one."""

    title: ClassVar[str] = "Another person must do this"
    detail: ClassVar[str] = "{principal} {reason}"
    remedy: ClassVar[str] = "Ask a colleague who holds the same scope."
    principal: str
    reason: str


@dataclass(eq=False)
class HoldTooWide(Rejected):
    """A bulk hold matches every clip, and nobody has confirmed their number; nothing was held."""

    title: ClassVar[str] = "The filter matches every clip"
    detail: ClassVar[str] = "the filter matches all {clip_count} clips"
    remedy: ClassVar[str] = "Narrow the filter, or send confirm_count with exactly that number."
    clip_count: int


@dataclass(eq=False)
class ClipsNotDisclosable(Rejected):
    """Some of the clips cannot be given out, so none was; the first hundred with the reason."""

    title: ClassVar[str] = "Some of the clips cannot be given out"
    detail: ClassVar[str] = "{clip_count} clips are unknown, erased, or not secured yet"
    remedy: ClassVar[str] = "Leave out the clips that are named, or wait until they are secured."
    clip_count: int
    clips: list[dict[str, str]]


@dataclass(eq=False)
class DisclosureTooWide(Rejected):
    """More clips than one disclosure may have; nothing was disclosed."""

    title: ClassVar[str] = "Too many clips at once"
    detail: ClassVar[str] = "at most {clips_max} clips at once"
    remedy: ClassVar[str] = "Narrow the filter, or make several of it."
    clips_max: int


@dataclass(eq=False)
class DisclosureEnded(Conflict):
    """The disclosure was revoked, or its time is over."""

    title: ClassVar[str] = "The disclosure has ended"
    detail: ClassVar[str] = "disclosure {disclosure_id} is {state}"
    remedy: ClassVar[str] = "Nothing to do. To disclose the clips again, make another one."
    disclosure_id: UUID
    state: str


@dataclass(eq=False)
class AccessRequestConflict(Conflict):
    """The subject access request is not in a state for this; nothing was changed."""

    title: ClassVar[str] = "The subject access request does not allow this"
    detail: ClassVar[str] = "{reason}"
    remedy: ClassVar[str] = "GET the request, and decide again."
    reason: str


@dataclass(eq=False)
class DerivativeConflict(Conflict):
    """This derivative is registered, or cannot be one; nothing was changed."""

    title: ClassVar[str] = "That cannot be registered as a derivative"
    detail: ClassVar[str] = "{reason}"
    remedy: ClassVar[str] = "GET the clip: its derivatives are listed there."
    reason: str


@dataclass(eq=False)
class LinkEnded(Rejected):
    """The link opened something once."""

    title: ClassVar[str] = "The link has ended"
    detail: ClassVar[str] = "the disclosure is {state}"
    remedy: ClassVar[str] = "Ask who sent the link for another one."
    state: str


@dataclass(eq=False)
class TermsNotAccepted(Rejected):
    """Nothing is given out before the terms are accepted."""

    title: ClassVar[str] = "The terms were not accepted yet"
    detail: ClassVar[str] = "nobody has accepted the terms of this disclosure"
    remedy: ClassVar[str] = (
        "Open the link and accept the terms, or POST the form fields name and accept=yes to the "
        "link with /accept at its end."
    )


@dataclass(eq=False)
class DisclosureForbids(Rejected):
    """The link does not give that out."""

    title: ClassVar[str] = "The disclosure does not allow this"
    detail: ClassVar[str] = "'{what}' is not part of this disclosure"
    remedy: ClassVar[str] = "Use what the link's page offers, or ask who sent it."
    what: str


@dataclass(eq=False)
class TooManyMisses(Rejected):
    """Too many links that there are not were asked for from one address; nothing was looked up."""

    title: ClassVar[str] = "Too many wrong links"
    detail: ClassVar[str] = "too many links that do not exist were asked for from this address"
    remedy: ClassVar[str] = "Wait for Retry-After seconds, and use the whole link."
    retry_after_s: int


# --- the request is malformed ------------------------------------------------------------


@dataclass(eq=False)
class InvalidRequest(Rejected):
    """Body or parameters are not of the documented shape."""

    title: ClassVar[str] = "The request is not of the documented shape"
    detail: ClassVar[str] = "{reason}"
    remedy: ClassVar[str] = "Fix the fields named in the detail; /openapi.json documents the shape."
    reason: str


@dataclass(eq=False)
class MalformedBody(Rejected):
    """The body cannot be read at all: no JSON, not UTF-8, cut short."""

    title: ClassVar[str] = "The body cannot be read"
    detail: ClassVar[str] = "{reason}"
    remedy: ClassVar[str] = "Send one JSON document in UTF-8."
    reason: str


@dataclass(eq=False)
class MalformedRequest(Rejected):
    """What came is not HTTP/1.1; the connection was closed."""

    title: ClassVar[str] = "This is not HTTP/1.1"
    detail: ClassVar[str] = "{reason}"
    remedy: ClassVar[str] = "Send well-formed HTTP/1.1."
    reason: str


@dataclass(eq=False)
class HeadTooLarge(Rejected):
    """The request line and the headers are larger than any honest ones; nothing was read on."""

    title: ClassVar[str] = "The request's head is too large"
    detail: ClassVar[str] = "at most {bytes_max} bytes in {headers_max} headers are taken"
    remedy: ClassVar[str] = "Send fewer or shorter headers."
    bytes_max: int
    headers_max: int


@dataclass(eq=False)
class InvalidHeader(Rejected):
    """A header is missing or cannot be read."""

    title: ClassVar[str] = "A header is missing or malformed"
    detail: ClassVar[str] = "{header}: {reason}"
    remedy: ClassVar[str] = "Fix the header named in the detail."
    header: str
    reason: str


@dataclass(eq=False)
class InvalidLogRange(Rejected):
    """An index, size or tile of the custody log that cannot be."""

    title: ClassVar[str] = "No such place in the custody log"
    detail: ClassVar[str] = "{reason}"
    remedy: ClassVar[str] = "Ask /log/checkpoint for the log's size and stay inside it."
    reason: str


@dataclass(eq=False)
class InvalidCursor(Rejected):
    """The cursor was not made by this service."""

    title: ClassVar[str] = "The cursor cannot be read"
    detail: ClassVar[str] = "the cursor was not made by this list"
    remedy: ClassVar[str] = "Start again without a cursor."


@dataclass(eq=False)
class UnknownDigestAlgorithm(Rejected):
    """None of the offered digest algorithms is known."""

    title: ClassVar[str] = "Unknown digest algorithm"
    detail: ClassVar[str] = "{offered} is not served; served: {served}"
    remedy: ClassVar[str] = "Send a digest in one of the served algorithms."
    offered: str
    served: str


@dataclass(eq=False)
class UnsupportedContentType(Rejected):
    """The body is not of the type that this path takes."""

    title: ClassVar[str] = "Unsupported content type"
    detail: ClassVar[str] = "this path takes {expected}"
    remedy: ClassVar[str] = "Set Content-Type to the type named in the detail."
    expected: str


@dataclass(eq=False)
class UnsupportedProtocolVersion(Rejected):
    """The tus version is missing or not served."""

    title: ClassVar[str] = "Unsupported tus version"
    detail: ClassVar[str] = "Tus-Resumable must be {served}"
    remedy: ClassVar[str] = "Send 'Tus-Resumable: 1.0.0'."
    served: str


@dataclass(eq=False)
class MethodNotAllowed(Rejected):
    """The path exists, the method does not."""

    title: ClassVar[str] = "Method not allowed"
    detail: ClassVar[str] = "{method} is not allowed here"
    remedy: ClassVar[str] = "Use a method named in the Allow header."
    method: str


@dataclass(eq=False)
class ChunkIndexOutOfRange(Rejected):
    """There is no such chunk in the plan."""

    title: ClassVar[str] = "No such chunk"
    detail: ClassVar[str] = "chunk {index} is outside 0..{last_index}"
    remedy: ClassVar[str] = "Cut the clip by the chunk_bytes of the announcement's answer."
    index: int
    last_index: int


@dataclass(eq=False)
class ChunkMisshapen(Rejected):
    """The body is not as long as the plan says."""

    title: ClassVar[str] = "Wrong chunk length"
    detail: ClassVar[str] = "expected {expected_bytes} bytes, received {received_bytes}"
    remedy: ClassVar[str] = "Send exactly expected_bytes; only the last chunk is short."
    expected_bytes: int
    received_bytes: int


@dataclass(eq=False)
class ChunkCorrupted(Rejected):
    """The bytes do not have the digest that was sent with them; nothing was stored."""

    title: ClassVar[str] = "The bytes do not match their digest"
    detail: ClassVar[str] = "the content differs from its declared SHA-256"
    remedy: ClassVar[str] = "Read the bytes again from the camera and send them again."


@dataclass(eq=False)
class LengthExceeded(Rejected):
    """More bytes than the upload's declared length; nothing beyond it was stored."""

    title: ClassVar[str] = "More bytes than were declared"
    detail: ClassVar[str] = "the upload is {length_bytes} bytes long"
    remedy: ClassVar[str] = "Send no byte beyond the declared length."
    length_bytes: int


@dataclass(eq=False)
class InconsistentLength(Rejected):
    """The request says another length of the upload than was said before; nothing was stored."""

    title: ClassVar[str] = "The length differs from what was declared"
    detail: ClassVar[str] = "{provided_bytes} bytes declared, {expected_bytes} expected"
    remedy: ClassVar[str] = "Declare the same length in every request, or open a new upload."
    expected_bytes: int
    provided_bytes: int


@dataclass(eq=False)
class ChecksumMismatch(Rejected):
    """The body does not have the checksum that came with it; none of it was counted."""

    title: ClassVar[str] = "Checksum Mismatch"
    detail: ClassVar[str] = "the body differs from its {algorithm} checksum"
    remedy: ClassVar[str] = "Send the same bytes again at the same offset."
    algorithm: str


@dataclass(eq=False)
class ClipTooLarge(Rejected):
    """The announced clip is larger than this service takes."""

    title: ClassVar[str] = "The clip is too large"
    detail: ClassVar[str] = "{size_bytes} bytes announced, at most {size_bytes_max} are taken"
    remedy: ClassVar[str] = (
        "Split the recording into segments, or ask the operator to raise the limit."
    )
    size_bytes: int
    size_bytes_max: int


@dataclass(eq=False)
class BodyTooLarge(Rejected):
    """A JSON body or header is larger than any honest one."""

    title: ClassVar[str] = "The request body is too large"
    detail: ClassVar[str] = "at most {bytes_max} bytes are taken here"
    remedy: ClassVar[str] = "Send less; footage belongs into chunks."
    bytes_max: int


@dataclass(eq=False)
class RangeUnsatisfiable(Rejected):
    """The asked-for range lies outside the clip."""

    title: ClassVar[str] = "The range lies outside the clip"
    detail: ClassVar[str] = "the clip is {size_bytes} bytes long"
    remedy: ClassVar[str] = "Ask for a range inside the clip."
    size_bytes: int


@dataclass(eq=False)
class BodyStalled(Rejected):
    """The body stopped arriving, or trickled; what had arrived of a tus upload is kept."""

    title: ClassVar[str] = "The body stopped arriving"
    detail: ClassVar[str] = "no byte for {timeout_s} seconds, or too few"
    remedy: ClassVar[str] = "Ask for the offset, then send the rest."
    timeout_s: float


# --- later ------------------------------------------------------------------------------


@dataclass(eq=False)
class VaultUnavailable(Unavailable):
    """S3 gave up; the write may or may not have happened, and nothing was counted."""

    title: ClassVar[str] = "Evidence storage is not answering"
    reason: str = ""


@dataclass(eq=False)
class ObjectLocked(VaultUnavailable):
    """The store refuses to delete: the version is retained or held; it was not deleted."""

    title: ClassVar[str] = "Evidence storage refuses to delete"


@dataclass(eq=False)
class LedgerUnavailable(Unavailable):
    """Postgres gave up; the statement may or may not have committed."""

    title: ClassVar[str] = "The ledger is not answering"
    reason: str = ""


@dataclass(eq=False)
class LedgerBusy(LedgerUnavailable):
    """Too many wait for the ledger already; nothing was asked of it, and nothing was waited for."""

    title: ClassVar[str] = "The ledger is busy"
    retry_after_s: int = 1


@dataclass(eq=False)
class Overloaded(Unavailable):
    """This process has as much in work as it can finish in time; the request was not read."""

    title: ClassVar[str] = "The service is busy"
    retry_after_s: int


@dataclass(eq=False)
class FeedFull(Unavailable):
    """As many wait for events in this process as may."""

    title: ClassVar[str] = "Too many follow the feed just now"
    remedy: ClassVar[str] = (
        "Poll with wait_s=0, or come back after Retry-After seconds; the cursor stays good."
    )
    seats_max: int


@dataclass(eq=False)
class ShuttingDown(Unavailable):
    """This process is going away; another takes the request."""

    title: ClassVar[str] = "This server is shutting down"


@dataclass(eq=False)
class VaultFull(Unavailable):
    """There is no space left in the evidence storage."""

    title: ClassVar[str] = "Evidence storage is full"
    remedy: ClassVar[str] = "Keep the recording; operators were told. Try again much later."


# --- broken ------------------------------------------------------------------------------


@dataclass(eq=False)
class StoredBytesLost(CustodyBroken):
    """Acknowledged bytes are not in the vault any more."""

    title: ClassVar[str] = "Acknowledged bytes are missing from storage"
    detail: ClassVar[str] = "{reason}"
    reason: str


@dataclass(eq=False)
class LogForked(CustodyBroken):
    """The ledger's log is not the one that was published; nothing is sequenced any more."""

    title: ClassVar[str] = "The custody log differs from what was published"
    detail: ClassVar[str] = "{reason}"
    reason: str


def public_facts(error: IngestError) -> Mapping[str, object]:
    """Return what a caller may see of an error: facts for Rejected, nothing for the others."""
    return error.facts() if isinstance(error, Rejected) else {}
