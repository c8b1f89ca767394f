"""Samples from an OpenAI-compatible server.

Reads reasoning from ``reasoning_content`` or ``reasoning``, or from think tags in the content.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from typing import Any

from extracot_training.config.sampling import HttpBackend, SamplingParams
from extracot_training.generation.http_client import JsonClient, RequestError, bounded
from extracot_training.generation.sampling.base import (
    Failure,
    Request,
    Sample,
    SampleResult,
    split_reply,
)


class HttpSampler:
    """An OpenAI-compatible chat server as a :class:`SamplingBackend`."""

    def __init__(self, config: HttpBackend) -> None:
        self._config = config
        self._client = JsonClient(config)

    @property
    def name(self) -> str:
        return self._config.model

    def run(
        self, requests: Iterable[Request], params: SamplingParams
    ) -> AsyncGenerator[SampleResult, None]:
        """See :class:`SamplingBackend`. Leaving the iterator early cancels what is under way."""

        async def one(request: Request) -> SampleResult:
            return SampleResult(request.key, await self._result(request, params))

        return bounded(one, requests, self._config.concurrency)

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _result(self, request: Request, params: SamplingParams) -> Sample | Failure:
        settings = params.model_dump(exclude_none=True)
        if request.seed is not None:
            settings["seed"] = request.seed
        config = self._config
        body = {"model": config.model, "messages": request.chat, **settings, **config.extra_body}
        try:
            return _sample(await self._client.request("POST", "/chat/completions", json=body))
        except RequestError as error:
            return Failure(error.kind, error.problem)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            return Failure("failed", f"not a chat completion ({type(error).__name__}: {error})")


def _sample(reply: dict[str, Any]) -> Sample:
    """A chat completion's first choice. Raises the usual lookup errors on another shape."""
    choice = reply["choices"][0]
    message = choice["message"]
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
        finish_reason=choice.get("finish_reason"),
        prompt_tokens=usage.get("prompt_tokens"),
        completion_tokens=usage.get("completion_tokens"),
        reasoning_tokens=details.get("reasoning_tokens"),
    )
