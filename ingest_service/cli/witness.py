"""`ingest witness`: what a second party runs."""

import time
from pathlib import Path
from typing import Annotated, Final

import typer
import uvicorn

from ingest_service.cli.startup import EXIT_FAILED, EXIT_USAGE, complain
from ingest_service.domain.note import NoteInvalid, parse_verifier_key
from ingest_service.signer import SigningKeyUnusable, make_signing_key, open_local_signer
from ingest_service.telemetry import configure_logging
from ingest_service.witness.app import make_witness_app
from ingest_service.witness.cosign import Witness
from ingest_service.witness.memory import KEY_NAME, Memory, MemoryUnusable, claimed_folder

_DRAIN_S: Final = 5


def witness(
    data: Annotated[
        Path, typer.Option(metavar="DIR", help="Key and memory; made if missing. Never restore it.")
    ],
    name: Annotated[
        str, typer.Option(help="Name in the witness's verifier key, e.g. witness.example.org.")
    ],
    log: Annotated[
        list[str],
        typer.Option(metavar="VKEY", help="Verifier key of a log to watch; repeatable."),
    ],
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to bind.")] = 8090,
) -> None:
    """Cosign the checkpoints of a log, as a party that does not run it.

    It remembers the newest checkpoint of each log and cosigns only what continues it (C2SP
    tlog-witness), so nobody can be shown another history under its name. The first start makes
    its key and prints the verifier key, for the log's settings and for docks to pin. Example:

        ingest witness --data /var/lib/witness --name witness.example.org --log @log.vkey
    """
    try:
        # A witness is a few lines of text a second: one process, and its lock is enough.
        logs = [parse_verifier_key(_read(each)) for each in log]
        with claimed_folder(data):
            key_file = data / KEY_NAME
            if not key_file.exists():
                make_signing_key(key_file)
            signer = open_local_signer(key_file, name)
            cosigner = Witness(logs=logs, signer=signer, memory=Memory(data), now=time.time)
            typer.echo(cosigner.verifier_key)
            configure_logging(form="json", level="info")
            uvicorn.run(
                make_witness_app(cosigner),
                host=host,
                port=port,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=_DRAIN_S,
            )
    except NoteInvalid as error:
        complain(str(error))
        raise typer.Exit(EXIT_USAGE) from error
    except (MemoryUnusable, SigningKeyUnusable, OSError) as error:
        complain(str(error))
        raise typer.Exit(EXIT_FAILED) from error


def _read(key: str) -> str:
    return Path(key[1:]).read_text() if key.startswith("@") else key
