"""Checks before a request is sent: what vLLM would refuse, or wrongly accept.

The scripted engine refuses the same, so that trials meet the same limits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from extracot_server.engine.base import EngineInfo, EngineRequestError, GenerationRequest

MAX_LOGPROBS = 20  # vLLM's default `--max-logprobs`
_SEEDS = range(-(2**63), 2**63)
_RANGES = (
    ("temperature", 0.0, 2.0),
    ("top_p", 0.0, 1.0),
    ("top_k", -1, 2**31 - 1),
    ("min_p", 0.0, 1.0),
    ("presence_penalty", -2.0, 2.0),
    ("frequency_penalty", -2.0, 2.0),
)


def check_request(request: GenerationRequest, info: EngineInfo) -> None:
    """Raise :class:`EngineRequestError` for what vLLM would refuse, or worse, not notice."""
    found = next(iter(_complaints(request, info)), None)
    if found is not None:
        raise EngineRequestError(found[0], param=found[1])


def _complaints(request: GenerationRequest, info: EngineInfo) -> Iterable[tuple[str, str | None]]:
    sampling, ids, size = request.sampling, request.token_ids, info.vocab_size
    if not ids or len(ids) >= info.max_model_len:
        yield f"{len(ids)} prompt tokens do not fit a context of {info.max_model_len}", "messages"
    elif not _within(ids, size):
        yield "a prompt token id is out of the vocabulary", None
    if request.max_tokens < 1:
        yield "max_tokens must be at least 1", "max_tokens"
    if not 0 <= sampling.min_tokens <= request.max_tokens:
        yield "min_tokens must be between 0 and max_tokens", "min_tokens"
    if sampling.seed is not None and sampling.seed not in _SEEDS:
        yield "seed must be a 64-bit integer", "seed"
    for name, low, high in _RANGES:
        value = getattr(sampling, name)
        if value is not None and not low <= value <= high:
            yield f"{name} must be in [{low:g}, {high:g}]", name
    if sampling.top_p is not None and sampling.top_p <= 0:
        yield "top_p must be above 0", "top_p"
    if sampling.repetition_penalty is not None and not 0 < sampling.repetition_penalty < math.inf:
        yield "repetition_penalty must be above 0", "repetition_penalty"
    if sampling.logprobs is not None and not 0 <= sampling.logprobs <= MAX_LOGPROBS:
        yield f"logprobs must be in [0, {MAX_LOGPROBS}]", "top_logprobs"
    if not _within(sampling.logit_bias, size):
        yield "a token id of logit_bias is out of the vocabulary", "logit_bias"
    if not all(map(math.isfinite, sampling.logit_bias.values())):
        yield "logit_bias must be finite", "logit_bias"
    allowed = request.allowed_token_ids
    if allowed is not None and not (allowed and _within(allowed, size)):
        yield "allowed token ids must be some of the vocabulary", None
    if not _within(request.stop_token_ids, size):
        yield "a stop token id is out of the vocabulary", None


def _within(ids: Iterable[int], size: int) -> bool:
    listed = list(ids)
    return not listed or (min(listed) >= 0 and max(listed) < size)
