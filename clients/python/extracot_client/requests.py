"""From arguments to the JSON body of a chat completion; budgets are not checked here.

What a budget may be is the server's to say, so that its message (with the allowed values) is the
one a user reads. Only what cannot be written as JSON at all is refused here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict, Unpack

from extracot_client.errors import InvalidArgumentError
from extracot_client.types import Budget

Problem = str | Sequence[Mapping[str, Any]]
"""One question, or a whole conversation as OpenAI messages."""

_OWN_FIELDS = frozenset({"messages", "stream", "stream_options", "n", "budget", "model"})
_PLAIN_FIELDS = ("max_tokens", "temperature", "top_p", "seed", "stop", "include_instruction")


class SolveOptions(TypedDict, total=False):
    """What a request may carry besides the problem and its budget."""

    model: str | None
    """Default: the client's, else whatever the server serves."""
    system: str | None
    """A system prompt in place of the model's own (its report then says not calibrated)."""
    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    seed: int | None
    stop: str | Sequence[str] | None
    include_instruction: bool | None
    """``False`` leaves the model's own instruction out of the prompt."""
    max_reasoning_tokens: int | None
    """A hard ceiling, beside the ratio."""
    enforce: Literal["soft", "hard"] | None
    deadline: float | None
    """Seconds for the whole call, retries included."""
    extra: Mapping[str, Any] | None
    """Further fields of the body, as OpenAI or the server name them."""


def build_messages(problem: Problem, system: str | None) -> list[dict[str, Any]]:
    """The conversation to send; raises :class:`InvalidArgumentError` if it is not one."""
    if isinstance(problem, str):
        messages: list[dict[str, Any]] = [{"role": "user", "content": problem}]
    elif isinstance(problem, Sequence) and all(isinstance(turn, Mapping) for turn in problem):
        messages = [dict(turn) for turn in problem if isinstance(turn, Mapping)]
    else:
        raise InvalidArgumentError(
            "A problem is a string or a list of messages with role and content", param="messages"
        )
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    return messages


def build_budget(budget: Budget, max_reasoning_tokens: int | None, enforce: str | None) -> Budget:
    """The budget as it is sent: the plain value, or an object where a ceiling goes with it."""
    extras = {"max_reasoning_tokens": max_reasoning_tokens, "enforce": enforce}
    extras = {name: value for name, value in extras.items() if value is not None}
    if not extras:
        return dict(budget) if isinstance(budget, Mapping) else budget
    if isinstance(budget, Mapping):
        return {**budget, **extras}
    return extras if budget is None else {"ratio": budget, **extras}


def build_request(
    problem: Problem, budget: Budget, default_model: str | None, **options: Unpack[SolveOptions]
) -> bytes:
    """The JSON of a streaming request; raises :class:`InvalidArgumentError`, :class:`TypeError`
    for an option that does not exist."""
    unknown = sorted(set(options) - set(SolveOptions.__annotations__))
    if unknown:
        known = ", ".join(sorted(SolveOptions.__annotations__))
        raise TypeError(f"unknown option {unknown[0]!r}; known: {known}")
    extra = dict(options.get("extra") or {})
    clash = sorted(_OWN_FIELDS & set(extra))
    if clash:
        raise InvalidArgumentError(
            f"`extra` may not set {clash[0]!r}: the client sets it itself", param=clash[0]
        )
    values: Mapping[str, Any] = options
    fields = {
        "model": options.get("model") or default_model or None,
        "messages": build_messages(problem, options.get("system")),
        "stream": True,
        "stream_options": {"include_usage": True},
        "budget": build_budget(budget, options.get("max_reasoning_tokens"), options.get("enforce")),
        **{name: values.get(name) for name in _PLAIN_FIELDS},
    }
    body = {name: value for name, value in fields.items() if value is not None} | extra
    return _encode(body)


def _encode(body: Mapping[str, Any]) -> bytes:
    for name, value in body.items():
        try:
            json.dumps({name: value}, ensure_ascii=False, allow_nan=False).encode("utf-8")
        except (TypeError, ValueError) as error:
            shown = str(name) if str(name).isprintable() else ascii(name)
            raise InvalidArgumentError(f"`{shown}` is not JSON: {error}", param=shown) from None
    return json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8")
