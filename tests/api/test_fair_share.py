"""A station of two hundred cameras does not keep out one of two; see docs/overload.md."""

import asyncio
import base64
from collections import Counter
from uuid import UUID

import pytest
from prometheus_client import REGISTRY

from ingest_service.domain.admission import Bodies, Place
from tests.api.served import APPEND

DATA = b"fair"
BODIES_MAX = 20
STORE_S = 0.3


class SlowStore:
    """A vault that takes its time for every object."""

    def __init__(self, vault):
        self._vault = vault

    def __getattr__(self, name):
        return getattr(self._vault, name)

    async def put_object(self, key, body):
        await asyncio.sleep(STORE_S)
        return await self._vault.put_object(key, body)


class Station:
    """Cameras of one station, each with some clips, that try again when they are refused."""

    def __init__(self, dock):
        self._dock = dock
        self.answers = Counter()

    async def announce(self, count):
        return [await self._dock.announce(len(DATA)) for _ in range(count)]

    async def bring(self, plans):
        for plan in plans:
            while (status := await self._send(plan)) != 201:
                assert status == 503
                await asyncio.sleep(0.5)

    async def _send(self, plan):
        answer = await self._dock.send(plan["clip_id"], 0, DATA)
        self.answers[answer.status_code] += 1
        return answer.status_code


async def test_two_cameras_get_through_beside_two_hundred(served, dock, other_dock):
    large, small = Station(dock), Station(other_dock)
    many, few = await large.announce(200), await small.announce(6)
    bodies = Bodies(BODIES_MAX)

    with served.changed(bodies=bodies, vault=SlowStore(served.vault)):
        crowd = [asyncio.create_task(large.bring([plan])) for plan in many]
        await asyncio.sleep(STORE_S)
        await asyncio.gather(small.bring(few[:3]), small.bring(few[3:]))
        waiting = [task for task in crowd if not task.done()]
        await asyncio.gather(*crowd)

    assert small.answers == {201: 6}
    assert large.answers[503] > 0
    assert waiting, "nothing was scarce"
    assert large.answers[201] == 200
    assert (bodies.count, bodies._of) == (0, {})


@pytest.fixture
def crowded(served, dock):
    """The dock's station has all that it may have."""
    bodies = Bodies(BODIES_MAX)
    while bodies.find_wait(dock.station.station_id) is None:
        bodies.enter(dock.station.station_id)
    with served.changed(bodies=bodies):
        yield bodies


def assert_refused(answer):
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:ingest:problem:overloaded"
    assert int(answer.headers["retry-after"]) >= 1


async def test_a_crowded_stations_bodies_are_refused_and_leave_nothing_behind(
    served, dock, crowded
):
    plan = await dock.announce(len(DATA))
    path = await dock.open(len(DATA))

    async with served.nothing_changes():
        assert_refused(await dock.send(plan["clip_id"], 0, DATA))
        assert_refused(await dock.append(path, 0, DATA))


async def test_a_creation_that_brings_bytes_is_refused_before_it_opens_anything(
    served, dock, crowded
):
    async with served.nothing_changes():
        headers = {**APPEND, "Upload-Length": str(len(DATA))}
        tus = await dock.http.post("/files", content=DATA, headers=headers)
        ietf = await dock.http.post("/files", content=DATA, headers={"Upload-Complete": "?1"})
    assert_refused(tus)
    assert_refused(ietf)


async def test_what_brings_no_bytes_is_answered_in_a_crowd(dock, crowded):
    plan = await dock.announce(len(DATA))
    path = await dock.open(len(DATA))

    assert (await dock.http.get(f"/v1/clips/{plan['clip_id']}/chunks")).status_code == 200
    assert (await dock.head(path)).status_code == 200


async def test_another_station_is_let_in_meanwhile(other_dock, crowded):
    plan = await other_dock.announce(len(DATA))

    assert (await other_dock.send(plan["clip_id"], 0, DATA)).status_code == 201


@pytest.mark.parametrize("ending", ["stored", "refused", "cut"])
async def test_a_body_leaves_its_place_however_it_ends(served, dock, wire, ending):
    bodies = Bodies(BODIES_MAX)
    plan = await dock.announce(len(DATA))
    with served.changed(bodies=bodies):
        if ending == "cut":
            path = await dock.open(len(DATA))
            headers = {**dock.authorization, **APPEND, "Upload-Offset": "0"}
            await wire.ask("PATCH", path, {**headers, "Content-Length": "4"}, b"f")
            await served.leased(path)
            assert bodies.count == 1
            await wire.hang_up()
        else:
            await dock.send(plan["clip_id"], 0 if ending == "stored" else 9, DATA)
        async with asyncio.timeout(5):
            while bodies.count:  # noqa: ASYNC110 - in another thread
                await asyncio.sleep(0.01)

    assert bodies._of == {}


# --- one camera --------------------------------------------------------------------------------

CAMERA_MAX = 4


@pytest.fixture
def camera(served, dock):
    """A camera of the dock's station that has as many bodies on their way as it may."""
    serial = f"BWC-{dock.station.station_id}"
    bodies = Bodies(200, CAMERA_MAX)
    for _ in range(CAMERA_MAX):
        Place(bodies, dock.station.station_id).name_device(serial, UUID(int=0))
    with served.changed(bodies=bodies):
        yield serial


def count_refused():
    return REGISTRY.get_sample_value("ingest_requests_shed_total", {"kind": "device"}) or 0


async def open_for(dock, serial):
    metadata = f"device_serial {base64.b64encode(serial.encode()).decode()}"
    return await dock.open(len(DATA), metadata)


async def test_a_camera_that_opens_a_hundred_requests_leaves_its_stations_others_alone(
    served, dock
):
    bodies = Bodies(BODIES_MAX, CAMERA_MAX)
    greedy = [await dock.announce(len(DATA), device_serial="BWC-greedy") for _ in range(40)]
    quiet = [await dock.announce(len(DATA), device_serial="BWC-quiet") for _ in range(3)]
    camera, other = Station(dock), Station(dock)

    async with asyncio.timeout(60):
        with served.changed(bodies=bodies, vault=SlowStore(served.vault)):
            crowd = [asyncio.create_task(camera.bring([plan])) for plan in greedy]
            await asyncio.sleep(STORE_S)
            await asyncio.gather(*(other.bring([plan]) for plan in quiet))
            waiting = [task for task in crowd if not task.done()]
            await asyncio.gather(*crowd)

    assert other.answers == {201: 3}
    assert waiting, "nothing was scarce"
    assert (camera.answers[201], camera.answers[503] > 0) == (40, True)
    assert (bodies.count, bodies._of_device, bodies._full) == (0, {}, set())


@pytest.mark.parametrize("protocol", ["native", "tus"])
async def test_a_crowded_cameras_bodies_are_refused_and_leave_nothing_behind(
    served, dock, camera, protocol
):
    plan = await dock.announce(len(DATA), device_serial=camera)
    path = await open_for(dock, camera)
    before = count_refused()

    async with served.nothing_changes():
        for _ in range(2):
            if protocol == "native":
                assert_refused(await dock.send(plan["clip_id"], 0, DATA))
            else:
                assert_refused(await dock.append(path, 0, DATA))
    assert count_refused() == before + 2
    leases = await served.sql(
        "SELECT FROM uploads WHERE station_id = $1 AND leased_by IS NOT NULL",
        dock.station.station_id,
    )
    assert leases == []


@pytest.mark.parametrize("protocol", ["native", "tus"])
async def test_who_was_refused_for_his_camera_goes_on_where_he_was(served, dock, camera, protocol):
    plan = await dock.announce(len(DATA), device_serial=camera)
    path = await open_for(dock, camera)
    await dock.send(plan["clip_id"], 0, DATA)
    await dock.append(path, 0, DATA)

    with served.changed(bodies=Bodies(200, CAMERA_MAX)):
        if protocol == "native":
            answer = await dock.send(plan["clip_id"], 0, DATA)
            assert answer.status_code == 201
            assert (await dock.seal(plan["clip_id"])).json()["state"] == "sealed"
        else:
            assert (await dock.append(path, 0, DATA)).status_code == 204


async def test_a_camera_that_asks_again_is_refused_before_the_ledger_is_asked_whose_it_is(
    served, dock, camera
):
    plan = await dock.announce(len(DATA), device_serial=camera)
    upload_id = UUID(plan["tus_url"].rsplit("/", 1)[1])
    attempts = "SELECT attempt FROM parts WHERE upload_id = $1"
    await dock.send(plan["clip_id"], 0, DATA)
    before = await served.sql(attempts, upload_id)

    assert_refused(await dock.send(plan["clip_id"], 0, DATA))
    assert await served.sql(attempts, upload_id) == before == [{"attempt": 1}]


async def test_a_creation_that_brings_a_crowded_cameras_bytes_opens_nothing(served, dock, camera):
    metadata = f"device_serial {base64.b64encode(camera.encode()).decode()}"
    headers = {"Upload-Metadata": metadata, "Upload-Length": str(len(DATA))}

    async with served.nothing_changes():
        tus = await dock.http.post("/files", content=DATA, headers={**APPEND, **headers})
        ietf = await dock.http.post(
            "/files", content=DATA, headers={"Upload-Complete": "?1", **headers}
        )
    assert_refused(tus)
    assert_refused(ietf)


async def test_other_cameras_of_the_station_are_let_in_meanwhile(dock, camera):
    plan = await dock.announce(len(DATA), device_serial=f"{camera}-other")
    path = await open_for(dock, f"{camera}-other")

    assert (await dock.send(plan["clip_id"], 0, DATA)).status_code == 201
    assert (await dock.append(path, 0, DATA)).status_code == 204


@pytest.mark.parametrize("whole", [True, False])
async def test_a_creation_that_brings_bytes_counts_for_its_camera(served, dock, wire, whole):
    bodies = Bodies(200, 1)
    metadata = f"device_serial {base64.b64encode(b'BWC-counted').decode()}"
    length = 4 if whole else 8
    headers = {
        **dock.authorization,
        **APPEND,
        "Upload-Metadata": metadata,
        "Upload-Length": str(length),
        "Content-Length": "4",
    }
    device = (dock.station.station_id, "BWC-counted")
    with served.changed(bodies=bodies):
        await wire.ask("POST", "/files", headers, b"f")
        async with asyncio.timeout(5):
            while device not in bodies._full:  # noqa: ASYNC110 - in another thread
                await asyncio.sleep(0.01)
        await wire.send(b"air")
        answer = await wire.answer()

    assert answer.status == 201
    assert (bodies.count, bodies._of_device, bodies._full) == (0, {}, set())
