"""vLLM's two HTTP protocols for token ids: bodies out, chunks and errors in.

``generate`` is ``POST /inference/v1/generate`` (server flag ``--enable-scale-out``); completions
are OpenAI's, with ``prompt: [ids]`` and ``return_token_ids``. Written for vLLM 0.32, which ignores
sampling keys it does not know and reads -1 as unlimited, so requests are checked before
(``engine.request_checks``). Pure: knows no connections.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum
from time import time
from typing import Annotated, Any, Generic, TypeVar, cast

from pydantic import BaseModel, Field, ValidationError

from extracot_server.engine.base import (
    EngineError,
    EngineRequestError,
    GenerationDelta,
    GenerationRequest,
    PromptTooLongError,
    TokenLogprob,
)
from extracot_server.engine.request_checks import MAX_LOGPROBS
from extracot_server.engine.vllm.requests import sampling_values

_IMPOSSIBLE = -9999.0  # how vLLM sends minus infinity
_LONGEST_RETRY = 600
_PLACEHOLDER = "token_id:"
# By which servers say that a prompt does not fit: in a code, a type, or only in words.
_TOO_LONG = ("context_length_exceeded", "exceed_context_size_error")
_TOO_LONG_WORDS = ("context length", "context size", "context window", "prompt is too long")
# vLLM's name of a field -> the request field it came from.
_FIELDS = {
    **{name: name for name in ("temperature", "top_p", "top_k", "min_p", "seed", "logit_bias")},
    **{name: name for name in ("max_tokens", "min_tokens", "presence_penalty")},
    **{name: name for name in ("frequency_penalty", "repetition_penalty")},
    "logprobs": "top_logprobs",
    "stop_token_ids": "stop",
    "structured_outputs": "response_format",
    "token_ids": "messages",
    "prompt": "messages",
}


class Wire(StrEnum):
    """Which of the two protocols a request goes out in."""

    GENERATE = "/inference/v1/generate"
    COMPLETIONS = "/v1/completions"

    @property
    def may_be_missing(self) -> bool:
        """Whether a server may be without it, so that the other one is tried."""
        return self is Wire.GENERATE

    @property
    def aborts_by_name(self) -> bool:
        """Whether a request that was sent in it can be ended by its id."""
        return self is Wire.GENERATE


class UpstreamFailure(EngineError):
    """An upstream could not serve a request that another one may.

    ``down``: it is known to be unusable, not only unlucky with this request. ``retry_after``: it is
    well and has too much to do; so many seconds it asks for. ``status`` and ``words`` are those of
    its answer, where it has answered.
    """

    def __init__(
        self,
        message: str,
        *,
        down: bool = False,
        retry_after: int | None = None,
        status: int | None = None,
        words: str = "",
    ) -> None:
        super().__init__(message)
        self.down = down
        self.retry_after = retry_after
        self.status = status
        self.words = words


_TokenId = Annotated[int, Field(ge=0, lt=2**31)]


class _Top(BaseModel):
    token_id: _TokenId
    logprob: float


class _Sampled(_Top):
    top_logprobs: list[_Top] = []


class _GenerateLogprobs(BaseModel):
    content: list[_Sampled] | None = None


class _CompletionLogprobs(BaseModel):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]


_L = TypeVar("_L", _GenerateLogprobs, _CompletionLogprobs)


class _Choice(BaseModel, Generic[_L]):
    token_ids: list[_TokenId] | None = None
    finish_reason: str | None = None
    logprobs: _L | None = None


class _ErrorBody(BaseModel):
    message: str = ""
    param: str | None = None
    code: int | str | None = None
    type: Any = None


class _Chunk(BaseModel, Generic[_L]):
    choices: list[_Choice[_L]] = []
    usage: Any = None
    error: _ErrorBody | None = None


_GENERATED, _COMPLETED = _Chunk[_GenerateLogprobs], _Chunk[_CompletionLogprobs]


def wire_for(request: GenerationRequest, *, scale_out: bool) -> Wire:
    """The protocol for this request; ``scale_out``: the server has ``generate``.

    There vLLM counts ``logprob_token_ids`` against ``--max-logprobs``, in completions it does not:
    a card with more levels than that is served by the latter.
    """
    many = len(request.allowed_token_ids or ()) > MAX_LOGPROBS
    return Wire.GENERATE if scale_out and not many else Wire.COMPLETIONS


def encode_request(
    request: GenerationRequest, wire: Wire, *, model: str, defaults: Mapping[str, Any], room: int
) -> bytes:
    """The JSON body. ``room`` is what the context leaves: completions refuse a longer reply."""
    sampling = _sampling(request, wire, defaults, room)
    shared = {
        "model": model,
        "stream": True,
        "stream_options": {"include_usage": True},
        "request_id": request.request_id,
        "priority": request.priority,
    }
    if wire is Wire.COMPLETIONS:
        own = {"return_token_ids": True, "return_tokens_as_token_ids": True}
        return _json({**shared, **own, **sampling, "prompt": request.token_ids})
    body = {**shared, "token_ids": request.token_ids}
    if request.answer_format is not None:
        # Only matters where the operator set a reasoning parser: without it the grammar would
        # wait for an end tag that this request's own context already holds.
        body["reasoning_ended"] = True
    body["sampling_params"] = sampling
    return _json(body)


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()


def _sampling(
    request: GenerationRequest, wire: Wire, defaults: Mapping[str, Any], room: int
) -> dict[str, Any]:
    """What the engine in our own process would be given, as JSON and without what is unset."""
    values = {k: v for k, v in sampling_values(request, defaults).items() if v is not None}
    values["max_tokens"] = min(request.max_tokens, room)
    wanted = request.sampling.logprobs
    if wire is Wire.COMPLETIONS:
        del values["detokenize"]
    elif request.allowed_token_ids is None and 0 < (wanted or 0) < MAX_LOGPROBS:
        # It lists the sampled token first and then cuts: one more keeps the k best whole.
        values["logprobs"] += 1
    if (answer := request.answer_format) is not None:
        grammar = {"json_object": True} if answer.kind == "json_object" else None
        values["structured_outputs"] = grammar or {"json": dict(answer.schema or {})}
    return values


def read_chunk(data: bytes, wire: Wire, request: GenerationRequest) -> GenerationDelta | None:
    """One ``data:`` of the stream; ``None`` where it has nothing for us.

    Usage comes last, in a chunk of its own; of it only the tokens of the prefix cache count, which
    vLLM tells with ``--enable-prompt-tokens-details``.

    Raises :class:`EngineRequestError` or :class:`UpstreamFailure` for an error sent in the stream.
    """
    try:
        chunk = (_GENERATED if wire is Wire.GENERATE else _COMPLETED).model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise UpstreamFailure(f"it sent a chunk that is not vLLM's: {first['msg']}") from None
    if chunk.error is not None:
        status = chunk.error.code if isinstance(chunk.error.code, int) else 500
        raise failure_of(status, chunk.error)
    if not chunk.choices:
        cached = cached_in(chunk.usage)
        known = type(cached) is int and cached >= 0
        return GenerationDelta((), cached_tokens=cached) if known else None
    choice = chunk.choices[0]
    if choice.token_ids is None:
        raise UpstreamFailure("it sent text without token ids; is it vLLM?", down=True)
    reason = choice.finish_reason
    if reason == "abort":
        raise UpstreamFailure("it dropped the request while shutting down", down=True)
    if reason not in (None, "stop", "length"):
        raise UpstreamFailure(f"it ended the request with {reason!r}")
    token_ids = tuple(choice.token_ids)
    if not token_ids and reason is None:
        return None
    logprobs = None
    if choice.logprobs is not None:
        logprobs = tuple(_logprobs(choice.logprobs, token_ids, request))
        if len(logprobs) != len(token_ids):
            raise UpstreamFailure("its log-probabilities do not match its tokens")
    return GenerationDelta(token_ids, logprobs, cast("Any", reason))


def cached_in(usage: Any) -> Any:
    """What a usage tells of the tokens of the prefix cache; ``None``: nothing.

    >>> cached_in({"prompt_tokens": 20, "prompt_tokens_details": {"cached_tokens": 16}})
    16
    """
    details = usage.get("prompt_tokens_details") if isinstance(usage, dict) else None
    return details.get("cached_tokens") if isinstance(details, dict) else None


def _logprobs(
    found: _GenerateLogprobs | _CompletionLogprobs,
    token_ids: tuple[int, ...],
    request: GenerationRequest,
) -> Iterable[TokenLogprob]:
    if isinstance(found, _GenerateLogprobs):
        for entry in found.content or []:
            pairs = [(top.token_id, top.logprob) for top in entry.top_logprobs]
            yield _ranked(entry.token_id, entry.logprob, pairs, request)
        return
    for id_, own, top in zip(token_ids, found.token_logprobs, found.top_logprobs, strict=False):
        pairs = [
            (int(number), value)
            for name, value in (top or {}).items()
            if name.startswith(_PLACEHOLDER)
            and (number := name.removeprefix(_PLACEHOLDER)).isdecimal()
        ]
        yield _ranked(id_, _IMPOSSIBLE if own is None else own, pairs, request)


def _ranked(
    token: int, own: float, pairs: list[tuple[int, float]], request: GenerationRequest
) -> TokenLogprob:
    """vLLM lists the sampled token besides the k best; kept are the k best, likeliest first.

    Its V1 runner pads where another request of the same step has ``logprob_token_ids`` (vLLM 0.32):
    the competitors are then lost, and the padding, of probability 0, must not pass for one.
    """
    ranked = sorted((p for p in pairs if p[1] > _IMPOSSIBLE), key=lambda pair: -pair[1])
    allowed = request.allowed_token_ids
    if allowed is not None:
        ranked = [pair for pair in ranked if pair[0] in allowed]
    else:
        ranked = ranked[: request.sampling.logprobs or 0]
    return TokenLogprob(token, own, tuple(ranked))


def read_error(
    status: int, content: bytes, retry_after: str | None = None
) -> EngineRequestError | UpstreamFailure:
    """What an answer that is no 200 means; bodies are vLLM's, FastAPI's or a proxy's.

    ``retry_after`` is the header of that name: a 503 with it is a busy server, not a dead one.
    """
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = content.decode("utf-8", errors="replace")
    inner = body
    if isinstance(body, dict):
        inner = next((body[key] for key in ("error", "detail") if body.get(key) is not None), body)
    error = _ErrorBody(message=_words(inner))
    if isinstance(inner, dict):
        param, code, error.type = (inner.get(name) for name in ("param", "code", "type"))
        error.param = param if isinstance(param, str) else None
        error.code = code if isinstance(code, int | str) else None
    if status == 429 or (status == 503 and retry_after is not None):
        note = " ".join(error.message.split()) or f"status {status}"
        return UpstreamFailure(f"it is busy ({note})", retry_after=_seconds(retry_after))
    return failure_of(status, error)


def _words(error: Any) -> str:
    """What an error says, in whatever form; FastAPI's is a list of places and what is wrong there.

    >>> _words([{"loc": ["body", "n"], "msg": "too many"}])
    'body.n: too many'
    """
    if error is None:
        return ""
    if isinstance(error, str):
        return error
    if isinstance(error, list):
        return "; ".join(filter(None, (_one(item) for item in error)))
    return _one(error)


def _one(error: Any) -> str:
    if not isinstance(error, dict):
        return error if isinstance(error, str) else json.dumps(error, ensure_ascii=False)
    said = error.get("message") or error.get("msg") or ""
    text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
    place = error.get("loc")
    where = ".".join(map(str, place)) if isinstance(place, list) else ""
    return f"{where}: {text}" if where else text


def _seconds(retry_after: str | None) -> int:
    """A wait in whole seconds, of a number of them or a date; 1 where it is neither."""
    text = (retry_after or "").strip()
    try:
        wait = float(text)
    except ValueError:
        wait = _until(text)
    return 1 if math.isnan(wait) else math.ceil(min(max(wait, 1), _LONGEST_RETRY))


def _until(date: str) -> float:
    """Seconds until an HTTP date; 0 for what is none."""
    try:
        then = parsedate_to_datetime(date)
        return (then if then.tzinfo else then.replace(tzinfo=UTC)).timestamp() - time()
    except (ValueError, OverflowError):
        return 0.0


def failure_of(status: int, error: _ErrorBody) -> EngineRequestError | UpstreamFailure:
    """A status and its body as ours: the request's fault, the upstream's, or bad luck.

    Its words are whole: ``engine.remote.failures`` looks for secrets in them, and cuts them then.
    """
    text = " ".join(error.message.split())
    if status in (400, 413, 422):
        field = _field(error)
        if field in (None, "messages") and _is_too_long(error):
            return PromptTooLongError(text, param=field)
        return EngineRequestError(text or f"refused with status {status}", param=field)
    if status in (401, 403):
        what = "the API key" if status == 401 else "the API key or the request"
        why = f"it refused {what} (status {status})"
        return UpstreamFailure(why, down=True, status=status, words=text)
    if 300 <= status < 400:
        why = f"it redirects (status {status}), and redirects are not followed"
        return UpstreamFailure(why, status=status)
    # 404 is a model it does not serve, 503 a dead engine or no server behind a proxy.
    why = f"it answered with status {status}" + (f": {text}" if text else "")
    return UpstreamFailure(why, down=status in (404, 503), status=status, words=text)


def _is_too_long(error: _ErrorBody) -> bool:
    """Whether it is the prompt, or all that was asked for, that has no room."""
    if error.code in _TOO_LONG or error.type in _TOO_LONG:
        return True
    return any(words in error.message.lower() for words in _TOO_LONG_WORDS)


def _field(error: _ErrorBody) -> str | None:
    named = (error.param or "").rpartition(".")[2] or error.message.partition(" ")[0]
    field = _FIELDS.get(named)
    lowered = error.message.lower()
    if field is None and any(word in lowered for word in ("grammar", "schema", "json")):
        return "response_format"
    if field is None and "context length" in lowered:
        return "messages"
    return field
