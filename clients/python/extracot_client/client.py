"""The synchronous client, ``Extracot``; its twin with ``await`` is ``AsyncExtracot`` next door.

    with Extracot() as client:
        solution = client.solve("What is 12 * 12?", budget=0.2)
        print(solution.boxed, solution.report.saved_tokens_estimate)

Only sending, reading and sleeping happen here; what is sent, when to retry, what an event means
and which error a failure becomes live in modules that both twins share. Knows nothing of terminals.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import (
    AsyncGenerator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar, Unpack

import httpx
from pydantic import BaseModel

from extracot_client.async_client import AsyncExtracot
from extracot_client.background import in_background
from extracot_client.errors import ExtracotClientError, ExtracotConnectionError
from extracot_client.exchange import (
    MAX_ERROR_BODY,
    MAX_JSON_BODY,
    Core,
    Exchange,
    card_path,
    is_event_stream,
    make_core,
    parse_page,
)
from extracot_client.reply_stream import ReplyStream
from extracot_client.requests import Problem, SolveOptions, build_request
from extracot_client.retries import Clock, RetryPolicy
from extracot_client.settings import TimeLimits
from extracot_client.streaming import StreamReader, unexpected_stream
from extracot_client.sweeps import SweepProblem
from extracot_client.types import (
    BudgetCardPage,
    BudgetValue,
    Event,
    ModelInfo,
    ModelList,
    Solution,
    SweepRow,
)

M = TypeVar("M", bound=BaseModel)


class SolveStream(ReplyStream):
    """The events of one reply as they come; leaving its ``with`` block aborts the rest."""

    def __init__(self, response: httpx.Response, exchange: Exchange, reader: StreamReader) -> None:
        super().__init__(response, exchange, reader)
        self._events = self._read()

    def __iter__(self) -> Iterator[Event]:
        return self._events

    def result(self) -> Solution:
        """Read what is left and give the whole solution; raises what reading raises."""
        for _ in self._events:
            pass
        return self._solution()

    def close(self) -> None:
        """End it now; the server stops generating. Harmless when it is over already."""
        self._events.close()
        self._response.close()

    def _read(self) -> Generator[Event, None, None]:
        try:
            for data in self._response.iter_bytes():
                yield from self._reader.feed(data)
                if self._talks_on():
                    return
        except httpx.HTTPError as error:
            self._raise_unless_whole(error)
            return
        self._reader.end()


class Extracot:
    """A client of one Extra-CoT server, or of any server that speaks OpenAI's chat completions.

    ``base_url`` and ``api_key`` default to ``EXTRACOT_BASE_URL`` (else ``http://127.0.0.1:8000``)
    and ``EXTRACOT_API_KEY``. ``timeout`` is the longest silence in seconds (or
    :class:`TimeLimits`), ``deadline`` the longest whole call. Safe to share between threads.
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
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._core: Core = make_core(
            base_url,
            api_key,
            model=model,
            timeout=timeout,
            deadline=deadline,
            retry=retry,
            headers=headers,
            verify=verify,
            max_connections=max_connections,
            clock=clock,
        )
        self._sleep = sleep or threading.Event().wait
        settings = self._core.settings
        self._http = httpx.Client(
            base_url=settings.base_url,
            headers=settings.request_headers(),
            limits=settings.pool_limits(),
            verify=settings.verify,
            trust_env=settings.trust_env,
        )

    def __repr__(self) -> str:
        return self._core.describe("Extracot")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def solve(
        self,
        problem: Problem,
        *,
        budget: BudgetValue | None = None,
        **options: Unpack[SolveOptions],
    ) -> Solution:
        """Ask and wait for the whole reply; ``options`` are those of :class:`SolveOptions`.

        Streams underneath, so that the timings are true and a long silence is noticed. Raises the
        errors of :mod:`extracot_client.errors`.
        """
        with self.stream(problem, budget=budget, **options) as stream:
            return stream.result()

    @contextmanager
    def stream(
        self,
        problem: Problem,
        *,
        budget: BudgetValue | None = None,
        **options: Unpack[SolveOptions],
    ) -> Iterator[SolveStream]:
        """Ask and iterate over :class:`ReasoningDelta`, :class:`AnswerDelta` and last
        :class:`Done`; leaving the block early aborts on the server."""
        request = build_request(problem, budget, self._core.model, **options)
        exchange = self._core.exchange(request.deadline)
        response = self._send(exchange, "POST", "v1/chat/completions", request.encode())
        try:
            if not is_event_stream(response.headers):
                start = self._read_body(response, MAX_ERROR_BODY, exchange)
                raise unexpected_stream(response.status_code, response.headers, start)
            stream = SolveStream(response, exchange, exchange.reader(response.headers))
            try:
                yield stream
            finally:
                stream.close()
        finally:
            response.close()

    def sweep(
        self,
        problems: Iterable[str | SweepProblem],
        budgets: Sequence[BudgetValue | None],
        *,
        concurrency: int = 4,
        skip: Callable[[str, BudgetValue | None, str], bool] | None = None,
        **options: Unpack[SolveOptions],
    ) -> Generator[SweepRow, None, None]:
        """Every problem at every budget, ``concurrency`` at a time; rows in order of completion.

        A request that fails gives a row with ``error``; a failure that all others would share (no
        server, a wrong key, an unknown model, a wrong budget) is raised. ``skip(problem_id,
        budget, fingerprint)`` leaves out what is there already. Closing the generator aborts what
        runs. The requests are made by an :class:`AsyncExtracot` on a thread of its own.
        """
        core = self._core

        async def rows() -> AsyncGenerator[SweepRow, None]:
            async with AsyncExtracot.from_core(core) as twin:
                async for row in twin.sweep(
                    problems, budgets, concurrency=concurrency, skip=skip, **options
                ):
                    yield row

        return in_background(rows)

    def models(self) -> list[ModelInfo]:
        """What the server serves, aliases included."""
        return self._get(self._core.exchange(), "v1/models", ModelList).data

    def budget_card(self, model: str | None = None) -> BudgetCardPage:
        """Budget card and policy of ``model`` (default: the client's, else the only one)."""
        path = card_path(model or self._core.model)
        return self._get(self._core.exchange(), path, BudgetCardPage)

    def _get(self, exchange: Exchange, path: str, kind: type[M]) -> M:
        response = self._send(exchange, "GET", path, None)
        try:
            body = self._read_body(response, MAX_JSON_BODY, exchange)
        finally:
            response.close()
        return parse_page(kind, response.status_code, response.headers, body)

    def _send(
        self, exchange: Exchange, method: str, path: str, body: bytes | None
    ) -> httpx.Response:
        """Send until there is a success (its body unread) or an error that is to be raised."""
        while True:
            request = exchange.request(self._http, method, path, body)
            try:
                response = self._http.send(request, stream=True)
            except httpx.HTTPError as broken:
                error = exchange.broken(broken)
            else:
                if response.is_success:
                    return response
                error = self._refusal(response, exchange)
            delay = exchange.delay_after(error)
            if delay is None:
                raise error
            self._sleep(delay)

    def _refusal(self, response: httpx.Response, exchange: Exchange) -> ExtracotClientError:
        """The error for a reply without success, even where its body does not come whole."""
        try:
            body = self._read_body(response, MAX_ERROR_BODY, exchange)
        except ExtracotConnectionError:
            body = b""
        finally:
            response.close()
        return exchange.refused(response.status_code, response.headers, body)

    def _read_body(self, response: httpx.Response, limit: int, exchange: Exchange) -> bytes:
        body = b""
        try:
            for data in response.iter_bytes():
                body += data
                if len(body) >= limit:
                    break
        except httpx.HTTPError as error:
            raise exchange.broken(error, started=True) from error
        return body
