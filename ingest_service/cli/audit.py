"""`ingest audit`: the ledger against itself, the published log and the bucket."""

import asyncio
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from ingest_service.actions.audit_ledger import audit_ledger, find_log_keys, open_audit
from ingest_service.actions.audit_tools import AuditTools
from ingest_service.cli.places import DevOption, open_places
from ingest_service.cli.startup import EXIT_FAILED, EXIT_USAGE, complain
from ingest_service.cli.steps import telling
from ingest_service.domain.audit import AuditState, StateInvalid, StepName
from ingest_service.domain.note import NoteInvalid, VerifierKey, parse_verifier_key
from ingest_service.errors import IngestError
from ingest_service.signer import list_verifier_keys

EXIT_NOT_VERIFIABLE: Final = 3
_SAVE_EVERY_S: Final = 2.0
_SHOWN_MAX: Final = 20


def audit(
    *,
    objects: Annotated[
        str, typer.Option(metavar="SHARE", help="How many objects are read again: 5%, 100%, 0.")
    ] = "0",
    state_file: Annotated[
        Path | None,
        typer.Option("--state", metavar="FILE", help="Go on from here; kept up to date."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the report; - = output.")
    ] = None,
    keys: Annotated[
        list[str] | None,
        typer.Option("--key", help="A verifier key you pinned; default: the service's own."),
    ] = None,
    dev: DevOption = None,
) -> None:
    """Check the whole ledger: every leaf, chain, checkpoint and manifest; nothing is changed.

    Exit status: 0 all holds, 1 something does not, 3 something could not be checked.
    Settings come from INGEST_* variables, or from a running `ingest dev`. Example:

        ingest audit --objects 5% --state audit.state --json audit.json
    """
    share = _read_share(objects)
    pinned = [_read_key(text) for text in keys or ()]
    state = None if state_file is None else _load(state_file)
    if state is not None and state.objects_share != share:
        complain(f"{state_file} belongs to an audit with --objects {state.objects_share:.2%}")
        raise typer.Exit(EXIT_USAGE)
    try:
        done = asyncio.run(_audit(state, share, pinned, state_file, dev))
    except KeyboardInterrupt:
        _tell_interrupted("interrupted", state_file)
        raise typer.Exit(EXIT_NOT_VERIFIABLE) from None
    except IngestError as error:
        _tell_interrupted(f"{error.title} ({error.facts().get('reason', error)})", state_file)
        raise typer.Exit(EXIT_NOT_VERIFIABLE) from error
    if state_file is not None:
        # The audit is over: the same command begins a new one.
        state_file.unlink(missing_ok=True)
    _report(done, json_file)
    if done.count("fail"):
        raise typer.Exit(EXIT_FAILED)
    if done.count("not_verifiable"):
        raise typer.Exit(EXIT_NOT_VERIFIABLE)


async def _audit(
    state: AuditState | None,
    share: float,
    pinned: list[VerifierKey],
    state_file: Path | None,
    dev: Path | None,
) -> AuditState:
    async with open_places(dev) as places:
        if state is None:
            state = await open_audit(pool=places.pool, objects_share=share)
        trusted = pinned or [parse_verifier_key(key) for key in list_verifier_keys(places.signer)]
        with telling() as tell:
            tools = AuditTools(
                pool=places.pool,
                vault=places.vault,
                keys=await find_log_keys(places.pool, trusted),
                tell=tell,
                save=_make_saver(state_file),
            )
            await audit_ledger(state, tools)
    return state


def _read_share(text: str) -> float:
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        complain(f"--objects is a share such as 5% or 0.05, not {text}")
        raise typer.Exit(EXIT_USAGE)
    return share


def _read_key(text: str) -> VerifierKey:
    try:
        return parse_verifier_key(text)
    except NoteInvalid as error:
        complain(f"--key: {error}")
        raise typer.Exit(EXIT_USAGE) from error


def _load(file: Path) -> AuditState | None:
    try:
        return AuditState.load(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, StateInvalid) as error:
        complain(f"{file}: {error}")
        raise typer.Exit(EXIT_USAGE) from error


class _Saver:
    """Writes the state now and then: whole, or not at all."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._saved_at = time.monotonic()
        self._step: StepName | None = None

    def __call__(self, state: AuditState) -> None:
        now = time.monotonic()
        is_due = now - self._saved_at >= _SAVE_EVERY_S or state.step != self._step
        if self._file is None or not is_due:
            return
        self._saved_at, self._step = now, state.step
        beside = self._file.with_name(f"{self._file.name}.new")
        beside.write_text(json.dumps(state.dump()), encoding="utf-8")
        beside.replace(self._file)


def _make_saver(file: Path | None) -> _Saver:
    return _Saver(file)


def _tell_interrupted(why: str, state_file: Path | None) -> None:
    complain(f"the audit is not finished: {why}")
    if state_file is not None:
        complain(f"the same command goes on from {state_file}")


def _report(state: AuditState, json_file: Path | None) -> None:
    failed, unverifiable = state.count("fail"), state.count("not_verifiable")
    verdict = "fail" if failed else "not_verifiable" if unverifiable else "holds"
    if json_file is not None:
        document = json.dumps(
            {
                "at": datetime.now(UTC).isoformat(),
                "verdict": verdict,
                "tree_size": state.tree_size,
                "objects_share": state.objects_share,
                "seed": state.seed,
                **{name: state.dump()[name] for name in ("counts", "seconds", "found", "findings")},
            },
            indent=2,
        )
        if str(json_file) == "-":
            typer.echo(document)
            return
        json_file.write_text(document + os.linesep, encoding="utf-8")
    for name, number in state.counts.items():
        typer.echo(f"{number:>12}  {name}")
    for finding in state.findings[:_SHOWN_MAX]:
        mark = "FAIL" if finding.verdict == "fail" else "NOT VERIFIABLE"
        typer.echo(f"{mark}: {finding.check} {finding.subject}: {finding.detail}")
    left = failed + unverifiable - min(len(state.findings), _SHOWN_MAX)
    if left > 0:
        typer.echo(f"... and {left} more")
    said = {
        "holds": "The ledger holds.",
        "fail": f"{failed} findings: the ledger does not hold.",
        "not_verifiable": f"{unverifiable} things could not be checked; the rest holds.",
    }
    typer.echo(said[verdict])
