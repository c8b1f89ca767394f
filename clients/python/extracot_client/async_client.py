"""The asynchronous client, ``AsyncExtracot``: the same calls as ``Extracot``, awaited.

    async with AsyncExtracot() as client:
        async with client.stream("What is 12 * 12?", budget=0.2) as stream:
            async for event in stream:
                ...

Cancelling the task that reads a stream aborts it on the server. Runs on asyncio.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self, TypeVar, Unpack

import httpx
from pydantic import BaseModel

from extracot_client.errors import ExtracotClientError, ExtracotConnectionError
from extracot_client.exchange import (
    MAX_ERROR_BODY,
    MAX_JSON_BODY,
    Core,
    Exchange,
    card_path,
    is_event_stream,
    make_core,
    only_model,
    parse_page,
)
from extracot_client.reply_stream import ReplyStream
from extracot_client.requests import Problem, SolveOptions, build_request
from extracot_client.retries import Clock, RetryPolicy
from extracot_client.settings import TimeLimits
from extracot_client.streaming import StreamReader, unexpected_stream
from extracot_client.sweeps import SweepProblem, sweep_rows
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


class AsyncSolveStream(ReplyStream):
    """The events of one reply as they come; leaving its ``async with`` block aborts the rest."""

    def __init__(self, response: httpx.Response, exchange: Exchange, reader: StreamReader) -> None:
        super().__init__(response, exchange, reader)
        self._events = self._read()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._events

    async def result(self) -> Solution:
        """Read what is left and give the whole solution; raises what reading raises."""
        async for _ in self._events:
            pass
        return self._solution()

    async def close(self) -> None:
        """End it now; the server stops generating. Harmless when it is over already."""
        await self._events.aclose()
        await self._response.aclose()

    async def _read(self) -> AsyncGenerator[Event, None]:
        try:
            async for data in self._response.aiter_bytes():
                for event in self._reader.feed(data):
                    yield event
                if self._talks_on():
                    return
        except httpx.HTTPError as error:
            self._raise_unless_whole(error)
            return
        self._reader.end()


class AsyncExtracot:
    """The twin of :class:`extracot_client.Extracot` for asyncio; the arguments are the same."""

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
        sleep: Callable[[float], Awaitable[object]] | None = None,
    ) -> None:
        core = make_core(
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
        self._set_up(core, sleep)

    @classmethod
    def from_core(cls, core: Core) -> Self:
        """A client of the same server as another one, with connections of its own."""
        client = cls.__new__(cls)
        client._set_up(core, None)
        return client

    def _set_up(self, core: Core, sleep: Callable[[float], Awaitable[object]] | None) -> None:
        self._core = core
        self._sleep = sleep or asyncio.sleep
        settings = core.settings
        self._http = httpx.AsyncClient(
            base_url=settings.base_url,
            headers=settings.request_headers(),
            limits=settings.pool_limits(),
            verify=settings.verify,
            trust_env=settings.trust_env,
        )

    def __repr__(self) -> str:
        return self._core.describe("AsyncExtracot")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def solve(
        self,
        problem: Problem,
        *,
        budget: BudgetValue | None = None,
        **options: Unpack[SolveOptions],
    ) -> Solution:
        """Ask and wait for the whole reply; see :meth:`extracot_client.Extracot.solve`."""
        async with self.stream(problem, budget=budget, **options) as stream:
            return await stream.result()

    @asynccontextmanager
    async def stream(
        self,
        problem: Problem,
        *,
        budget: BudgetValue | None = None,
        **options: Unpack[SolveOptions],
    ) -> AsyncGenerator[AsyncSolveStream, None]:
        """Ask and iterate over the events; see :meth:`extracot_client.Extracot.stream`."""
        request = build_request(problem, budget, self._core.model, **options)
        exchange = self._core.exchange(request.deadline)
        response = await self._send(exchange, "POST", "v1/chat/completions", request.encode())
        try:
            if not is_event_stream(response.headers):
                start = await self._read_body(response, MAX_ERROR_BODY, exchange)
                raise unexpected_stream(response.status_code, response.headers, start)
            stream = AsyncSolveStream(response, exchange, exchange.reader(response.headers))
            try:
                yield stream
            finally:
                await stream.close()
        finally:
            await response.aclose()

    async def sweep(
        self,
        problems: Iterable[str | SweepProblem],
        budgets: Sequence[BudgetValue | None],
        *,
        concurrency: int = 4,
        skip: Callable[[str, BudgetValue | None, str], bool] | None = None,
        **options: Unpack[SolveOptions],
    ) -> AsyncGenerator[SweepRow, None]:
        """Every problem at every budget; see :meth:`extracot_client.Extracot.sweep`."""
        if not options.get("model"):  # Rows say by their fingerprint which model they are of.
            options["model"] = self._core.model or await self._served_model()
        rows = sweep_rows(
            self.solve, problems, budgets, concurrency=concurrency, skip=skip, **options
        )
        try:
            async for row in rows:
                yield row
        finally:
            await rows.aclose()

    async def models(self) -> list[ModelInfo]:
        """What the server serves, aliases included."""
        return (await self._get(self._core.exchange(), "v1/models", ModelList)).data

    async def budget_card(self, model: str | None = None) -> BudgetCardPage:
        """Budget card and policy of ``model`` (default: the client's, else the only one)."""
        path = card_path(model or self._core.model)
        return await self._get(self._core.exchange(), path, BudgetCardPage)

    async def _served_model(self) -> str:
        return only_model(await self._get(self._core.exchange(), "v1/models", ModelList))

    async def _get(self, exchange: Exchange, path: str, kind: type[M]) -> M:
        response = await self._send(exchange, "GET", path, None)
        try:
            body = await self._read_body(response, MAX_JSON_BODY, exchange)
        finally:
            await response.aclose()
        return parse_page(kind, response.status_code, response.headers, body)

    async def _send(
        self, exchange: Exchange, method: str, path: str, body: bytes | None
    ) -> httpx.Response:
        """Send until there is a success (its body unread) or an error that is to be raised."""
        while True:
            request = exchange.request(self._http, method, path, body)
            try:
                response = await self._http.send(request, stream=True)
            except httpx.HTTPError as broken:
                error = exchange.broken(broken)
            else:
                if response.is_success:
                    return response
                error = await self._refusal(response, exchange)
            delay = exchange.delay_after(error)
            if delay is None:
                raise error
            await self._sleep(delay)

    async def _refusal(self, response: httpx.Response, exchange: Exchange) -> ExtracotClientError:
        """The error for a reply without success, even where its body does not come whole."""
        try:
            body = await self._read_body(response, MAX_ERROR_BODY, exchange)
        except ExtracotConnectionError:
            body = b""
        finally:
            await response.aclose()
        return exchange.refused(response.status_code, response.headers, body)

    async def _read_body(self, response: httpx.Response, limit: int, exchange: Exchange) -> bytes:
        body = b""
        try:
            async for data in response.aiter_bytes():
                body += data
                if len(body) >= limit:
                    break
        except httpx.HTTPError as error:
            raise exchange.broken(error, started=True) from error
        return body
