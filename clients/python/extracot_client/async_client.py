"""The asynchronous client, ``AsyncExtracot``: the same calls as ``Extracot``, awaited.

    async with AsyncExtracot() as client:
        async with client.stream("What is 12 * 12?", budget=0.2) as stream:
            async for event in stream:
                ...

Cancelling the task that reads a stream aborts it on the server. Runs on asyncio.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from typing import Self, TypeVar, Unpack

import httpx

from extracot_client import base
from extracot_client.errors import ExtracotConnectionError, ExtracotTimeoutError
from extracot_client.requests import Problem, SolveOptions, build_request
from extracot_client.streaming import unexpected_stream
from extracot_client.sweeps import Skip, SweepProblem, several, sweep_rows
from extracot_client.types import (
    Budget,
    BudgetCardPage,
    Event,
    ModelInfo,
    ModelList,
    Solution,
    SweepRow,
)

T = TypeVar("T")
# httpx's own limits end at the deadline as well; they come first, because they say more.
_GRACE = 0.05


async def within(exchange: base.Exchange, step: Awaitable[T]) -> T:
    """What ``step`` gives; raises :class:`ExtracotTimeoutError` if the deadline passes first."""
    left = exchange.left
    if left is None:
        return await step
    try:
        async with asyncio.timeout(left + _GRACE):
            return await step
    except TimeoutError:
        raise exchange.out_of_time() from None


async def next_piece(pieces: AsyncIterator[bytes], exchange: base.Exchange) -> bytes | None:
    """The next bytes of a body, ``None`` at its end; raises :class:`ExtracotTimeoutError` if the
    deadline passes first."""
    exchange.time_left()
    return await within(exchange, anext(pieces, None))


class AsyncSolveStream(base.ReplyStream[AsyncGenerator[Event, None]]):
    """The events of one reply as they come; leaving its ``async with`` block aborts the rest."""

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._events

    async def result(self) -> Solution:
        """Read what is left and give the whole solution; raises what reading raises."""
        async for _ in self._events:
            pass
        return self._solution()

    async def close(self) -> None:
        """End it now; the server stops generating. Harmless when it is over already."""
        try:
            await self._events.aclose()
        finally:
            await self._response.aclose()

    async def _read(self) -> AsyncGenerator[Event, None]:
        pieces = self._response.aiter_bytes()
        try:
            while (data := await next_piece(pieces, self._exchange)) is not None:
                for event in self._reader.feed(data):
                    yield event
                if self._sends_on():
                    return
        except (httpx.HTTPError, ExtracotTimeoutError) as error:
            self._raise_unless_whole(error)
            return
        self._reader.end()


class AsyncExtracot(base.ClientBase[Callable[[float], Awaitable[object]]]):
    """:class:`extracot_client.Extracot` for asyncio; the arguments are the same."""

    def _connect(self, sleep: Callable[[float], Awaitable[object]] | None) -> None:
        self._sleep = sleep or asyncio.sleep
        self._http = self._core.settings.connect(httpx.AsyncClient)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def solve(
        self, problem: Problem, *, budget: Budget = None, **options: Unpack[SolveOptions]
    ) -> Solution:
        """Ask and wait for the whole reply; see :meth:`extracot_client.Extracot.solve`."""
        async with self.stream(problem, budget=budget, **options) as stream:
            return await stream.result()

    @asynccontextmanager
    async def stream(
        self, problem: Problem, *, budget: Budget = None, **options: Unpack[SolveOptions]
    ) -> AsyncGenerator[AsyncSolveStream, None]:
        """Ask and iterate over the events; see :meth:`extracot_client.Extracot.stream`."""
        body = build_request(problem, budget, self._core.model, **options)
        exchange = self._core.exchange(options.get("deadline"))
        response = await self._send(exchange, "POST", "v1/chat/completions", body)
        if not base.is_event_stream(response):
            raise unexpected_stream(response, await self._read_body(response, exchange))
        stream = AsyncSolveStream(response, exchange)
        try:
            yield stream
        finally:
            await stream.close()

    async def sweep(
        self,
        problems: Iterable[str | SweepProblem],
        budgets: Iterable[Budget],
        *,
        concurrency: int = 4,
        skip: Skip | None = None,
        **options: Unpack[SolveOptions],
    ) -> AsyncGenerator[SweepRow, None]:
        """Every problem at every budget; see :meth:`extracot_client.Extracot.sweep`."""
        problems, budgets = several(problems, budgets)
        if not options.get("model"):  # The fingerprint of a row includes its model.
            options["model"] = self._core.model or base.only_model(await self.models())
        rows = sweep_rows(
            self.solve,
            problems,
            budgets,
            concurrency=concurrency,
            skip=skip,
            server=self._core.settings.shown_url,
            patience=self._core.patience(options.get("deadline")),
            **options,
        )
        async with aclosing(rows):
            async for row in rows:
                yield row

    async def models(self) -> list[ModelInfo]:
        """What the server serves, aliases included."""
        return (await self._get("v1/models", ModelList)).data

    async def budget_card(self, model: str | None = None) -> BudgetCardPage:
        """Budget card and policy of ``model`` (default: the client's, else the only one)."""
        return await self._get(base.card_path(model or self._core.model), BudgetCardPage)

    async def _get(self, path: str, kind: type[base.Page]) -> base.Page:
        exchange = self._core.exchange()
        response = await self._send(exchange, "GET", path, None)
        body = await self._read_body(response, exchange, base.MAX_JSON_BODY)
        return base.parse_page(kind, response, body)

    async def _send(
        self, exchange: base.Exchange, method: str, path: str, body: bytes | None
    ) -> httpx.Response:
        """Send until there is a success (its body unread) or an error that is to be raised."""
        while True:
            request = exchange.request(self._http, method, path, body)
            try:
                response = await within(exchange, self._http.send(request, stream=True))
            except httpx.HTTPError as broken:
                error = exchange.broken(broken)
            else:
                if response.is_success:
                    return response
                text = b""
                try:
                    text = await self._read_body(response, exchange)
                except ExtracotConnectionError as lost:
                    if base.is_deadline(lost):
                        raise
                    # Otherwise a refusal counts without its whole body.
                error = exchange.refused(response, text)
            await self._sleep(exchange.delay_after(error))

    async def _read_body(
        self, response: httpx.Response, exchange: base.Exchange, limit: int = base.MAX_ERROR_BODY
    ) -> bytes:
        """The body, as far as ``limit``; closes the response."""
        body = b""
        pieces = response.aiter_bytes()
        try:
            while (data := await next_piece(pieces, exchange)) is not None:
                body += data
                if len(body) >= limit:
                    break
        except httpx.HTTPError as error:
            raise exchange.broken(error, started=True) from error
        finally:
            await response.aclose()
        return body
