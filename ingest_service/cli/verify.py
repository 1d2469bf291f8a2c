"""`ingest verify`: check offline what the service gave out."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from ingest_service.cli.startup import EXIT_USAGE, complain
from ingest_service.domain.cosignature import WitnessPolicy, make_policy
from ingest_service.domain.note import (
    NoteInvalid,
    VerifierKey,
    make_verifier_key,
    parse_verifier_key,
)
from ingest_service.domain.timestamp import Roots, TimestampInvalid, read_roots
from ingest_service.verifier.checkpoints import check_growth
from ingest_service.verifier.documents import BYTES_MAX
from ingest_service.verifier.findings import Findings
from ingest_service.verifier.packs import check_pack
from ingest_service.verifier.receipts import check_certificate, check_receipt
from ingest_service.verifier.timestamps import check_timestamp

_COLOURS: Final = {
    "holds": typer.colors.GREEN,
    "fails": typer.colors.RED,
    "not verifiable": typer.colors.YELLOW,
    "not checked": typer.colors.BRIGHT_BLACK,
}

verify_app = typer.Typer(
    name="verify",
    no_args_is_help=True,
    help="Check offline what the service gave out: no database, no network, only files and keys. "
    "Exit status: 0 = everything holds, 1 = something fails, 3 = nothing fails, but something that "
    "was asked for cannot be shown, 2 = the call makes no sense.",
)

KeyOption = Annotated[
    str | None,
    typer.Option("--key", metavar="VKEY", help="The log's verifier key, known from elsewhere."),
]
KeyFileOption = Annotated[
    Path | None,
    typer.Option("--key-file", exists=True, dir_okay=False, help="A file that holds it."),
]
WitnessKeysOption = Annotated[
    list[str] | None,
    typer.Option("--witness-key", metavar="VKEY", help="Verifier key of a witness; repeatable."),
]
QuorumOption = Annotated[
    int | None,
    typer.Option(min=0, help="How many of them must have cosigned; by default one, if any."),
]
TsaOption = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="The time authority's root certificates (PEM)."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


@verify_app.command()
def receipt(
    file: Annotated[Path, typer.Argument(metavar="RECEIPT", exists=True, dir_okay=False)],
    *,
    clip: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="The recording that it should be about."),
    ] = None,
    key: KeyOption = None,
    key_file: KeyFileOption = None,
    witness_key: WitnessKeysOption = None,
    quorum: QuorumOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a release receipt, and a recording against it.

    RECEIPT is what a dock kept (FILE.receipt.json), or the service's answer as
    text: a leaf and its proof.

    \b
    Example:
      ingest verify receipt clip.mp4.receipt.json --clip clip.mp4 --key-file log.vkey
    """  # noqa: D301  \b keeps the example's lines
    verifier_key, witnesses = _read_keys(key, key_file, witness_key, quorum)
    try:
        findings = check_receipt(_read(file), key=verifier_key, witnesses=witnesses, clip=clip)
    except OSError as error:
        _refuse(f"{clip}: {error.strerror}")
    _conclude(findings, as_json=as_json)


@verify_app.command()
def certificate(
    file: Annotated[Path, typer.Argument(metavar="CERTIFICATE", exists=True, dir_okay=False)],
    *,
    key: KeyOption = None,
    key_file: KeyFileOption = None,
    witness_key: WitnessKeysOption = None,
    quorum: QuorumOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check the certificate of an erasure.

    CERTIFICATE is what /v1/clips/CLIP/certificate answered.

    \b
    Example:
      ingest verify certificate certificate.json --key-file log.vkey
    """  # noqa: D301  \b keeps the example's lines
    verifier_key, witnesses = _read_keys(key, key_file, witness_key, quorum)
    _conclude(
        check_certificate(_read(file), key=verifier_key, witnesses=witnesses), as_json=as_json
    )


@verify_app.command()
def checkpoint(
    file: Annotated[Path, typer.Argument(metavar="NEW", exists=True, dir_okay=False)],
    *,
    older: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="An older checkpoint, proof or receipt."),
    ] = None,
    consistency: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="What /log/consistency?from=OLD&to=NEW answered."
        ),
    ] = None,
    key: KeyOption = None,
    key_file: KeyFileOption = None,
    witness_key: WitnessKeysOption = None,
    quorum: QuorumOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a checkpoint of the log, and that an older one is of the same history.

    NEW and OLD are signed notes, or proofs or receipts that hold one.

    \b
    Example:
      ingest verify checkpoint today.txt --older clip.mp4.receipt.json \\
          --consistency growth.json --key-file log.vkey
    """  # noqa: D301  \b keeps the example's lines
    verifier_key, witnesses = _read_keys(key, key_file, witness_key, quorum)
    findings = check_growth(
        _read(file),
        key=verifier_key,
        witnesses=witnesses,
        older=None if older is None else _read(older),
        growth=None if consistency is None else _read(consistency),
    )
    _conclude(findings, as_json=as_json)


@verify_app.command()
def timestamp(
    file: Annotated[Path, typer.Argument(metavar="CHECKPOINT", exists=True, dir_okay=False)],
    *,
    token: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="The time authority's answer (DER)."),
    ] = None,
    tsa_ca: TsaOption = None,
    key: KeyOption = None,
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check that a checkpoint existed at a time, on a time authority's word.

    CHECKPOINT is what /log/timestamp answered, or a signed note with --token.

    \b
    Example:
      ingest verify timestamp stamped.json --tsa-ca tsa-root.pem --key-file log.vkey
    """  # noqa: D301  \b keeps the example's line
    verifier_key, _ = _read_keys(key, key_file, None, None)
    findings = check_timestamp(
        _read(file),
        token=None if token is None else _read(token),
        key=verifier_key,
        roots=_read_roots(tsa_ca),
    )
    _conclude(findings, as_json=as_json)


@verify_app.command()
def pack(
    file: Annotated[
        Path, typer.Argument(metavar="PACK", exists=True, help="The zip, or the folder in it.")
    ],
    *,
    key: KeyOption = None,
    key_file: KeyFileOption = None,
    witness_key: WitnessKeysOption = None,
    tsa_ca: TsaOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a custody pack: every file, the clip, its chain, its proofs, its time stamp.

    The same as the pack's own verify.py, but by code that did not come with it.

    \b
    Example:
      ingest verify pack custody-0199c0de.zip --key-file log.vkey
    """  # noqa: D301  \b keeps the example's line
    verifier_key, _ = _read_keys(key, key_file, witness_key, None)
    try:
        findings = check_pack(
            file,
            key=make_verifier_key(verifier_key.name, verifier_key.public_key),
            witness_keys=witness_key or [],
            roots=_read_roots(tsa_ca),
        )
    except OSError as error:
        _refuse(f"{file}: {error.strerror}")
    _conclude(findings, as_json=as_json)


def _read_keys(
    key: str | None, key_file: Path | None, witness_keys: list[str] | None, quorum: int | None
) -> tuple[VerifierKey, WitnessPolicy]:
    if (key is None) == (key_file is None):
        _refuse("give the log's verifier key, by --key or --key-file")
    try:
        text = key if key is not None else _read(key_file or Path()).decode()
        names = witness_keys or []
        policy = make_policy(names, min(1, len(names)) if quorum is None else quorum)
        return parse_verifier_key(text), policy
    except (NoteInvalid, UnicodeError) as error:
        _refuse(str(error))


def _read_roots(tsa_ca: Path | None) -> Roots | None:
    try:
        return None if tsa_ca is None else read_roots(_read(tsa_ca))
    except TimestampInvalid as error:
        _refuse(f"{tsa_ca}: {error}")


def _read(path: Path) -> bytes:
    """Read what should be a small file; one byte too many shows that it is not."""
    try:
        with path.open("rb") as file:
            return file.read(BYTES_MAX + 1)
    except OSError as error:
        _refuse(f"{path}: {error.strerror}")


def _refuse(message: str) -> NoReturn:
    complain(message)
    raise typer.Exit(EXIT_USAGE)


def _conclude(findings: Findings, *, as_json: bool) -> None:
    if as_json:
        lines = [asdict(line) for line in findings.lines]
        typer.echo(json.dumps({"exit_code": findings.exit_code, "findings": lines}, indent=2))
    else:
        for line in findings.lines:
            typer.secho(f"{line.verdict:<15}", nl=False, fg=_COLOURS[line.verdict])
            typer.echo(f"{line.subject}: {_printable(line.text)}")
    raise typer.Exit(findings.exit_code)


def _printable(text: str) -> str:
    """Names come out of files that anybody may have written: nothing of them moves the cursor."""
    return "".join(each if each.isprintable() else "?" for each in text)
