"""Why a recording is not secured yet, and whether trying again can help.

Trouble          nothing is wrong with the clip; the same again, later
DockFailure      this run ends for this recording; it stays where it is, nothing is erased
├─ Refused         the service says fix or stop
├─ GaveUp          no progress for as long as the operator allows
├─ ClipQuarantined the service holds bytes that differ from the camera's; a human decides
├─ ReceiptRefused  the receipt does not prove that *this* file is safe
├─ FileChanged     the file is not the one that was announced
├─ FileUnusable    the file, or the state beside it, cannot be read or written
├─ FileInUse       another dock process is sending it
└─ TargetUnusable  address or keys are missing or malformed
"""

from dataclasses import dataclass
from pathlib import Path
from uuid import UUID


@dataclass(eq=False)
class Trouble(Exception):
    """An attempt failed in a way that time heals; retry_after_s is what the service asked for."""

    reason: str
    retry_after_s: float | None = None

    def __str__(self) -> str:
        return self.reason


class DockFailure(Exception):
    """The root; never raised itself."""


@dataclass(eq=False)
class Refused(DockFailure):
    """The service refused; the same again would be refused again.

    name    last part of the problem's `type`, e.g. chunk-conflict; '' without a problem document
    action  fix or stop
    """

    status: int
    name: str
    action: str
    title: str
    detail: str
    remedy: str

    def __str__(self) -> str:
        parts = [f"{self.title} ({self.status})", self.detail, self.remedy]
        return ": ".join(part for part in parts if part)


@dataclass(eq=False)
class GaveUp(DockFailure):
    """No progress for as long as the operator allows; another run goes on from there."""

    after_s: float
    reason: str

    def __str__(self) -> str:
        return f"gave up after {self.after_s:.0f} s without progress: {self.reason}"


@dataclass(eq=False)
class ClipQuarantined(DockFailure):
    """The service refuses to vouch for the bytes it holds."""

    clip_id: UUID
    reason: str

    def __str__(self) -> str:
        return f"clip {self.clip_id} is quarantined: {self.reason}; keep the recording"


@dataclass(eq=False)
class ReceiptRefused(DockFailure):
    """The receipt does not prove that this very file is safe."""

    reason: str

    def __str__(self) -> str:
        return f"the receipt is not accepted: {self.reason}; keep the recording"


@dataclass(eq=False)
class FileChanged(DockFailure):
    """The file is not the one that was hashed and announced."""

    path: Path
    what: str

    def __str__(self) -> str:
        return f"{self.path} has changed: {self.what}"


@dataclass(eq=False)
class FileUnusable(DockFailure):
    """The file, or the state beside it, cannot be read or written."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(eq=False)
class FileInUse(DockFailure):
    """Another dock process is sending this file."""

    path: Path

    def __str__(self) -> str:
        return f"{self.path} is being uploaded by another process"


@dataclass(eq=False)
class TargetUnusable(DockFailure):
    """Where to send, or the keys for it, cannot be used."""

    reason: str

    def __str__(self) -> str:
        return self.reason
