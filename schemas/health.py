"""What SREs are told of a process."""

from typing import Literal

from pydantic import BaseModel, Field


class CheckResult(BaseModel):
    """One thing that the service leans on."""

    ok: bool
    detail: str = Field(description="What is wrong, or 'ok'.")


class Readiness(BaseModel):
    """Whether this process can do its work now: 200 when every check is ok, else 503."""

    status: Literal["ready", "not ready"]
    checks: dict[str, CheckResult] = Field(
        description="By name: database, migrations, bucket, worker."
    )


class Liveness(BaseModel):
    """The process answers; nothing else was looked at."""

    status: Literal["alive"] = "alive"
