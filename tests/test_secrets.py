"""Secrets are compared in constant time or not at all, and no text of ours shows one."""

import ast
import importlib
import logging
import pkgutil
import re
import traceback
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
from pydantic import ValidationError

import ingest_service
from ingest_service.domain.secret_box import SecretBox
from ingest_service.domain.token import import_signing_key, make_private_key
from ingest_service.errors import IngestError, LedgerUnavailable
from ingest_service.ledger.connection import is_dsn, open_pool
from ingest_service.ledger.migrations import MigrationFailed, migrate
from ingest_service.settings import Settings, load_settings
from ingest_service.vault.s3 import open_s3_vault
from tests.cli.test_startup import GOOD

PACKAGE = Path(ingest_service.__file__).parent
SECRET = "hunter2SECRET0123456789"  # noqa: S105 - nobody's
WORDS = {
    "authorization",
    "bearer",
    "credential",
    "credentials",
    "hmac",
    "mac",
    "password",
    "secret",
    "secrets",
    "signature",
    "signatures",
    "token",
    "tokens",
}
# What has such a name and is compared all the same; (file, what stands there).
COMPARED = {
    # A time stamp is public, and what the log says of it, too.
    ("actions/restore_attested.py", "hashlib.sha256(token).hexdigest() != facts['token_sha256']"),
    # Found by a hash that whoever guesses cannot steer: time tells nothing of the secret.
    ("ledger/disclosures.py", "token_sha256 = $"),
    # Names a dry run, which only the one who made it may go on with.
    ("ledger/holds.py", "token = $"),
    # Compare-and-set with what was read before; nobody brings it from outside.
    ("ledger/webhooks.py", "secret = $"),
    ("ledger/webhooks.py", "old_secret IS NOT DISTINCT FROM $"),
}
_IN_SQL = re.compile(r"\b\w*(?:token|secret|password|signature)\w* (?:=|IS NOT DISTINCT FROM) \$")
SOURCES = sorted(PACKAGE.rglob("*.py"))


def words_of(node: ast.AST) -> set[str]:
    """The words of what a side of a comparison is made of; how long something is, is no secret."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "len":
        return set()
    found = set()
    if isinstance(node, ast.Name) and not node.id.isupper():  # a constant of ours is none
        found = set(node.id.lower().split("_"))
    if isinstance(node, ast.Attribute):
        found = set(node.attr.lower().split("_"))
    for child in ast.iter_child_nodes(node):
        found |= words_of(child)
    return found


def find_comparisons(text: str) -> Iterator[str]:
    """What looks like a secret compared by `==`, or by a statement to the ledger."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Compare) and any(
            isinstance(each, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for each in node.ops
        ):
            sides = [
                each
                for each in (node.left, *node.comparators)
                # Whether something is empty, or which of our own words it is.
                if not isinstance(each, ast.Constant)
            ]
            if len(sides) > 1 and any(words_of(side) & WORDS for side in sides):
                yield ast.unparse(node)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _IN_SQL.findall(node.value.partition("WHERE")[2])


def test_no_secret_is_compared_in_a_way_whose_time_tells_of_it():
    """Who must compare one takes `hmac.compare_digest`; today nobody must.

    Links are found by their hash, signatures of tokens are judged by `cryptography`, sealed secrets
    by AES-GCM. Hashes of footage and of the log are no secrets.
    """
    found = {
        (source.relative_to(PACKAGE).as_posix(), each)
        for source in SOURCES
        for each in find_comparisons(source.read_text())
    }

    assert found == COMPARED


@pytest.mark.parametrize(
    "line",
    [
        "given == self._secret",
        "signature != hmac.digest(key, body, 'sha256')",
        "headers['authorization'] == wanted_token",
        "token in tokens",
        "FIND = '''SELECT 1 FROM links WHERE token = $1'''",
        "mac.hexdigest() == sent",
    ],
)
def test_a_comparison_that_tells_is_found(line):
    assert len(list(find_comparisons(line))) == 1


# --- what shows -------------------------------------------------------------------------------

# Stamps of a time authority, and hashes, are public.
PUBLIC = {("StoredTimestamp", "token"), ("PackedStamp", "token")}
SHOWS_NOTHING = WORDS - {"signature", "signatures"} | {"dsn"}
ALSO = {("SecretBox", "keys"), ("SigningKey", "key")}


def test_no_record_shows_a_secret_of_its_own():
    """What is shown in a log line, an error or a debugger's window."""
    secrets = set()
    for found in pkgutil.walk_packages([str(PACKAGE)], "ingest_service."):
        if found.name.endswith("__main__"):
            continue
        for kind in vars(importlib.import_module(found.name)).values():
            if isinstance(kind, type) and is_dataclass(kind):
                secrets |= {
                    (kind.__name__, field.name, field.repr)
                    for field in fields(kind)
                    if (kind.__name__, field.name) in ALSO
                    or (
                        set(field.name.split("_")) & SHOWS_NOTHING
                        and field.type in {str, bytes, bytes | None}
                    )
                }
    shown = {(kind, name) for kind, name, is_shown in secrets if is_shown}

    assert shown == PUBLIC
    assert ("Webhook", "secret", False) in secrets
    assert {(*each, False) for each in ALSO} <= secrets


def test_a_key_is_not_in_what_its_holder_shows():
    key = import_signing_key(make_private_key("P-256"))
    private = key.key.as_dict(private=True)["d"]

    assert str(private) not in repr(key)
    assert repr(b"k" * 32) not in repr(SecretBox((b"k" * 32,)))


def everything_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + str(vars(error))


@pytest.mark.parametrize(
    "name", ["LEDGER_DSN", "VAULT_ACCESS_KEY", "VAULT_SECRET_KEY", "WEBHOOK_KEYS"]
)
def test_settings_show_no_secret_neither_right_nor_wrong(monkeypatch, name):
    for variable, value in GOOD.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv(f"INGEST_{name}", SECRET)
    settings = load_settings()
    shown = repr(settings) + str(settings) + settings.model_dump_json()

    monkeypatch.setenv("INGEST_VAULT_BUCKET", "")
    with pytest.raises(ValidationError) as refusal:
        Settings()
    assert SECRET not in shown + everything_of(refusal.value)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://ingest:{}@127.0.0.1:1/ingest",
        "postgresql://ingest:{}/x@127.0.0.1:1/ingest",
        "postgresql://ingest:1/{}@127.0.0.1:1/ingest",
        "postgresql://ingest:x?{}@127.0.0.1:1/ingest",
        "postgresql://ingest:{}#x@127.0.0.1:1/ingest",
        "postgresql://ingest:{}@x@127.0.0.1:1/ingest",
        "postgresql://ingest:x{}^ %zz@127.0.0.1:1/ingest",
        "host=127.0.0.1 password={}",
        "{}",
    ],
)
async def test_the_password_of_the_ledger_is_in_no_error_however_it_was_mistyped(dsn):
    typed = dsn.format(SECRET)
    with pytest.raises(LedgerUnavailable) as refusal:
        await open_pool(typed, connections_max=1, statement_timeout_s=1)
    with pytest.raises(MigrationFailed) as failure:
        migrate(typed)

    assert SECRET not in everything_of(refusal.value) + everything_of(failure.value)


async def test_a_refused_login_shows_no_password(ledger_dsn):
    wrong = re.sub(r":[^:@/]+@", f":{SECRET}@", ledger_dsn, count=1)
    assert SECRET in wrong

    with pytest.raises(LedgerUnavailable) as refusal:
        await open_pool(wrong, connections_max=1, statement_timeout_s=5)
    assert SECRET not in everything_of(refusal.value)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://a:b@host:5432/ledger?sslmode=disable",
        "postgres://a:p^{}%zz!@host/ledger",
        "postgresql://a:p%2Fq%40@host/ledger",
        "postgresql://a@one:1,two:2/ledger?target_session_attrs=read-write",
        "postgresql://a:b@[::1]:5432/ledger",
        "postgresql:///ledger?host=/run/postgresql&password=a@b",
        "postgresql://host",
    ],
)
def test_every_address_that_asyncpg_reads_is_one(dsn):
    assert is_dsn(dsn)


@pytest.mark.s3
@pytest.mark.parametrize("wrong", ["access_key", "secret_key"])
async def test_a_store_that_knows_no_such_key_gets_it_into_no_error(seaweed, wrong, caplog):
    keys = {"access_key": seaweed.access_key, "secret_key": seaweed.secret_key, wrong: SECRET}
    with caplog.at_level(logging.INFO), pytest.raises(IngestError) as refusal:
        async with open_s3_vault(
            endpoint=seaweed.endpoint,
            region="us-east-1",
            bucket=seaweed.bucket,
            **keys,
            checks_sha256="yes",
            connections_max=2,
            timeout_s=5.0,
            attempts=1,
        ) as vault:
            await vault.put_new("secrets/1", b"x")

    told = everything_of(refusal.value) + caplog.text
    assert SECRET not in told
    assert seaweed.secret_key not in told
