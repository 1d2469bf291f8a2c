"""Who stands behind a token: station keys on the real ledger, service keys in a file."""

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from ingest_service.actions.identify_principal import Authenticator
from ingest_service.actions.register_station import register_station
from ingest_service.actions.revoke_station_key import revoke_station_key
from ingest_service.domain.principal import Principal
from ingest_service.domain.token import (
    TokenRules,
    import_signing_key,
    make_private_key,
    sign_role_token,
    sign_station_token,
)
from ingest_service.errors import (
    Forbidden,
    KeyRevoked,
    LedgerUnavailable,
    TokenExpired,
    Unauthorized,
)
from ingest_service.keyring import open_keyring
from ingest_service.ledger.connection import open_pool
from ingest_service.ledger.stations import Station

STATION = Station("dock-1", "south", "Croydon")
RULES = TokenRules(audience="ingest", issuer="idp.test", leeway_s=30, station_lifetime_max_s=3600)


@dataclass
class Clocks:
    """The wall clock and the monotonic one, moved together."""

    at: datetime = field(default_factory=lambda: datetime(2026, 11, 22, 12, tzinfo=UTC))
    seconds: float = 1000.0

    def now(self):
        return self.at

    def monotonic(self):
        return self.seconds

    def advance(self, seconds):
        self.at += timedelta(seconds=seconds)
        self.seconds += seconds


@pytest.fixture
def clocks():
    return Clocks()


@pytest.fixture
def station_key():
    return import_signing_key(make_private_key())


@pytest.fixture
def issuer_key():
    return import_signing_key(make_private_key("P-256"))


@pytest.fixture
def jwks_file(tmp_path, issuer_key):
    file = tmp_path / "jwks.json"
    write_jwks(file, issuer_key)
    return file


def write_jwks(file, *keys):
    entries = [
        {**key.verifying_key.public_jwk, "kid": f"idp-{number}"} for number, key in enumerate(keys)
    ]
    file.write_text(json.dumps({"keys": entries}))


@pytest.fixture
async def authenticator(pool, station_key, jwks_file, clocks):
    await register_station(STATION, station_key.verifying_key.public_jwk, pool=pool)
    keyring = open_keyring(str(jwks_file))
    keyring.monotonic = clocks.monotonic
    return Authenticator(
        pool=pool, keyring=keyring, rules=RULES, now=clocks.now, monotonic=clocks.monotonic
    )


@pytest.fixture
def station_token(station_key, clocks):
    return sign_station_token(station_key, "dock-1", now=clocks.now())


@pytest.fixture
def service_token(issuer_key, clocks):
    return with_kid(issuer_key, "idp-0", clocks)


def with_kid(key, kid, clocks):
    """A token whose header names the key as the key set does, not by its thumbprint."""
    named = type(key.verifying_key)(
        kid, key.verifying_key.public_jwk, key.verifying_key.key, key.verifying_key.registry
    )
    return sign_role_token(
        type(key)(key.algorithm, key.key, named),
        "reader",
        now=clocks.now(),
        lifetime=timedelta(hours=1),
        issuer="idp.test",
    )


async def test_a_station_is_known_by_its_key(authenticator, station_token):
    principal = await authenticator.identify(station_token)

    assert (principal.kind, principal.id) == ("station", "dock-1")
    assert await authenticator.station_of(principal) == STATION


async def test_a_service_is_known_by_the_key_set(authenticator, service_token):
    principal = await authenticator.identify(service_token)

    assert (principal.kind, principal.id, principal.role) == (
        "service",
        "reader@idp.test",
        "reader",
    )


async def test_a_service_is_no_station(authenticator, service_token):
    principal = await authenticator.identify(service_token)

    with pytest.raises(Forbidden):
        await authenticator.station_of(principal)


async def test_a_station_cannot_speak_for_another(authenticator, station_key, clocks):
    token = sign_station_token(station_key, "dock-2", now=clocks.now())

    with pytest.raises(Unauthorized):
        await authenticator.identify(token)


async def test_a_stranger_does_not_learn_which_keys_exist(authenticator, station_key, clocks):
    """A forged token that names a registered key, and one of a key nobody knows: one answer."""
    stranger = import_signing_key(make_private_key())
    unknown = sign_station_token(stranger, "dock-1", now=clocks.now())
    borrowed = type(stranger)(stranger.algorithm, stranger.key, station_key.verifying_key)
    forged = sign_station_token(borrowed, "dock-1", now=clocks.now())

    answers = set()
    for token in (unknown, forged):
        with pytest.raises(Unauthorized) as refusal:
            await authenticator.identify(token)
        answers.add((type(refusal.value), str(refusal.value)))
    assert len(answers) == 1


async def test_a_stranger_does_not_learn_that_a_key_was_revoked(
    pool, authenticator, station_key, clocks
):
    await revoke_station_key(station_key.verifying_key.key_id, pool=pool)
    stranger = import_signing_key(make_private_key())
    borrowed = type(stranger)(stranger.algorithm, stranger.key, station_key.verifying_key)

    with pytest.raises(Unauthorized) as refusal:
        await authenticator.identify(sign_station_token(borrowed, "dock-1", now=clocks.now()))
    assert not isinstance(refusal.value, KeyRevoked)


async def test_a_revoked_key_is_refused_within_five_seconds(
    pool, authenticator, station_key, station_token, clocks
):
    await authenticator.identify(station_token)
    await revoke_station_key(station_key.verifying_key.key_id, pool=pool)
    clocks.advance(4.9)

    with pytest.raises(KeyRevoked):
        await authenticator.identify(station_token)


async def test_a_revocation_holds_at_once_where_keys_are_always_looked_up(
    pool, authenticator, station_key, station_token, clocks
):
    careful = Authenticator(
        pool=pool, keyring=open_keyring(None), rules=RULES, now=clocks.now, look_again_s=0
    )
    await careful.identify(station_token)
    await revoke_station_key(station_key.verifying_key.key_id, pool=pool)

    with pytest.raises(KeyRevoked):
        await careful.identify(station_token)


async def test_a_token_seen_before_expires_all_the_same(authenticator, station_token, clocks):
    await authenticator.identify(station_token)
    clocks.advance(600 + RULES.leeway_s)

    with pytest.raises(TokenExpired):
        await authenticator.identify(station_token)


class CountingPool:
    """The real pool; counts how often it lends a connection."""

    def __init__(self, pool):
        self.pool = pool
        self.lent_count = 0

    def get_idle_size(self):
        return self.pool.get_idle_size()

    def acquire(self, *, timeout):
        self.lent_count += 1
        return self.pool.acquire(timeout=timeout)


@pytest.fixture
async def counting_pool(pool, station_key):
    await register_station(STATION, station_key.verifying_key.public_jwk, pool=pool)
    return CountingPool(pool)


@pytest.fixture
def counted_authenticator(counting_pool, clocks):
    return Authenticator(
        pool=counting_pool,
        keyring=open_keyring(None),
        rules=RULES,
        now=clocks.now,
        monotonic=clocks.monotonic,
    )


async def test_a_token_seen_before_asks_nobody(counted_authenticator, counting_pool, station_token):
    for _ in range(3):
        await counted_authenticator.identify(station_token)

    assert counting_pool.lent_count == 1


async def test_a_burst_with_one_token_looks_its_key_up_once(
    counted_authenticator, counting_pool, station_token, clocks
):
    await counted_authenticator.identify(station_token)
    clocks.advance(2.5)

    await asyncio.gather(*(counted_authenticator.identify(station_token) for _ in range(50)))
    assert counting_pool.lent_count == 2


async def test_a_key_taken_out_of_the_key_set_is_refused(
    authenticator, service_token, jwks_file, clocks
):
    await authenticator.identify(service_token)
    write_jwks(jwks_file, import_signing_key(make_private_key()))
    clocks.advance(4.9)

    with pytest.raises(Unauthorized):
        await authenticator.identify(service_token)


async def test_a_key_added_to_the_key_set_is_taken(authenticator, issuer_key, jwks_file, clocks):
    new_key = import_signing_key(make_private_key())
    write_jwks(jwks_file, issuer_key, new_key)
    clocks.advance(1.1)

    principal = await authenticator.identify(with_kid(new_key, "idp-1", clocks))
    assert principal.kind == "service"


async def test_without_a_key_set_no_service_is_known(pool, service_token, clocks):
    lonely = Authenticator(pool=pool, keyring=open_keyring(None), rules=RULES, now=clocks.now)

    with pytest.raises(Unauthorized):
        await lonely.identify(service_token)


async def test_only_so_many_tokens_are_remembered(pool, station_key, clocks):
    await register_station(STATION, station_key.verifying_key.public_jwk, pool=pool)
    small = Authenticator(
        pool=pool, keyring=open_keyring(None), rules=RULES, now=clocks.now, tokens_max=3
    )

    for _ in range(10):
        await small.identify(sign_station_token(station_key, "dock-1", now=clocks.now()))
    assert len(small._tokens) == 3


async def test_without_the_ledger_a_new_token_is_neither_good_nor_bad(
    ledger_dsn, station_token, clocks
):
    pool = await open_pool(ledger_dsn, connections_max=2, statement_timeout_s=5)
    await pool.close()
    cut_off = Authenticator(pool=pool, keyring=open_keyring(None), rules=RULES, now=clocks.now)

    with pytest.raises(LedgerUnavailable):
        await cut_off.identify(station_token)


async def test_a_forgetful_authenticator_still_knows_whose_station_it_is(authenticator):
    authenticator.forget()
    principal = Principal("station", "dock-1", frozenset({"upload"}))

    assert await authenticator.station_of(principal) == STATION
