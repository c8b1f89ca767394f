"""The places rollouts come from, behind one interface: this process, or vLLM in it, or a server of
ours over HTTP. Imports no server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from extracot.answers import extract_answer
from extracot.control import level_token
from extracot_training.config.sampling import (
    GenerateBackend,
    RolloutBackendConfig,
    RolloutSamplingParams,
    ServerBackend,
    VllmIdsBackend,
)
from extracot_training.errors import GenerationError
from extracot_training.generation.http_client import JsonClient, all_of
from extracot_training.generation.rollout.base import (
    ReplyReader,
    Rollout,
    RolloutBackend,
    RolloutRequest,
)
from extracot_training.policy.loading import load_policy_model, load_policy_tokenizer
from extracot_training.policy.pretrained import pad_id
from extracot_training.policy.prompt_settings import PromptSettings


def open_rollouts(
    backend: RolloutBackendConfig, model: str, prompt: PromptSettings, params: RolloutSamplingParams
) -> RolloutBackend:
    """The backend that the settings name, for the model in folder ``model``.

    Raises :class:`GenerationError` or another :class:`TrainingError` if it can't be had.
    """
    if isinstance(backend, GenerateBackend):
        return GenerateRollouts(backend, model, prompt, params)
    if isinstance(backend, VllmIdsBackend):
        return VllmRollouts(backend, model, prompt, params)
    return ServerRollouts(backend, prompt, params)


def end_ids(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """Every id that ends a reply: the tokenizer's, and what the generation defaults name."""
    named = model.generation_config.eos_token_id
    listed = named if isinstance(named, list) else [] if named is None else [named]
    return tuple(dict.fromkeys([tokenizer.eos_token_id, *listed]))


class GenerateRollouts:
    """:class:`extracot_training.generation.rollout.sampler.Sampler` with a model loaded for it."""

    def __init__(
        self,
        config: GenerateBackend,
        model: str,
        prompt: PromptSettings,
        params: RolloutSamplingParams,
    ) -> None:
        import torch

        from extracot_training.generation.rollout.sampler import Sampler

        loaded, tokenizer, tokens = load_policy_model(model, prompt, seed=0, dtype=config.dtype)
        on_gpu = config.device == "auto" and torch.cuda.is_available()
        loaded = loaded.to("cuda" if on_gpu else "cpu").eval().requires_grad_(False)
        self._sampler = Sampler(
            loaded,
            params,
            end_ids=end_ids(loaded, tokenizer),
            batch=config.batch,
            pad_id=pad_id(tokenizer),
        )
        self._reader = ReplyReader(tokenizer, prompt, tokens)

    def run(self, requests: Sequence[RolloutRequest]) -> Iterator[Rollout]:
        """See :class:`RolloutBackend`. Replies of one level share batches: they end together."""
        ordered = sorted(requests, key=lambda one: (one.level or 0.0, one.prompt_ids, one.key))
        prompts = [request.prompt_ids for request in ordered]
        waiting = iter(ordered)
        for batch in self._sampler.batches(prompts, [request.seed for request in ordered]):
            for reply in batch:
                yield self._reader.read(next(waiting), reply.ids)

    def close(self) -> None:
        del self._sampler


class VllmRollouts:
    """``vllm.LLM`` over token ids."""

    def __init__(
        self,
        config: VllmIdsBackend,
        model: str,
        prompt: PromptSettings,
        params: RolloutSamplingParams,
    ) -> None:
        from extracot_training.generation.sampling.offline import load_vllm

        tokenizer, tokens = load_policy_tokenizer(model, prompt)
        self._reader = ReplyReader(tokenizer, prompt, tokens)
        self._config, self._settings = config, {"detokenize": False, **params.model_dump()}
        self._vllm, self._engine = load_vllm(model, config.engine)

    def run(self, requests: Sequence[RolloutRequest]) -> Iterator[Rollout]:
        """See :class:`RolloutBackend`."""
        sampling = self._vllm.SamplingParams
        for at in range(0, len(requests), self._config.batch):
            batch = requests[at : at + self._config.batch]
            replies = self._engine.generate(
                [{"prompt_token_ids": list(request.prompt_ids)} for request in batch],
                [sampling(seed=request.seed % 2**32, **self._settings) for request in batch],
                use_tqdm=False,
            )
            for request, reply in zip(batch, replies, strict=True):
                yield self._reader.read(request, reply.outputs[0].token_ids)

    def close(self) -> None:
        del self._engine


class ServerRollouts:
    """A server of ours: levels by their ratio, the model's choice by auto.

    The server renders prompts by the same module and counts tokens by ids. Its replies hold text,
    not ids, which is enough to measure a model, not to train it.
    """

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
        """See :class:`RolloutBackend`."""
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
