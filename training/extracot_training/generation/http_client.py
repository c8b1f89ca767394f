"""Requests over HTTP with limited concurrency and one retry policy.

Sampling, rollouts and annotators send JSON by :class:`JsonClient`; stage ``evaluate`` streams by
the OpenAI SDK and shares the policy. Knows statuses and pauses; knows no chat and no budget.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, TypeVar

import httpx

from extracot_training.config.sampling import ApiSettings
from extracot_training.errors import GenerationError, TrainingError

Q = TypeVar("Q")
T = TypeVar("T")

# Try again: overload, restarts, and proxies that time out. 401, 403 and 404 are everybody's fate.
RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
FATAL = frozenset({401, 403, 404, 405})
LONGEST_PAUSE_S = 30.0


class TransientError(TrainingError):
    """One try failed in a way that may pass. ``retry_after`` is the server's header of that name;
    ``unreachable``: no server answered at all."""

    def __init__(
        self, message: str, *, retry_after: str | None = None, unreachable: bool = False
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.unreachable = unreachable


class RequestError(GenerationError):
    """This request got no reply; others may. ``refused``: the request itself is at fault (too long,
    say) and always will be; ``failed``: asking again later may work."""

    def __init__(self, url: str, kind: Literal["refused", "failed"], problem: str) -> None:
        super().__init__(f"{url}: {problem}")
        self.kind = kind
        self.problem = problem


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """``retries`` further tries after a failed one; ``backoff_s`` is the first pause."""

    retries: int
    backoff_s: float

    @property
    def tries(self) -> int:
        return self.retries + 1

    async def run(self, send: Callable[[int], Awaitable[T]]) -> T:
        """What ``send(attempt)`` gives, called again while it raises :class:`TransientError`.

        That error of the last try is raised. Attempts count from 1.
        """
        attempt = 1
        while True:
            try:
                return await send(attempt)
            except TransientError as error:
                if attempt == self.tries:
                    raise
                pause = self.pause(attempt, error.retry_after)
            await asyncio.sleep(pause)
            attempt += 1

    def pause(self, attempt: int, retry_after: str | None = None) -> float:
        """Doubles with every attempt, and is never shorter than the server wishes; jitter keeps
        many requests from coming back at once."""
        longest = min(LONGEST_PAUSE_S, self.backoff_s * 2.0 ** (attempt - 1))
        pause = longest * random.uniform(0.5, 1.0)
        try:
            return min(LONGEST_PAUSE_S, max(pause, float(retry_after or "")))
        except ValueError:
            return pause


class JsonClient:
    """Sends and reads JSON objects, at most ``concurrency`` at a time. ``transport`` replaces the
    network in tests. Raises :class:`GenerationError` for a key that is not set."""

    def __init__(
        self, settings: ApiSettings, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._base_url = str(settings.base_url).rstrip("/")
        self._policy = RetryPolicy(settings.retries, settings.backoff_s)
        self._gate = asyncio.Semaphore(settings.concurrency)
        key = api_key(settings.api_key_env)
        self._client = httpx.AsyncClient(
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(settings.timeout_s, connect=min(10.0, settings.timeout_s)),
            limits=httpx.Limits(max_connections=settings.concurrency),
            transport=transport,
        )

    async def request(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        """The object replied. Raises :class:`RequestError` if there is none for this request,
        another :class:`GenerationError` if there will be none for any."""
        url = f"{self._base_url}{path}"
        try:
            async with self._gate:
                return await self._policy.run(lambda _: self._send(method, url, arguments))
        except TransientError as error:
            if error.unreachable:
                tried = f"(tried {self._policy.tries} times)"
                raise GenerationError(f"{url}: {error} {tried}") from error
            raise RequestError(url, "failed", str(error)) from error

    async def _send(self, method: str, url: str, arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            response = await self._client.request(method, url, **arguments)
        except httpx.RequestError as error:
            problem = f"{type(error).__name__} {error}".strip()
            raise TransientError(problem, unreachable=True) from error
        status = response.status_code
        try:
            body = response.json()
        except ValueError:
            body = None
        if status == httpx.codes.OK:
            if isinstance(body, dict):
                return body
            raise TransientError("the reply is no JSON object")
        problem = f"HTTP {status}: {error_message(body, response.text)}"
        if status in RETRIED:
            raise TransientError(problem, retry_after=response.headers.get("retry-after"))
        if status in FATAL or response.is_redirect:
            raise GenerationError(f"{url}: {problem}")
        raise RequestError(url, "refused", problem)

    async def aclose(self) -> None:
        await self._client.aclose()


async def bounded(
    work: Callable[[Q], Coroutine[Any, Any, T]], items: Iterable[Q], concurrency: int
) -> AsyncGenerator[T, None]:
    """Results of ``work`` in the order of completion, so many items at a time. Items are taken only
    as fast as they are worked on. Leaving the iterator early cancels what is under way."""
    waiting = iter(items)
    pending: set[asyncio.Task[T]] = set()
    try:
        while True:
            for item in islice(waiting, concurrency - len(pending)):
                pending.add(asyncio.create_task(work(item)))
            if not pending:
                return
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            # What did arrive is handed over before an error ends the run.
            for task in sorted(done, key=lambda task: task.exception() is not None):
                yield task.result()
    finally:
        await _cancelled(pending)


async def all_of(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results in the calls' order. The first error cancels the others and is raised."""
    tasks = [asyncio.create_task(call) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        await _cancelled(tasks)


def api_key(variable: str | None) -> str | None:
    """The key in an environment variable, ``None`` if none is named. :class:`GenerationError` if it
    is not set."""
    if not variable:
        return None
    if not (key := os.environ.get(variable)):
        raise GenerationError(f"environment variable {variable} (api_key_env) is not set")
    return key


def error_message(body: object, text: str) -> str:
    """The server's own words in one line: OpenAI's error shape, else the body or its ``text``."""
    said: object = text
    if isinstance(body, dict):
        inner = body.get("error", body)
        said = inner.get("message", inner) if isinstance(inner, dict) else inner
    return " ".join(str(said).split())[:300]


async def _cancelled(tasks: Iterable[asyncio.Task[T]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
