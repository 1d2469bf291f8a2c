"""Webhooks after the Standard Webhooks specification: secrets, signatures, when to try again.

A message is signed over `<webhook-id>.<webhook-timestamp>.<body>` with HMAC-SHA256. Its id is the
event's: the same in every attempt, so that a receiver can tell repeats.
"""

import base64
import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from ingest_service.domain.secret_box import PLAIN_BYTES, SecretBox

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - what a secret begins with
RETRY_FIRST_S: Final = 2.0
RETRY_MAX_S: Final = 3600.0
# Longer than that nobody is waited for, whatever Retry-After says.
RETRY_AFTER_MAX_S: Final = 24 * 3600.0
_EXPONENT_MAX: Final = 20
# Addresses within which others are hidden: NAT64 and 6to4.
_TUNNELS: Final = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("2002::/16"))


@dataclass(frozen=True, slots=True)
class Webhook:
    """Who is told of which events, and how far it was told.

    types, boroughs, limits   None = any
    secret, old_secret        as kept, see `SecretBox`; the old one signs too while it is changed
    next_index                first log index that was not dealt with
    attempts                  of the event there, so far
    """

    webhook_id: UUID
    url: str
    description: str
    owner_kind: str
    owner_id: str
    types: list[str] | None
    boroughs: list[str] | None
    limits: list[str] | None
    secret: bytes = field(repr=False)
    old_secret: bytes | None = field(repr=False)
    old_secret_until: datetime | None
    state: str
    state_reason: str | None
    created_at: datetime
    next_index: int
    attempts: int
    next_attempt_at: datetime
    last_delivered_at: datetime | None
    last_failure: str | None
    lease_number: int

    def secrets_at(self, moment: datetime, box: SecretBox) -> list[bytes]:
        """Return the secrets that sign at a time.

        Raises:
            SecretUnreadable: one of them was sealed by a key that is not there.
        """
        kept = [self.secret]
        if self.old_secret and self.old_secret_until and moment < self.old_secret_until:
            kept.append(self.old_secret)
        return [box.open(each, self.webhook_id.bytes) for each in kept]


def make_secret() -> bytes:
    """Return a new secret."""
    return secrets.token_bytes(PLAIN_BYTES)


def format_secret(secret: bytes) -> str:
    """Return a secret as its receiver keeps it."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def sign_message(
    message_id: str, sent_at: datetime, body: bytes, signing: Sequence[bytes]
) -> dict[str, str]:
    """Return the three headers of a message, signed with each secret."""
    timestamp = str(int(sent_at.timestamp()))
    signed = f"{message_id}.{timestamp}.".encode() + body
    signatures = [
        base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode() for secret in signing
    ]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def choose_rest(attempts: int, chance: float, retry_after_s: float | None = None) -> float:
    """Return after how many seconds to try again: longer each time, and never in step.

    attempts  that have failed, 1 or more
    chance    uniform in [0, 1)
    """
    exponent = min(attempts - 1, _EXPONENT_MAX)
    rest_s = min(RETRY_FIRST_S * 2.0**exponent, RETRY_MAX_S) * (0.75 + chance / 2)
    if retry_after_s is None:
        return rest_s
    return max(rest_s, min(retry_after_s, RETRY_AFTER_MAX_S))


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Return Retry-After in seconds (RFC 9110, section 10.2.3); None: not there, or no use."""
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:10]), RETRY_AFTER_MAX_S)
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def find_fault(url: str, *, may_be_private: bool) -> str | None:
    """Return why nothing may be sent to a URL; None: nothing is known against it.

    What its name resolves to is judged when something is sent (`is_public`).
    """
    try:
        parts = urlsplit(url)
        has_port = parts.port != 0
    except ValueError:
        return "it is no URL"
    schemes = ("https", "http") if may_be_private else ("https",)
    faults = {
        "it holds what no URL holds": not url.isascii() or not url.isprintable() or " " in url,
        "it is no https URL": parts.scheme not in schemes or not parts.hostname,
        "it holds a user's name or password": "@" in parts.netloc,
        "it has a fragment": "#" in url,
        "port 0 is none": not has_port,
        "it leads into this network": not may_be_private and _is_inside(parts.hostname or ""),
    }
    return next((fault for fault, is_so in faults.items() if is_so), None)


def _is_inside(host: str) -> bool:
    host = host.rstrip(".").lower()
    if host == "localhost" or host.endswith((".localhost", ".local", ".internal")):
        return True
    try:
        return not is_public(host)
    except ValueError:
        # A name. Numbers that only some resolvers take for an address are none.
        last = host.rpartition(".")[2]
        return last.isdigit() or last.startswith("0x")


def is_public(address: str) -> bool:
    """Tell whether an IP address is one of the open internet.

    Raises:
        ValueError: it is no IP address.
    """
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return is_public(str(parsed.ipv4_mapped))
        if any(parsed in tunnel for tunnel in _TUNNELS):
            return False
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved
