"""Every type of custody event, and which verb of the data-protection log it is.

The six verbs are those of the UK Data Protection Act 2018, section 62. Who adds a type adds its
row here: the feed refuses filters by a type that is none, and a test compares with the source.
"""

from collections.abc import Mapping
from typing import Final, Literal

Verb = Literal[
    "collection", "alteration", "consultation", "disclosure", "combination", "erasure"
]  # fmt: skip

_COLLECTION: Final = (
    "device.docked", "device.clock_measured", "device.manifest_reported",
    "device.sequence_gap_detected",
    "clip.announced", "upload.resumed", "upload.chunk_rejected", "clip.sealed", "hash.mismatch",
    "readback.verified", "manifest.stored", "clip.secured", "release.issued", "clip.quarantined",
    "quarantine.resolved", "upload.expired", "upload.terminated", "duplicate.detected",
    "media.probed", "derivative.registered",
)  # fmt: skip
_ALTERATION: Final = (
    "metadata.asserted", "metadata.corrected", "category.changed", "evidential_state.changed",
    "officer.reattributed",
)  # fmt: skip
_COMBINATION: Final = ("case.linked", "case.unlinked")
_CONSULTATION: Final = (
    "metadata.viewed", "footage.streamed", "footage.downloaded", "access.denied", "audit.viewed",
)  # fmt: skip
_DISCLOSURE: Final = (
    "disclosure.created", "disclosure.accessed", "disclosure.revoked", "disclosure.expired",
    "export.created", "sar.received", "sar.extended", "sar.fulfilled",
)  # fmt: skip
_ERASURE: Final = (
    "retention.policy_made", "retention.policy_approved", "retention.computed",
    "hold.placed", "hold.released", "expiry.warned",
    "erase.scheduled", "erase.forecast", "erase.intended", "erase.blocked", "erase.executed",
    "erase.restored", "erase.batch_halted", "erase.halt_confirmed", "erase.halt_released",
)  # fmt: skip
# The service's own book-keeping: nobody's data is processed by it.
_INTEGRITY: Final = (
    "fixity.checked", "checkpoint.signed", "ledger.verified", "ledger.rebuilt", "clip.restored",
    "key.rotated", "log.timestamped",
)  # fmt: skip

VERBS: Final[Mapping[Verb, tuple[str, ...]]] = {
    "collection": _COLLECTION,
    "alteration": _ALTERATION,
    "consultation": _CONSULTATION,
    "disclosure": _DISCLOSURE,
    "combination": _COMBINATION,
    "erasure": _ERASURE,
}
VERB_OF: Final[Mapping[str, Verb]] = {
    event_type: verb for verb, event_types in VERBS.items() for event_type in event_types
}
EVENT_TYPES: Final[frozenset[str]] = frozenset((*VERB_OF, *_INTEGRITY))
# Who looks into whose affairs is for auditors alone.
AUDITORS_ONLY: Final[frozenset[str]] = frozenset({"audit.viewed"})
