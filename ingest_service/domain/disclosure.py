"""Disclosures: clips given out to somebody by a link, for a time, under terms."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

from ingest_service.domain.custody import Actor, format_time
from ingest_service.domain.holds import HoldKind

RecipientKind = Literal["cps", "defence", "data_subject", "other"]
Allowed = Literal["pack", "clips"]
AccessKind = Literal["page", "accept", "pack", "clip"]
DisclosureState = Literal["open", "revoked", "expired"]

TOKEN_BYTES: Final = 32
_SALT_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class DisclosureRules:
    """The knobs of disclosure.

    lifetime_max  no link is open longer than this
    clips_max     of one disclosure, or of one subject access request
    keeps_holds   their holds stand after the link has expired, or the request was fulfilled
    """

    lifetime_max: timedelta = timedelta(days=90)
    clips_max: int = 200
    keeps_holds: bool = False


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who is given the clips.

    organisation, person  names, at least one of them; only hashes of them go into the log
    reference             theirs: a case or a request; it goes into the log, so never a name
    """

    kind: RecipientKind
    organisation: str | None
    person: str | None
    reference: str

    def describe(self, salt: bytes) -> dict[str, Any]:
        """Return the recipient as a fact of custody events."""
        return {
            "kind": self.kind,
            "reference": self.reference,
            "organisation_sha256": hash_name(salt, self.organisation),
            "person_sha256": hash_name(salt, self.person),
        }


@dataclass(frozen=True, slots=True)
class Disclosure:
    """One disclosure, as the ledger has it.

    salt         of the hashes that stand for names in the log
    purpose, legal_basis  codes and references: they go into the log
    allows       'pack', 'clips' (each of them alone), or both
    boroughs     of its clips
    settled_at   when its end was recorded and its holds were seen to
    """

    disclosure_id: UUID
    recipient_kind: RecipientKind
    organisation: str | None
    person: str | None
    reference: str
    salt: bytes
    purpose: str
    legal_basis: str
    allows: Sequence[Allowed]
    terms: str
    boroughs: Sequence[str]
    clip_count: int
    made_by: str
    made_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None
    revoked_by: str | None = None
    revoked_authority: str | None = None
    settled_at: datetime | None = None

    @property
    def recipient(self) -> Recipient:
        """Who is given the clips."""
        return Recipient(self.recipient_kind, self.organisation, self.person, self.reference)

    @property
    def hold_kind(self) -> HoldKind:
        """What kind of hold keeps its clips."""
        return "subject_access_request" if self.recipient_kind == "data_subject" else "case"

    @property
    def hold_authority(self) -> str:
        """What its holds are placed for."""
        return f"DISCLOSURE/{self.disclosure_id}"

    @property
    def actor(self) -> Actor:
        """Who comes by the link: nobody here knows more of them than that they have it."""
        return Actor("person", f"recipient:{self.disclosure_id}", self.recipient_kind)

    def state_at(self, moment: datetime) -> DisclosureState:
        """Return whether the link opens anything."""
        if self.revoked_at is not None:
            return "revoked"
        return "open" if moment < self.expires_at else "expired"

    def describe(self) -> dict[str, Any]:
        """Return the facts that all of its events have."""
        return {
            "disclosure_id": str(self.disclosure_id),
            "counterparty": self.recipient.describe(self.salt),
        }

    def describe_order(self) -> dict[str, Any]:
        """Return the facts of its `disclosure.created` events."""
        return {
            **self.describe(),
            "legal_basis": self.legal_basis,
            "allows": list(self.allows),
            "clip_count": self.clip_count,
            "expires_at": format_time(self.expires_at),
            "terms_sha256": hashlib.sha256(self.salt + self.terms.encode()).hexdigest(),
        }


def make_salt() -> bytes:
    """Return a salt that no list of names was hashed with."""
    return secrets.token_bytes(_SALT_BYTES)


def hash_name(salt: bytes, name: str | None) -> str | None:
    """Return what stands for a name in the log: without the salt it tells nothing."""
    return None if name is None else hashlib.sha256(salt + name.encode()).hexdigest()


def make_link_token() -> str:
    """Return the secret of a link: 32 random bytes, in letters that a URL carries."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def hash_link_token(token: str) -> bytes:
    """Return what a link is found by.

    Guessing time tells nothing: what is compared is a hash that the guesser cannot steer.
    """
    return hashlib.sha256(token.encode()).digest()
