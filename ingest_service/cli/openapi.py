"""`ingest openapi`: the API's description, as `schemas/openapi.json` holds it."""

import json

import typer

from ingest_service.app import create_app
from ingest_service.settings import Settings


def openapi() -> None:
    """Print the OpenAPI description of every call; needs no settings and opens nothing.

    Example:
        ingest openapi > schemas/openapi.json
    """
    typer.echo(make_openapi(), nl=False)


def make_openapi() -> str:
    """Return the description as text that is the same for the same code."""
    # Settings are read when the application starts, and this one never does.
    app = create_app(Settings.model_construct())
    return json.dumps(app.openapi(), indent=2, ensure_ascii=False, sort_keys=True) + "\n"
