"""The embedded Postgres: the same after every end, never half-made."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest_service.dev.postgres import EmbeddedPostgres
from ingest_service.dev.process import StartFailed


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    made = EmbeddedPostgres(tmp_path / "postgres here", is_durable=False)
    yield made
    made.stop()


def test_committed_rows_survive_a_kill_of_the_server(server: EmbeddedPostgres) -> None:
    server.start()
    server.run_sql("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")

    server.kill()
    server.start()

    assert server.run_sql("SELECT n FROM kept").strip() == "7"


def test_second_start_has_the_same_address_and_passwords(server: EmbeddedPostgres) -> None:
    server.start()
    before = server.owner_dsn()
    server.stop()

    again = EmbeddedPostgres(server.folder, is_durable=False)
    again.start()

    assert again.owner_dsn() == before
    again.stop()


def test_cluster_that_was_being_made_is_made_anew(server: EmbeddedPostgres) -> None:
    draft = server.folder / "cluster.draft"
    draft.mkdir(parents=True)
    (draft / "postgresql.conf").write_text("half a line", encoding="utf-8")

    server.start()

    assert server.run_sql("SELECT 1").strip() == "1"
    assert not draft.exists()


def test_broken_cluster_is_refused_and_not_touched(server: EmbeddedPostgres) -> None:
    rest = server.folder / "cluster" / "base"
    rest.mkdir(parents=True)
    (server.folder / "postgres.json").write_text(
        '{"port": 0, "owner_password": "a", "service_password": "b"}', encoding="utf-8"
    )

    with pytest.raises(StartFailed, match="not a whole Postgres cluster"):
        server.start()

    assert rest.exists()


def test_lost_passwords_are_named(server: EmbeddedPostgres) -> None:
    (server.folder / "cluster").mkdir(parents=True)

    with pytest.raises(StartFailed, match=r"postgres\.json"):
        server.start()


def test_password_is_needed(server: EmbeddedPostgres) -> None:
    server.start()
    server._owner_password = "wrong"  # noqa: S105 - that is the point

    with pytest.raises(StartFailed, match="password authentication failed"):
        server.run_sql("SELECT 1")


def test_secrets_are_for_their_owner_only(server: EmbeddedPostgres) -> None:
    server.start()

    assert (server.folder / "postgres.json").stat().st_mode & 0o077 == 0
