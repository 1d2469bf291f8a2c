"""The `ingest` command: every way to start the service, and the tools around it."""

import typer

from ingest_service.cli.audit import audit
from ingest_service.cli.demo import demo
from ingest_service.cli.dev import dev
from ingest_service.cli.dock import dock_app
from ingest_service.cli.key import key_app
from ingest_service.cli.migrate import migrate
from ingest_service.cli.openapi import openapi
from ingest_service.cli.rebuild import rebuild
from ingest_service.cli.schemas import schemas
from ingest_service.cli.serve import serve
from ingest_service.cli.settings_table import settings_table
from ingest_service.cli.signing_key import make_key
from ingest_service.cli.station import station_app
from ingest_service.cli.top import top
from ingest_service.cli.verify import verify_app
from ingest_service.cli.witness import witness
from ingest_service.cli.work import work

app = typer.Typer(
    name="ingest",
    help="Evidence ingest for body-worn cameras: from the dock to secured evidence.",
    no_args_is_help=True,
    add_completion=False,
    # A traceback with local variables would show passwords and tokens.
    pretty_exceptions_enable=False,
)
app.command()(dev)
app.command()(serve)
app.command()(work)
app.command()(migrate)
app.command("make-signing-key")(make_key)
app.command()(demo)
app.command()(top)
app.command()(witness)
app.command()(settings_table)
app.command()(openapi)
app.command()(schemas)
app.command()(audit)
app.command()(rebuild)
app.add_typer(key_app)
app.add_typer(dock_app)
app.add_typer(station_app)
app.add_typer(verify_app)


def main() -> None:
    """Run the command line."""
    app(prog_name="ingest")
