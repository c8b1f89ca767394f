"""Chat completions as servers stream them: chunks in, what they say out. Pure.

Servers differ in where they put reasoning (``reasoning_content``, ``reasoning``), in whether they
count as they go, in their words for an end, and in what they leave out; whatever is there is read,
and nothing is required.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from extracot_server.engine.base import EngineRequestError
from extracot_server.engine.remote.wire import UpstreamFailure, read_error
from extracot_server.engine.said import Said, SaidCall, SaidUsage

_MOST_TOKENS = 100_000_000
"""No request has as many; a server that says so does not count."""
_NOT_ENDED = {"", "null", "none"}
_CUT = {"length", "max_tokens", "model_length"}
_FILTERED = {
    *("content_filter", "sensitive"),
    *("safety", "recitation", "blocklist", "prohibited_content", "spii"),  # Gemini's own
}
_LOST = {
    *("abort", "aborted", "cancelled", "canceled"),
    *("error", "network_error", "insufficient_system_resource"),
    *("function_call_filter", "malformed_function_call"),  # Gemini's own
}


def _or_none(value: Any, read: ValidatorFunctionWrapHandler) -> Any:
    """What cannot be read is taken for what is not there."""
    try:
        return read(value)
    except ValidationError:
        return None


_Lax = WrapValidator(_or_none)
_Number = Annotated[int | None, _Lax]
_Count = Annotated[Annotated[int, Field(ge=0, lt=_MOST_TOKENS)] | None, _Lax]


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Function(_Lenient):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _Call(_Lenient):
    index: _Number = None
    id: str | None = None
    function: _Function | None = None


class _Delta(_Lenient):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call | None] | None = None


class _Choice(_Lenient):
    index: _Number = None
    delta: _Delta | None = None
    finish_reason: Annotated[str | None, _Lax] = None


class _Details(_Lenient):
    reasoning_tokens: _Count = None


class _Usage(_Lenient):
    prompt_tokens: _Count = None
    completion_tokens: _Count = None
    completion_tokens_details: Annotated[_Details | None, _Lax] = None


class _Timings(_Lenient):
    """llama.cpp's own count; the prompt is what it computed and what it had in its cache."""

    prompt_n: _Count = None
    cache_n: _Count = None
    predicted_n: _Count = None


class _Chunk(_Lenient):
    choices: list[_Choice | None] | None = None
    usage: Annotated[_Usage | None, _Lax] = None
    timings: Annotated[_Timings | None, _Lax] = None
    error: Any = None


End = Literal["stop", "length", "content_filter"]


class Chunk(BaseModel):
    """One chunk, read: what it adds, and why the reply has ended, where it has."""

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True)

    said: Said
    finish_reason: End | None = None


def read_chunk(data: bytes) -> Chunk:
    """One ``data:`` of the stream; of several choices the first one, which was asked for.

    Raises :class:`EngineRequestError` or :class:`UpstreamFailure` for an error sent in it, and the
    latter for a reply that its server has given up.
    """
    try:
        chunk = _Chunk.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise UpstreamFailure(
            f"it sent a chunk that is no chat completion's: {first['msg']}"
        ) from None
    if chunk.error:
        raise _failure(chunk.error, data)
    usage = _usage(chunk)
    choice = next((one for one in chunk.choices or () if one is not None and not one.index), None)
    if choice is None:
        return Chunk(said=Said(usage=usage))
    delta = choice.delta or _Delta()
    said = Said(
        reasoning=delta.reasoning_content or delta.reasoning or "",
        content=delta.content or "",
        refusal=delta.refusal or "",
        calls=tuple(filter(None, map(_call, delta.tool_calls or ()))),
        usage=usage,
    )
    return Chunk(said=said, finish_reason=_finish(choice.finish_reason))


def _finish(reason: str | None) -> End | None:
    """Why a reply has ended; ``None``: it has not. A word that is not known is an end like any.

    Raises :class:`UpstreamFailure` for words that say that it is not whole.
    """
    word = (reason or "").partition(":")[0].strip().lower()
    if word in _NOT_ENDED:
        return None
    if word in _LOST:
        raise UpstreamFailure(f"it ended the reply with {reason!r}")
    if word in _CUT:
        return "length"
    return "content_filter" if word in _FILTERED else "stop"


def _failure(error: Any, data: bytes) -> EngineRequestError | UpstreamFailure:
    code = error.get("code") if isinstance(error, dict) else None
    return read_error(code if isinstance(code, int) and code >= 400 else 500, data)


def _call(call: _Call | None) -> SaidCall | None:
    """A part of a call; ``None``: there is nothing in it."""
    if call is None:
        return None
    function = call.function or _Function()
    arguments = function.arguments or ""
    if not isinstance(arguments, str):  # an object, as some servers have it
        arguments = json.dumps(arguments, ensure_ascii=False)
    # A server that sends calls one by one, whole, may leave their numbers out.
    number = -1 if call.index is None else max(call.index, -1)
    said = SaidCall(number, call.id or None, function.name or None, arguments)
    return said if any(said[1:]) else None


def _usage(chunk: _Chunk) -> SaidUsage | None:
    """What a chunk tells of the request so far; ``None``: nothing, as where all is nought."""
    found, timings = chunk.usage or _Usage(), chunk.timings or _Timings()
    details = found.completion_tokens_details or _Details()
    told = SaidUsage(found.prompt_tokens, found.completion_tokens, details.reasoning_tokens)
    if not any((told.prompt, told.completion, told.reasoning)):
        prompt = None if timings.prompt_n is None else timings.prompt_n + (timings.cache_n or 0)
        told = SaidUsage(prompt, timings.predicted_n)
    return told if any((told.prompt, told.completion, told.reasoning)) else None
