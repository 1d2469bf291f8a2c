"""Spans of OpenTelemetry, sent off in batches: the only module that loads it, of an extra."""

import logging
import os
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Token
from typing import Final
from uuid import UUID

import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagators.textmap import Getter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace import (
    SpanKind,
    StatusCode,
    format_span_id,
    format_trace_id,
    set_span_in_context,
)
from opentelemetry.trace import Tracer as OtelTracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ingest_service import VERSION, telemetry
from ingest_service.tracing import spans
from ingest_service.tracing.spans import Span, Value

Plain = str | int | float | bool
Headers = Iterable[tuple[bytes, bytes]]

# So many wait for the collector at most; what ends beyond is lost. Some MB.
SPANS_WAITING_MAX: Final = 2048
_BATCH_MAX: Final = 512
_BATCH_EVERY_MS: Final = 1000
_EXPORT_TIMEOUT_S: Final = 5.0
# The end of a process waits no longer for its last spans.
_CLOSE_S: Final = 1.0
# A round of a job that did more than this is no empty one.
_HELD_MAX: Final = 200
_TRACEPARENT: Final = "traceparent"
# Not baggage, which is whatever a caller likes.
_PROPAGATOR: Final = TraceContextTextMapPropagator()
_LOG: Final = structlog.get_logger("ingest.tracing")


class _HeaderGetter(Getter[Headers]):
    """Reads the headers of ASGI."""

    def get(self, carrier: Headers, key: str) -> list[str] | None:
        name = key.encode()
        found = [value.decode("latin-1") for each, value in carrier if each == name]
        if key == _TRACEPARENT and len(found) > 1:
            # W3C Trace Context, section 3.2: several are none.
            return None
        return found or None

    def keys(self, carrier: Headers) -> list[str]:
        return [name.decode("latin-1") for name, _ in carrier]


_GETTER: Final = _HeaderGetter()


class _Outbox(SpanProcessor):
    """Hands spans that ended on to those who send them; those of a job, once it did something.

    Concurrency: spans end in the event loop's thread, batches are sent in one of their own.
    """

    def __init__(self) -> None:
        self.behind: SpanProcessor
        self._held: dict[int, list[ReadableSpan]] = {}
        self._waiting = 0
        self._lock = threading.Lock()

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span that was sampled."""
        context = span.get_span_context()
        held = None if context is None else self._held.get(context.trace_id)
        if context is None or held is None:
            self._pass_on(span)
            return
        held.append(span)
        if len(held) > _HELD_MAX:
            self.release(context.trace_id)

    def hold(self, trace_id: int) -> None:
        """Keep the spans of a trace until it is released or dropped."""
        self._held[trace_id] = []

    def release(self, trace_id: int) -> None:
        """Pass on what was held of a trace, and what comes of it yet."""
        for span in self._held.pop(trace_id, ()):
            self._pass_on(span)

    def drop(self, trace_id: int) -> None:
        """Forget what was held of a trace."""
        self._held.pop(trace_id, None)

    def forget_waiting(self, count: int) -> None:
        """Make room: so many were sent, or lost."""
        with self._lock:
            self._waiting -= count

    def _pass_on(self, span: ReadableSpan) -> None:
        with self._lock:
            is_full = self._waiting >= SPANS_WAITING_MAX
            if not is_full:
                self._waiting += 1
        if is_full:
            telemetry.SPANS.labels("lost").inc()
        else:
            self.behind.on_end(span)

    def shutdown(self) -> None:
        """Send what waits, and stop."""
        self.behind.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what waits."""
        return self.behind.force_flush(timeout_millis)


class _Told(SpanExporter):
    """An exporter whose failing is told: once in the log, and by a metric."""

    def __init__(self, exporter: SpanExporter, outbox: _Outbox, reason: "_LastWords") -> None:
        self._exporter = exporter
        self._outbox = outbox
        self._reason = reason
        self._is_away = False
        self._closing = threading.Lock()

    def export(self, batch: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; whatever goes wrong is a failure."""
        try:
            result = self._exporter.export(batch)
        except Exception as error:  # noqa: BLE001 - it would end the thread, not the trouble
            self._reason.text = type(error).__name__
            result = SpanExportResult.FAILURE
        self._outbox.forget_waiting(len(batch))
        is_away = result is not SpanExportResult.SUCCESS
        telemetry.SPANS.labels("lost" if is_away else "exported").inc(len(batch))
        if is_away != self._is_away:
            self._is_away = is_away
            if is_away:
                _LOG.warning("traces_not_exported", reason=self._reason.text)
            else:
                _LOG.info("traces_exported_again")
        return result

    def shutdown(self) -> None:
        """Give up what is being tried; once, whoever comes first."""
        if self._closing.acquire(blocking=False):
            self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what it has."""
        return self._exporter.force_flush(timeout_millis)


class _LastWords(logging.Handler):
    """Keeps what the exporter complained of last, instead of a line for each try."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.text = record.getMessage()


class _Span:
    """A span of ours around one of OpenTelemetry's."""

    __slots__ = ("_made_by", "_span", "is_described")

    def __init__(self, span: OtelSpan, made_by: "_Tracer") -> None:
        self._span = span
        self._made_by = made_by
        self.is_described = False

    @property
    def is_recording(self) -> bool:
        return self._span.is_recording()

    def describe(self, **attributes: Value | None) -> None:
        self.is_described = True
        self._span.set_attributes(_name_attributes(attributes))

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def begin(self, name: str, *, is_call: bool = False, **attributes: Value | None) -> Span:
        return _Span(
            self._made_by.begin(
                name,
                set_span_in_context(self._span, Context()),
                SpanKind.CLIENT if is_call else SpanKind.INTERNAL,
                _name_attributes(attributes),
            ),
            self._made_by,
        )

    def fail(self, error_type: str) -> None:
        self._span.set_attribute("error.type", error_type)
        self._span.set_status(StatusCode.ERROR)

    def end(self, error: BaseException | None = None) -> None:
        if isinstance(error, Exception):
            self.fail(type(error).__name__)
        elif error is not None:
            self._span.set_attribute("ingest.broken_off", value=True)
        self._span.end()

    def carry(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        _PROPAGATOR.inject(headers, set_span_in_context(self._span, Context()))
        return headers

    def ids(self) -> dict[str, str]:
        context = self._span.get_span_context()
        return {
            "trace_id": format_trace_id(context.trace_id),
            "span_id": format_span_id(context.span_id),
        }


class _Root(_Span):
    """A request or a job: current until it ends."""

    __slots__ = ("_token",)

    def __init__(self, span: OtelSpan, made_by: "_Tracer") -> None:
        super().__init__(span, made_by)
        self._token: Token[Span | None] = spans.CURRENT.set(self)

    def leave(self) -> None:
        self.end()
        spans.CURRENT.reset(self._token)

    def settle(self, *, found: int, error: BaseException | None = None) -> None:
        self._span.set_attribute("ingest.job.found", found)
        self.end(error)
        spans.CURRENT.reset(self._token)
        trace_id = self._span.get_span_context().trace_id
        if found or error is not None or self.is_described:
            self._made_by.outbox.release(trace_id)
        else:
            self._made_by.outbox.drop(trace_id)


class _Tracer:
    """Begins traces of OpenTelemetry."""

    def __init__(self, tracer: OtelTracer, outbox: _Outbox) -> None:
        self._tracer = tracer
        self.outbox = outbox

    def begin(
        self, name: str, context: Context, kind: SpanKind, attributes: dict[str, Plain]
    ) -> OtelSpan:
        """Begin a span of OpenTelemetry's."""
        return self._tracer.start_span(name, context=context, kind=kind, attributes=attributes)

    def begin_request(self, method: str, headers: Headers) -> _Root:
        """Begin a request; see `Tracer.begin_request`."""
        context = _PROPAGATOR.extract(headers, Context(), _GETTER)
        return _Root(self.begin(method, context, SpanKind.SERVER, {}), self)

    def begin_job(self, name: str) -> _Root:
        """Begin one round of a job; see `Tracer.begin_job`."""
        span = self.begin(f"job {name}", Context(), SpanKind.INTERNAL, {"ingest.job.name": name})
        if span.is_recording():
            self.outbox.hold(span.get_span_context().trace_id)
        return _Root(span, self)


def _name_attributes(attributes: dict[str, Value | None]) -> dict[str, Plain]:
    return {
        name.replace("__", "."): str(value) if isinstance(value, UUID) else value
        for name, value in attributes.items()
        if value is not None
    }


def _find_ids() -> dict[str, str]:
    span = spans.CURRENT.get()
    return {} if span is None else span.ids()


def make_exporter(endpoint: str) -> SpanExporter:
    """Return what speaks OTLP over HTTP to a collector.

    What else there is to know (headers, certificates) it reads from the variables that
    OpenTelemetry has for it.
    """
    return OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_TIMEOUT_S)


@contextmanager
def tracing(
    exporter: SpanExporter, *, sample_ratio: float, is_batched: bool = True
) -> Iterator[None]:
    """Trace as long as the context lasts; what is opened before it is not traced.

    sample_ratio  share of the traces that are recorded, where the caller has not decided it
    is_batched    False: each span is exported as it ends, by whoever ends it; for tests
    """
    outbox, words = _Outbox(), _LastWords()
    told = _Told(exporter, outbox, words)
    outbox.behind = (
        BatchSpanProcessor(
            told,
            # Ours overflows first, and counts.
            max_queue_size=SPANS_WAITING_MAX + _BATCH_MAX,
            max_export_batch_size=_BATCH_MAX,
            schedule_delay_millis=_BATCH_EVERY_MS,
        )
        if is_batched
        else SimpleSpanProcessor(told)
    )
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
        resource=Resource.create(
            {
                "service.name": "ingest",
                "service.version": VERSION,
                "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
            }
        ),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(outbox)
    with _quiet(words):
        spans.tracer = _Tracer(provider.get_tracer("ingest_service", VERSION), outbox)
        telemetry.find_trace = _find_ids
        try:
            yield
        finally:
            spans.tracer = None
            telemetry.find_trace = None
            closing = threading.Thread(target=provider.shutdown, name="traces-end", daemon=True)
            closing.start()
            closing.join(_CLOSE_S)
            told.shutdown()


@contextmanager
def _quiet(words: _LastWords) -> Iterator[None]:
    """Keep the library's own lines back: one for every try, and for every odd header."""
    library = logging.getLogger("opentelemetry")
    exporters = logging.getLogger("opentelemetry.exporter")
    level = library.level
    library.setLevel(logging.ERROR)
    exporters.setLevel(logging.WARNING)
    exporters.propagate = False
    exporters.addHandler(words)
    try:
        yield
    finally:
        exporters.removeHandler(words)
        exporters.propagate = True
        exporters.setLevel(logging.NOTSET)
        library.setLevel(level)
