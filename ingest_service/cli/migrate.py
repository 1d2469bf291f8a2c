"""`ingest migrate`: bring the ledger's schema up to date."""

from typing import Annotated

import typer

from ingest_service.cli.startup import EXIT_FAILED, complain
from ingest_service.ledger import migrations


def migrate(
    dsn: Annotated[
        str,
        typer.Option(
            # Not INGEST_*: the service itself must never hold the owner's password.
            envvar="LEDGER_OWNER_DSN",
            show_envvar=True,
            help="Postgres URL of the ledger as its owner, who may create tables and roles. "
            "Without TLS on the server add ?sslmode=disable.",
        ),
    ],
) -> None:
    """Apply the migrations that the ledger does not have yet; repeat it as you like.

    Processes that migrate at once wait for each other. Example:

        LEDGER_OWNER_DSN=postgresql://owner:...@db/ingest ingest migrate
    """
    try:
        applied = migrations.migrate(dsn)
    except migrations.MigrationFailed as error:
        complain(str(error))
        raise typer.Exit(EXIT_FAILED) from error
    for name in applied:
        typer.echo(f"applied {name}")
    typer.echo("the ledger is up to date")
