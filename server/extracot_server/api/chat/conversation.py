"""Messages and tools of a chat request, read: what is no text, no call or no definition is refused.

Knows OpenAI's forms; whether a conversation makes sense to a template is the renderer's to say.
"""

from __future__ import annotations

import json
import re
from typing import Any

from extracot.prompt import Message, ToolCall
from extracot_server.api.chat.body import ChatCompletionRequest, ChatMessage, ToolDefinition
from extracot_server.errors import InvalidRequestError
from extracot_server.tool_calls.tools import ToolUse

_ROLES = ("system", "developer", "user", "assistant", "tool")
_CHOICES = 'auto, none, required or {"type": "function", "function": {"name": …}}'
_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,128}")
_MAX_TOOLS = 256


def read_message(message: ChatMessage, index: int) -> Message:
    """One message as the renderer takes it; raises :class:`InvalidRequestError` with its field."""
    where = f"messages[{index}]"
    if message.role not in _ROLES:
        raise InvalidRequestError(
            f"`{where}.role` is {message.role[:40]!r}. Allowed: {', '.join(_ROLES)}.",
            param=f"{where}.role",
        )
    if (message.model_extra or {}).get("function_call"):
        raise InvalidRequestError(
            "`function_call` is not supported by this server; use `tool_calls`.",
            param=f"{where}.function_call",
            code="unsupported_parameter",
        )
    calls = [
        _call(call, f"{where}.tool_calls[{n}]") for n, call in enumerate(message.tool_calls or ())
    ]
    if message.role == "tool" and not message.tool_call_id:
        raise InvalidRequestError(
            f"`{where}.tool_call_id` is missing: which call does it answer?",
            param=f"{where}.tool_call_id",
        )
    content = message.content
    if content is None and message.role == "assistant":
        content = ""
    if content is None or content == []:
        raise InvalidRequestError(
            f"`{where}.content` must be a text or a list of text parts, and not empty.",
            param=f"{where}.content",
        )
    if isinstance(content, list):
        content = "".join(text_part(p, f"{where}.content[{j}]") for j, p in enumerate(content))
    return Message(message.role, content, tuple(calls), message.tool_call_id or "")


def text_part(part: dict[str, Any], where: str, kinds: tuple[str, ...] = ("text",)) -> str:
    """The text of a content part; raises :class:`InvalidRequestError` for any other part."""
    kind, text = part.get("type"), part.get("text")
    if kind not in kinds:
        raise InvalidRequestError(
            f"`{where}.type` is {str(kind)[:40]!r}; this server takes text only.",
            param=f"{where}.type",
            code="unsupported_content",
        )
    if not isinstance(text, str):
        raise InvalidRequestError(f"`{where}.text` must be a string.", param=f"{where}.text")
    return text


def read_arguments(text: Any, where: str) -> dict[str, Any]:
    """A call's arguments: JSON text of an object; raises :class:`InvalidRequestError`."""
    try:
        arguments = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise InvalidRequestError(f"`{where}` must be the JSON text of an object.", param=where)
    return arguments


def read_tools(request: ChatCompletionRequest) -> ToolUse | None:
    """What the reply may or must call; ``None`` where nothing is offered or may be called.

    Raises :class:`InvalidRequestError` for a choice among tools that are not there.
    """
    tools, choice = request.tools or [], request.tool_choice
    if not tools:
        if choice not in (None, "none"):
            raise InvalidRequestError("`tool_choice` needs `tools`.", param="tool_choice")
        return None
    definitions = _definitions(tools)
    named = _named(choice)
    if named is not None and named not in {d["function"]["name"] for d in definitions}:
        raise InvalidRequestError(
            f"`tool_choice` names {named[:64]!r}, which is none of `tools`.", param="tool_choice"
        )
    if choice == "none":
        return None
    _refuse_beside(request)
    parallel = request.parallel_tool_calls is not False
    if named is not None:
        return ToolUse(definitions, "named", named, parallel)
    return ToolUse(definitions, "required" if choice == "required" else "auto", None, parallel)


def _definitions(tools: list[ToolDefinition]) -> tuple[dict[str, Any], ...]:
    if len(tools) > _MAX_TOOLS:
        raise InvalidRequestError(f"`tools` takes at most {_MAX_TOOLS}.", param="tools")
    found: dict[str, dict[str, Any]] = {}
    for index, tool in enumerate(tools):
        where, function = f"tools[{index}].function", tool.function
        if not _NAME.fullmatch(function.name):
            raise InvalidRequestError(
                f"`{where}.name` must be 1 to 128 of a-z, A-Z, 0-9, `_`, `-` and `.`.",
                param=f"{where}.name",
            )
        if function.name in found:
            raise InvalidRequestError(
                f"Two `tools` are named {function.name}.", param=f"{where}.name"
            )
        definition: dict[str, Any] = {"name": function.name}
        if function.description is not None:
            definition["description"] = function.description
        if function.parameters is not None:
            definition["parameters"] = function.parameters
        found[function.name] = {"type": "function", "function": definition}
    return tuple(found.values())


def _named(choice: str | dict[str, Any] | None) -> str | None:
    if choice is None or choice in ("auto", "none", "required"):
        return None
    function = choice.get("function") if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if (
        not isinstance(choice, dict)
        or choice.get("type") != "function"
        or not isinstance(name, str)
    ):
        raise InvalidRequestError(
            f"`tool_choice` is {str(choice)[:60]!r}. Allowed: {_CHOICES}.", param="tool_choice"
        )
    return name


def _refuse_beside(request: ChatCompletionRequest) -> None:
    """What a call cannot be combined with."""
    response_format = request.response_format
    beside = {
        "response_format": response_format is not None and response_format.type != "text",
        "logprobs": bool(request.logprobs),
    }
    for name, given in beside.items():
        if given:
            raise InvalidRequestError(
                f'`{name}` does not go with `tools`, unless `tool_choice` is "none".', param=name
            )


def _call(call: dict[str, Any], where: str) -> ToolCall:
    function = call.get("function")
    if call.get("type", "function") != "function" or not isinstance(function, dict):
        raise InvalidRequestError(
            f"`{where}` must be a call of a function: id, type and function.", param=where
        )
    name, call_id = function.get("name"), call.get("id")
    if not isinstance(name, str) or not name:
        raise InvalidRequestError(
            f"`{where}.function.name` must be a name.", param=f"{where}.function.name"
        )
    if not isinstance(call_id, str) or not call_id:
        raise InvalidRequestError(f"`{where}.id` must be a text.", param=f"{where}.id")
    arguments = function.get("arguments")
    return ToolCall(name, read_arguments(arguments, f"{where}.function.arguments"), call_id)
