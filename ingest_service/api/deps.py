"""What handlers ask FastAPI for: the open resources, and who is asking."""

from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.datastructures import Headers

from ingest_service import telemetry
from ingest_service.actions.identify_principal import Authenticator
from ingest_service.domain.principal import Principal
from ingest_service.errors import Unauthorized
from ingest_service.resources import Resources

_HOW: Final = (
    "A JWT. A station signs its own with its registered key (EdDSA or ES256, `iss` = `sub` = the "
    "station, short-lived). Services and people bring one of the identity provider with the "
    "scopes they need."
)


# A coroutine although it waits for nothing: FastAPI runs plain functions in a thread.
async def get_resources(request: Request) -> Resources:
    """Return what the lifespan opened."""
    return resources_of(request)


Opened = Annotated[Resources, Depends(get_resources)]


def resources_of(request: Request) -> Resources:
    """Return what the lifespan opened, for surfaces that FastAPI's dependencies do not reach."""
    resources: Resources = request.app.state.resources
    return resources


async def authenticate(headers: Headers, authenticator: Authenticator) -> Principal:
    """Return who stands behind a request, and name it in the request's log line.

    Raises:
        Unauthorized: no bearer token, several, or one that is not good.
        LedgerUnavailable: a station's key could not be looked up.
    """
    values = headers.getlist("authorization")
    if not values:
        reason = "there is no Authorization header"
        raise Unauthorized(reason)
    scheme, _, token = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not token.strip():
        reason = "the Authorization header is not one 'Bearer <token>'"
        raise Unauthorized(reason)
    principal = await authenticator.identify(token.strip())
    telemetry.add_fields(principal_kind=principal.kind, principal=principal.id)
    return principal


class Granted(SecurityBase):
    """A dependency that lets in only who holds a scope, and documents the token in OpenAPI.

    `Annotated[Principal, Depends(Granted(UPLOAD))]` in a handler's signature. Without a scope
    any valid token will do.
    """

    def __init__(self, scope: str | None = None) -> None:
        self.model = HTTPBearer(bearerFormat="JWT", description=_HOW)
        self.scheme_name = "bearer"
        self.scope = scope

    async def __call__(self, request: Request) -> Principal:
        """Return the principal.

        Raises:
            Unauthorized, LedgerUnavailable: as `authenticate`.
            Forbidden: a known principal without the scope.
        """
        principal = await authenticate(request.headers, resources_of(request).authenticator)
        if self.scope is not None:
            principal.require(self.scope)
        return principal
