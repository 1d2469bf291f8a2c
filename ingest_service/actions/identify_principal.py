"""Find out who stands behind a bearer token."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ingest_service.domain.clock import Clock, utc_now
from ingest_service.domain.principal import UPLOAD, Principal
from ingest_service.domain.token import (
    NOT_OURS,
    Grant,
    TokenRules,
    VerifyingKey,
    import_verifying_key,
    judge_service_claims,
    judge_station_claims,
    read_key_id,
    verify_token,
)
from ingest_service.errors import Forbidden, KeyRevoked, Unauthorized
from ingest_service.keyring import KeyRing
from ingest_service.ledger.connection import Pool, reading
from ingest_service.ledger.stations import Station, StationKey, find_station_key, get_station

# A revoked key is refused everywhere within 5 s. One request looks the key up again after
# LOOK_AGAIN_S; those beside it trust the old answer until it is back, but not beyond TRUST_S.
LOOK_AGAIN_S: Final = 2.0
TRUST_S: Final = 4.0
# A station's key goes by its SHA-256 thumbprint, base64url.
THUMBPRINT_CHARS: Final = 43
# Some 300 bytes each; the fleet has some hundred stations, each with a token or two at a time.
TOKENS_MAX: Final = 20_000


@dataclass(slots=True)
class _KnownKey:
    """A station's key as the ledger had it at `seen_at` (monotonic seconds)."""

    recorded: StationKey
    verifying_key: VerifyingKey
    seen_at: float
    is_looked_up: bool = False


@dataclass(slots=True)
class _KnownToken:
    """A token that was verified; its key is looked up again after `trusted_until` (monotonic)."""

    grant: Grant
    key_id: str
    thumbprint: str
    trusted_until: float


class Authenticator:
    """Verifies tokens and remembers those it has seen: a known token costs some microseconds.

    Concurrency: any number of tasks of one event loop.

    pool, keyring   where keys of stations and of services are found
    rules           what every token must satisfy
    look_again_s    how soon a key is looked up again; 0 = for every request
    """

    def __init__(
        self,
        *,
        pool: Pool,
        keyring: KeyRing,
        rules: TokenRules,
        now: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        look_again_s: float = LOOK_AGAIN_S,
        tokens_max: int = TOKENS_MAX,
    ) -> None:
        self._pool = pool
        self._keyring = keyring
        self._rules = rules
        self._now = now
        self._monotonic = monotonic
        self._look_again_s = look_again_s
        self._tokens_max = tokens_max
        self._tokens: OrderedDict[bytes, _KnownToken] = OrderedDict()
        self._keys: dict[str, _KnownKey] = {}
        self._stations: dict[str, Station] = {}

    async def identify(self, token: str) -> Principal:
        """Return who signed the token or is named by it.

        Raises:
            TokenExpired: it was good once.
            KeyRevoked: good, but for its key.
            Unauthorized: anything else; the reason tells a stranger nothing about keys.
            LedgerUnavailable: the key could not be looked up.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        known = self._tokens.get(digest)
        if known is not None and self._now().timestamp() < known.grant.expires_at_s:
            if self._monotonic() < known.trusted_until or await self._is_key_still_good(known):
                self._tokens.move_to_end(digest)
                return known.grant.principal
            del self._tokens[digest]
        known = await self._verify(token)
        self._tokens[digest] = known
        while len(self._tokens) > self._tokens_max:
            self._tokens.popitem(last=False)
        return known.grant.principal

    async def station_of(self, principal: Principal) -> Station:
        """Return the station behind a principal, with its site and borough.

        Raises:
            Forbidden: the principal is no station.
        """
        if principal.kind != "station":
            raise Forbidden(UPLOAD)
        station = self._stations.get(principal.id)
        if station is None:
            async with reading(self._pool) as connection:
                station = await get_station(connection, principal.id)
            self._stations[principal.id] = station
        return station

    def forget(self) -> None:
        """Forget every token and key, so that the next request looks everything up."""
        self._tokens.clear()
        self._keys.clear()
        self._stations.clear()

    async def _verify(self, token: str) -> _KnownToken:
        key_id = read_key_id(token)
        # Stations first: footage comes in also while the identity provider is away.
        station_key = await self._find_station_key(key_id)
        if station_key is not None:
            return self._judge_station(token, station_key)
        seen_at = self._monotonic()
        service_key = await self._keyring.find_key(key_id)
        if service_key is None:
            raise Unauthorized(NOT_OURS)
        claims = verify_token(token, service_key)
        grant = judge_service_claims(claims, rules=self._rules, now=self._now())
        return _KnownToken(grant, key_id, service_key.key_id, seen_at + self._look_again_s)

    def _judge_station(self, token: str, known: _KnownKey) -> _KnownToken:
        # The signature is judged before anything is said about the key.
        claims = verify_token(token, known.verifying_key)
        if known.recorded.revoked_at is not None:
            reason = "the key that signed this token was revoked"
            raise KeyRevoked(reason)
        station = known.recorded.station
        grant = judge_station_claims(claims, station.station_id, rules=self._rules, now=self._now())
        self._stations[station.station_id] = station
        key_id = known.recorded.key_id
        return _KnownToken(grant, key_id, key_id, known.seen_at + self._look_again_s)

    async def _is_key_still_good(self, known: _KnownToken) -> bool:
        """Look the token's key up again; False: verify the token from the start."""
        if known.grant.principal.kind == "station":
            station_key = await self._find_station_key(known.key_id)
            if station_key is None or station_key.recorded.revoked_at is not None:
                return False
            known.trusted_until = station_key.seen_at + self._look_again_s
            return True
        seen_at = self._monotonic()
        service_key = await self._keyring.find_key(known.key_id)
        if service_key is None or service_key.key_id != known.thumbprint:
            return False
        known.trusted_until = seen_at + self._look_again_s
        return True

    async def _find_station_key(self, key_id: str) -> _KnownKey | None:
        if len(key_id) != THUMBPRINT_CHARS:
            return None
        known = self._keys.get(key_id)
        now = self._monotonic()
        if known is not None:
            age_s = now - known.seen_at
            if age_s < self._look_again_s or (
                known.is_looked_up and age_s < min(TRUST_S, 2 * self._look_again_s)
            ):
                return known
            known.is_looked_up = True
        try:
            async with reading(self._pool) as connection:
                recorded = await find_station_key(connection, key_id)
        finally:
            if known is not None:
                known.is_looked_up = False
        if recorded is None:
            self._keys.pop(key_id, None)
            return None
        # The answer is as old as the question: a revocation may have come in between.
        if known is not None and known.recorded.public_jwk == recorded.public_jwk:
            known.recorded, known.seen_at = recorded, now
            return known
        found = _KnownKey(recorded, import_verifying_key(recorded.public_jwk), now)
        self._keys[key_id] = found
        return found
