"""`ingest key`: change the key that signs the log, without a receipt that stops holding."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from ingest_service.actions.rotate_key import announce_rotation
from ingest_service.cli.places import DevOption, open_places
from ingest_service.cli.startup import EXIT_FAILED, complain
from ingest_service.domain.clock import utc_now
from ingest_service.errors import IngestError
from ingest_service.signer import SigningKeyUnusable, make_signing_key, open_local_signer

key_app = typer.Typer(name="key", no_args_is_help=True, help="The key that signs the custody log.")


@key_app.callback()
def choose() -> None:
    """Change the key that signs the custody log."""


@key_app.command()
def rotate(
    new_file: Annotated[
        Path, typer.Argument(metavar="NEW_KEY", help="Where the new private key goes (PEM).")
    ],
    *,
    dev: DevOption = None,
) -> None:
    """Make the next key, have the log name it, and say what is to be done in which order.

    A file that is there already is taken for the new key, so that the command may be repeated.

    Example:
        ingest key rotate /etc/ingest/custody-2.pem
    """
    try:
        make_signing_key(new_file)
        typer.echo(f"made {new_file}")
    except FileExistsError:
        typer.echo(f"{new_file} is there already: it is taken for the new key")
    except OSError as error:
        complain(f"{new_file}: {error.strerror}")
        raise typer.Exit(EXIT_FAILED) from error
    try:
        old_key, new_key = asyncio.run(_rotate(new_file, dev))
    except (SigningKeyUnusable, ValueError) as error:
        complain(str(error))
        raise typer.Exit(EXIT_FAILED) from error
    except IngestError as error:
        complain(f"{error.title} ({error.facts().get('reason', error)})")
        raise typer.Exit(EXIT_FAILED) from error
    typer.echo(
        f"old: {old_key}\n"
        f"new: {new_key}\n\n"
        f"1. Set INGEST_SIGNING_KEY_SECOND_FILE={new_file} and restart `serve` and `work`:\n"
        "   checkpoints carry both signatures, receipts hold under the old key.\n"
        "2. Publish the new verifier key; let docks, auditors and witnesses pin it.\n"
        f"3. Set INGEST_SIGNING_KEY_FILE={new_file} and INGEST_SIGNING_KEY_SECOND_FILE to the old\n"
        "   file, and restart: receipts hold under the new key, checkpoints under both.\n"
        "4. When nobody pins the old key any more, unset INGEST_SIGNING_KEY_SECOND_FILE and\n"
        "   destroy the old private key. Keep its verifier key: old receipts hold under it."
    )


async def _rotate(new_file: Path, dev: Path | None) -> tuple[str, str]:
    async with open_places(dev) as places:
        old_key = places.signer.verifier_key
        new_key = open_local_signer(new_file, places.signer.name).verifier_key
        await announce_rotation(old_key, new_key, pool=places.pool, now=utc_now)
    return old_key, new_key
