"""The erasure certificate: what was erased, by which rule, and that no hold stood against it."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from schemas.announcement import Count, Sha256Hex
from schemas.receipt import Receipt


class ErasureCertificate(Receipt):
    r"""That a clip's bytes were deleted, and that the log says so for ever.

    As a receipt, but `leaf` is the clip's `erase.executed` event, and the signature is over
    b"ingest erasure certificate v1\n" and the leaf's UTF-8 bytes. It holds nothing of the content.
    """


class ErasedFacts(BaseModel):
    """Member `facts` of the leaf: what was erased, and why."""

    model_config = ConfigDict(extra="allow")

    clip_id: UUID
    device_serial: str
    size_bytes: Count
    sha256: Sha256Hex
    bucket: str
    object_key: str
    object_version: str | None
    policy: str = Field(description="Policy and version of the rule that won.")
    reason: str
    inputs: dict[str, Any] = Field(description="What the date was computed from.")
    erase_due_at: datetime
    no_hold_existed_at: datetime = Field(
        description="When the clip's row was locked, its holds were looked at, and there was none."
    )
    intended_leaf_hash: Sha256Hex = Field(
        description="Of the clip's `erase.intended` event, which the log held before the deletion."
    )
    erased_at: datetime


class PendingCertificate(BaseModel):
    """Ask again after Retry-After seconds: the erasure's proof is not published yet."""

    clip_id: UUID
    state: str
