"""Rollouts from a server of ours, over HTTP: levels by their ratio, the model's choice by auto.

The server renders prompts by the same module and counts tokens by ids. Its replies hold text, not
ids, which is enough to measure a model, not to train it. Knows HTTP; imports no server.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from extracot.answers import extract_answer
from extracot.control import level_token
from extracot_training.config.rollout import Drawing, ServerBackend
from extracot_training.generation.rollout.base import Rollout, RolloutError, RolloutRequest
from extracot_training.policy.prompt_settings import PromptSettings

RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
LONGEST_PAUSE_S = 30.0


class ServerRollouts:
    """Asks for one reply per request, so many at a time. ``transport`` replaces the network."""

    def __init__(
        self,
        config: ServerBackend,
        prompt: PromptSettings,
        drawing: Drawing,
        *,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Read what the server offers. Raises :class:`RolloutError` if it lacks a level."""
        self._config, self._drawing = config, drawing
        self._client = httpx.Client(
            base_url=str(config.base_url).rstrip("/"),
            headers=_headers(config),
            timeout=httpx.Timeout(config.timeout_s, connect=min(10.0, config.timeout_s)),
            transport=transport,
        )
        query = {} if config.model is None else {"model": config.model}
        try:
            offered = self._ask("GET", "/budget", params=query)
            self._model = str(offered["model"])
            self._ratios = _ratios(offered, prompt, self._model)
        except RolloutError:
            self._client.close()
            raise

    def run(self, requests: Sequence[RolloutRequest]) -> Iterator[Rollout]:
        """See :class:`extracot_training.generation.rollout.base.RolloutBackend`."""
        with ThreadPoolExecutor(self._config.concurrency) as pool:
            for at in range(0, len(requests), self._config.batch):
                yield from pool.map(self._one, requests[at : at + self._config.batch])

    def close(self) -> None:
        self._client.close()

    def _one(self, request: RolloutRequest) -> Rollout:
        level = request.level
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": request.question}],
            "budget": "auto" if level is None else self._ratios[level],
            "temperature": self._drawing.temperature,
            "top_p": self._drawing.top_p,
            "max_completion_tokens": self._drawing.max_tokens,
            "seed": request.seed % 2**32,
        }
        reply = self._ask("POST", "/chat/completions", json=body)
        report, token = reply["budget"], reply["budget"]["control_token"]
        if level is not None and token != level_token(level):
            raise RolloutError(
                f"{self._client.base_url}: asked for level {level:g}, got {token}; a floor, a "
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

    def _ask(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        """A JSON reply. Raises :class:`RolloutError` when it can't be had."""
        pause = self._config.backoff_s
        for attempt in range(self._config.retries + 1):
            if attempt:
                threading.Event().wait(min(pause, LONGEST_PAUSE_S))
                pause *= 2
            try:
                response = self._client.request(method, path, **arguments)
            except httpx.TransportError as error:
                problem = f"{type(error).__name__} {error}".strip()
                continue
            if response.status_code == 200:
                return _object(response)
            problem = f"HTTP {response.status_code}: {response.text[:200]}"
            if response.status_code not in RETRIED:
                break
        raise RolloutError(f"{self._client.base_url}{path}: {problem}")


def _ratios(offered: Mapping[str, Any], prompt: PromptSettings, model: str) -> dict[float, float]:
    """What to ask for to get each level: a ratio that is nearest to its own.

    A server goes by the ratios that were measured, if there are any: 0.2 may really be 0.3.
    """
    ratios: dict[float, float] = {}
    by_token = {one["control_token"]: one for one in offered["levels"]}
    for level in prompt.ratios:
        found = by_token.get(level_token(level))
        if found is None:
            raise RolloutError(f"the server's model {model!r} has no level {level:g}")
        expected = found["expected_ratio"]
        ratios[level] = min(1.0, level if expected is None else expected)
    return ratios


def _object(response: httpx.Response) -> dict[str, Any]:
    try:
        found = response.json()
    except ValueError as error:
        raise RolloutError(f"{response.url}: not JSON") from error
    if not isinstance(found, dict):
        raise RolloutError(f"{response.url}: want an object")
    return found


def _headers(config: ServerBackend) -> dict[str, str]:
    if config.api_key_env is None:
        return {}
    key = os.environ.get(config.api_key_env)
    if not key:
        raise RolloutError(f"environment variable {config.api_key_env} (api_key_env) is not set")
    return {"authorization": f"Bearer {key}"}
