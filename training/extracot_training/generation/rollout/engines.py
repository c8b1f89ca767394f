"""The places rollouts come from, behind one interface: this process, or vLLM in it, or a server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from extracot_training.config.sampling import (
    GenerateBackend,
    RolloutBackendConfig,
    RolloutSamplingParams,
    VllmIdsBackend,
)
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
    from extracot_training.generation.rollout.server import ServerRollouts

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
        self._config, self._settings = config, params.model_dump()
        self._vllm, self._engine = load_vllm(model, config.engine)

    def run(self, requests: Sequence[RolloutRequest]) -> Iterator[Rollout]:
        """See :class:`RolloutBackend`."""
        for at in range(0, len(requests), self._config.batch):
            batch = requests[at : at + self._config.batch]
            replies = self._engine.generate(
                [{"prompt_token_ids": list(request.prompt_ids)} for request in batch],
                [self._params(request) for request in batch],
                use_tqdm=False,
            )
            for request, reply in zip(batch, replies, strict=True):
                yield self._reader.read(request, reply.outputs[0].token_ids)

    def close(self) -> None:
        del self._engine

    def _params(self, request: RolloutRequest) -> Any:
        return self._vllm.SamplingParams(
            seed=request.seed % 2**32, detokenize=False, **self._settings
        )
