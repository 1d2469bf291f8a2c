"""The body of every refusal (RFC 9457)."""

from pydantic import BaseModel, ConfigDict, Field


class Problem(BaseModel):
    """An application/problem+json document; facts of the error follow as further members."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:ingest:problem:chunk-corrupted",
                    "title": "The bytes do not match their digest",
                    "status": 422,
                    "detail": "the content differs from its declared SHA-256",
                    "remedy": "Read the bytes again from the camera and send them again.",
                    "action": "fix",
                    "request_id": "0199c0de5f0a7b7c8d1e2f3a4b5c6d7e",
                }
            ]
        },
    )

    type: str = Field(description="Stable machine name: urn:ingest:problem:<name>.")
    title: str
    status: int
    detail: str | None = None
    remedy: str = Field(description="What to do next, in words.")
    action: str = Field(description="What to do next: 'fix', 'retry' (see Retry-After) or 'stop'.")
    request_id: str | None = None
