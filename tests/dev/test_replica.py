"""A standby that is promoted when its primary dies: what was acknowledged is there."""

import threading
import time

import pytest

from ingest_service.dev.postgres import EmbeddedPostgres
from ingest_service.dev.replica import clone_postgres

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
RELEASE = "ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf()"
SOON_S = 30


@pytest.fixture
def primary(tmp_path):
    server = EmbeddedPostgres(tmp_path / "primary", is_durable=False)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def standby(primary, tmp_path):
    cloned = clone_postgres(primary, tmp_path / "standby")
    yield cloned
    cloned.kill()


def test_what_the_primary_acknowledged_is_on_the_promoted_standby(primary, standby):
    primary.run_sql("CREATE TABLE clips (number int); INSERT INTO clips VALUES (42)")
    primary.kill()

    promoted = standby.run_sql("SELECT pg_promote()")

    assert promoted.strip() == "t"
    assert standby.run_sql("SELECT number FROM clips").strip() == "42"


def test_the_primary_acknowledges_nothing_that_its_standby_has_not_written(primary, standby):
    standby.kill()
    writing = threading.Thread(target=primary.run_sql, args=("CREATE TABLE clips (number int)",))
    writing.start()
    deadline = time.monotonic() + SOON_S
    while primary.run_sql(WAITING).strip() != "1":
        assert time.monotonic() < deadline
        time.sleep(0.05)

    assert writing.is_alive()
    for statement in RELEASE.split("; "):
        primary.run_sql(statement)
    writing.join(SOON_S)
