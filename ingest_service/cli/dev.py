"""`ingest dev`: everything on this machine, in one folder."""

from pathlib import Path
from typing import Annotated

import typer

from ingest_service.cli.startup import EXIT_FAILED, complain
from ingest_service.dev.foreign_s3 import ForeignS3
from ingest_service.dev.process import StartFailed
from ingest_service.dev.stack import Detour, run_dev


def dev(
    data: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for everything; made if missing.")
    ] = Path("data"),
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port of the API on 127.0.0.1; 0 = a free one.")
    ] = 8080,
    s3: Annotated[str, typer.Option(hidden=True, metavar="URL")] = "",
    detour: Annotated[
        tuple[int, int] | None, typer.Option(hidden=True, metavar="LEDGER_PORT VAULT_PORT")
    ] = None,
) -> None:
    """Run Postgres, S3, the API and the jobs here; Ctrl-C stops them, data and keys stay.

    DIR/dev.json tells scripts the addresses, the keys, and a bearer token per role. Knobs
    (INGEST_* variables) are passed on. Examples:

        ingest dev

        ingest dev --data /var/tmp/evidence --port 0
    """
    try:
        # For measurements: http://ACCESS_KEY:SECRET_KEY@HOST:PORT/BUCKET, not the embedded store.
        foreign_s3 = ForeignS3(s3) if s3 else None
        # For faults on the way: the API and the jobs reach Postgres and S3 through these ports.
        run_dev(
            data,
            port=port,
            say=typer.echo,
            foreign_s3=foreign_s3,
            detour=None if detour is None else Detour(*detour),
        )
    except StartFailed as error:
        complain(str(error))
        raise typer.Exit(EXIT_FAILED) from error
