"""Clips as downstream services take them: one by one, as JSON Lines, as CSV."""

import csv
import io
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final

from ingest_service.domain.clip import Clip
from schemas import clip as bodies

COLUMNS: Final = tuple(name for name in bodies.Clip.model_fields if name != "received_bytes")
# With these a cell is a formula to a spreadsheet, which may run it.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def show_clip(clip: Clip, received_bytes: int | None) -> dict[str, Any]:
    """Return the members of `schemas.clip.Clip`."""
    shown: dict[str, Any] = {
        name: getattr(clip, name)
        for name in bodies.Clip.model_fields
        if name != "received_bytes" and not name.startswith("sha256")
    }
    for name in ("sha256", "sha256_device", "sha256_readback"):
        digest: bytes | None = getattr(clip, name)
        shown[name] = None if digest is None else digest.hex()
    shown["received_bytes"] = received_bytes
    return shown


async def write_json_lines(pages: AsyncIterator[list[Clip]]) -> AsyncIterator[bytes]:
    """Yield clips as JSON Lines, page by page."""
    async for page in pages:
        lines = [bodies.Clip(**show_clip(clip, None)).model_dump_json() for clip in page]
        yield "".join(f"{line}\n" for line in lines).encode()


async def write_csv(pages: AsyncIterator[list[Clip]]) -> AsyncIterator[bytes]:
    """Yield clips as CSV (RFC 4180) with a header line, page by page."""
    is_first = True
    async for page in pages:
        text = io.StringIO()
        writer = csv.writer(text)
        if is_first:
            writer.writerow(COLUMNS)
            is_first = False
        for clip in page:
            shown = show_clip(clip, None)
            writer.writerow([_write_cell(shown[name]) for name in COLUMNS])
        yield text.getvalue().encode()


def _write_cell(value: Any) -> str:  # noqa: ANN401 - whatever a clip's members hold
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, int):
        return str(value)
    text = ";".join(value) if isinstance(value, list) else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
