"""`ingest schemas`: what outsiders rely on, as JSON Schemas and an AsyncAPI document."""

import json
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from pydantic import BaseModel

from ingest_service import VERSION
from ingest_service.actions.deliver_webhook import CONTENT_TYPE
from ingest_service.domain.event_types import AUDITORS_ONLY, EVENT_TYPES, VERB_OF
from ingest_service.domain.feed import TYPE_PREFIX
from schemas.clip import ClipDetail
from schemas.feed import CloudEvent
from schemas.receipt import Receipt
from schemas.webhook import Webhook

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_MODELS: Final[dict[str, type[BaseModel]]] = {
    "clip": ClipDetail,
    "event": CloudEvent,
    "receipt": Receipt,
    "webhook": Webhook,
}


def schemas(
    folder: Annotated[Path, typer.Argument(help="Where the files go.")] = Path("schemas"),
) -> None:
    """Write the JSON Schemas of clip, event, receipt and webhook, and the AsyncAPI document.

    Needs no settings and opens nothing. Example:

        ingest schemas schemas
    """
    for name, text in make_schemas().items():
        (folder / name).write_text(text, encoding="utf-8")
        typer.echo(folder / name)


def make_schemas() -> dict[str, str]:
    """Return the files by their names; the same code makes the same text."""
    made = {f"{name}.schema.json": make_schema(name) for name in _MODELS}
    return {
        name: json.dumps(document, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
        for name, document in {**made, "asyncapi.json": make_asyncapi()}.items()
    }


def make_schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema of what is answered."""
    return {
        "$schema": _DIALECT,
        "$id": f"urn:ingest:schema:{name}",
        **_MODELS[name].model_json_schema(mode="serialization"),
    }


def make_asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI 3.0 document of the stream and of webhooks."""
    event = CloudEvent.model_json_schema(
        mode="serialization", ref_template="#/components/schemas/{model}"
    )
    event["properties"]["type"]["examples"] = [TYPE_PREFIX + "clip.secured"]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Evidence ingest: feed and webhooks",
            "version": VERSION,
            "description": "Custody events in log order as CloudEvents 1.0. Every event comes at "
            "least once; `source` and `id` together tell repeats.",
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": {
            "stream": {
                "address": "/v1/events/stream",
                "title": "Server-sent events",
                "description": "The `id` of a frame is the log index: Last-Event-ID resumes. The "
                "same events come by page and long poll from GET /v1/events (OpenAPI).",
                "messages": {"event": {"$ref": "#/components/messages/event"}},
                "bindings": {"http": {"bindingVersion": "0.3.0"}},
            },
            "webhook": {
                "address": None,
                "title": "Your URL",
                "description": "A POST for each event, signed after Standard Webhooks; any 2xx "
                "takes it, 410 ends it, Retry-After of 429 and 503 is heeded.",
                "messages": {"signedEvent": {"$ref": "#/components/messages/signedEvent"}},
            },
        },
        "operations": {
            "streamEvents": {
                "action": "send",
                "channel": {"$ref": "#/channels/stream"},
                "messages": [{"$ref": "#/channels/stream/messages/event"}],
                "security": [{"$ref": "#/components/securitySchemes/bearer"}],
                "bindings": {"http": {"method": "GET", "bindingVersion": "0.3.0"}},
            },
            "deliverWebhook": {
                "action": "send",
                "channel": {"$ref": "#/channels/webhook"},
                "messages": [{"$ref": "#/channels/webhook/messages/signedEvent"}],
                "bindings": {"http": {"method": "POST", "bindingVersion": "0.3.0"}},
            },
        },
        "components": {
            "messages": {
                "event": {
                    "name": "event",
                    "title": "A custody event",
                    "contentType": CONTENT_TYPE,
                    "payload": {"$ref": "#/components/schemas/CloudEvent"},
                },
                "signedEvent": {
                    "name": "signedEvent",
                    "title": "A custody event, signed",
                    "contentType": CONTENT_TYPE,
                    "headers": {"$ref": "#/components/schemas/WebhookHeaders"},
                    "payload": {"$ref": "#/components/schemas/CloudEvent"},
                },
            },
            "schemas": {
                "CloudEvent": event,
                "WebhookHeaders": {
                    "type": "object",
                    "required": ["webhook-id", "webhook-timestamp", "webhook-signature"],
                    "properties": {
                        "webhook-id": {
                            "type": "string",
                            "description": "The event's id: the same in every attempt.",
                        },
                        "webhook-timestamp": {
                            "type": "string",
                            "pattern": "^[0-9]+$",
                            "description": "Seconds of Unix time, of this attempt.",
                        },
                        "webhook-signature": {
                            "type": "string",
                            "description": "`v1,<base64>` of HMAC-SHA256 over "
                            "`<webhook-id>.<webhook-timestamp>.<body>`; several, separated by "
                            "spaces, while the secret is changed.",
                        },
                    },
                },
            },
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "Scope events:read.",
                }
            },
        },
        "x-event-types": {
            TYPE_PREFIX + name: VERB_OF.get(name) for name in sorted(EVENT_TYPES - AUDITORS_ONLY)
        },
    }
