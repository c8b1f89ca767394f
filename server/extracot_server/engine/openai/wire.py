"""Chat completions as servers stream them: chunks in, what they say out. Pure.

Servers differ in where they put reasoning (``reasoning_content``, ``reasoning``), in whether they
count as they go, in their words for an end, and in what they leave out; whatever is there is read,
and nothing is required.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from extracot_server.engine.base import EngineRequestError
from extracot_server.engine.remote.wire import UpstreamFailure, cached_in, read_error
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


_INTEGER = TypeAdapter(int)


class _Lenient(BaseModel):
    """What is ``Any`` in these is taken for what is not there where it cannot be read."""

    model_config = ConfigDict(extra="ignore")


class _Function(_Lenient):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class _Call(_Lenient):
    index: Any = None
    id: str | None = None
    function: _Function | None = None


class _Delta(_Lenient):
    content: str | list[Any] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call | None] | None = None


class _Choice(_Lenient):
    index: Any = None
    delta: _Delta | None = None
    finish_reason: Any = None


class _Chunk(_Lenient):
    choices: list[_Choice | None] | None = None
    usage: Any = None
    timings: Any = None
    error: Any = None


End = Literal["stop", "length", "content_filter"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk, read: what it adds, and why the reply has ended, where it has."""

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
    for choice in chunk.choices or ():
        if choice is not None and not _integer(choice.index):
            break
    else:
        return Chunk(Said(usage=usage))
    delta = choice.delta or _Delta()
    calls = delta.tool_calls
    thought, content = _texts(delta.content)
    said = Said(
        reasoning=delta.reasoning_content or delta.reasoning or thought,
        content=content,
        refusal=delta.refusal or "",
        calls=tuple(filter(None, map(_call, calls))) if calls else (),
        usage=usage,
    )
    return Chunk(said, _finish(choice.finish_reason))


def _texts(content: str | list[Any] | None) -> tuple[str, str]:
    """Reasoning and answer in a content: a text, or parts, as Mistral's reasoning models have it.

    >>> _texts([{"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]}, {"text": "4"}])
    ('Hm', '4')
    """
    if not isinstance(content, list):
        return "", content or ""
    reasoning, answer = "", ""
    for part in content:
        match part:
            case {"type": "thinking", "thinking": str(text)}:
                reasoning += text
            case {"type": "thinking", "thinking": list(inner)}:
                reasoning += "".join(map(_text, inner))
            case _:
                answer += _text(part)
    return reasoning, answer


def _text(part: Any) -> str:
    text = part.get("text") if isinstance(part, dict) else None
    return text if isinstance(text, str) else ""


def _finish(reason: Any) -> End | None:
    """Why a reply has ended; ``None``: it has not. A word that is not known is an end like any.

    Raises :class:`UpstreamFailure` for words that say that it is not whole.
    """
    if not isinstance(reason, str):
        return None
    word = reason.partition(":")[0].strip().lower()
    if word in _NOT_ENDED:
        return None
    if word in _LOST:
        raise UpstreamFailure(f"it ended the reply with {reason!r}")
    if word in _CUT:
        return "length"
    return "content_filter" if word in _FILTERED else "stop"


def _failure(error: Any, data: bytes) -> EngineRequestError | UpstreamFailure:
    """What an error in a stream means: this request's, whatever its number says of a server.

    One that streams is neither dead nor wrongly keyed; where it says so it passes on the words of
    another one behind it, which is busy where it says 503.
    """
    code = _integer(error.get("code")) if isinstance(error, dict) else None
    status = code if code is not None and code >= 400 else 500
    found = read_error(status, data, "1" if status == 503 else None)
    if isinstance(found, UpstreamFailure):
        found.down = False
    return found


def _call(call: _Call | None) -> SaidCall | None:
    """A part of a call; ``None``: there is nothing in it."""
    if call is None:
        return None
    function = call.function or _Function()
    arguments = function.arguments or ""
    if not isinstance(arguments, str):  # an object, as some servers have it
        arguments = json.dumps(arguments, ensure_ascii=False)
    # A server that sends calls one by one, whole, may leave their numbers out.
    index = _integer(call.index)
    number = -1 if index is None else max(index, -1)
    said = SaidCall(number, call.id or None, function.name or None, arguments)
    return said if any(said[1:]) else None


def _usage(chunk: _Chunk) -> SaidUsage | None:
    """What a chunk tells of the request so far; ``None``: nothing, as where all is nought."""
    if chunk.usage is None and chunk.timings is None:
        return None
    told, timings = SaidUsage(), chunk.timings if isinstance(chunk.timings, dict) else {}
    if isinstance(found := chunk.usage, dict):
        details = found.get("completion_tokens_details")
        reasoning = details.get("reasoning_tokens") if isinstance(details, dict) else None
        prompt, completion = found.get("prompt_tokens"), found.get("completion_tokens")
        cached = _count(cached_in(found))
        told = SaidUsage(_count(prompt), _count(completion), _count(reasoning), cached)
    # llama.cpp's own count; the prompt is what it computed and what it had in its cache.
    computed, cached = _count(timings.get("prompt_n")), _count(timings.get("cache_n"))
    if not _tells(told):
        whole = None if computed is None else computed + (cached or 0)
        told = SaidUsage(whole, _count(timings.get("predicted_n")), cached=cached)
    elif told.cached is None:
        told = replace(told, cached=cached)
    return told if _tells(told) else None


def _tells(usage: SaidUsage) -> bool:
    return bool(usage.prompt or usage.completion or usage.reasoning)


def _count(value: Any) -> int | None:
    """A number of tokens, where it can be one."""
    number = _integer(value)
    return number if number is not None and 0 <= number < _MOST_TOKENS else None


def _integer(value: Any) -> int | None:
    """An integer, also as servers write it with a point or as a string."""
    if value is None or type(value) is int:
        return value
    try:
        return _INTEGER.validate_python(value)
    except ValidationError:
        return None
