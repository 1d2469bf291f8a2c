"""Disclosures: clips given out by a link."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from schemas.announcement import Identifier, Moment
from schemas.hold import Reference

RecipientKind = Literal["cps", "defence", "data_subject", "other"]
Allowed = Literal["pack", "clips"]
# A name of somebody: at least one letter or digit, nothing that breaks a line.
Name = Annotated[
    str,
    StringConstraints(
        min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*\w[^\x00-\x1f\x7f]*$"
    ),
]
Terms = Annotated[
    str, StringConstraints(min_length=1, max_length=10_000, pattern=r"^[^\x00]*\S[^\x00]*$")
]


class Recipient(BaseModel):
    """Who is given the clips."""

    model_config = ConfigDict(extra="forbid")

    kind: RecipientKind
    organisation: Name | None = Field(
        default=None, description="In the custody log there is only a salted hash of it."
    )
    person: Name | None = Field(
        default=None, description="In the custody log there is only a salted hash of it."
    )
    reference: Reference = Field(description="Theirs. Recorded for ever: no names.")

    @model_validator(mode="after")
    def _is_somebody(self) -> Self:
        if self.organisation is None and self.person is None:
            message = "nobody: name the organisation, the person, or both"
            raise ValueError(message)
        if self.kind == "data_subject" and self.person is None:
            message = "a data subject is a person: name them"
            raise ValueError(message)
        return self


class CaseFilter(BaseModel):
    """The clips of a case, as they are now; both, if both are given."""

    model_config = ConfigDict(extra="forbid")

    crime_ref: Identifier | None = None
    incident: Identifier | None = None

    @model_validator(mode="after")
    def _is_narrow(self) -> Self:
        if self.crime_ref is None and self.incident is None:
            message = "name a crime_ref or an incident"
            raise ValueError(message)
        return self


class DisclosureOrder(BaseModel):
    """What is disclosed, to whom, by what right, and until when."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "recipient": {
                        "kind": "cps",
                        "organisation": "CPS London North",
                        "person": "A. Prosecutor",
                        "reference": "URN-01AB1234526",
                    },
                    "purpose": "prosecution",
                    "legal_basis": "CPIA 1996 s.3",
                    "filter": {"crime_ref": "01/1234/26"},
                    "expires_at": "2026-12-20T18:00:00Z",
                    "terms": "For the proceedings named above only. Do not copy or pass on.",
                }
            ]
        },
    )

    recipient: Recipient
    purpose: Reference = Field(description="A code. Recorded for ever: no names.")
    legal_basis: Reference = Field(description="Recorded for ever: no names.")
    clip_ids: list[UUID] | None = Field(default=None, min_length=1, max_length=10_000)
    filter: CaseFilter | None = None
    expires_at: Moment = Field(description="When the link ends; its holds last as long.")
    allows: list[Allowed] = Field(
        default=["pack", "clips"],
        min_length=1,
        max_length=2,
        description="'pack': all clips with what proves them; 'clips': each of them alone.",
    )
    terms: Terms = Field(description="What the recipient accepts before anything is given out.")

    @model_validator(mode="after")
    def _has_one_list(self) -> Self:
        if (self.clip_ids is None) == (self.filter is None):
            message = "name either clip_ids or filter"
            raise ValueError(message)
        if len(set(self.allows)) != len(self.allows):
            message = "allows names something twice"
            raise ValueError(message)
        return self


class RevokeOrder(BaseModel):
    """By whose authority a disclosure ends."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"authority": "CASE-2026/114"}]}
    )

    authority: Reference = Field(description="Recorded for ever: no names.")


class Disclosure(BaseModel):
    """One disclosure."""

    disclosure_id: UUID
    state: Literal["open", "revoked", "expired"]
    recipient: Recipient
    purpose: str
    legal_basis: str
    allows: list[Allowed]
    terms: str
    clip_count: int
    made_by: str
    made_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    revoked_by: str | None
    revoked_authority: str | None


class DisclosureMade(Disclosure):
    """A disclosure that was made just now, with its link: it is shown this once."""

    link: str = Field(description="For the recipient alone. Only the token's hash is kept.")
    clip_ids: list[UUID]


class DisclosedClip(BaseModel):
    """A clip of a disclosure, and the hold that keeps it."""

    clip_id: UUID
    hold_id: UUID


class Acceptance(BaseModel):
    """Who has accepted the terms, in their own words."""

    accepted_at: datetime
    name: str
    source: str | None = Field(description="The address that it came from.")


class Access(BaseModel):
    """One use of the link."""

    what: Literal["page", "accept", "pack", "clip"]
    accessed_at: datetime
    clip_id: UUID | None
    start_byte: int | None
    stop_byte: int | None = Field(description="Exclusive.")
    source: str | None
    request_id: str | None


class DisclosureDetail(Disclosure):
    """One disclosure with its record."""

    clips: list[DisclosedClip]
    acceptances: list[Acceptance]
    download_count: int = Field(description="How often a pack or a clip was begun to be fetched.")
    page_count: int
    accesses: list[Access] = Field(description="Newest first, at most five hundred.")


class DisclosurePage(BaseModel):
    """A page of disclosures, newest first."""

    disclosures: list[Disclosure]
    next_before: UUID | None = Field(
        description="Pass as `before` for the next page; null: the end."
    )
