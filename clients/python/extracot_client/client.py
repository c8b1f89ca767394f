"""The synchronous client, ``Extracot``; ``AsyncExtracot`` has the same calls with ``await``.

    with Extracot() as client:
        solution = client.solve("What is 12 * 12?", budget=0.2)
        print(solution.boxed, solution.report.saved_tokens_estimate)

Only sending, reading and sleeping happen here; what is sent, when to retry, what an event means
and which error a failure becomes is in modules that both clients share.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Self, Unpack

import httpx

from extracot_client import base
from extracot_client.async_client import AsyncExtracot
from extracot_client.background import in_background
from extracot_client.errors import ExtracotConnectionError
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
        try:
            for data in self._response.iter_bytes():
                yield from self._reader.feed(data)
                if self._sends_on():
                    return
        except httpx.HTTPError as error:
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
        self._http = httpx.Client(**self._core.settings.http_options())

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
        budgets: Sequence[Budget],
        *,
        concurrency: int = 4,
        skip: Skip | None = None,
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
        self, exchange: base.Exchange, method: str, path: str, body: bytes | None
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
                text = b""
                with suppress(ExtracotConnectionError):  # a refusal counts without its whole body
                    text = self._read_body(response, exchange)
                error = exchange.refused(response, text)
            self._sleep(exchange.delay_after(error))

    def _read_body(
        self, response: httpx.Response, exchange: base.Exchange, limit: int = base.MAX_ERROR_BODY
    ) -> bytes:
        """The body, as far as ``limit``; closes the response."""
        body = b""
        try:
            for data in response.iter_bytes():
                body += data
                if len(body) >= limit:
                    break
        except httpx.HTTPError as error:
            raise exchange.broken(error, started=True) from error
        finally:
            response.close()
        return body
