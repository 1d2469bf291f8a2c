"""The release receipt: only with it may a camera erase a clip."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from schemas.announcement import Count, Sha256Hex


class Receipt(BaseModel):
    r"""That the clip was read back from storage, and that the log says so for ever.

    `leaf` is the exact text of the clip's `clip.secured` custody event (RFC 8785 JSON), `proof`
    shows it in the custody log: both together are the receipt. The signature beside them repeats
    the leaf under the same key (Ed25519 over b"ingest release receipt v1\n" and the leaf's UTF-8
    bytes) for docks that do not know the log yet; alone it does not prove that the log has it.
    """

    leaf: str
    log_index: int = Field(description="Where in the log the leaf stands; the proof says so, too.")
    proof: str = Field(
        description="C2SP tlog-proof@v1 text: index, audit path, published checkpoint."
    )
    key_name: str = Field(description="Name in the verifier key (C2SP signed-note).")
    key_id: str = Field(description="8 hex digits, as in the verifier key.")
    signature: str = Field(description="Ed25519 signature, base64.")


class SecuredFacts(BaseModel):
    """Member `facts` of the leaf: what was stored and read back."""

    model_config = ConfigDict(extra="allow")

    clip_id: UUID
    device_serial: str
    recording_id: str
    segment_no: int
    size_bytes: Count
    sha256: Sha256Hex = Field(description="Of the bytes as received.")
    sha256_readback: Sha256Hex = Field(description="Of the bytes as read back from storage.")
    bucket: str
    object_key: str
    object_version: str | None
    announced_at: datetime
    sealed_at: datetime
    secured_at: datetime


class PendingReceipt(BaseModel):
    """Ask again after Retry-After seconds.

    The clip is not secured yet or, if `state` is `secured`, its proof is not published yet.
    """

    clip_id: UUID
    state: str
