"""Routes whose handlers are called without FastAPI's dependency solver."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import request_params_to_args
from fastapi.exceptions import RequestValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from ingest_service.api.bodies import JsonRoute

_OK: Final = 200


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a handler's signature asks for.

    dependencies  parameter and what is awaited for it, given the request
    """

    dependant: Dependant
    dependencies: list[tuple[str, Callable[[Request], Awaitable[Any]]]]

    async def solve(self, request: Request, response: Response | None) -> dict[str, Any]:
        """Return the handler's arguments.

        Raises:
            RequestValidationError: a value in the path, the query or a header is not what the
                signature says; the list is FastAPI's own.
            whatever a dependency raises.
        """
        asked = self.dependant
        arguments = {name: await call(request) for name, call in self.dependencies}
        errors: list[Any] = []
        if asked.path_params:
            arguments |= _take(asked.path_params, request.path_params, errors)
        if asked.query_params:
            arguments |= _take(asked.query_params, request.query_params, errors)
        if asked.header_params:
            arguments |= _take(asked.header_params, request.headers, errors)
        if errors:
            raise RequestValidationError(errors)
        if asked.request_param_name:
            arguments[asked.request_param_name] = request
        if asked.response_param_name:
            arguments[asked.response_param_name] = response
        return arguments


class StraightRoute(JsonRoute):
    """For what docks call thousands of times a second: `APIRouter(route_class=StraightRoute)`.

    FastAPI's solver walks a tree and opens four exit stacks per request, a fifth of what a small
    clip costs. Signature, OpenAPI, validation and answers are the same here; a handler may ask
    for less: request, response, dependencies of the request alone, path, query and headers. One
    with a JSON body goes FastAPI's way.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:  # noqa: ANN401 - FastAPI's own
        super().__init__(path, endpoint, **options)
        if self.body_field is None:
            self.app = _call_straight(endpoint, _make_plan(self.dependant), self.status_code)


def _make_plan(dependant: Dependant) -> _Plan:
    """Raise TypeError if the handler asks for more than is offered: at start, not at 07:00."""
    dependencies = []
    for each in dependant.dependencies:
        if each.name is None or each.call is None or not _asks_for_request_alone(each):
            message = f"{dependant.call}: {each.name} asks for more than the request"
            raise TypeError(message)
        dependencies.append((each.name, each.call))
    if dependant.cookie_params or dependant.background_tasks_param_name:
        message = f"{dependant.call} asks for cookies or background tasks"
        raise TypeError(message)
    return _Plan(dependant, dependencies)


def _asks_for_request_alone(dependant: Dependant) -> bool:
    return bool(dependant.request_param_name) and not (
        dependant.dependencies
        or dependant.path_params
        or dependant.query_params
        or dependant.header_params
        or dependant.cookie_params
        or dependant.body_params
        or dependant.response_param_name
    )


def _take(fields: Any, values: Any, errors: list[Any]) -> dict[str, Any]:  # noqa: ANN401 - FastAPI's own
    found, wrong = request_params_to_args(fields, values)
    errors.extend(wrong)
    return found


def _call_straight(
    handler: Callable[..., Awaitable[Any]], plan: _Plan, status_code: int | None
) -> ASGIApp:
    has_response = plan.dependant.response_param_name is not None

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        changes = Response(status_code=status_code or _OK) if has_response else None
        answer = await handler(**await plan.solve(request, changes))
        if not isinstance(answer, Response):
            answer = Response(
                answer.model_dump_json(by_alias=True),
                status_code=changes.status_code if changes else status_code or _OK,
                media_type="application/json",
            )
            if changes is not None:
                answer.headers.update(
                    {k: v for k, v in changes.headers.items() if k != "content-length"}
                )
        await answer(scope, receive, send)

    return app
