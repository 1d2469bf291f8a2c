"""Proofs from the custody log."""

from pydantic import BaseModel, Field


class LogProof(BaseModel):
    """That an event is in the log."""

    log_index: int
    leaf: str = Field(description="The event's exact bytes, as text: what is hashed and logged.")
    proof: str = Field(description="C2SP tlog-proof@v1 text: index, audit path, checkpoint.")


class GrowthProof(BaseModel):
    """That an older log is a prefix of a newer one (RFC 6962, section 2.1.2)."""

    old_size: int
    new_size: int
    path: list[str] = Field(description="Hashes, base64.")
