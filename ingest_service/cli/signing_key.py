"""`ingest make-signing-key`: the key that signs receipts."""

from pathlib import Path
from typing import Annotated

import typer

from ingest_service.cli.startup import EXIT_FAILED, complain
from ingest_service.settings import Settings
from ingest_service.signer import make_signing_key, open_local_signer


def make_key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the private key goes (PEM).")],
    name: Annotated[
        str, typer.Option(help="Name in the verifier key; set INGEST_SIGNING_KEY_NAME to the same.")
    ] = str(Settings.model_fields["signing_key_name"].default),
) -> None:
    """Make the key that signs receipts, and print its verifier key for docks and auditors to pin.

    A file that is there already is never overwritten. Example:

        ingest make-signing-key /etc/ingest/custody.pem --name police.example/custody
    """
    try:
        make_signing_key(file)
        verifier_key = open_local_signer(file, name).verifier_key
    except FileExistsError as error:
        complain(f"{file} exists already; a key is never overwritten")
        raise typer.Exit(EXIT_FAILED) from error
    except (OSError, ValueError) as error:
        complain(f"{file}: {error}")
        raise typer.Exit(EXIT_FAILED) from error
    typer.echo(verifier_key)
