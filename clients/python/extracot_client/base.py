"""Common code of ``Extracot`` and ``AsyncExtracot``: all but sending, reading and waiting.

Their arguments, a call's attempts and time left, a reply being read, and what a failure becomes.
"""

from __future__ import annotations

import json
import math
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel

from extracot_client import errors
from extracot_client.retries import Clock, RetryPolicy, parse_retry_after
from extracot_client.settings import ClientSettings, TimeLimits, resolve_settings
from extracot_client.streaming import StreamReader, parse_model
from extracot_client.types import ModelInfo, Solution, value_at

Page = TypeVar("Page", bound=BaseModel)
Sleep = TypeVar("Sleep")
Events = TypeVar("Events")

MAX_ERROR_BODY = 64 * 1024
MAX_JSON_BODY = 16 * 2**20
# A limit that ends this near the deadline has ended because of it.
_NEAR = 0.02
# A well-behaved server ends the stream right after [DONE]; reading on to there lets the connection
# be used again, but a server that keeps sending is not read for long.
_MAX_READS_AFTER_DONE = 4


Body = bytes | Callable[[], dict[str, Any]] | None
"""JSON, or what makes httpx's arguments anew for each attempt."""


@dataclass(frozen=True, slots=True)
class Core:
    """What both clients are made of."""

    settings: ClientSettings
    model: str | None
    deadline: float | None
    retry: RetryPolicy
    clock: Clock

    def patience(self, deadline: float | None = None) -> float:
        """The longest ``Retry-After`` that a call waits for, in seconds."""
        limits = (self.retry.max_retry_after, self.deadline if deadline is None else deadline)
        return min(limit for limit in limits if limit is not None)

    def exchange(self, deadline: float | None = None) -> Exchange:
        """Begin one call; ``deadline`` in seconds replaces the client's own.

        Raises :class:`InvalidArgumentError` for one that is not positive.
        """
        if deadline is not None and not deadline > 0:
            message = f"A deadline is a positive number of seconds, not {deadline!r}"
            raise errors.InvalidArgumentError(message, param="deadline")
        return Exchange(self, self.deadline if deadline is None else deadline)


class Exchange:
    """The attempts of one call."""

    def __init__(self, core: Core, deadline: float | None) -> None:
        self._core = core
        self._attempt = 0
        self.started = core.clock.monotonic()
        self._deadline_at = None if deadline is None else self.started + deadline

    def request(
        self, http: httpx.Client | httpx.AsyncClient, method: str, path: str, body: Body
    ) -> httpx.Request:
        """Start an attempt: what to send, within the time that is left.

        Raises :class:`ExtracotTimeoutError` where there is none.
        """
        content: dict[str, Any] = {}
        if isinstance(body, bytes):
            content = {"content": body, "headers": {"content-type": "application/json"}}
        elif body is not None:
            content = body()
        self.started = self._core.clock.monotonic()
        limits = self._core.settings.timeout(self.time_left())
        return http.build_request(method, path, timeout=limits, **content)

    @property
    def left(self) -> float | None:
        """Seconds until the deadline, if there is one; negative after it."""
        if self._deadline_at is None:
            return None
        return self._deadline_at - self._core.clock.monotonic()

    def time_left(self) -> float | None:
        """The same, but raises :class:`ExtracotTimeoutError` once the deadline has passed."""
        left = self.left
        if left is not None and left <= 0:
            raise self.out_of_time()
        return left

    def out_of_time(self) -> errors.ExtracotTimeoutError:
        """The error for a call that the deadline ends before there is a reply."""
        return errors.ExtracotTimeoutError("The deadline passed before a reply", phase="deadline")

    def delay_after(self, error: errors.ExtracotClientError) -> float:
        """Seconds until the next attempt; raises ``error`` where there is to be none."""
        delay = self._core.retry.delay(self._attempt, error)
        left = self.left
        if delay is None or (left is not None and delay >= left):
            raise error
        self._attempt += 1
        return delay

    def refused(self, response: httpx.Response, body: bytes) -> errors.ExtracotClientError:
        """The error for a reply without success."""
        wait = parse_retry_after(response.headers.get("retry-after"), self._core.clock.wall())
        redacted = self._core.settings.redact(body.decode("utf-8", "replace")).encode("utf-8")
        return errors.error_from_reply(
            response.status_code, response.headers, redacted, retry_after=wait
        )

    def broken(
        self, error: httpx.HTTPError, reader: StreamReader | None = None, *, started: bool = False
    ) -> errors.ExtracotClientError:
        """The error for an attempt that broke off, with what ``reader`` already had."""
        url, left = self._core.settings.shown_url, self.left
        # A connection that cannot be made says more than the deadline does.
        silent = isinstance(error, httpx.TimeoutException)
        silent = silent and not isinstance(error, httpx.ConnectTimeout)
        if silent and left is not None and left <= _NEAR:
            return self.out_of_time() if reader is None else reader.out_of_time()
        if reader is None:
            return errors.error_from_transport(error, url, started=started)
        context = {"request_id": reader.request_id, **reader.partial}
        return errors.error_from_transport(error, url, started=True, **context)

    def reader(self, headers: Mapping[str, str]) -> StreamReader:
        """A reader for the reply to the current attempt."""
        return StreamReader(
            clock=self._core.clock,
            started=self.started,
            deadline_at=self._deadline_at,
            request_id=headers.get(errors.REQUEST_ID_HEADER),
            retries=self._attempt,
            base_url=self._core.settings.shown_url,
        )


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
            raise errors.ConfigurationError(message)
        settings = resolve_settings(
            base_url,
            api_key,
            timeout=timeout,
            headers=headers,
            verify=verify,
            max_connections=max_connections,
        )
        self._core = Core(settings, model, deadline, retry or RetryPolicy(), clock or Clock())
        self._connect(sleep)

    @classmethod
    def from_core(cls, core: Core) -> Self:
        """A client of the same server as another one, with connections of its own."""
        client = cls.__new__(cls)
        client._core = core
        client._connect(None)
        return client

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
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None

    def _solution(self) -> Solution:
        if self._reader.solution is None:
            raise errors.ExtracotClientError("The stream was closed before the reply was whole")
        return self._reader.solution

    def _sends_on(self) -> bool:
        """Whether the server has sent too much since the reply was whole. Counts what was read."""
        self._reads_after_done += self._reader.solution is not None
        return self._reads_after_done > _MAX_READS_AFTER_DONE

    def _raise_unless_whole(self, error: httpx.HTTPError | errors.ExtracotTimeoutError) -> None:
        """A whole reply counts however its connection ends."""
        if self._reader.solution is not None:
            return
        if isinstance(error, httpx.HTTPError):
            raise self._exchange.broken(error, self._reader) from error
        raise self._reader.out_of_time() from None


def parse_page(kind: type[Page], response: httpx.Response, body: bytes) -> Page:
    """A JSON reply as ``kind``; raises :class:`UnexpectedReplyError` for anything else."""
    request_id = response.headers.get(errors.REQUEST_ID_HEADER)
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise errors.UnexpectedReplyError(
            f"The server answered {response.status_code} with {errors.describe_body(body)}",
            status=response.status_code,
            request_id=request_id,
        ) from None
    return parse_model(kind, value, "reply", request_id)


def only_model(models: Sequence[ModelInfo]) -> str:
    """The model to ask where none was named. Raises :class:`UnexpectedReplyError` if there is
    none, :class:`InvalidArgumentError` if there are several to choose from."""
    if not models:
        raise errors.UnexpectedReplyError("The server lists no model")
    names = base_models(models)
    if len(names) > 1:
        raise errors.InvalidArgumentError(
            f"The server serves several models; name one of {', '.join(names)}", param="model"
        )
    return names[0]


def base_models(models: Sequence[ModelInfo]) -> list[str]:
    """The names that are no alias of another; all of them, if every one says it is."""
    names = [model.id for model in models if value_at(model.model_extra, "parent") is None]
    return names or [model.id for model in models]


def card_path(model: str | None) -> str:
    """Where the budget card of ``model`` (or of the only one) is to be had.

    Raises :class:`InvalidArgumentError` for a name that is no text."""
    try:
        return "v1/budget" + (f"?model={quote(model, safe='')}" if model else "")
    except UnicodeEncodeError:
        message = f"`model` holds half a character (a lone surrogate): {model!r}"
        raise errors.InvalidArgumentError(message, param="model") from None


def is_deadline(error: errors.ExtracotConnectionError) -> bool:
    """Whether the call's deadline ended it, after which nothing that came counts."""
    return isinstance(error, errors.ExtracotTimeoutError) and error.phase == "deadline"


def is_event_stream(response: httpx.Response) -> bool:
    """Whether a reply's content type is that of server-sent events."""
    kind: str = response.headers.get("content-type", "").partition(";")[0]
    return kind.strip().lower() == "text/event-stream"
