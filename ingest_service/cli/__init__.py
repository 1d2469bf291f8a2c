"""The `ingest` command: every way to start the service, and the tools around it."""

from importlib import import_module
from typing import Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

# The module of each command and its name there, in the order of the help.
_COMMANDS: Final = {
    "dev": ("dev", "dev"),
    "serve": ("serve", "serve"),
    "work": ("work", "work"),
    "migrate": ("migrate", "migrate"),
    "make-signing-key": ("signing_key", "make_key"),
    "demo": ("demo", "demo"),
    "top": ("top", "top"),
    "witness": ("witness", "witness"),
    "settings-table": ("settings_table", "settings_table"),
    "openapi": ("openapi", "openapi"),
    "schemas": ("schemas", "schemas"),
    "audit": ("audit", "audit"),
    "rebuild": ("rebuild", "rebuild"),
    "key": ("key", "key_app"),
    "dock": ("dock", "dock_app"),
    "station": ("station", "station_app"),
    "verify": ("verify", "verify_app"),
}


class _OnDemand(TyperGroup):
    """Imports a command when it is asked for: `ingest verify` does not wait for a server's code.

    All of them take 2 s of CPU, those that are no server a quarter of that.
    """

    def list_commands(self, ctx: object) -> list[str]:
        """Name every command, in the order of the help."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: object, cmd_name: str) -> TyperCommand | TyperGroup | None:
        """Import one command; None when there is none of that name."""
        del ctx
        if cmd_name not in _COMMANDS:
            # Who mistyped is told what is near: that asks for all there are.
            self.commands.update({name: _import(name) for name in _COMMANDS})
            return None
        return _import(cmd_name)


def _import(name: str) -> TyperCommand | TyperGroup:
    module, attribute = _COMMANDS[name]
    found = getattr(import_module(f"{__name__}.{module}"), attribute)
    holder = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    if isinstance(found, typer.Typer):
        holder.add_typer(found, name=name)
    else:
        holder.command(name)(found)
    command = get_group(holder).commands[name]
    assert isinstance(command, TyperCommand | TyperGroup)  # noqa: S101 - Typer makes no other
    return command


app = typer.Typer(
    name="ingest",
    cls=_OnDemand,
    help="Evidence ingest for body-worn cameras: from the dock to secured evidence.",
    no_args_is_help=True,
    add_completion=False,
    # A traceback with local variables would show passwords and tokens.
    pretty_exceptions_enable=False,
)


@app.callback()
def choose() -> None:
    """Run one of the commands."""


def main() -> None:
    """Run the command line."""
    app(prog_name="ingest")
