"""A request's body as a source of blocks: timed, counted, and open to interruption."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from ingest_service import telemetry
from ingest_service.domain.admission import Place, name_device
from ingest_service.domain.breaker import HOLDS_BYTES
from ingest_service.domain.bytestream import Disconnected
from ingest_service.domain.tus_metadata import find_device_serial
from ingest_service.errors import BodyStalled, Overloaded
from ingest_service.resources import Resources


@contextmanager
def receiving(
    request: Request,
    opened: Resources,
    station_id: str,
    *,
    upload_id: UUID | None = None,
    was_let_in: bool = False,
) -> "Iterator[RequestBody]":
    """Lend the body of a request that brings footage: limited, counted, told in the log line.

    upload_id   that the request names, or the clip's
    was_let_in  `refuse_crowd` was asked before something was done for this request

    Raises:
        Overloaded: the station, or the camera, has its share of the bodies that may be on their
            way; nothing of this one was read.
        ClientDisconnect: the dock went away; there is nobody left to answer.
    """
    if not was_let_in:
        refuse_crowd(opened, station_id, upload_id=upload_id)
    place = Place(opened.bodies, station_id, was_let_in=was_let_in)
    body = RequestBody(
        request.receive,
        stall_timeout_s=opened.rules.body_stall_timeout_s,
        bytes_s_min=opened.rules.body_bytes_s_min,
        place=place,
    )
    telemetry.ACTIVE_BODIES.inc()
    opened.drain.enter(body)
    try:
        yield body
    except Disconnected as gone:
        raise ClientDisconnect from gone
    finally:
        body.close()
        HOLDS_BYTES.set(False)
        opened.drain.forget(body)
        place.leave()
        if place.was_refused:
            telemetry.SHED.labels("device").inc()
        telemetry.ACTIVE_BODIES.dec()
        telemetry.add_fields(bytes=body.received_bytes)


def refuse_crowd(
    opened: Resources,
    station_id: str,
    *,
    upload_id: UUID | None = None,
    metadata: str | None = None,
) -> None:
    """Refuse a body before anything is done for it, where others are to come first.

    Its station has more than its share; or its camera has as many as it may, where that can be
    known without the ledger: some camera has, and the request names it (a creation), or was
    refused before (an upload that is known). Else the action tells it.

    upload_id  that the request names, or the clip's
    metadata   Upload-Metadata of a creation

    Raises:
        Overloaded: nothing was read.
        InvalidHeader: the metadata cannot be read.
    """
    bodies = opened.bodies
    wait_s = bodies.find_wait(station_id)
    if wait_s is not None:
        telemetry.SHED.labels("share").inc()
        raise Overloaded(wait_s)
    if not bodies.has_full_devices:
        return
    if upload_id is None:
        device = name_device(station_id, find_device_serial(metadata))
    else:
        device = bodies.find_device(upload_id)
    wait_s = bodies.find_device_wait(device)
    if wait_s is not None:
        telemetry.SHED.labels("device").inc()
        raise Overloaded(wait_s)


class RequestBody:
    """The body of one request.

    uvicorn puts no deadline on a body: one timer per request looks whether bytes still come. An
    interruption cancels whoever waits for the next block, and nobody else, so it costs nothing
    per block. A body that trickles is cut, too: per `stall_timeout_s` of waiting for the dock (not
    for the store) it must bring so many bytes.

    bytes_s_min  0: however slow
    place        among the bodies that are on their way; None: nobody counts them
    """

    def __init__(
        self,
        receive: Receive,
        *,
        stall_timeout_s: float,
        bytes_s_min: int = 0,
        place: Place | None = None,
    ) -> None:
        self._receive = receive
        self._stall_timeout_s = stall_timeout_s
        self._bytes_s_min = bytes_s_min
        self._waited_s: float = 0
        self._bytes_before_wait = 0
        self._held: bytes = b""
        self._has_more = True
        self._reader: asyncio.Task[object] | None = None
        self._interruption: Exception | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waits_since: float = 0
        self.received_bytes = 0
        self.place = place

    async def read(self, bytes_max: int) -> bytes:
        """Return the next 1..bytes_max bytes, or b'' at the end.

        Raises:
            Disconnected: the dock went away.
            BodyStalled: no byte came in time, or too few.
            whatever `interrupt` was given: somebody else wants this request to stop.
        """
        while not self._held:
            if self._interruption is not None:
                raise self._interruption
            if not self._has_more:
                return b""
            self._held = await self._next_block()
        block = self._held
        if len(block) <= bytes_max:
            self._held = b""
            return block
        self._held = block[bytes_max:]
        return block[:bytes_max]

    def interrupt(self, reason: Exception) -> None:
        """Make the present (or next) read raise `reason`; the first reason stays."""
        if self._interruption is None:
            self._interruption = reason
            if self._reader is not None:
                self._reader.cancel()

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _next_block(self) -> bytes:
        loop = asyncio.get_running_loop()
        self._waits_since = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self._stall_timeout_s, self._look_for_stall)
        self._reader = asyncio.current_task()
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            if self._interruption is None or self._reader is None:
                raise
            # The cancellation was ours: it ends here, as the reason that was given.
            self._reader.uncancel()
            raise self._interruption from None
        finally:
            self._reader = None
        if message["type"] == "http.disconnect":
            raise Disconnected
        self._has_more = message.get("more_body", False)
        block: bytes = message.get("body", b"")
        if not self.received_bytes and block:
            HOLDS_BYTES.set(True)  # in the task that goes on to store them
        self.received_bytes += len(block)
        if self._bytes_s_min:
            self._judge_pace(loop.time() - self._waits_since)
        return block

    def _judge_pace(self, waited_s: float) -> None:
        """Let the next read end the body if this stretch of it came too slowly."""
        self._waited_s += waited_s
        if self._waited_s < self._stall_timeout_s or not self._has_more:
            return
        came_bytes = self.received_bytes - self._bytes_before_wait
        if came_bytes < self._bytes_s_min * self._waited_s:
            telemetry.add_fields(stalled=True)
            self.interrupt(BodyStalled(self._stall_timeout_s))
        self._waited_s, self._bytes_before_wait = 0, self.received_bytes

    def _look_for_stall(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        if self._reader is None:
            # Nobody waits for the dock now (the store is slow): the next wait sets a new timer.
            return
        left_s = self._waits_since + self._stall_timeout_s - loop.time()
        if left_s > 0:
            self._timer = loop.call_later(left_s, self._look_for_stall)
            return
        telemetry.add_fields(stalled=True)
        self.interrupt(BodyStalled(self._stall_timeout_s))
