"""Derivatives: what was made from a clip, such as a redacted copy."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
    model_validator,
)

from schemas.announcement import Sha256Hex
from schemas.hold import Reference

DerivativeKind = Literal["redaction", "excerpt", "transcode", "enhancement", "other"]
# What every JSON parser reads back as the same number (RFC 7493, section 2.2).
_INTEGER_MAX = 2**53 - 1
ParameterName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
ParameterText = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\x00]*$")]
ParameterNumber = Annotated[StrictInt, Field(ge=-_INTEGER_MAX, le=_INTEGER_MAX)]


class DerivativeOrder(BaseModel):
    """What was made, from which bytes, how and by whom."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "derivative_clip_id": "0199c0de-5f0a-7b7c-8d1e-2f3a4b5c6d7e",
                    "kind": "redaction",
                    "tool": "blur 4.2",
                    "parameters": {"faces": True, "radius_px": 24},
                    "made_by": "P1042",
                }
            ]
        },
    )

    derivative_clip_id: UUID | None = Field(
        default=None, description="The clip as which it was brought in; or sha256 and size_bytes."
    )
    sha256: Sha256Hex | None = None
    size_bytes: int | None = Field(default=None, ge=0, le=2**63 - 1)
    kind: DerivativeKind
    tool: Reference = Field(description="Name and version.")
    parameters: dict[ParameterName, StrictBool | ParameterNumber | ParameterText] = Field(
        default={},
        max_length=50,
        description="What the tool was told; in the custody log only a salted hash of them.",
    )
    made_by: Reference = Field(description="Pseudonymous. Recorded for ever: no names.")

    @model_validator(mode="after")
    def _has_one_content(self) -> Self:
        is_hashed = self.sha256 is not None and self.size_bytes is not None
        is_partial = (self.sha256 is None) != (self.size_bytes is None)
        if is_partial or (self.derivative_clip_id is not None) == is_hashed:
            message = "name derivative_clip_id, or sha256 and size_bytes"
            raise ValueError(message)
        return self


class Derivative(BaseModel):
    """One derivative, with the clip that it was made from."""

    derivative_id: UUID
    master_clip_id: UUID
    master_sha256: Sha256Hex
    derivative_clip_id: UUID | None
    sha256: Sha256Hex
    size_bytes: int
    kind: DerivativeKind
    tool: str
    parameters: dict[str, bool | int | str]
    made_by: str
    registered_by: str
    registered_at: datetime
