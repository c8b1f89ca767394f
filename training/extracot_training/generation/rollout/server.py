"""Rollouts from a server of ours, over HTTP: levels by their ratio, the model's choice by auto.

The server renders prompts by the same module and counts tokens by ids. Its replies hold text, not
ids, which is enough to measure a model, not to train it. Knows HTTP; imports no server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from extracot.answers import extract_answer
from extracot.control import level_token
from extracot_training.config.sampling import RolloutSamplingParams, ServerBackend
from extracot_training.errors import GenerationError
from extracot_training.generation.http_client import JsonClient, all_of
from extracot_training.generation.rollout.base import Rollout, RolloutRequest
from extracot_training.policy.prompt_settings import PromptSettings


class ServerRollouts:
    """Asks for one reply per request, so many at a time."""

    def __init__(
        self, config: ServerBackend, prompt: PromptSettings, params: RolloutSamplingParams
    ) -> None:
        """Read what the server offers. Raises :class:`GenerationError` if it lacks a level."""
        self._config, self._params = config, params
        self._client = JsonClient(config)
        self._loop = asyncio.Runner()
        query = {} if config.model is None else {"model": config.model}
        try:
            offered = self._loop.run(self._client.request("GET", "/budget", params=query))
            self._model = str(offered["model"])
            self._ratios = _ratios(offered, prompt, self._model)
        except GenerationError:
            self.close()
            raise

    def run(self, requests: Sequence[RolloutRequest]) -> Iterator[Rollout]:
        """See :class:`extracot_training.generation.rollout.base.RolloutBackend`."""
        for at in range(0, len(requests), self._config.batch):
            batch = requests[at : at + self._config.batch]
            yield from self._loop.run(all_of(self._one(request) for request in batch))

    def close(self) -> None:
        self._loop.run(self._client.aclose())
        self._loop.close()

    async def _one(self, request: RolloutRequest) -> Rollout:
        level = request.level
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": request.question}],
            "budget": "auto" if level is None else self._ratios[level],
            "temperature": self._params.temperature,
            "top_p": self._params.top_p,
            "max_completion_tokens": self._params.max_tokens,
            "seed": request.seed % 2**32,
        }
        reply = await self._client.request("POST", "/chat/completions", json=body)
        report, token = reply["budget"], reply["budget"]["control_token"]
        if level is not None and token != level_token(level):
            raise GenerationError(
                f"{self._config.base_url}: asked for level {level:g}, got {token}; a floor, a "
                "ceiling or a holdout of this server stands between"
            )
        answer = reply["choices"][0]["message"]["content"] or ""
        chosen = level if level is not None else float(report["chosen"])
        closed = report["closed_by"] == "model"
        return Rollout(
            key=request.key,
            ids=(),
            level=chosen,
            reasoning_tokens=report["reasoning_tokens"],
            total_tokens=reply["usage"]["completion_tokens"],
            closed=closed,
            answer=answer if closed else "",
            boxed=extract_answer(answer) if closed else None,
        )


def _ratios(offered: Mapping[str, Any], prompt: PromptSettings, model: str) -> dict[float, float]:
    """What to ask for to get each level: a ratio that is nearest to its own.

    A server goes by the ratios that were measured, if there are any: 0.2 may really be 0.3.
    """
    ratios: dict[float, float] = {}
    by_token = {one["control_token"]: one for one in offered["levels"]}
    for level in prompt.ratios:
        found = by_token.get(level_token(level))
        if found is None:
            raise GenerationError(f"the server's model {model!r} has no level {level:g}")
        expected = found["expected_ratio"]
        ratios[level] = min(1.0, level if expected is None else expected)
    return ratios
