"""`ingest rebuild`: an empty ledger, from the bucket alone."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from ingest_service.actions.rebuild_ledger import (
    RebuildRefused,
    RebuildTools,
    Rebuilt,
    rebuild_ledger,
)
from ingest_service.cli.places import DevOption, open_places
from ingest_service.cli.startup import EXIT_FAILED, EXIT_USAGE, complain
from ingest_service.cli.steps import telling
from ingest_service.domain.clock import utc_now
from ingest_service.domain.note import NoteInvalid, VerifierKey, parse_verifier_key
from ingest_service.errors import IngestError
from ingest_service.signer import list_verifier_keys


def rebuild(
    *,
    keys: Annotated[
        list[str] | None,
        typer.Option("--key", help="A verifier key that the log had; default: the service's own."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the report there.")
    ] = None,
    dev: DevOption = None,
) -> None:
    """Restore clips, events and log into a migrated, empty ledger; a filled one is refused.

    All or nothing: one that breaks off leaves the ledger empty. Stop `ingest serve` and `ingest
    work` before, run `ingest audit` afterwards, and register the stations' keys again: those are
    not in the bucket. Example:

        ingest migrate && ingest rebuild && ingest audit --objects 5%
    """
    try:
        pinned = [parse_verifier_key(text) for text in keys or ()]
    except NoteInvalid as error:
        complain(f"--key: {error}")
        raise typer.Exit(EXIT_USAGE) from error
    try:
        rebuilt = asyncio.run(_rebuild(pinned, dev))
    except RebuildRefused as refused:
        complain(str(refused))
        raise typer.Exit(EXIT_FAILED) from refused
    except IngestError as error:
        complain(f"{error.title} ({error.facts().get('reason', error)}); nothing was written")
        raise typer.Exit(EXIT_FAILED) from error
    if json_file is not None:
        document = {name: getattr(rebuilt, name) for name in Rebuilt.__slots__}
        json_file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    _tell(rebuilt)


async def _rebuild(pinned: list[VerifierKey], dev: Path | None) -> Rebuilt:
    async with open_places(dev) as places:
        own = [parse_verifier_key(key) for key in list_verifier_keys(places.signer)]
        with telling() as tell:
            return await rebuild_ledger(
                RebuildTools(
                    pool=places.pool,
                    vault=places.vault,
                    signer=places.signer,
                    keys=[*own, *[key for key in pinned if key not in own]],
                    now=utc_now,
                    tell=tell,
                    witnesses=places.witnesses,
                )
            )


def _tell(rebuilt: Rebuilt) -> None:
    states = ", ".join(f"{count} {state}" for state, count in sorted(rebuilt.states.items()))
    typer.echo(f"{rebuilt.tree_size} events under {rebuilt.checkpoints} published checkpoints")
    typer.echo(f"{rebuilt.clips} clips: {states or 'none'}")
    if rebuilt.timestamps or rebuilt.cosignatures:
        typer.echo(f"{rebuilt.timestamps} time stamps, {rebuilt.cosignatures} cosignatures")
    if rebuilt.timestamps_lost:
        typer.echo(f"{rebuilt.timestamps_lost} time stamps that events name are not in the bucket")
    if rebuilt.unsigned_leaves:
        typer.echo(
            f"{rebuilt.unsigned_leaves} events were published before their checkpoint: they are "
            "signed anew"
        )
    if rebuilt.assertions_lost:
        typer.echo(
            f"{rebuilt.assertions_lost} assertions are lost: the log holds salted hashes of texts"
        )
    if rebuilt.without_manifest:
        typer.echo(f"{rebuilt.without_manifest} clips had no manifest yet: cameras still hold them")
    typer.echo("The stations' keys are not in the bucket: register them again.")
