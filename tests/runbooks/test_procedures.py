"""The commands of the procedures do what the runbooks say."""

import asyncio
import json
import shutil

import pytest

from ingest_service.actions.list_stations import ListedStation, list_stations
from ingest_service.ledger.connection import open_pool, reading
from ingest_service.resources import open_vault
from ingest_service.settings import Settings
from ingest_service.vault.s3 import S3Vault
from tests.actions.test_custody_log import record
from tests.docs.documents import find_blocks
from tests.runbooks.conftest import RUNBOOKS, find_commands

pytestmark = pytest.mark.s3

SET_UP, DAILY, RESTORE, HOLD_AGAINST, REBUILD = range(5)


async def count_events(dsn: str) -> int:
    pool = await open_pool(dsn, connections_max=1, statement_timeout_s=10)
    async with pool, reading(pool) as connection:
        return await connection.fetchval("SELECT count(*) FROM custody_events")


async def list_all(dsn: str) -> list[ListedStation]:
    pool = await open_pool(dsn, connections_max=1, statement_timeout_s=10)
    async with pool:
        return await list_stations(pool=pool)


async def record_more(dsn: str) -> None:
    pool = await open_pool(dsn, connections_max=2, statement_timeout_s=10)
    async with pool:
        await record(pool, 5)


def test_a_lost_postgres_comes_back_from_its_archive_to_the_last_segment(
    desk, primary, make_custody, restored_port
):
    """Set up, base backup, clips after it, loss, restore, audit; then the rebuild, on the same."""
    blocks = find_commands("backup-and-restore")
    folder = desk.folder
    (folder / "archive").mkdir(mode=0o777)
    (folder / "archive").chmod(0o777)
    for name in ("base", "restored"):
        desk.environment[name] = str(folder / name)
    desk.environment["archive"] = str(folder / "archive")
    desk.environment["ledger_owner"] = primary.owner_dsn()
    desk.run(blocks[SET_UP])
    primary.stop()
    primary.start()
    desk.run(blocks[DAILY])
    custody = make_custody(primary, "restored-by-runbook")
    asyncio.run(record_more(primary.service_dsn()))
    kept = asyncio.run(count_events(primary.service_dsn()))
    primary.stop()  # an orderly end archives the last segment

    def moved(dsn: str) -> str:
        return dsn.replace(f":{primary.port}/", f":{restored_port}/")

    desk.environment |= custody.env_of(moved(primary.service_dsn())) | {
        "restored_owner": moved(primary.owner_dsn()),
        "restored_ledger": moved(primary.service_dsn()),
        "postgres_options": f"-p {restored_port} -c listen_addresses=127.0.0.1 "
        "-c unix_socket_directories= -c archive_mode=off -c max_connections=200",
    }
    shutil.rmtree(primary.folder / "cluster")
    try:
        desk.run(blocks[RESTORE])

        assert asyncio.run(count_events(moved(primary.service_dsn()))) == kept
        desk.run(blocks[HOLD_AGAINST])
        desk.environment |= {
            "server_owner": moved(primary.owner_dsn("postgres")),
            "rebuilt_owner": moved(primary.owner_dsn("rebuilt")),
            "rebuilt_ledger": moved(primary.service_dsn("rebuilt")),
        }
        assert "2 clips: 2 secured" in desk.run(blocks[REBUILD])
    finally:
        desk.run('pg_ctl -D "$restored" -m immediate -w stop || true')


def test_the_signing_key_is_changed_and_the_log_holds(desk, primary, make_custody):
    custody = make_custody(primary, "rotated-by-runbook")
    desk.environment |= custody.env | {"new_key": str(desk.folder / "custody-2.pem")}

    printed = [desk.run(block) for block in find_commands("key-compromise")]

    assert "INGEST_SIGNING_KEY_SECOND_FILE" in printed[0]


def test_a_stolen_station_key_is_revoked_and_the_station_goes_on(desk, ledger_dsn):
    desk.environment["INGEST_LEDGER_DSN"] = ledger_dsn
    made = desk.run(
        "ingest station register dock-9 --site s --borough Camden --make-key old.pem --json"
    )
    desk.environment |= {
        "station": "dock-9",
        "new_station_key": str(desk.folder / "new.pem"),
        "stolen_key_id": json.loads(made)["key_id"],
    }

    for block in find_commands("stolen-station-key"):
        desk.run(block)

    [listed] = asyncio.run(list_all(ledger_dsn))
    revoked = {key.key_id: key.revoked_at is not None for key in listed.keys}
    assert revoked.pop(desk.environment["stolen_key_id"])
    assert list(revoked.values()) == [False]


@pytest.mark.parametrize("procedure", ["full-disk", "multipart-uploads", "clock-trouble"])
def test_what_a_procedure_asks_is_answered(desk, ledger_owner_dsn, procedure):
    desk.environment["ledger_owner"] = ledger_owner_dsn

    for block in find_commands(procedure):
        assert desk.run(block)


def read_lifecycle_rule() -> dict:
    [rules] = find_blocks(RUNBOOKS / "multipart-uploads.md", "json")
    return json.loads(rules)


def test_the_buckets_lifecycle_rule_leaves_uploads_time_to_be_resumed():
    [rule] = read_lifecycle_rule()["Rules"]

    days = rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
    expires_after_s = Settings.model_fields["upload_expires_after_s"].default
    assert days * 86_400 >= 2 * expires_after_s
    assert rule.keys() == {"ID", "Status", "Filter", "AbortIncompleteMultipartUpload"}


async def test_the_store_takes_the_lifecycle_rule(seaweed):
    async with open_vault(
        endpoint=seaweed.endpoint,
        bucket=seaweed.bucket,
        access_key=seaweed.access_key,
        secret_key=seaweed.secret_key,
    ) as vault:
        assert isinstance(vault, S3Vault)
        await vault._client.put_bucket_lifecycle_configuration(
            Bucket=seaweed.bucket, LifecycleConfiguration=read_lifecycle_rule()
        )
        try:
            await vault._client.get_bucket_lifecycle_configuration(Bucket=seaweed.bucket)
        finally:
            await vault._client.delete_bucket_lifecycle(Bucket=seaweed.bucket)
