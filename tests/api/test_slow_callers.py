"""Thousands who say a byte now and then (slowloris): honest docks go on.

INGEST_SLOW_CALLERS: how many; from 1,000 on the honest docks' rate is judged (`make slow`). The
trickling is done by a process of its own, as from another machine.
"""

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from statistics import median

from tests.api.served import PART_BYTES, announcement, digest_of

CALLERS = int(os.environ.get("INGEST_SLOW_CALLERS", "150"))
JUDGED_FROM = 1000
RATE_KEPT_MIN = 0.8
ROUNDS = 3
ROUND_S = 2.0 if CALLERS >= JUDGED_FROM else 0.5
DOCKS = 4
CHUNK = b"x" * PART_BYTES
# Most never end their head, or the body that was refused; some the chunk that they were let in for.
TRICKLE = """
import asyncio, json, sys
port, count, token, paths = json.loads(sys.argv[1])
async def call(number):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    if number < len(paths):
        head = (f"POST {paths[number]} HTTP/1.1\\r\\nHost: test\\r\\n"
                f"Authorization: Bearer {token}\\r\\nContent-Length: 65536\\r\\n"
                "Content-Digest: sha-256=:" + "A" * 43 + "=:\\r\\n\\r\\n")
    elif number % 2:
        head = "GET /livez HTTP/1.1\\r\\nHost: test\\r\\nX-Slow: "
    else:
        head = "POST /v1/clips HTTP/1.1\\r\\nHost: test\\r\\nContent-Length: 65536\\r\\n\\r\\n"
    writer.write(head.encode())
    await ready(number)
    while True:
        await asyncio.sleep(1 + number % 10 / 10)
        writer.write(b"x")
done = 0
async def ready(number):
    global done
    done += 1
    if done == count:
        print("ready", flush=True)
async def quietly(number):
    try:
        await call(number)
    except ConnectionError:
        pass
async def main():
    await asyncio.gather(*(quietly(number) for number in range(count)))
asyncio.run(main())
"""


@asynccontextmanager
async def trickling(served, dock):
    """So many callers who trickle, all of them connected."""
    plans = [await dock.announce(PART_BYTES) for _ in range(10)]
    paths = [f"/v1/clips/{plan['clip_id']}/chunks/0" for plan in plans]
    asked = json.dumps([served.port, CALLERS, dock.token, paths])
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", TRICKLE, asked, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert (await asyncio.wait_for(process.stdout.readline(), 60)).strip() == b"ready"
        await asyncio.sleep(0.5)
        yield
        assert process.returncode is None
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def measure(docks) -> float:
    """Return how many clips a second honest docks bring in, each one after the other."""
    loop = asyncio.get_running_loop()
    until = loop.time() + ROUND_S
    counts = [0] * len(docks)

    async def bring(number, dock):
        while loop.time() < until:
            announced = await dock.http.post("/v1/clips", json=announcement(PART_BYTES))
            if announced.status_code == 503:
                # It says in its rate what it costs that the service is busy.
                await asyncio.sleep(0.1)
                continue
            plan = announced.json()
            sent = await dock.http.post(
                f"/v1/clips/{plan['clip_id']}/chunks/0?seal=true",
                content=CHUNK,
                headers={
                    "Content-Type": "application/octet-stream",
                    "Content-Digest": digest_of(CHUNK),
                },
            )
            counts[number] += sent.status_code == 201

    await asyncio.gather(*(bring(number, dock) for number, dock in enumerate(docks)))
    return sum(counts) / ROUND_S


async def test_honest_docks_go_on_beside_callers_who_trickle(served, make_dock):
    docks = [await make_dock() for _ in range(DOCKS)]
    slow = await make_dock()
    await measure(docks)
    alone, beside = [], []
    for _ in range(ROUNDS):
        alone.append(await measure(docks))
        async with trickling(served, slow):
            beside.append(await measure(docks))

    kept = median(beside) / median(alone)
    told = f"{CALLERS} slow callers: {median(beside):.0f} clips/s of {median(alone):.0f}"
    sys.stdout.write(f"{told}, {kept:.0%}\n")
    # Fewer callers are too few, and a round is too short, to judge a rate by.
    assert min(beside) > 0
    assert CALLERS < JUDGED_FROM or kept >= RATE_KEPT_MIN
