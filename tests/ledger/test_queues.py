"""What waits for the jobs is counted, and its age is told."""

from ingest_service.ledger import queues
from ingest_service.ledger.connection import reading

NAMES = {
    "read_back", "finish", "expire", "sweep", "erase", "legal_holds", "probe", "log", "publish",
}  # fmt: skip


async def test_an_empty_ledger_has_every_queue_and_nothing_in_them(pool):
    async with reading(pool) as connection:
        found = await queues.measure_queues(connection)

    assert {each.queue for each in found} == NAMES
    assert {(each.waiting, each.oldest_s) for each in found} == {(0, 0.0)}


async def test_a_server_that_archives_nothing_is_not_late(pool):
    async with reading(pool) as connection:
        assert await queues.measure_archive(connection) == 0


async def test_no_checkpoint_lacks_no_quorum(pool):
    async with reading(pool) as connection:
        assert await queues.measure_quorum(connection, ["w"], 1) == 0
