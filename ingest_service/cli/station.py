"""`ingest station`: which stations may upload, and with which keys."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ingest_service.actions.list_stations import ListedStation, list_stations
from ingest_service.actions.register_station import register_station
from ingest_service.actions.register_station_key import register_station_key
from ingest_service.actions.revoke_station_key import revoke_station_key
from ingest_service.cli.startup import EXIT_FAILED, EXIT_USAGE, complain
from ingest_service.domain.clock import utc_now
from ingest_service.domain.token import (
    import_signing_key,
    read_key_file,
    sign_station_token,
)
from ingest_service.errors import IngestError, InvalidRequest
from ingest_service.ledger.connection import Pool, open_pool
from ingest_service.ledger.stations import Station, StationKey
from ingest_service.signer import make_signing_key

Result = TypeVar("Result")

_STATEMENT_TIMEOUT_S: Final = 10
_KEY_FILE_BYTES_MAX: Final = 64 * 1024
# The longest that the service takes unless it is told otherwise.
_TOKEN_MINUTES: Final = 60
_HEADINGS: Final = ("station", "site", "borough", "key", "registered", "revoked")

station_app = typer.Typer(
    name="station",
    no_args_is_help=True,
    help="Stations: register them, and register and revoke the keys they sign with.",
)

StationArgument = Annotated[str, typer.Argument(metavar="STATION_ID", show_default=False)]
KeyFileOption = Annotated[
    Path | None,
    typer.Option(help="The station's key: JWK or PEM, Ed25519 or P-256; its public half is used."),
]
MakeKeyOption = Annotated[
    Path | None,
    typer.Option(
        metavar="PATH",
        help="Make a new Ed25519 key and write its private half here, for its owner only.",
    ),
]
DsnOption = Annotated[
    str | None,
    typer.Option(envvar="INGEST_LEDGER_DSN", show_envvar=True, help="Postgres URL of the ledger."),
]
DevOption = Annotated[
    Path | None,
    typer.Option("--dev", metavar="DATA_FOLDER", help="Take the ledger of a running `ingest dev`."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON, for scripts.")]


@station_app.command()
def register(
    station_id: StationArgument,
    site: Annotated[str, typer.Option(help="The building it stands in.")],
    borough: Annotated[str, typer.Option(help="Whose clips these are; limits who sees them.")],
    *,
    key_file: KeyFileOption = None,
    make_key: MakeKeyOption = None,
    dsn: DsnOption = None,
    dev: DevOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register a station with its first key; the same again changes nothing.

    Example:
        ingest station register dock-1 --site south --borough Croydon --make-key dock-1.pem
    """
    station = Station(station_id, site, borough)
    _admit_key(
        lambda jwk, pool: register_station(station, jwk, pool=pool),
        key_file=key_file,
        make_key=make_key,
        dsn=_find_dsn(dsn, dev),
        as_json=as_json,
    )


@station_app.command()
def add_key(
    station_id: StationArgument,
    *,
    key_file: KeyFileOption = None,
    make_key: MakeKeyOption = None,
    dsn: DsnOption = None,
    dev: DevOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register one more key of a station: add the new one, move over, revoke the old one."""
    _admit_key(
        lambda jwk, pool: register_station_key(station_id, jwk, pool=pool),
        key_file=key_file,
        make_key=make_key,
        dsn=_find_dsn(dsn, dev),
        as_json=as_json,
    )


# One id in 64 begins with a dash.
@station_app.command(context_settings={"ignore_unknown_options": True})
def revoke_key(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="As `ingest station list` says.")],
    *,
    dsn: DsnOption = None,
    dev: DevOption = None,
    as_json: JsonOption = False,
) -> None:
    """Revoke a key, for ever: its tokens are refused everywhere within five seconds."""
    key = _run(_find_dsn(dsn, dev), lambda pool: revoke_station_key(key_id, pool=pool))
    _show_key(key, as_json=as_json)


@station_app.command()
def token(
    station_id: StationArgument,
    key_file: Annotated[Path, typer.Option(help="The station's private key (PEM).")],
    *,
    minutes: Annotated[
        int, typer.Option(min=1, max=24 * 60, help="How long it is good for.")
    ] = _TOKEN_MINUTES,
) -> None:
    """Print a token of the station, for a person who uploads by hand on the page /upload.

    The service takes none that lives longer than INGEST_STATION_TOKEN_LIFETIME_MAX_S. Example:

        ingest station token dock-1 --key-file dock-1.pem
    """
    try:
        key = import_signing_key(_read_file(key_file))
    except InvalidRequest as error:
        complain(f"{key_file}: {error}")
        raise typer.Exit(EXIT_USAGE) from error
    lifetime = timedelta(minutes=minutes)
    typer.echo(sign_station_token(key, station_id, now=utc_now(), lifetime=lifetime))


@station_app.command("list")
def show_stations(
    *, dsn: DsnOption = None, dev: DevOption = None, as_json: JsonOption = False
) -> None:
    """List the stations and their keys, the revoked ones included."""
    stations = _run(_find_dsn(dsn, dev), lambda pool: list_stations(pool=pool))
    if as_json:
        typer.echo(json.dumps([_describe_station(listed) for listed in stations], indent=2))
        return
    _show_rows([row for listed in stations for row in _make_rows(listed)])


def _admit_key(
    admit: Callable[[dict[str, Any], Pool], Awaitable[StationKey]],
    *,
    key_file: Path | None,
    make_key: Path | None,
    dsn: str,
    as_json: bool,
) -> None:
    """Register the key that was given or is made now, and show what is recorded."""
    if (key_file is None) == (make_key is None):
        complain("name the key: either --key-file or --make-key")
        raise typer.Exit(EXIT_USAGE)
    if make_key is not None:
        _make_key(make_key)
    try:
        jwk = _read_key(make_key or key_file or Path())
        key = _run(dsn, lambda pool: admit(jwk, pool))
    except typer.Exit:
        if make_key is not None:
            # Nobody knows this key: it would only be in the way of the next try.
            make_key.unlink(missing_ok=True)
        raise
    _show_key(key, as_json=as_json)


def _make_key(path: Path) -> None:
    try:
        make_signing_key(path)
    except FileExistsError as error:
        complain(f"{path} is there already; a key is never overwritten")
        raise typer.Exit(EXIT_USAGE) from error
    except OSError as error:
        complain(f"cannot write {path}: {error.strerror}")
        raise typer.Exit(EXIT_USAGE) from error


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_KEY_FILE_BYTES_MAX)
    except OSError as error:
        complain(f"cannot read {path}: {error.strerror}")
        raise typer.Exit(EXIT_USAGE) from error


def _read_key(path: Path) -> dict[str, Any]:
    try:
        return read_key_file(_read_file(path))
    except InvalidRequest as error:
        complain(f"{path}: {error}")
        raise typer.Exit(EXIT_USAGE) from error


def _find_dsn(dsn: str | None, dev: Path | None) -> str:
    """Return the address of the ledger; a data folder that is named wins over the environment."""
    if dev is not None:
        try:
            return str(json.loads((dev / "dev.json").read_text(encoding="utf-8"))["database_url"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            complain(f"{dev} is not the data folder of a running `ingest dev`")
            raise typer.Exit(EXIT_USAGE) from error
    if not dsn:
        complain("where is the ledger? Set INGEST_LEDGER_DSN, or name a data folder with --dev")
        raise typer.Exit(EXIT_USAGE)
    return dsn


def _run(dsn: str, act: Callable[[Pool], Awaitable[Result]]) -> Result:
    """Run one action on the ledger; say what is wrong and exit if it is refused."""

    async def open_and_act() -> Result:
        pool = await open_pool(dsn, connections_max=1, statement_timeout_s=_STATEMENT_TIMEOUT_S)
        try:
            return await act(pool)
        finally:
            await pool.close()

    try:
        return asyncio.run(open_and_act())
    except IngestError as error:
        reason = error.facts().get("reason")
        complain(str(error) if error.detail or not reason else f"{error.title} ({reason})")
        complain(error.remedy)
        raise typer.Exit(EXIT_FAILED) from error


def _show_key(key: StationKey, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(_describe_key(key) | {"station_id": key.station.station_id}))
        return
    state = "is registered" if key.revoked_at is None else "is revoked"
    typer.echo(f"key {key.key_id} of station {key.station.station_id} {state}")


def _describe_station(listed: ListedStation) -> dict[str, object]:
    return {
        "station_id": listed.station.station_id,
        "site_id": listed.station.site_id,
        "borough": listed.station.borough,
        "keys": [_describe_key(key) for key in listed.keys],
    }


def _describe_key(key: StationKey) -> dict[str, object]:
    return {
        "key_id": key.key_id,
        "public_jwk": key.public_jwk,
        "registered_at": key.registered_at.isoformat(),
        "revoked_at": None if key.revoked_at is None else key.revoked_at.isoformat(),
    }


def _make_rows(listed: ListedStation) -> list[tuple[str, ...]]:
    place = (listed.station.station_id, listed.station.site_id, listed.station.borough)
    return [
        (
            *place,
            key.key_id,
            f"{key.registered_at:%Y-%m-%d %H:%M}",
            "" if key.revoked_at is None else f"{key.revoked_at:%Y-%m-%d %H:%M}",
        )
        for key in listed.keys
    ] or [(*place, "", "", "")]


def _show_rows(rows: list[tuple[str, ...]]) -> None:
    if not sys.stdout.isatty():
        # One line per key, fields apart by tabs: for cut and awk.
        for row in rows:
            typer.echo("\t".join(row))
        return
    table = Table(*_HEADINGS)
    for row in rows:
        # As text: names in brackets are not colours.
        table.add_row(*map(Text, row), style="dim" if row[-1] else None)
    Console().print(table)
