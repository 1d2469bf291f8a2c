"""What the devices at this dock still hold, as far as the dock sees it."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from ingest_service.dock.service import Service
from ingest_service.dock.sidecar import SIDECAR_SUFFIX, Sidecar, find_sidecar, place_beside
from schemas.device import DeviceManifest, HeldRecording

RECORDINGS_MAX = 10_000


def collect_manifests(
    paths: Iterable[Path], *, state_dir: Path | None
) -> dict[str, DeviceManifest]:
    """Group prepared recordings by device. Those without a sidecar are not counted.

    Raises:
        FileUnusable: a sidecar may not be read.
    """
    held: dict[str, list[Sidecar]] = defaultdict(list)
    for path in paths:
        sidecar = find_sidecar(place_beside(path, SIDECAR_SUFFIX, state_dir=state_dir))
        if sidecar is not None:
            held[str(sidecar.announcement["device_serial"])].append(sidecar)
    return {serial: _make_manifest(sidecars) for serial, sidecars in held.items()}


def _make_manifest(sidecars: list[Sidecar]) -> DeviceManifest:
    recordings = [
        HeldRecording(
            recording_id=sidecar.announcement["recording_id"],
            segment_no=sidecar.announcement.get("segment_no", 0),
            device_recording_seq=sidecar.announcement.get("device_recording_seq"),
            size_bytes=sidecar.size_bytes,
        )
        for sidecar in sidecars[:RECORDINGS_MAX]
    ]
    return DeviceManifest(recordings=recordings)


async def report_manifests(manifests: dict[str, DeviceManifest], *, service: Service) -> int:
    """Send manifests; return how many recordings the service had not heard of.

    Raises:
        Trouble, Refused: the rest was not sent.
    """
    reading = await service.read_clock()
    unknown_count = 0
    for serial, manifest in manifests.items():
        measured = manifest.model_copy(
            update={
                "clock_offset_ms": reading.offset_ms,
                "clock_uncertainty_ms": reading.uncertainty_ms,
            }
        )
        unknown_count += len((await service.report_manifest(serial, measured)).unknown)
    return unknown_count
