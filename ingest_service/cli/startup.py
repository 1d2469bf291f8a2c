"""What starts the service does first: read the settings, or say what is wrong with them."""

from typing import Final

import typer
from pydantic import ValidationError

from ingest_service.settings import PREFIX, Settings, load_settings

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2


def complain(message: str) -> None:
    """Write an error for a person, to standard error."""
    typer.secho(f"error: {message}", err=True, fg=typer.colors.RED)


def require_settings() -> Settings:
    """Return the settings; on bad ones name each variable and what is wrong with it, and exit.

    Values are not shown: some are secrets.

    Raises:
        typer.Exit: with status 2, after the errors were written.
    """
    try:
        return load_settings()
    except ValidationError as error:
        for wrong in error.errors(include_url=False, include_input=False, include_context=False):
            name = PREFIX + "_".join(str(part) for part in wrong["loc"]).upper()
            if not wrong["loc"]:
                # A rule over several settings names them itself.
                complain(wrong["msg"].removeprefix("Value error, "))
            elif wrong["type"] == "missing":
                complain(f"{name} is not set: {_purpose(str(wrong['loc'][0]))}")
            else:
                complain(f"{name}: {wrong['msg']}")
    except ValueError as error:
        complain(str(error))
    raise typer.Exit(EXIT_USAGE)


def _purpose(setting: str) -> str:
    field = Settings.model_fields.get(setting)
    return (field.description if field else None) or "it is needed"
