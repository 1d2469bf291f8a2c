"""`ingest dock`: what runs on a docking station."""

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer
from pydantic import ValidationError

from ingest_service.dock.batch import upload_recordings
from ingest_service.dock.display import BarDisplay, LineDisplay, open_display, printable
from ingest_service.dock.failures import DockFailure, TargetUnusable, Trouble
from ingest_service.dock.manifest import collect_manifests, report_manifests
from ingest_service.dock.prepare import prepare_recording
from ingest_service.dock.recording import hold_file
from ingest_service.dock.service import open_service
from ingest_service.dock.target import Target, make_target, read_dev_target
from ingest_service.dock.upload import Dock, Outcome, Policy
from ingest_service.dock.watch import FolderWatch, find_recordings
from ingest_service.domain.cosignature import make_policy
from schemas.announcement import URGENT_CATEGORIES, Announcement

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130

Result = TypeVar("Result")

dock_app = typer.Typer(
    name="dock",
    no_args_is_help=True,
    help="Docking station: bring recordings in, and erase them only upon a verified receipt.",
)

DevOption = Annotated[
    Path | None,
    typer.Option(
        "--dev",
        metavar="DATA_FOLDER",
        help="Take address, station, key and verifier key from a running `ingest dev`.",
    ),
]
UrlOption = Annotated[
    str | None, typer.Option(envvar="DOCK_URL", help="Address of the service.", show_default=False)
]
StationOption = Annotated[
    str | None, typer.Option("--station", envvar="DOCK_STATION", help="Id of this station.")
]
KeyFileOption = Annotated[
    Path | None,
    typer.Option(envvar="DOCK_KEY_FILE", help="Private key of the station (PEM)."),
]
VerifierKeyOption = Annotated[
    str | None,
    typer.Option(
        envvar="DOCK_VERIFIER_KEY",
        metavar="KEY|@FILE",
        help="The service's verifier key; receipts signed by another one are refused.",
    ),
]
WitnessKeysOption = Annotated[
    list[str] | None,
    typer.Option(
        "--witness-key",
        metavar="KEY|@FILE",
        help="Verifier key of a witness whose cosignature counts; repeatable.",
    ),
]
QuorumOption = Annotated[
    int | None,
    typer.Option(
        min=0, help="So many of them must have cosigned a receipt; by default one, if any is given."
    ),
]
CaFileOption = Annotated[
    Path | None,
    typer.Option(envvar="DOCK_CA_FILE", help="Certificate authorities to trust (PEM)."),
]
ParallelOption = Annotated[
    int, typer.Option(min=1, max=64, help="Clips sent at once, each over its own connection.")
]
ParallelChunksOption = Annotated[
    int,
    typer.Option(
        min=1,
        max=16,
        help="Connections per clip. 1 sends chunks in order, which is cheapest for the service: it "
        "hashes the clip as it passes. More help where the round trip is long.",
    ),
]
EraseOption = Annotated[
    bool,
    typer.Option("--erase", help="Erase a recording once its receipt is verified against it."),
]
GiveUpOption = Annotated[
    float,
    typer.Option(
        min=0, help="Seconds without any progress after which a clip is given up; 0 = never."
    ),
]
StateDirOption = Annotated[
    Path | None,
    typer.Option(
        file_okay=False,
        help="Folder for FILE.ingest.json and FILE.receipt.json, if not beside the recording.",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="One JSON object per recording on standard output.")
]
DeviceOption = Annotated[
    str | None,
    typer.Option("--device", help="Serial of the camera; by default the folder's name."),
]
OfficerOption = Annotated[str | None, typer.Option("--officer", help="Officer, as recorded.")]
CategoryOption = Annotated[str | None, typer.Option(help="Category code.")]
UrgentOption = Annotated[
    list[str] | None,
    typer.Option(
        "--urgent",
        metavar="CATEGORY",
        help="Announce recordings of this category as urgent; repeatable. By default "
        f"{' and '.join(URGENT_CATEGORIES)}: what the service takes for urgent, too.",
    ),
]


@dock_app.command()
def upload(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Recordings.")],
    *,
    dev: DevOption = None,
    url: UrlOption = None,
    station: StationOption = None,
    key_file: KeyFileOption = None,
    verifier_key: VerifierKeyOption = None,
    ca_file: CaFileOption = None,
    witness_key: WitnessKeysOption = None,
    quorum: QuorumOption = None,
    parallel: ParallelOption = 4,
    parallel_chunks: ParallelChunksOption = 1,
    erase: EraseOption = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Stop once sealed, without the receipt.")
    ] = False,
    give_up_after: GiveUpOption = 3600,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
    device: DeviceOption = None,
    recording: Annotated[
        str | None, typer.Option("--recording", help="The camera's name for it (one FILE only).")
    ] = None,
    segment: Annotated[int | None, typer.Option(help="Part of a split recording, from 0.")] = None,
    sequence: Annotated[int | None, typer.Option(help="The camera's running number.")] = None,
    officer: OfficerOption = None,
    category: CategoryOption = None,
    urgent: UrgentOption = None,
    incident: Annotated[str | None, typer.Option(help="Incident it belongs to.")] = None,
    crime_ref: Annotated[str | None, typer.Option(help="Crime reference.")] = None,
    title: Annotated[str | None, typer.Option(help="Title, at most 200 characters.")] = None,
    started_at: Annotated[
        str | None,
        typer.Option(
            help="By the camera's clock: ISO 8601 with a time zone, e.g. 2026-11-21T22:14:05Z."
        ),
    ] = None,
    ended_at: Annotated[str | None, typer.Option(help="As --started-at.")] = None,
) -> None:
    """Bring recordings in; exit 0 only when every one is secured.

    Secured means: the service has read the clip back from storage and signed
    a receipt, and the receipt names this file's SHA-256 and length. Stop it
    in any way and run it again: it goes on where it was. Metadata comes from
    the options, then FILE.json, then the file itself.

    \b
    Examples:
      ingest dock upload --dev ./data clip.mp4
      ingest dock upload --dev ./data --device BWC-004217 --erase *.mp4
      ingest dock upload --url https://ingest.example.org --station st-7 \\
          --key-file station.pem --verifier-key @verifier.key clip.mp4
    """  # noqa: D301  \b keeps the examples' lines
    options = _collect_options(
        device_serial=device,
        recording_id=recording,
        segment_no=segment,
        device_recording_seq=sequence,
        officer_id=officer,
        category=category,
        incident_id=incident,
        crime_ref=crime_ref,
        title=title,
        started_at=started_at,
        ended_at=ended_at,
    )
    if len(files) > 1 and (recording or sequence is not None or started_at or ended_at):
        message = "--recording, --sequence, --started-at and --ended-at describe one FILE only"
        raise typer.BadParameter(message)
    if erase and no_wait:
        message = "--erase needs the receipt that --no-wait does not wait for"
        raise typer.BadParameter(message)
    target = _open_target(
        dev=dev,
        url=url,
        station=station,
        key_file=key_file,
        verifier_key=verifier_key,
        ca_file=ca_file,
    )
    policy = _make_policy(
        target,
        is_erasing=erase,
        is_waiting=not no_wait,
        parallel_chunks=parallel_chunks,
        give_up_after_s=give_up_after,
        state_dir=state_dir,
        witness_keys=witness_key or [],
        quorum=quorum,
        urgent=urgent,
    )
    results: list[tuple[Path, Outcome | DockFailure]] = []

    async def run() -> bool:
        with open_display() as display:
            async with open_service(target, connections_max=parallel * parallel_chunks) as service:
                return await upload_recordings(
                    list(dict.fromkeys(files)),
                    dock=Dock(service, policy, options, display.observe),
                    parallel_clips=parallel,
                    report=lambda path, result: results.append((path, result)),
                )

    try:
        is_well = _run(run())
    finally:
        # After the bars are gone, and also when interrupted: what is secured is secured.
        for path, result in results:
            _print_result(path, result, as_json=as_json)
    raise typer.Exit(0 if is_well else EXIT_FAILED)


@dock_app.command()
def watch(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", exists=True, file_okay=False, help="Where files appear."),
    ],
    *,
    dev: DevOption = None,
    url: UrlOption = None,
    station: StationOption = None,
    key_file: KeyFileOption = None,
    verifier_key: VerifierKeyOption = None,
    ca_file: CaFileOption = None,
    witness_key: WitnessKeysOption = None,
    quorum: QuorumOption = None,
    parallel: ParallelOption = 4,
    parallel_chunks: ParallelChunksOption = 1,
    erase: EraseOption = False,
    give_up_after: GiveUpOption = 3600,
    state_dir: StateDirOption = None,
    as_json: JsonOption = False,
    device: DeviceOption = None,
    officer: OfficerOption = None,
    category: CategoryOption = None,
    urgent: UrgentOption = None,
    settle: Annotated[
        float, typer.Option(min=0, help="Seconds that a file must stand still to be whole.")
    ] = 3.0,
) -> None:
    """Bring in every recording that appears below DIR, until Ctrl-C.

    A file is taken once its size and time stand still. Each folder below DIR
    is a camera: its name is the serial, unless FILE.json or --device says
    otherwise. What lies here is reported to the service per camera. A
    recording that fails is tried again later and holds up no other. Hidden
    files, *.json and *.tmp are not recordings.

    \b
    Examples:
      ingest dock watch --dev ./data ./bays
      ingest dock watch --dev ./data --erase --parallel 8 ./bays
    """  # noqa: D301  \b keeps the examples' lines
    options = _collect_options(device_serial=device, officer_id=officer, category=category)
    target = _open_target(
        dev=dev,
        url=url,
        station=station,
        key_file=key_file,
        verifier_key=verifier_key,
        ca_file=ca_file,
    )
    policy = _make_policy(
        target,
        is_erasing=erase,
        is_waiting=True,
        parallel_chunks=parallel_chunks,
        give_up_after_s=give_up_after,
        state_dir=state_dir,
        witness_keys=witness_key or [],
        quorum=quorum,
        urgent=urgent,
    )

    def make_report(display: BarDisplay | LineDisplay) -> Callable[..., None]:
        def report(path: Path, result: Outcome | DockFailure) -> None:
            if as_json:
                _print_result(path, result, as_json=True)
            elif isinstance(result, Outcome):
                display.say(f"{printable(path)}: clip {result.clip_id}, {result.receipt_path}")

        return report

    async def run() -> None:
        with open_display() as display:
            # One more connection than lanes: manifests do not wait for a clip to end.
            connections_max = parallel * parallel_chunks + 1
            async with open_service(target, connections_max=connections_max) as service:
                display.say(f"watching {printable(folder)}; Ctrl-C stops")
                await FolderWatch(
                    folder,
                    dock=Dock(service, policy, options, display.observe),
                    parallel_clips=parallel,
                    report=make_report(display),
                    say=display.say,
                    settle_s=settle,
                ).run()

    _run(run())


@dock_app.command()
def manifest(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="What cameras hold.")
    ],
    *,
    dev: DevOption = None,
    url: UrlOption = None,
    station: StationOption = None,
    key_file: KeyFileOption = None,
    verifier_key: VerifierKeyOption = None,
    ca_file: CaFileOption = None,
    state_dir: StateDirOption = None,
    device: DeviceOption = None,
) -> None:
    """Report what lies below DIR, per camera, without sending it.

    The service counts what it has not heard of as evidence at risk.

    \b
    Example:
      ingest dock manifest --dev ./data ./bays
    """  # noqa: D301  \b keeps the example's line
    options = _collect_options(device_serial=device)
    target = _open_target(
        dev=dev,
        url=url,
        station=station,
        key_file=key_file,
        verifier_key=verifier_key,
        ca_file=ca_file,
    )

    async def run() -> None:
        paths = list(find_recordings(folder))
        for path in paths:
            with hold_file(path):
                await prepare_recording(path, options=options, state_dir=state_dir)
        manifests = collect_manifests(paths, state_dir=state_dir)
        async with open_service(target, connections_max=1) as service:
            unknown_count = await report_manifests(manifests, service=service)
        for serial, held in sorted(manifests.items()):
            typer.echo(f"{serial}: {len(held.recordings)} recordings")
        typer.echo(f"unknown to the service until now: {unknown_count}")

    try:
        _run(run())
    except (Trouble, DockFailure) as failure:
        typer.echo(str(failure), err=True)
        raise typer.Exit(EXIT_FAILED) from failure


@dock_app.command()
def clock(
    *,
    dev: DevOption = None,
    url: UrlOption = None,
    station: StationOption = None,
    key_file: KeyFileOption = None,
    verifier_key: VerifierKeyOption = None,
    ca_file: CaFileOption = None,
) -> None:
    """Measure how far the service's clock is ahead of this one."""
    target = _open_target(
        dev=dev,
        url=url,
        station=station,
        key_file=key_file,
        verifier_key=verifier_key,
        ca_file=ca_file,
    )

    async def run() -> None:
        async with open_service(target, connections_max=1) as service:
            reading = await service.read_clock()
        server_time = datetime.now(UTC).timestamp() + reading.offset_ms / 1000
        typer.echo(
            f"offset {reading.offset_ms} ms, uncertainty {reading.uncertainty_ms} ms; "
            f"the service's time is {datetime.fromtimestamp(server_time, UTC).isoformat()}"
        )

    try:
        _run(run())
    except (Trouble, DockFailure) as failure:
        typer.echo(str(failure), err=True)
        raise typer.Exit(EXIT_FAILED) from failure


def _collect_options(**members: object) -> dict[str, Any]:
    """Return the members that were given, in the shapes that the service takes."""
    given = {name: value for name, value in members.items() if value is not None}
    fill = {"device_serial": "x", "recording_id": "x", "size_bytes": 0}
    try:
        Announcement.model_validate(fill | given)
    except ValidationError as error:
        first = error.errors()[0]
        message = f"{first['loc'][0]}: {first['msg']}"
        raise typer.BadParameter(message) from error
    return given


def _open_target(
    *,
    dev: Path | None,
    url: str | None,
    station: str | None,
    key_file: Path | None,
    verifier_key: str | None,
    ca_file: Path | None,
) -> Target:
    """Find out where to send; a usage error ends the command here."""
    try:
        if dev is not None:
            return read_dev_target(dev)
        if not (url and station and key_file and verifier_key):
            message = "give --dev, or all of --url, --station, --key-file and --verifier-key"
            raise typer.BadParameter(message)
        return make_target(
            url=url,
            station_id=station,
            key_pem=key_file.read_bytes(),
            verifier_key=_read_key(verifier_key),
            ca_file=ca_file,
        )
    except (TargetUnusable, OSError, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_USAGE) from error


def _make_policy(
    target: Target,
    *,
    is_erasing: bool,
    is_waiting: bool,
    parallel_chunks: int,
    give_up_after_s: float,
    state_dir: Path | None,
    witness_keys: list[str],
    quorum: int | None,
    urgent: list[str] | None,
) -> Policy:
    try:
        keys = [_read_key(each) for each in witness_keys]
        witnesses = make_policy(keys, min(1, len(keys)) if quorum is None else quorum)
    except (OSError, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_USAGE) from error
    if state_dir is not None:
        state_dir.mkdir(parents=True, exist_ok=True)
    return Policy(
        verifier_key=target.verifier_key,
        is_erasing=is_erasing,
        is_waiting=is_waiting,
        parallel_chunks=parallel_chunks,
        give_up_after_s=give_up_after_s or None,
        state_dir=state_dir,
        witnesses=witnesses,
        urgent_categories=frozenset(urgent or URGENT_CATEGORIES),
    )


def _read_key(text: str) -> str:
    return Path(text[1:]).read_text() if text.startswith("@") else text


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    try:
        return asyncio.run(work)
    except KeyboardInterrupt as interrupt:
        typer.echo("stopped; run it again to go on where it was", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from interrupt


def _print_result(path: Path, result: Outcome | DockFailure, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(_describe_result(path, result)))
    elif isinstance(result, Outcome):
        typer.echo(f"{result.state}: {printable(path)}")
        typer.echo(f"  clip     {result.clip_id}")
        typer.echo(f"  sha256   {result.sha256_hex}")
        if result.receipt_path is not None:
            typer.echo(f"  receipt  {printable(result.receipt_path)}")
        if result.is_erased:
            typer.echo("  erased here")
    else:
        typer.echo(f"FAILED: {printable(path)}: {result}", err=True)
    sys.stdout.flush()


def _describe_result(path: Path, result: Outcome | DockFailure) -> dict[str, object]:
    if isinstance(result, DockFailure):
        return {
            "file": printable(path),
            "state": "failed",
            "reason": type(result).__name__,
            "error": str(result),
        }
    return {
        "file": printable(path),
        "state": result.state,
        "clip_id": str(result.clip_id),
        "sha256": result.sha256_hex,
        "size_bytes": result.size_bytes,
        "receipt_file": printable(result.receipt_path) if result.receipt_path else None,
        "is_erased": result.is_erased,
    }
