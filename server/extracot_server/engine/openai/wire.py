"""Chat completions as servers stream them: chunks in, what they say out. Pure.

Servers differ in where they put reasoning (``reasoning_content``, ``reasoning``), in whether they
count as they go, and in what they leave out; whatever is there is read, and nothing is required.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from extracot_server.engine.base import EngineRequestError
from extracot_server.engine.remote.wire import UpstreamFailure, read_error
from extracot_server.engine.said import Said, SaidCall, SaidUsage


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Function(_Lenient):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _Call(_Lenient):
    index: int | None = None
    id: str | None = None
    function: _Function = _Function()


class _Delta(_Lenient):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(_Lenient):
    delta: _Delta = _Delta()
    finish_reason: str | None = None


class _Details(_Lenient):
    reasoning_tokens: int | None = None


class _Usage(_Lenient):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    completion_tokens_details: _Details | None = None


class _Timings(_Lenient):
    """llama.cpp's own count; the prompt is what it computed and what it had in its cache."""

    prompt_n: int | None = None
    cache_n: int = 0
    predicted_n: int | None = None


class _Chunk(_Lenient):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    timings: _Timings | None = None
    error: Any = None


class Chunk(BaseModel):
    """One chunk, read: what it adds, and why the reply has ended, where it has."""

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True)

    said: Said
    finish_reason: str | None = None


def read_chunk(data: bytes) -> Chunk:
    """One ``data:`` of the stream.

    Raises :class:`EngineRequestError` or :class:`UpstreamFailure` for an error sent in it.
    """
    try:
        chunk = _Chunk.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise UpstreamFailure(
            f"it sent a chunk that is no chat completion's: {first['msg']}"
        ) from None
    if chunk.error is not None:
        raise _failure(chunk.error, data)
    usage = _usage(chunk)
    if not chunk.choices:
        return Chunk(said=Said(usage=usage))
    choice = chunk.choices[0]
    delta = choice.delta
    said = Said(
        reasoning=delta.reasoning_content or delta.reasoning or "",
        content=delta.content or "",
        calls=tuple(_call(call) for call in delta.tool_calls or ()),
        usage=usage,
    )
    return Chunk(said=said, finish_reason=choice.finish_reason)


def _failure(error: Any, data: bytes) -> EngineRequestError | UpstreamFailure:
    code = error.get("code") if isinstance(error, dict) else None
    return read_error(code if isinstance(code, int) and code >= 400 else 500, data)


def _call(call: _Call) -> SaidCall:
    function = call.function
    arguments = function.arguments or ""
    if not isinstance(arguments, str):  # an object, as some servers have it
        arguments = json.dumps(arguments, ensure_ascii=False)
    # A server that sends calls one by one, whole, may leave their numbers out.
    return SaidCall(-1 if call.index is None else call.index, call.id, function.name, arguments)


def _usage(chunk: _Chunk) -> SaidUsage | None:
    if (found := chunk.usage) is not None:
        details = found.completion_tokens_details
        reasoning = details.reasoning_tokens if details is not None else None
        return SaidUsage(found.prompt_tokens, found.completion_tokens, reasoning)
    if (timings := chunk.timings) is not None:
        prompt = None if timings.prompt_n is None else timings.prompt_n + timings.cache_n
        return SaidUsage(prompt, timings.predicted_n)
    return None
