"""Requests and replies in vLLM's shapes, as plain values: no vLLM import, so tests are fast."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from extracot_server.engine.base import (
    EngineClosedError,
    EngineError,
    EngineRequestError,
    GenerationDelta,
    GenerationRequest,
    TokenLogprob,
    grammar_failure,
)

# vLLM's name of a sampling parameter -> the request field it came from.
_FIELDS = {
    **{name: name for name in ("temperature", "top_p", "top_k", "min_p", "seed", "logit_bias")},
    **{name: name for name in ("max_tokens", "min_tokens", "presence_penalty")},
    **{name: name for name in ("frequency_penalty", "repetition_penalty")},
    "logprobs": "top_logprobs",
    "stop_token_ids": "stop",
    "structured_outputs": "response_format",
}
_MOST_LOGPROBS = 20  # OpenAI's limit; vLLM's own is raised for `auto`
_SEEDS = range(-(2**63), 2**63)


def sampling_values(request: GenerationRequest, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of vLLM's SamplingParams, the grammar excepted.

    ``defaults`` are the model's own (its generation config); a request's ``None`` leaves them.
    Raises :class:`EngineRequestError` for what vLLM itself would notice too late.
    """
    sampling = request.sampling
    if sampling.seed is not None and sampling.seed not in _SEEDS:
        # vLLM finds out too late and would count the request as running for ever.
        raise EngineRequestError("seed must be a 64-bit integer", param="seed")
    if sampling.logprobs is not None and not 0 <= sampling.logprobs <= _MOST_LOGPROBS:
        raise EngineRequestError(
            f"logprobs must be in [0, {_MOST_LOGPROBS}], got {sampling.logprobs}",
            param="top_logprobs",
        )
    values: dict[str, Any] = {k: v for k, v in defaults.items() if k != "max_tokens"}
    for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty"):
        if (own := getattr(sampling, name)) is not None:
            values[name] = own
    for name in ("presence_penalty", "frequency_penalty"):
        if own := getattr(sampling, name):
            values[name] = own
    values |= {
        "seed": sampling.seed,
        "logit_bias": dict(sampling.logit_bias) or None,
        "logprobs": sampling.logprobs,
        "min_tokens": sampling.min_tokens,
        "ignore_eos": sampling.ignore_eos,
    }
    if request.allowed_token_ids is not None:
        allowed = list(request.allowed_token_ids)
        values |= {
            "allowed_token_ids": allowed,
            "logprob_token_ids": allowed,
            "logprobs": len(allowed),
        }
    return values | {
        "max_tokens": request.max_tokens,
        "stop_token_ids": list(request.stop_token_ids),
        "detokenize": False,
    }


def refusal(error: BaseException) -> EngineRequestError:
    """vLLM's complaint in one line, with the field of the request it is about."""
    text = " ".join(str(error.args[0] if error.args else error).split())
    text = re.sub(r"\[[\d:]+\] \S+:\d+: ", "", text)  # where in its library's source, and when
    field = _FIELDS.get(getattr(error, "parameter", None) or text.partition(" ")[0])
    lowered = text.lower()
    if field is None and ("grammar" in lowered or "schema" in lowered or "json" in lowered):
        field = "response_format"
    if field is None and "prompt" in lowered and "length" in lowered:
        field = "messages"
    return EngineRequestError(text, param=field)


def delta(output: Any, request: GenerationRequest, cached: int | None = None) -> GenerationDelta:
    reason = output.finish_reason
    if reason == "abort":
        raise EngineClosedError("the engine dropped the request while shutting down")
    if reason == "error" and request.answer_format is not None:
        # vLLM ends a request so whose grammar cannot be compiled, or does not fit its tokens.
        raise grammar_failure(request.answer_format)
    if reason not in (None, "stop", "length"):
        raise EngineError(f"the engine ended this request with {reason!r}")
    token_ids = tuple(output.token_ids)
    logprobs = None
    if output.logprobs is not None:
        rows = zip(token_ids, output.logprobs, strict=True)
        logprobs = tuple(_logprob(token, row, request) for token, row in rows)
    return GenerationDelta(token_ids, logprobs, reason, cached_tokens=cached)


def _logprob(token: int, row: Mapping[int, Any], request: GenerationRequest) -> TokenLogprob:
    """vLLM lists the sampled token besides the k best; kept are the k best, likeliest first.

    Padding is left out: an `auto` request in the same engine step turns others' into (0, -inf).
    """
    known = [(id_, float(e.logprob)) for id_, e in row.items() if e.logprob > -math.inf]
    ranked = sorted(known, key=lambda pair: -pair[1])
    allowed = request.allowed_token_ids
    if allowed is not None:
        ranked = [pair for pair in ranked if pair[0] in allowed]
    else:
        ranked = ranked[: request.sampling.logprobs or 0]
    return TokenLogprob(token, float(row[token].logprob), tuple(ranked))
