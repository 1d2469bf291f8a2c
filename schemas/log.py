"""Proofs from the custody log."""

from datetime import datetime

from pydantic import BaseModel, Field


class LogProof(BaseModel):
    """That an event is in the log."""

    log_index: int
    leaf: str = Field(description="The event's exact bytes, as text: what is hashed and logged.")
    proof: str = Field(description="C2SP tlog-proof@v1 text: index, audit path, checkpoint.")


class Timestamp(BaseModel):
    """A time authority's word that a checkpoint existed at a time (RFC 3161)."""

    tree_size: int
    checkpoint: str = Field(
        description="The signed note; what stands before the empty line is stamped."
    )
    token: str = Field(description="The authority's answer (TimeStampResp, DER), base64.")
    gen_time: datetime = Field(description="The time in the token.")


class GrowthProof(BaseModel):
    """That an older log is a prefix of a newer one (RFC 6962, section 2.1.2)."""

    old_size: int
    new_size: int
    path: list[str] = Field(description="Hashes, base64.")
