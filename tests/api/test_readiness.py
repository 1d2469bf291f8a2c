"""/readyz, /metrics and /openapi.json of a running service: what SREs and tools ask."""

import secrets

import pytest

from ingest_service.cli.faulty_link import open_link
from ingest_service.ledger.connection import open_pool
from tests.api.served import assert_problem

DATABASE = "ledger_api"


@pytest.fixture
async def working(served):
    """A worker that was heard of just now."""
    await served.sql("DELETE FROM worker_beats")
    await served.sql("INSERT INTO worker_beats VALUES ('w1', now())")
    with served.changed():
        yield


async def checks_of(stranger) -> tuple[int, dict[str, str]]:
    """The status, and what is wrong by name."""
    response = await stranger.get("/readyz")
    body = response.json()
    assert set(body["checks"]) >= {"database", "migrations", "bucket", "worker"}
    assert body["status"] == ("ready" if response.status_code == 200 else "not ready")
    assert response.headers["cache-control"] == "no-store"
    return response.status_code, {
        name: check["detail"]
        for name, check in body["checks"].items()
        # No sequencer runs here, and the service does its work without one.
        if not check["ok"] and name != "custody_log"
    }


async def test_a_process_that_answers_is_alive(stranger):
    response = await stranger.get("/livez")

    assert (response.status_code, response.json()) == (200, {"status": "alive"})


async def test_with_everything_in_place_it_is_ready(working, stranger):
    assert await checks_of(stranger) == (200, {})


async def test_a_bucket_that_is_gone_is_named(served, working, stranger):
    served.vault.fail_next("check", "lost")

    status, wrong = await checks_of(stranger)
    assert status == 503
    assert set(wrong) == {"bucket"}
    assert "storage" in wrong["bucket"].lower()


async def test_migrations_behind_are_named(served, working, stranger, postgres):
    saved = postgres.run_sql(
        "DELETE FROM schema_migrations WHERE version = '0001' RETURNING version", database=DATABASE
    )
    try:
        status, wrong = await checks_of(stranger)
    finally:
        postgres.run_sql("INSERT INTO schema_migrations VALUES ('0001')", database=DATABASE)

    assert "0001" in saved
    assert status == 503
    assert set(wrong) == {"migrations"}
    assert "0001_ledger.sql" in wrong["migrations"]
    assert "ingest migrate" in wrong["migrations"]


async def test_a_silent_worker_is_named(served, working, stranger):
    await served.sql("UPDATE worker_beats SET beat_at = now() - interval '31 seconds'")

    status, wrong = await checks_of(stranger)
    assert status == 503
    assert set(wrong) == {"worker"}
    assert "31 s" in wrong["worker"]


async def test_a_worker_that_never_was_is_named(served, working, stranger):
    await served.sql("DELETE FROM worker_beats")

    status, wrong = await checks_of(stranger)
    assert status == 503
    assert set(wrong) == {"worker"}


async def test_a_database_that_is_gone_is_named(served, working, stranger, postgres):
    """The link to Postgres is cut; the process lives on, and is ready when it is back."""
    dsn = postgres.service_dsn(DATABASE)
    port = int(dsn.rsplit(":", 1)[1].split("/")[0])

    async def open_lame_pool():
        link = open_link(port)
        opened = await link.__aenter__()
        pool = await open_pool(
            dsn.replace(f":{port}/", f":{opened.port}/"),
            connections_max=2,
            statement_timeout_s=5,
        )
        return link, pool

    async def break_link(link):
        await link.__aexit__(None, None, None)

    link, pool = await served.call(open_lame_pool())
    with served.changed(pool=pool):
        assert await checks_of(stranger) == (200, {})
    await served.call(break_link(link))
    with served.changed(pool=pool):
        status, wrong = await checks_of(stranger)
        alive = await stranger.get("/livez")
        refused = await stranger.get("/v1/clips")
    with served.changed():
        again = await checks_of(stranger)

    assert status == 503
    assert set(wrong) == {"database", "migrations", "worker", "erasing"}
    assert not any("127.0.0.1" in detail or str(port) in detail for detail in wrong.values())
    assert alive.status_code == 200
    assert refused.status_code == 401
    assert again == (200, {})


async def test_many_probes_are_one_question(served, working, stranger):
    asked = served.vault.calls["check"]

    for _ in range(10):
        await checks_of(stranger)
    assert served.vault.calls["check"] == asked + 1


async def test_metrics_count_requests_by_route(served, dock):
    await dock.http.get("/v1/clips/nonsense")
    async with served.client(served.token("operate")) as operator:
        response = await operator.get("/metrics")

    assert response.headers["content-type"].startswith("text/plain")
    assert 'route="/v1/clips/{clip_id}"' in response.text
    assert "nonsense" not in response.text


async def test_invented_paths_and_methods_make_no_metrics(served, dock):
    word = secrets.token_hex(8)
    await dock.http.get(f"/{word}")
    await dock.http.request(word.upper(), "/v1/clips")
    async with served.client(served.token("operate")) as operator:
        text = (await operator.get("/metrics")).text

    assert word not in text.lower()


async def test_the_description_needs_a_token(served, stranger, reader):
    assert_problem(await stranger.get("/openapi.json"), 401, "unauthorized")
    assert (await reader.get("/openapi.json")).json() == served.app.openapi()
