"""Webhooks: who is told of which events, and what it did not take."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from schemas.announcement import Identifier, ShortText

Url = Annotated[str, Field(min_length=1, max_length=2000)]
Types = Annotated[list[Annotated[str, Field(max_length=100)]], Field(min_length=1, max_length=50)]
Boroughs = Annotated[list[Identifier], Field(min_length=1, max_length=50)]
Index = Annotated[int, Field(ge=-1, le=2**63 - 2)]


class NewWebhook(BaseModel):
    """What is to be sent where."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "url": "https://cases.example.org/hooks/evidence",
                    "types": ["clip.secured", "erase.executed"],
                    "boroughs": ["Camden"],
                    "description": "Case management",
                }
            ]
        },
    )

    url: Url = Field(description="https, and not into the service's own network.")
    types: Types | None = Field(default=None, description="Types of events; null: all.")
    boroughs: Boroughs | None = Field(default=None, description="null: all that you may see.")
    description: ShortText = ""
    after: Index | None = Field(
        default=None, description="Log index to begin after; -1: all there is; null: from now on."
    )


class WebhookChange(BaseModel):
    """Members that are given are changed; null takes a filter away."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"state": "active"}]})

    url: Url | None = None
    types: Types | None = None
    boroughs: Boroughs | None = None
    description: ShortText | None = None
    state: Literal["active", "paused"] | None = Field(
        default=None, description="'active' also wakes a webhook that was disabled."
    )


class Webhook(BaseModel):
    """Who is told of which events, and how far it was told."""

    webhook_id: UUID
    url: str
    description: str
    owner_id: str
    types: list[str] | None
    boroughs: list[str] | None
    state: Literal["active", "paused", "disabled"]
    state_reason: str | None
    created_at: datetime
    next_index: int = Field(description="The first log index that was not dealt with.")
    lag_events: int = Field(description="Events of the log that were not looked at yet.")
    attempts: int = Field(description="Failed attempts at the next event.")
    next_attempt_at: datetime
    last_delivered_at: datetime | None
    last_failure: str | None


class CreatedWebhook(Webhook):
    """A webhook with its secret, which is shown this once."""

    secret: str = Field(description="whsec_<base64>: the key of the HMAC-SHA256 signatures.")


class WebhookSecret(BaseModel):
    """The new secret, shown this once; the old one signs too until then."""

    secret: str
    old_secret_until: datetime


class WebhookList(BaseModel):
    """The webhooks that you may manage."""

    webhooks: list[Webhook]


class DeadLetter(BaseModel):
    """An event that a webhook did not take in as many attempts as it has."""

    log_index: int
    event_id: UUID
    state: Literal["dead", "requested", "delivered"]
    attempts: int
    last_failure: str
    dead_at: datetime
    delivered_at: datetime | None


class DeadLetterPage(BaseModel):
    """Dead letters in log order."""

    deliveries: list[DeadLetter]
    next_after: int | None = Field(description="Pass as `after` for the next page; null: the end.")
