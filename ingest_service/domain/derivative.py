"""Derivatives: copies of a clip that something was done to; the master stays what it is."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from ingest_service.domain.canonical import dump_canonical
from ingest_service.domain.custody import format_time

DerivativeKind = Literal["redaction", "excerpt", "transcode", "enhancement", "other"]
Role = Literal["master", "derivative"]


@dataclass(frozen=True, slots=True)
class Derivative:
    """One derivative and the clip that it was made from.

    derivative_clip_id  where it was brought in as a clip; None: it is known by its hash alone
    parameters          what the tool was told; text, whole numbers, booleans
    made_by             who made it, pseudonymous
    """

    derivative_id: UUID
    master_clip_id: UUID
    master_sha256: bytes
    derivative_clip_id: UUID | None
    sha256: bytes
    size_bytes: int
    kind: DerivativeKind
    tool: str
    parameters: Mapping[str, str | int | bool]
    made_by: str
    registered_by: str
    registered_at: datetime

    def describe(self) -> dict[str, Any]:
        """Return it as JSON, but for its parameters: what the log and the lineage both say."""
        clip_id = self.derivative_clip_id
        return {
            "derivative_id": str(self.derivative_id),
            "master_clip_id": str(self.master_clip_id),
            "master_sha256": self.master_sha256.hex(),
            "derivative_clip_id": None if clip_id is None else str(clip_id),
            "sha256": self.sha256.hex(),
            "size_bytes": self.size_bytes,
            "kind": self.kind,
            "tool": self.tool,
            "made_by": self.made_by,
        }

    def describe_event(self, role: Role) -> dict[str, Any]:
        """Return the facts of its `derivative.registered` event in the chain of one of the two.

        Parameters may say what is to be seen, so the log has only their hash; the id is random,
        so that few parameters cannot be guessed.
        """
        salted = self.derivative_id.bytes + dump_canonical(dict(self.parameters))
        return {
            **self.describe(),
            "role": role,
            "parameters_sha256": hashlib.sha256(salted).hexdigest(),
        }


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a clip was made from, and what was made from it; oldest first."""

    derived_from: Sequence[Derivative] = ()
    derivatives: Sequence[Derivative] = ()


def write_lineage(clip_id: UUID, lineage: Lineage) -> bytes | None:
    """Return a clip's lineage as it goes into packs; None: it has none."""
    if not lineage.derived_from and not lineage.derivatives:
        return None
    document = {
        "clip_id": str(clip_id),
        "derived_from": [_show(each) for each in lineage.derived_from],
        "derivatives": [_show(each) for each in lineage.derivatives],
    }
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def _show(derivative: Derivative) -> dict[str, Any]:
    return {
        **derivative.describe(),
        "parameters": dict(derivative.parameters),
        "registered_at": format_time(derivative.registered_at),
    }
