"""Answers of an upstream that are read whole, within bounds of size and time.

Whatever a server sends, no more of it is held than what one may mean: an error is a few words, a
list of models some hundred entries. Knows no servers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable
from dataclasses import dataclass
from typing import cast

import httpx

MOST_OF_AN_ERROR = 64 * 1024
"""Bytes of the body of an error that are read; the rest is left."""
MOST_OF_AN_ANSWER = 4 * 1024 * 1024
"""Bytes of any other body that is read whole."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, headers and a body."""

    status_code: int
    headers: httpx.Headers
    content: bytes


async def answer_within(sending: Awaitable[httpx.Response], seconds: float) -> Answer:
    """The whole answer to a small question. It is sent with ``stream`` set.

    Raises what sending raises, :class:`httpx.ReadTimeout` where the whole takes longer, however
    steadily it comes, and :class:`httpx.RemoteProtocolError` for more than ``MOST_OF_AN_ANSWER``.
    """
    try:
        async with asyncio.timeout(seconds):
            response = await sending
            content = await _beginning_of(response, MOST_OF_AN_ANSWER + 1)
    except TimeoutError:
        raise httpx.ReadTimeout("the answer did not come to its end in time") from None
    if len(content) > MOST_OF_AN_ANSWER:
        raise httpx.RemoteProtocolError(f"its answer has more than {MOST_OF_AN_ANSWER} bytes")
    return Answer(response.status_code, response.headers, content)


async def error_body(response: httpx.Response) -> bytes:
    """What an answer says that is none to a request, ``MOST_OF_AN_ERROR`` at most; closes it."""
    return await _beginning_of(response, MOST_OF_AN_ERROR)


async def _beginning_of(response: httpx.Response, most: int) -> bytes:
    """So many bytes of a streamed body, as they come: none was asked to be compressed."""
    found = bytearray()
    # httpx tells of an iterator; it is a generator, which has to be closed.
    raw = cast("AsyncGenerator[bytes]", response.aiter_raw())
    async with contextlib.aclosing(response), contextlib.aclosing(raw) as pieces:
        async for piece in pieces:
            found += piece[: most - len(found)]
            if len(found) >= most:
                break
    return bytes(found)
