"""What ``Extracot`` and ``AsyncExtracot`` have in common: their arguments, and a reply being read.

The two differ in how bytes come and how one waits, and in nothing else.
"""

from __future__ import annotations

import json
import math
import ssl
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, Self, TypeVar

import httpx

from extracot_client.errors import ConfigurationError, ExtracotClientError
from extracot_client.exchange import Core, Exchange
from extracot_client.retries import Clock, RetryPolicy
from extracot_client.settings import TimeLimits, resolve_settings
from extracot_client.types import Solution

# A well-behaved server ends the stream right after [DONE]; reading on to there lets the connection
# be used again, but a server that keeps sending is not read for long.
_MAX_READS_AFTER_DONE = 4

Sleep = TypeVar("Sleep")
Events = TypeVar("Events")


class ClientBase(ABC, Generic[Sleep]):
    """The arguments of both clients; see :class:`extracot_client.Extracot`.

    Raises :class:`ConfigurationError`, in one line, for those that cannot be used.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        model: str | None = None,
        timeout: float | TimeLimits | None = None,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        headers: Mapping[str, str] | None = None,
        verify: ssl.SSLContext | bool = True,
        max_connections: int = 100,
        clock: Clock | None = None,
        sleep: Sleep | None = None,
    ) -> None:
        if deadline is not None and (not deadline > 0 or math.isinf(deadline)):
            message = f"A deadline is a positive number of seconds, not {deadline!r}"
            raise ConfigurationError(message)
        settings = resolve_settings(
            base_url,
            api_key,
            timeout=timeout,
            headers=headers,
            verify=verify,
            max_connections=max_connections,
        )
        core = Core(settings, model, deadline, retry or RetryPolicy(), clock or Clock())
        self._set_up(core, sleep)

    @classmethod
    def from_core(cls, core: Core) -> Self:
        """A client of the same server as another one, with connections of its own."""
        client = cls.__new__(cls)
        client._set_up(core, None)
        return client

    def _set_up(self, core: Core, sleep: Sleep | None) -> None:
        self._core = core
        self._connect(sleep)

    @abstractmethod
    def _connect(self, sleep: Sleep | None) -> None:
        """Make the connection pool, and choose how to wait between attempts."""

    def __repr__(self) -> str:
        settings, name = self._core.settings, type(self).__name__
        key = "set" if settings.api_key else "none"  # never the key itself
        return f"{name}(base_url={settings.shown_url!r}, api_key={key}, model={self._core.model!r})"


class ReplyStream(ABC, Generic[Events]):
    """The events of one reply as they come; leaving its ``with`` block aborts the rest."""

    def __init__(self, response: httpx.Response, exchange: Exchange) -> None:
        self._response = response
        self._exchange = exchange
        self._reader = exchange.reader(response.headers)
        self._reads_after_done = 0
        self._events = self._read()

    @abstractmethod
    def _read(self) -> Events:
        """The events of the response's bytes."""

    @property
    def request_id(self) -> str | None:
        """The server's id of this request."""
        return self._reader.request_id

    @property
    def announced(self) -> dict[str, Any] | None:
        """The budget as known before the first token: the ``x-extracot-budget`` header, if any."""
        try:
            value = json.loads(self._response.headers.get("x-extracot-budget", "null"))
        except ValueError:
            return None
        return value if isinstance(value, dict) else None

    def _solution(self) -> Solution:
        if self._reader.solution is None:
            raise ExtracotClientError("The stream was closed before the reply was whole")
        return self._reader.solution

    def _sends_on(self) -> bool:
        """Whether the server has sent too much since the reply was whole. Counts what was read."""
        self._reads_after_done += self._reader.solution is not None
        return self._reads_after_done > _MAX_READS_AFTER_DONE

    def _raise_unless_whole(self, error: httpx.HTTPError) -> None:
        """A whole reply counts however its connection ends."""
        if self._reader.solution is None:
            raise self._exchange.broken(error, self._reader) from error
