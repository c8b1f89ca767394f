"""Samples from an OpenAI-compatible server: so many requests at a time, retried with backoff.

Reads reasoning from ``reasoning_content`` or ``reasoning``, or from think tags in the content.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncGenerator, Iterable
from typing import Any

import httpx

from extracot_training.config.sampling import HttpBackend, Sampling
from extracot_training.generation.sampling.base import (
    Failure,
    Outcome,
    Request,
    Sample,
    SamplingError,
    split_reply,
)

# Try again: overload, restarts, and proxies that time out. 401, 403 and 404 are everybody's fate.
RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
FATAL = frozenset({401, 403, 404, 405})
LONGEST_PAUSE_S = 30.0


class HttpSampler:
    """An OpenAI-compatible chat server as a :class:`SamplingBackend`.

    ``transport`` replaces the network in tests.
    """

    def __init__(
        self, config: HttpBackend, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._config = config
        self._url = f"{str(config.base_url).rstrip('/')}/chat/completions"
        self._client = httpx.AsyncClient(
            headers=_headers(config),
            timeout=httpx.Timeout(config.timeout_s, connect=min(10.0, config.timeout_s)),
            limits=httpx.Limits(max_connections=config.concurrency),
            transport=transport,
        )

    @property
    def name(self) -> str:
        return self._config.model

    async def run(
        self, requests: Iterable[Request], sampling: Sampling
    ) -> AsyncGenerator[Outcome, None]:
        """See :class:`SamplingBackend`. Leaving the iterator early cancels what is under way."""
        waiting = iter(requests)
        pending: set[asyncio.Task[Outcome]] = set()
        try:
            while True:
                while len(pending) < self._config.concurrency:
                    request = next(waiting, None)
                    if request is None:
                        break
                    pending.add(asyncio.create_task(self._one(request, sampling)))
                if not pending:
                    return
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                # What did arrive is handed over before an error ends the run.
                for task in sorted(done, key=lambda task: task.exception() is not None):
                    yield task.result()
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _one(self, request: Request, sampling: Sampling) -> Outcome:
        body = _body(self._config, request, sampling)
        tries = self._config.retries + 1
        attempt = 0
        while True:
            attempt += 1
            pause = self._pause(attempt)
            try:
                response = await self._client.post(self._url, json=body)
            except httpx.TransportError as error:
                if attempt == tries:
                    problem = f"{type(error).__name__} {error}".strip()
                    raise SamplingError(f"{self._url}: {problem} (tried {tries} times)") from error
            else:
                if response.status_code not in RETRIED:
                    return Outcome(request.key, self._read(response))
                if attempt == tries:
                    problem = f"HTTP {response.status_code}: {_message(response)}"
                    return Outcome(request.key, Failure("failed", problem))
                pause = _retry_after(response, pause)
            await asyncio.sleep(pause)

    def _read(self, response: httpx.Response) -> Sample | Failure:
        status = response.status_code
        if status in FATAL or 300 <= status < 400:
            raise SamplingError(f"{self._url}: HTTP {status}: {_message(response)}")
        if status != 200:
            return Failure("refused", f"HTTP {status}: {_message(response)}")
        try:
            return _sample(response.json())
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            return Failure("failed", f"not a chat completion ({type(error).__name__}: {error})")

    def _pause(self, attempt: int) -> float:
        """Doubles with every attempt; jitter keeps many clients from coming back at once."""
        longest = min(LONGEST_PAUSE_S, self._config.backoff_s * 2.0 ** (attempt - 1))
        return longest * random.uniform(0.5, 1.0)


def _headers(config: HttpBackend) -> dict[str, str]:
    if config.api_key_env is None:
        return {}
    key = os.environ.get(config.api_key_env)
    if not key:
        raise SamplingError(f"environment variable {config.api_key_env} (api_key_env) is not set")
    return {"authorization": f"Bearer {key}"}


def _body(config: HttpBackend, request: Request, sampling: Sampling) -> dict[str, Any]:
    settings = sampling.model_dump(exclude_none=True)
    if request.seed is not None:
        settings["seed"] = request.seed
    messages = [{"role": role, "content": content} for role, content in request.messages]
    return {"model": config.model, "messages": messages, **settings, **config.extra_body}


def _sample(reply: dict[str, Any]) -> Sample:
    """A chat completion's first choice. Raises the usual lookup errors on another shape."""
    choice = reply["choices"][0]
    message = choice["message"]
    finish = choice.get("finish_reason")
    answer = message.get("content") or ""
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    if not isinstance(answer, str) or not (reasoning is None or isinstance(reasoning, str)):
        raise TypeError("content and reasoning must be text")
    closed = reasoning is not None and bool(answer.strip())
    if not reasoning:
        reasoning, answer, closed = split_reply(answer)
    usage = reply.get("usage") or {}
    details = usage.get("completion_tokens_details") or {}
    return Sample(
        reasoning=reasoning,
        answer=answer,
        closed=closed,
        finish_reason=finish,
        prompt_tokens=usage.get("prompt_tokens"),
        completion_tokens=usage.get("completion_tokens"),
        reasoning_tokens=details.get("reasoning_tokens"),
    )


def _message(response: httpx.Response) -> str:
    """The server's own words in one line, OpenAI's error shape or raw text."""
    try:
        body = response.json()
        error = body.get("error", body)
        text = error["message"] if isinstance(error, dict) and "message" in error else str(error)
    except (ValueError, AttributeError):
        text = response.text
    return " ".join(str(text).split())[:300]


def _retry_after(response: httpx.Response, pause: float) -> float:
    """The server's own wish in seconds, where it states one."""
    try:
        return min(LONGEST_PAUSE_S, max(pause, float(response.headers["retry-after"])))
    except (KeyError, ValueError):
        return pause
