"""Where spans begin and end. Nothing of OpenTelemetry is loaded here: `exporting` turns it on.

While it is off `tracer` is None, nothing is ever current, and a request pays for one look at that.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Protocol
from uuid import UUID

# Ids as they are: nobody writes them out for a span that is not recorded.
Value = str | int | float | bool | UUID


class Span(Protocol):
    """One piece of work: a request, a job, or a step of one.

    Attributes are ids, names that the code knows, sizes and times: no arguments of SQL, no path of
    a request, no text of an error, nothing that a caller wrote. Those may be secret, or of persons.
    """

    @property
    def is_recording(self) -> bool:
        """Whether anybody will see it: it was sampled, and has not ended."""
        ...

    def describe(self, **attributes: Value | None) -> None:
        """Add attributes; `__` in a name stands for a dot, and None is left out."""
        ...

    def rename(self, name: str) -> None:
        """Give it the name that was not known when it began."""
        ...

    def begin(self, name: str, *, is_call: bool = False, **attributes: Value | None) -> "Span":
        """Begin a step of it; `is_call`: somebody else does the work."""
        ...

    def fail(self, error_type: str) -> None:
        """Say that it failed, and at what."""
        ...

    def end(self, error: BaseException | None = None) -> None:
        """End it; with an error it failed, but by being broken off it did not."""
        ...

    def carry(self) -> dict[str, str]:
        """Return the headers that let another service go on with the trace (W3C)."""
        ...

    def ids(self) -> dict[str, str]:
        """Return trace_id and span_id, in hex."""
        ...


class Job(Span, Protocol):
    """One round of a job: a trace of its own, that nobody sees if there was nothing to do."""

    def settle(self, *, found: int, error: BaseException | None = None) -> None:
        """End it, and what was current before is so again."""
        ...


class Request(Span, Protocol):
    """A request being served: part of its caller's trace, if it named one."""

    def leave(self) -> None:
        """End it, and what was current before is so again."""
        ...


class Tracer(Protocol):
    """Begins traces. What it begins is current until it is ended, in the same task."""

    def begin_request(self, method: str, headers: Iterable[tuple[bytes, bytes]]) -> Request:
        """Begin a request; its headers say of which trace it is."""
        ...

    def begin_job(self, name: str) -> Job:
        """Begin one round of a job."""
        ...


tracer: Tracer | None = None
CURRENT: Final[ContextVar[Span | None]] = ContextVar("current_span", default=None)


def find_recording() -> Span | None:
    """Return what is being done and recorded, to begin a step of it."""
    span = CURRENT.get()
    return span if span is not None and span.is_recording else None


def describe(**attributes: Value | None) -> None:
    """Add attributes to what is being done; nothing while nobody records it."""
    if tracer is not None and (span := find_recording()) is not None:
        span.describe(**attributes)


@contextmanager
def step(name: str, **attributes: Value | None) -> Iterator[None]:
    """Do the block as one step of what is being done, so that what it does belongs to the step."""
    parent = find_recording()
    if parent is None:
        yield
        return
    # A job that comes to a step has found something to do.
    parent.describe()
    span = parent.begin(name)
    span.describe(**attributes)
    token = CURRENT.set(span)
    try:
        yield
    except BaseException as error:
        span.end(error)
        raise
    else:
        span.end()
    finally:
        CURRENT.reset(token)


@contextmanager
def job(name: str) -> Iterator[list[int]]:
    """Do the block as one round of a job; how much it found is appended to what is yielded."""
    found: list[int] = []
    if tracer is None:
        yield found
        return
    span = tracer.begin_job(name)
    try:
        yield found
    except BaseException as error:
        span.settle(found=sum(found), error=error)
        raise
    else:
        span.settle(found=sum(found))
