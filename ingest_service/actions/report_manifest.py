"""Report: a camera at dock contact says what it holds."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import Actor, Happening, make_device_events
from ingest_service.domain.ids import make_id
from ingest_service.ledger import devices
from ingest_service.ledger.completeness import Contact, Held, upsert_contact
from ingest_service.ledger.connection import Pool, writing
from ingest_service.ledger.custody import insert_device_events
from schemas.device import DeviceManifest, HeldRecording


@dataclass(frozen=True, slots=True)
class Reported:
    """The manifest as recorded; `unknown` is on the camera and was never announced."""

    manifest_id: UUID
    reported_at: datetime
    unknown: list[HeldRecording]


async def report_manifest(
    device_serial: str,
    station_id: str,
    manifest: DeviceManifest,
    raw: dict[str, Any],
    *,
    pool: Pool,
    now: Clock,
) -> Reported:
    """Record a device's manifest and what follows from it, as custody events of the device."""
    moment = now()
    manifest_id = make_id(moment)
    async with writing(pool) as connection:
        await devices.insert_manifest(
            connection, manifest_id, device_serial, station_id, moment, raw
        )
        await upsert_contact(
            connection,
            Contact(
                device_serial,
                manifest_id,
                station_id,
                moment,
                manifest.first_recording_seq,
                manifest.last_recording_seq,
                manifest.storage_used_pct,
                [
                    Held(
                        each.recording_id,
                        each.segment_no,
                        each.device_recording_seq,
                        each.size_bytes,
                    )
                    for each in manifest.recordings
                ],
            ),
        )
        announced = await devices.find_announced(
            connection,
            device_serial,
            [(held.recording_id, held.segment_no) for held in manifest.recordings],
        )
        happenings = _describe(manifest, manifest_id, Actor("station", station_id))
        events = make_device_events(device_serial, happenings, now=moment)
        await insert_device_events(connection, events)
    unknown = [
        held
        for held in manifest.recordings
        if (held.recording_id, held.segment_no) not in announced
    ]
    return Reported(manifest_id, moment, unknown)


def _describe(manifest: DeviceManifest, manifest_id: UUID, station: Actor) -> list[Happening]:
    happenings = [
        Happening(
            "device.docked", station, {"bay_no": manifest.bay_no}, occurred_at=manifest.docked_at
        ),
        Happening(
            "device.manifest_reported",
            station,
            {
                "manifest_id": str(manifest_id),
                "recording_count": len(manifest.recordings),
                "first_recording_seq": manifest.first_recording_seq,
                "last_recording_seq": manifest.last_recording_seq,
            },
        ),
    ]
    if manifest.clock_offset_ms is not None:
        measured = {
            "clock_offset_ms": manifest.clock_offset_ms,
            "clock_uncertainty_ms": manifest.clock_uncertainty_ms,
        }
        happenings.append(Happening("device.clock_measured", station, measured))
    return happenings
