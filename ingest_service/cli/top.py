"""`ingest top`: how the service stands, live in the terminal."""

import json
import ssl
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import httpx
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.live import Live
from rich.text import Text

from ingest_service.cli.startup import EXIT_FAILED, EXIT_USAGE, complain
from ingest_service.cli.top_display import show_line, show_screen
from schemas.operations import OperationsNow

_TIMEOUT_S: Final = 10.0
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403
_NOT_FOUND: Final = 404

DevOption = Annotated[
    Path | None,
    typer.Option(
        "--dev", metavar="DATA_FOLDER", help="Take address and token from a running `ingest dev`."
    ),
]
UrlOption = Annotated[
    str | None,
    typer.Option(envvar="OPS_URL", show_envvar=True, help="Address of the service."),
]
TokenOption = Annotated[
    str | None,
    typer.Option(
        envvar="OPS_TOKEN",
        show_envvar=True,
        metavar="TOKEN|@FILE",
        help="A token with the scope 'operate'; @FILE keeps it out of the list of processes.",
    ),
]
CaFileOption = Annotated[
    Path | None,
    typer.Option(
        envvar="OPS_CA_FILE", show_envvar=True, help="Certificate authorities to trust (PEM)."
    ),
]


class _Refused(Exception):
    """The service does not tell us, and asking again will not help."""


class _Away(Exception):
    """No figures just now; the message says why."""


@dataclass(frozen=True, slots=True)
class Source:
    """Whom we ask, and as whom."""

    url: str
    token: str = field(repr=False)
    ca_file: Path | None = None


def top(
    *,
    dev: DevOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    ca_file: CaFileOption = None,
    interval: Annotated[
        float, typer.Option(min=1, max=3600, help="Seconds between two looks.")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and end.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="What GET /v1/ops says, one JSON object a line.")
    ] = False,
) -> None:
    """Show rates, uploads, what is at risk, queues and the log's lag, live; Ctrl-C ends it.

    A screen on a terminal, elsewhere one line per look. The same figures as the page /ops. Exit 1:
    the service does not tell. Examples:

        ingest top --dev data

        ingest top --url https://ingest.example --token @operator.token

        ingest top --dev data --once --json | jq .rate
    """
    source = _find_source(dev, url, token, ca_file)
    try:
        with httpx.Client(
            base_url=source.url,
            headers={"Authorization": f"Bearer {source.token}"},
            timeout=_TIMEOUT_S,
            verify=_make_trust(source),
        ) as http:
            if sys.stdout.isatty() and not (once or as_json):
                _watch(http, source, interval)
            else:
                _print(http, interval, once=once, as_json=as_json)
    except _Refused as error:
        complain(str(error))
        raise typer.Exit(EXIT_FAILED) from error
    except KeyboardInterrupt:
        # How one leaves it.
        return


def _find_source(
    dev: Path | None, url: str | None, token: str | None, ca_file: Path | None
) -> Source:
    """Return whom to ask; a data folder that is named wins over the environment."""
    if dev is not None:
        try:
            facts = json.loads((dev / "dev.json").read_text(encoding="utf-8"))
            return Source(str(facts["base_url"]), str(facts["tokens"]["operator"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            complain(f"{dev} is not the data folder of a running `ingest dev`")
            raise typer.Exit(EXIT_USAGE) from error
    if not url:
        complain("where is the service? Name it with --url, or a data folder with --dev")
        raise typer.Exit(EXIT_USAGE)
    if not token:
        complain("a token with the scope 'operate' is needed: --token @FILE, or set OPS_TOKEN")
        raise typer.Exit(EXIT_USAGE)
    if not url.startswith(("http://", "https://")):
        complain(f"{url} is no address: it begins with https:// (or http://)")
        raise typer.Exit(EXIT_USAGE)
    return Source(url.rstrip("/"), _read_token(token), ca_file)


def _read_token(token: str) -> str:
    if token.startswith("@"):
        try:
            token = Path(token[1:]).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            complain(f"cannot read the token from {token[1:]}")
            raise typer.Exit(EXIT_USAGE) from error
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable():
        complain("that is no token: it is one word, as the identity provider gives it out")
        raise typer.Exit(EXIT_USAGE)
    return token


def _make_trust(source: Source) -> ssl.SSLContext:
    if source.url.startswith("http://"):
        # No TLS, so no certificates are read.
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        return ssl.create_default_context(cafile=source.ca_file)
    except (OSError, ssl.SSLError) as error:
        complain(f"cannot read certificates from {source.ca_file}")
        raise typer.Exit(EXIT_USAGE) from error


def ask(http: httpx.Client, *, minutes: int = 5) -> OperationsNow:
    """Return how the service stands.

    Raises:
        _Refused: it does not tell us; the message says what to do.
        _Away: it does not answer, or lacks its ledger; the next time it may.
    """
    try:
        answer = http.get("/v1/ops", params={"minutes": minutes})
    except httpx.HTTPError as error:
        reason = f"the service does not answer: {error or type(error).__name__}"
        raise _Away(reason) from error
    if answer.status_code in {_UNAUTHORIZED, _FORBIDDEN}:
        reason = f"{_title(answer)}: bring a token with the scope 'operate' (role operator)"
        raise _Refused(reason)
    if answer.status_code == _NOT_FOUND:
        reason = f"{http.base_url} has no /v1/ops: is it this service, and not an older version?"
        raise _Refused(reason)
    if answer.is_error:
        reason = f"the service says {answer.status_code}: {_title(answer)}"
        raise _Away(reason)
    try:
        return OperationsNow.model_validate_json(answer.content)
    except ValidationError as error:
        reason = f"{http.base_url} answers something else: is it this service?"
        raise _Refused(reason) from error


def _title(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["title"])
    except (ValueError, KeyError, TypeError):
        return answer.reason_phrase


def _print(http: httpx.Client, interval_s: float, *, once: bool, as_json: bool) -> None:
    """Print a line per look; who is away for a while is complained about and asked again."""
    for _ in _looks(interval_s):
        try:
            now = ask(http)
        except _Away as error:
            if once:
                raise _Refused(str(error)) from error
            complain(str(error))
            continue
        typer.echo(now.model_dump_json() if as_json else show_line(now))
        sys.stdout.flush()
        if once:
            return


def _watch(http: httpx.Client, source: Source, interval_s: float) -> None:
    """Redraw the screen; when the service is away its last figures stay, and say so."""
    known: OperationsNow | None = None
    away_since: float | None = None
    with Live(Text("asking ..."), console=Console(), screen=True, auto_refresh=False) as live:
        for _ in _looks(interval_s):
            trouble = ""
            try:
                known = ask(http)
                away_since = None
            except _Away as error:
                away_since = away_since or time.monotonic()
                trouble = f"{error}; stale for {time.monotonic() - away_since:.0f} s"
            screen = (
                Text(trouble, "bold red")
                if known is None
                else show_screen(known, source=source.url, trouble=trouble)
            )
            live.update(screen, refresh=True)


def _looks(interval_s: float) -> Iterator[None]:
    """Yield now, and then once per interval, however long a look took."""
    due = time.monotonic()
    while True:
        yield
        due = max(due + interval_s, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
