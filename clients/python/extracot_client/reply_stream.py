"""What the streams of both twins have in common: a reply being read, without the reading.

The twins differ in how bytes come and in nothing else.
"""

from __future__ import annotations

from typing import Any

import httpx

from extracot_client.errors import ExtracotClientError
from extracot_client.exchange import Exchange
from extracot_client.streaming import StreamReader, parse_announced
from extracot_client.types import Solution

# A well-behaved server ends the stream right after [DONE]; reading on to there lets the connection
# be used again, but one that goes on talking is not listened to for long.
_MAX_READS_AFTER_DONE = 4


class ReplyStream:
    """The state of one reply that is being read."""

    def __init__(self, response: httpx.Response, exchange: Exchange, reader: StreamReader) -> None:
        self._response = response
        self._exchange = exchange
        self._reader = reader
        self._reads_after_done = 0

    @property
    def request_id(self) -> str | None:
        """The server's id of this request."""
        return self._reader.request_id

    @property
    def announced(self) -> dict[str, Any] | None:
        """What the server said of the budget before the first token, if it did."""
        return parse_announced(self._response.headers)

    def _solution(self) -> Solution:
        if self._reader.solution is None:
            raise ExtracotClientError("The stream was closed before the reply was whole")
        return self._reader.solution

    def _talks_on(self) -> bool:
        """Whether the server has sent too much since the reply was whole. Counts what was read."""
        self._reads_after_done += self._reader.solution is not None
        return self._reads_after_done > _MAX_READS_AFTER_DONE

    def _raise_unless_whole(self, error: httpx.HTTPError) -> None:
        """A whole reply counts however its connection ends."""
        if self._reader.solution is None:
            raise self._exchange.broken(error, self._reader) from error
