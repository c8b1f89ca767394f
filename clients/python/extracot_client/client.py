"""The synchronous client, ``Extracot``; ``AsyncExtracot`` has the same calls with ``await``.

    with Extracot() as client:
        solution = client.solve("What is 12 * 12?", budget=0.2)
        print(solution.boxed, solution.report.saved_tokens_estimate)

Only sending, reading and sleeping happen here; what is sent, when to retry, what an event means
and which error a failure becomes is in modules that both clients share.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from contextvars import ContextVar
from typing import Any, Self, Unpack

import httpx

from extracot_client import base
from extracot_client.async_client import AsyncExtracot
from extracot_client.background import in_background
from extracot_client.errors import ExtracotConnectionError, ExtracotTimeoutError
from extracot_client.requests import Problem, SolveOptions, build_request
from extracot_client.streaming import unexpected_stream
from extracot_client.sweeps import Skip, SweepProblem
from extracot_client.types import (
    Budget,
    BudgetCardPage,
    Event,
    ModelInfo,
    ModelList,
    Solution,
    SweepRow,
)

_current: ContextVar[base.Exchange | None] = ContextVar("extracot_exchange", default=None)
_WRITE_SIZE = 64 * 1024


@contextmanager
def _within(exchange: base.Exchange) -> Iterator[None]:
    """Bounds what httpx reads and writes in the block by the deadline of ``exchange``."""
    token = _current.set(exchange)
    try:
        yield
    finally:
        _current.reset(token)


def _bounded(timeout: float | None) -> float | None:
    """``timeout``, but not beyond the deadline; raises :class:`ExtracotTimeoutError` after it."""
    exchange = _current.get()
    left = None if exchange is None else exchange.time_left()
    return min((limit for limit in (timeout, left) if limit is not None), default=None)


class _Connection:
    """A connection of httpcore whose reads and writes end with the deadline of the call.

    A limit of httpx holds for each read, and is fixed before the first one: a server that sends a
    byte now and then would be followed for ever.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def read(self, max_bytes: int, timeout: float | None = None) -> Any:
        return self._stream.read(max_bytes, _bounded(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _WRITE_SIZE):
            self._stream.write(buffer[start : start + _WRITE_SIZE], _bounded(timeout))

    def start_tls(self, *args: Any, **options: Any) -> _Connection:
        return _Connection(self._stream.start_tls(*args, **options))


class _Network:
    """Where httpcore gets its connections."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def connect_tcp(self, *args: Any, **options: Any) -> _Connection:
        options["timeout"] = _bounded(options.get("timeout"))
        return _Connection(self._backend.connect_tcp(*args, **options))


def _bound_reads(http: httpx.Client) -> None:
    """Put :class:`_Network` into a client of httpx, which has no argument for it. In a release of
    httpx that is built in another way, a deadline is kept only between the pieces of a reply."""
    for transport in (getattr(http, "_transport", None), *getattr(http, "_mounts", {}).values()):
        pool: Any = getattr(transport, "_pool", None)
        if hasattr(pool, "_network_backend"):
            pool._network_backend = _Network(pool._network_backend)


def _next_piece(pieces: Iterator[bytes], exchange: base.Exchange) -> bytes | None:
    """The next bytes of a body, ``None`` at its end; raises :class:`ExtracotTimeoutError` if the
    deadline passes first."""
    exchange.time_left()
    with _within(exchange):
        return next(pieces, None)


class SolveStream(base.ReplyStream[Generator[Event, None, None]]):
    """The events of one reply as they come; leaving its ``with`` block aborts the rest."""

    def __iter__(self) -> Iterator[Event]:
        return self._events

    def result(self) -> Solution:
        """Read what is left and give the whole solution; raises what reading raises."""
        for _ in self._events:
            pass
        return self._solution()

    def close(self) -> None:
        """End it now; the server stops generating. Harmless when it is over already."""
        try:
            self._events.close()
        finally:
            self._response.close()

    def _read(self) -> Generator[Event, None, None]:
        pieces = self._response.iter_bytes()
        try:
            while (data := _next_piece(pieces, self._exchange)) is not None:
                yield from self._reader.feed(data)
                if self._sends_on():
                    return
        except (httpx.HTTPError, ExtracotTimeoutError) as error:
            self._raise_unless_whole(error)
            return
        self._reader.end()


class Extracot(base.ClientBase[Callable[[float], object]]):
    """A client of one Extra-CoT server, or of any server with OpenAI's chat completions API.

    ``base_url`` and ``api_key`` default to ``EXTRACOT_BASE_URL`` (else ``http://127.0.0.1:8000``)
    and ``EXTRACOT_API_KEY``. ``timeout`` is the longest silence in seconds (or
    :class:`TimeLimits`), ``deadline`` the longest whole call. Safe to share between threads.
    """

    def _connect(self, sleep: Callable[[float], object] | None) -> None:
        self._sleep = sleep or threading.Event().wait
        self._http = self._core.settings.connect(httpx.Client)
        _bound_reads(self._http)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def solve(
        self, problem: Problem, *, budget: Budget = None, **options: Unpack[SolveOptions]
    ) -> Solution:
        """Ask and wait for the whole reply; ``options`` are those of :class:`SolveOptions`.

        Streams underneath, so that the timings are true and a long silence is noticed. Raises the
        errors of :mod:`extracot_client.errors`.
        """
        with self.stream(problem, budget=budget, **options) as stream:
            return stream.result()

    @contextmanager
    def stream(
        self, problem: Problem, *, budget: Budget = None, **options: Unpack[SolveOptions]
    ) -> Iterator[SolveStream]:
        """Ask and iterate over :class:`ReasoningDelta`, :class:`AnswerDelta` and last
        :class:`Done`; leaving the block early aborts on the server."""
        body = build_request(problem, budget, self._core.model, **options)
        exchange = self._core.exchange(options.get("deadline"))
        response = self._send(exchange, "POST", "v1/chat/completions", body)
        if not base.is_event_stream(response):
            raise unexpected_stream(response, self._read_body(response, exchange))
        with closing(SolveStream(response, exchange)) as stream:
            yield stream

    def sweep(
        self,
        problems: Iterable[str | SweepProblem],
        budgets: Iterable[Budget],
        *,
        concurrency: int = 4,
        skip: Skip | None = None,
        **options: Unpack[SolveOptions],
    ) -> Generator[SweepRow, None, None]:
        """Every problem at every budget, ``concurrency`` at a time; rows in order of completion.

        A request that fails gives a row with ``error``; a failure that all others would share (no
        server, a wrong key, an unknown model, a wrong budget, a server that asks to come back later
        than a request waits) is raised. ``skip(problem_id, budget, fingerprint)`` leaves out what
        is there already; the fingerprint is of what is asked, and a row's ``server`` of who was.
        Closing the generator aborts what runs. The requests are made by an :class:`AsyncExtracot`
        on a thread of its own.
        """
        core = self._core

        async def rows() -> AsyncGenerator[SweepRow, None]:
            async with AsyncExtracot.from_core(core) as client:
                async for row in client.sweep(
                    problems, budgets, concurrency=concurrency, skip=skip, **options
                ):
                    yield row

        return in_background(rows)

    def models(self) -> list[ModelInfo]:
        """What the server serves, aliases included."""
        return self._get("v1/models", ModelList).data

    def budget_card(self, model: str | None = None) -> BudgetCardPage:
        """Budget card and policy of ``model`` (default: the client's, else the only one)."""
        return self._get(base.card_path(model or self._core.model), BudgetCardPage)

    def _get(self, path: str, kind: type[base.Page]) -> base.Page:
        exchange = self._core.exchange()
        response = self._send(exchange, "GET", path, None)
        return base.parse_page(
            kind, response, self._read_body(response, exchange, base.MAX_JSON_BODY)
        )

    def _send(
        self,
        exchange: base.Exchange,
        method: str,
        path: str,
        body: base.Body,
        *,
        once: bool = False,
    ) -> httpx.Response:
        """Send until there is a success (its body unread) or an error that is to be raised.

        ``once``: a request whose reply is lost is not repeated, for it would be done twice. One
        that is refused is: nothing was done then.
        """
        while True:
            request = exchange.request(self._http, method, path, body)
            try:
                with _within(exchange):
                    response = self._http.send(request, stream=True)
            except httpx.HTTPError as broken:
                error = exchange.broken(broken)
                if once:
                    raise error from broken
            else:
                if response.is_success:
                    return response
                text = b""
                try:
                    text = self._read_body(response, exchange)
                except ExtracotConnectionError as lost:
                    if base.is_deadline(lost):
                        raise
                    # Otherwise a refusal counts without its whole body.
                error = exchange.refused(response, text)
            self._sleep(exchange.delay_after(error))

    def _read_body(
        self, response: httpx.Response, exchange: base.Exchange, limit: int = base.MAX_ERROR_BODY
    ) -> bytes:
        """The body, as far as ``limit``; closes the response."""
        body = b""
        with closing(self._pieces(response, exchange)) as pieces:
            for data in pieces:
                body += data
                if len(body) >= limit:
                    break
        return body

    @staticmethod
    def _pieces(response: httpx.Response, exchange: base.Exchange) -> Generator[bytes, None, None]:
        """The body as it comes, within the deadline; closes the response."""
        pieces = response.iter_bytes()
        try:
            while (data := _next_piece(pieces, exchange)) is not None:
                yield data
        except httpx.HTTPError as error:
            raise exchange.broken(error, started=True) from error
        finally:
            response.close()
