"""Where the tools of the custody log find ledger and bucket: INGEST_* or a running `ingest dev`."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ingest_service.cli.startup import EXIT_USAGE, complain, require_settings
from ingest_service.domain.note import NoteInvalid, VerifierKey, parse_verifier_key
from ingest_service.ledger.connection import Pool, close_pool, open_pool
from ingest_service.notary.witnesses import make_witnesses
from ingest_service.resources import open_vault
from ingest_service.signer import Signer, SigningKeyUnusable, open_local_signer
from ingest_service.vault import Vault

# A statement over ten million events may take minutes.
_STATEMENT_TIMEOUT_S: Final = 3600
_CONNECTIONS_MAX: Final = 4

DevOption = Annotated[
    Path | None,
    typer.Option("--dev", metavar="DATA_FOLDER", help="Of a running `ingest dev`."),
]


@dataclass(frozen=True, slots=True)
class Places:
    """Ledger and bucket, the key of the service itself, and the keys of its witnesses."""

    pool: Pool
    vault: Vault
    signer: Signer
    witnesses: tuple[VerifierKey, ...] = ()


@asynccontextmanager
async def open_places(dev: Path | None) -> AsyncIterator[Places]:
    """Open ledger and bucket with patience for long statements.

    Raises:
        typer.Exit: the settings are not good; they were complained about.
        LedgerUnavailable: Postgres does not answer.
    """
    if dev is not None:
        facts = _read_dev_file(dev)
        dsn = facts["database_url"]
        key_file = Path(facts["log_signing_key_file"])
        key_name = parse_verifier_key(facts["log_verifier_key"]).name
        second_file = None
        witnesses: tuple[VerifierKey, ...] = ()
        opening = open_vault(
            endpoint=facts["s3_endpoint"],
            bucket=facts["bucket"],
            access_key=facts["s3_access_key"],
            secret_key=facts["s3_secret_key"],
        )
    else:
        settings = require_settings()
        dsn = settings.ledger_dsn.get_secret_value()
        key_file, key_name = settings.signing_key_file, settings.signing_key_name
        second_file = settings.signing_key_second_file
        witnesses = _read_witnesses(settings.witnesses, settings.witness_quorum)
        opening = open_vault(
            endpoint=settings.vault_endpoint,
            bucket=settings.vault_bucket,
            access_key=settings.vault_access_key.get_secret_value(),
            secret_key=settings.vault_secret_key.get_secret_value(),
            region=settings.vault_region,
            timeout_s=settings.vault_timeout_s,
            attempts=settings.vault_attempts,
        )
    signer = _open_signer(key_file, key_name, second_file)
    async with AsyncExitStack() as stack:
        pool = await open_pool(
            dsn, connections_max=_CONNECTIONS_MAX, statement_timeout_s=_STATEMENT_TIMEOUT_S
        )
        stack.push_async_callback(close_pool, pool)
        yield Places(pool, await stack.enter_async_context(opening), signer, witnesses)


def _open_signer(file: Path, name: str, second_file: Path | None) -> Signer:
    try:
        return open_local_signer(file, name, second_file)
    except (SigningKeyUnusable, ValueError) as error:
        complain(str(error))
        raise typer.Exit(EXIT_USAGE) from error


def _read_witnesses(setting: str | None, quorum: int) -> tuple[VerifierKey, ...]:
    try:
        return make_witnesses(setting, quorum).policy.keys
    except NoteInvalid as error:
        complain(f"INGEST_WITNESSES: {error}")
        raise typer.Exit(EXIT_USAGE) from error


def _read_dev_file(folder: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((folder / "dev.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        complain(f"{folder} is not the data folder of a running `ingest dev`")
        raise typer.Exit(EXIT_USAGE) from error
    return facts
