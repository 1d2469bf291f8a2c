"""Find subject access requests, for those who may see them."""

from dataclasses import replace
from uuid import UUID

from ingest_service.domain.access_request import AccessRequest
from ingest_service.domain.principal import Principal
from ingest_service.errors import (
    ANOTHER_OWNER,
    AccessRequestNotFound,
)
from ingest_service.ledger import access_requests
from ingest_service.ledger.access_requests import RequestedClip, RequestFilter
from ingest_service.ledger.connection import Connection, Pool, reading


def is_visible(request: AccessRequest, principal: Principal) -> bool:
    """Tell whether a request exists for this principal.

    A request is for no borough: who is limited to some sees those that they took in themselves.
    """
    return principal.boroughs is None or request.made_by == principal.id


async def list_requests(
    asked: RequestFilter, principal: Principal, *, after: UUID | None, limit: int, pool: Pool
) -> list[AccessRequest]:
    """Return requests that exist for this principal, those first that are due first."""
    limited = asked if principal.boroughs is None else replace(asked, made_by=principal.id)
    async with reading(pool) as connection:
        return await access_requests.list_requests(connection, limited, after=after, limit=limit)


async def get_visible_request(
    request_id: UUID, principal: Principal, *, pool: Pool
) -> tuple[AccessRequest, list[RequestedClip]]:
    """Return a request that exists for this principal, with its clips.

    Raises:
        AccessRequestNotFound: there is none.
    """
    async with reading(pool) as connection:
        found = check_visible(
            await access_requests.find_request(connection, request_id), request_id, principal
        )
        return found, await access_requests.list_requested(connection, request_id)


async def lock_visible_request(
    connection: Connection, request_id: UUID, principal: Principal
) -> AccessRequest:
    """Return a request that exists for this principal, and that nobody else changes meanwhile.

    Raises:
        AccessRequestNotFound: there is none.
    """
    found = await access_requests.lock_request(connection, request_id)
    return check_visible(found, request_id, principal)


def check_visible(
    found: AccessRequest | None, request_id: UUID, principal: Principal
) -> AccessRequest:
    """Return what was found, if it exists for this principal.

    Raises:
        AccessRequestNotFound: it does not.
    """
    if found is None:
        raise AccessRequestNotFound(str(request_id))
    if not is_visible(found, principal):
        raise AccessRequestNotFound(str(request_id)).hiding(ANOTHER_OWNER)
    return found
