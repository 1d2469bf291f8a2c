"""The two HTTP clients of the docks, against a server that says exactly what it should not."""

import asyncio

import pytest

from loadtest.link import LinkBroken, open_link
from loadtest.plain_link import PlainLink

HEAD = b"HEAD /x HTTP/1.1\r\nHost: x\r\n\r\n"
GET = b"GET /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 7\r\nRetry-After: 3\r\n\r\n"


@pytest.fixture
async def server():
    """Answers HEAD with a head alone, GET with the same head and its body in two pieces."""

    async def serve(reader, writer):
        while head := await reader.readuntil(b"\r\n\r\n"):
            writer.write(BUSY)
            if head.startswith(b"GET"):
                writer.write(b"bus")
                await writer.drain()
                await asyncio.sleep(0.02)
                writer.write(b"y...")
            if b"close" in head:
                break
        writer.close()

    async def serve_until_end(reader, writer):
        try:
            await serve(reader, writer)
        except asyncio.IncompleteReadError:
            writer.close()

    async with await asyncio.start_server(serve_until_end, "127.0.0.1", 0) as opened:
        yield opened.sockets[0].getsockname()[1]


async def ask_link(port, requests):
    link = await open_link("127.0.0.1", port, "127.0.0.2")
    answers = [await link.ask(request) for request in requests]
    link.close()
    return answers


async def ask_plain_link(port, requests):
    def ask():
        link = PlainLink("127.0.0.1", port, timeout_s=5)
        answers = [link.ask(request) for request in requests]
        link.close()
        return answers

    return await asyncio.to_thread(ask)


@pytest.mark.parametrize("ask", [ask_link, ask_plain_link])
async def test_answer_to_head_has_no_body_whatever_its_length_says(server, ask):
    async with asyncio.timeout(5):
        answers = await ask(server, [HEAD, GET, HEAD])

    assert [answer.body for answer in answers] == [b"", b"busy...", b""]
    assert [answer.find_field("Retry-After") for answer in answers] == ["3", "3", "3"]


@pytest.mark.parametrize("ask", [ask_link, ask_plain_link])
async def test_connection_that_ends_is_told(server, ask):
    closing = GET.replace(b"/x", b"/close")
    with pytest.raises(LinkBroken):
        async with asyncio.timeout(5):
            await ask(server, [closing, GET, GET])


@pytest.mark.parametrize("open_one", [ask_link, ask_plain_link])
async def test_refused_connection_is_told(open_one):
    with pytest.raises(LinkBroken):
        await open_one(1, [])
