"""Versions of the IETF draft "Resumable Uploads for HTTP", and what differs between them.

draft-ietf-httpbis-resumable-upload; a client names the version that it speaks by
Upload-Draft-Interop-Version. Without it the newest is spoken, and no 104 is sent: a client that
does not know the draft may take that for the final answer.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Interop:
    """One version of the draft.

    version            None: the client did not name one
    is_inverted        says Upload-Incomplete where later ones say Upload-Complete
    append_type        media type that an append must have; None: any
    has_limits         knows Upload-Limit
    incomplete_status  of an append that leaves the upload incomplete
    names_completed    knows the problem type completed-upload
    """

    version: int | None
    is_inverted: bool = False
    append_type: str | None = "application/partial-upload"
    has_limits: bool = True
    incomplete_status: int = 204
    names_completed: bool = False

    @property
    def complete_field(self) -> str:
        """The field that says whether a request is (or was) the last one."""
        return "Upload-Incomplete" if self.is_inverted else "Upload-Complete"


NEWEST: Final = Interop(None)
VERSIONS: Final = {
    each.version: each
    for each in (
        Interop(
            3, is_inverted=True, append_type=None, has_limits=False, incomplete_status=201
        ),  # draft -01: iOS 17
        Interop(5, append_type=None, has_limits=False, incomplete_status=201),  # -03: tus-js-client
        Interop(6, names_completed=True),  # -04, -05: iOS 18, tus-js-client
        Interop(8, names_completed=True),  # -08 to -11
        Interop(9),  # -12 and newer
    )
}


def find_interop(version: int | None) -> Interop:
    """Return the version to speak; an unknown one is spoken to as the newest, without 104."""
    return VERSIONS.get(version, NEWEST)
