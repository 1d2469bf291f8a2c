"""Ask a time authority for a time stamp (RFC 3161, section 3.4: by HTTP)."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Final

import httpx

from ingest_service.domain.timestamp import (
    Roots,
    TimestampInvalid,
    make_query,
    read_roots,
    verify_timestamp,
)

TIMEOUT_S: Final = 20.0
_ANSWER_BYTES_MAX: Final = 64 * 1024
_QUERY_TYPE: Final = "application/timestamp-query"


class AuthorityFailed(Exception):
    """The time authority is away, or its answer is no good; nothing was kept."""


@dataclass(frozen=True, slots=True)
class TimeAuthority:
    """Who vouches for times.

    roots     what its certificates must lead to
    interval  between two time stamps
    """

    url: str
    roots: Roots
    interval: timedelta

    async def stamp(self, message: bytes) -> tuple[bytes, datetime]:
        """Return the authority's answer over a message, verified, and the time in it.

        Raises:
            AuthorityFailed: later.
        """
        query = make_query(message)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = await self._post(query.body)
            return answer, verify_timestamp(answer, message, self.roots, nonce=query.nonce)
        except TimestampInvalid as error:
            raise AuthorityFailed(str(error)) from error
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise AuthorityFailed(reason) from error

    async def _post(self, body: bytes) -> bytes:
        content = bytearray()
        async with (
            httpx.AsyncClient(timeout=TIMEOUT_S) as http,
            http.stream(
                "POST", self.url, content=body, headers={"Content-Type": _QUERY_TYPE}
            ) as answer,
        ):
            if answer.status_code != HTTPStatus.OK:
                reason = f"it answers {answer.status_code}"
                raise AuthorityFailed(reason)
            async for block in answer.aiter_bytes():
                content += block
                if len(content) > _ANSWER_BYTES_MAX:
                    reason = "its answer is too long"
                    raise AuthorityFailed(reason)
        return bytes(content)


def make_time_authority(
    url: str | None, ca_file: Path | None, interval_s: float
) -> TimeAuthority | None:
    """Put the settings together; None when no time authority is set.

    Raises:
        TimestampInvalid: the certificates cannot be read.
    """
    if url is None or ca_file is None:
        return None
    try:
        roots = read_roots(ca_file.read_bytes())
    except OSError as error:
        message = f"cannot read {ca_file}: {error.strerror}"
        raise TimestampInvalid(message) from error
    return TimeAuthority(url, roots, timedelta(seconds=interval_s))
