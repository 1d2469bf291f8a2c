"""`ingest serve`: how it listens."""

import asyncio
import socket

import pytest
import uvloop

from ingest_service.cli.serve import multiply

CROWD = 200


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0), backlog=CROWD) as opened:
        yield opened


async def count_turns_to_accept(sockets, port):
    """How often the event loop turns until everybody of a crowd that stands there is let in."""
    accepted = []

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            accepted.append(transport)

    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(Protocol, sock=each, backlog=CROWD) for each in sockets]
    crowd = [socket.create_connection(("127.0.0.1", port)) for _ in range(CROWD)]
    turns = 0
    while len(accepted) < CROWD:
        turns += 1
        await asyncio.sleep(0)
    for each in (*crowd, *accepted, *servers):
        each.close()
    for each in servers:
        await each.wait_closed()
    return turns


def test_a_crowd_is_let_in_within_a_few_turns_of_the_loop(listener):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        port = listener.getsockname()[1]
        turns = runner.run(count_turns_to_accept(multiply(listener), port))

    assert turns < CROWD / 10
