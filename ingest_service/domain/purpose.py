"""Where policy wants to know why somebody looks."""

from dataclasses import dataclass

from ingest_service.errors import PurposeRequired


@dataclass(frozen=True, slots=True)
class PurposePolicy:
    """Scopes whose use must be given a purpose; empty: none must."""

    scopes: frozenset[str] = frozenset()

    def require(self, scope: str, purpose: str | None) -> None:
        """Check that a purpose is given if it must be.

        Raises:
            PurposeRequired: it must, and is missing or blank.
        """
        if scope in self.scopes and not (purpose or "").strip():
            raise PurposeRequired(scope)
