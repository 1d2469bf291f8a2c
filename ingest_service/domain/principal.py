"""Who asks, and what they may do: the one place for scopes and borough limits."""

from dataclasses import dataclass
from typing import Final, Literal

from ingest_service.errors import Forbidden

PrincipalKind = Literal["station", "service", "person"]

# Every scope a token can grant; a station's are fixed by being a station.
UPLOAD: Final = "upload"
CLIPS_READ: Final = "clips:read"
CONTENT_READ: Final = "content:read"
EVENTS_READ: Final = "events:read"
ASSERTIONS_WRITE: Final = "assertions:write"
HOLDS_WRITE: Final = "holds:write"
RETENTION_WRITE: Final = "retention:write"
DISCLOSURES_WRITE: Final = "disclosures:write"
AUDIT_READ: Final = "audit:read"
WEBHOOKS_WRITE: Final = "webhooks:write"
OPERATE: Final = "operate"

# What each role of `ingest dev` is granted; identity providers map their roles the same way.
ROLE_SCOPES: Final[dict[str, tuple[str, ...]]] = {
    "station": (UPLOAD,),
    "reader": (CLIPS_READ, CONTENT_READ, EVENTS_READ),
    "custodian": (
        *(CLIPS_READ, CONTENT_READ, EVENTS_READ, ASSERTIONS_WRITE, HOLDS_WRITE),
        RETENTION_WRITE,
    ),
    "discloser": (CLIPS_READ, CONTENT_READ, EVENTS_READ, DISCLOSURES_WRITE),
    "auditor": (CLIPS_READ, EVENTS_READ, AUDIT_READ),
    "operator": (OPERATE, CLIPS_READ, EVENTS_READ, WEBHOOKS_WRITE),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who stands behind a request.

    kind        station, service or person
    id          station_id, or the token's subject: pseudonymous, it goes into custody events
    scopes      what the token grants
    boroughs    None = every borough; else only clips of these
    role        as the token names it, for the record
    """

    kind: PrincipalKind
    id: str
    scopes: frozenset[str]
    boroughs: frozenset[str] | None = None
    role: str | None = None

    def require(self, scope: str) -> None:
        """Raise Forbidden unless the scope is granted."""
        if scope not in self.scopes:
            raise Forbidden(scope)

    def require_any(self, *scopes: str) -> None:
        """Raise Forbidden unless one of the scopes is granted."""
        if self.scopes.isdisjoint(scopes):
            raise Forbidden(" or ".join(scopes))

    def require_everywhere(self, scope: str) -> None:
        """Raise Forbidden unless the scope is granted, and not for some boroughs only.

        For what is of the whole force: the log, policies, a halt of the erasing.
        """
        self.require(scope)
        if self.boroughs is not None:
            everywhere = f"{scope} of every borough"
            raise Forbidden(everywhere)

    def may_see_borough(self, borough: str) -> bool:
        """Tell whether clips of this borough exist for this principal."""
        return self.boroughs is None or borough in self.boroughs
