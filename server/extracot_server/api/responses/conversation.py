"""From the items of ``POST /v1/responses`` to messages.

Knows what the Responses API calls things; what a template makes of them is the renderer's to say.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from extracot.conversation import BETWEEN
from extracot.prompt import Fields, Message, ToolCall
from extracot_server.api.contents import (
    Content,
    add_part,
    in_runs,
    last_place,
    placeholder,
    read_arguments,
    read_content,
    read_free_text,
    require_text,
)
from extracot_server.api.earlier_reasoning import EarlierReasoning, joined
from extracot_server.budget.values import shown
from extracot_server.errors import InvalidRequestError

_ROLES = ("system", "developer", "user", "assistant")
_KINDS = ("message", "reasoning", "function_call", "function_call_output")
# Calls of tools that run elsewhere, which a session may have made before it came here. Some have
# an id, and an item of their own for what came of them.
_ANSWERED = ("custom_tool", "local_shell", "shell", "apply_patch", "computer", "tool_search")
_CALLS = {f"{name}_call": name for name in _ANSWERED}
_OUTPUTS = (*(f"{name}_call_output" for name in _ANSWERED), "tool_search_output")
_HOSTED = """web_search_call file_search_call code_interpreter_call image_generation_call
mcp_call mcp_list_tools mcp_approval_request mcp_approval_response"""
_MENTIONED = frozenset(_HOSTED.split())
_SEALED = ("compaction", "compaction_summary", "context_compaction", "encrypted_content")


def read_input(
    instructions: str | None, given: str | list[dict[str, Any]], thoughts: EarlierReasoning
) -> list[Message]:
    """The conversation of ``instructions`` and ``input``.

    Raises :class:`InvalidRequestError` for an item that is none, or of a type that can't be read.
    """
    told = [Message("system", instructions, field="instructions")] if instructions else []
    if isinstance(given, str):
        return [*told, Message("user", given, field="input")]
    if not given:
        raise InvalidRequestError.of("input", "must not be empty.")
    asked = last_place(item.get("role") == "user" for item in given)
    found: list[Message] = []
    before: list[str] = []  # reasoning, which belongs to what the assistant says or does next
    for index, item in enumerate(given):
        where = f"input[{index}]"
        if item.get("type") == "reasoning":
            before += filter(None, [thoughts.of_item(item, where)])
            continue
        message = _message(item, where, thoughts, newest=index == asked)
        if before and message.role == "assistant":
            message = replace(message, reasoning=joined([*before, message.reasoning]))
        before = []
        found.append(message)
    return in_runs([*told, *found], _goes_on)


def _goes_on(run: Sequence[Message], found: Message) -> bool:
    """What the assistant said and the calls after it are one message."""
    last = run[-1]
    if last.role != "assistant" or found.role != "assistant":
        return False
    mentioned = bool(last.omitted or found.omitted) and not last.tool_calls
    return mentioned or bool(found.tool_calls)


def _message(
    item: dict[str, Any], where: str, thoughts: EarlierReasoning, *, newest: bool
) -> Message:
    """A message of an item that is no reasoning."""
    match item.get("type", "message"):
        case "message":
            return _said(item, where, thoughts, newest)
        case "function_call":
            require_text(item, ("call_id", "name"), where)
            arguments = read_arguments(item.get("arguments"), f"{where}.arguments")
            return _called(item["name"], arguments, item["call_id"], where)
        case "function_call_output":
            return _result(item, where, read_content(item.get("output"), f"{where}.output"))
        case str(kind) if kind in _CALLS and item.get("call_id"):
            return _ran(item, where, _CALLS[kind])
        case str(kind) if kind in _OUTPUTS:
            return _result(item, where, _shown(item.get("output"), f"{where}.output"))
        case str(kind) if kind in _CALLS or kind in _MENTIONED:
            return Message("assistant", placeholder(kind), field=where, omitted=(where,))
        case str(kind) if kind in _SEALED:
            what = (
                f"is {shown(kind)}, which only its maker reads; send the items that it stands for."
            )
            raise InvalidRequestError.of(f"{where}.type", what, "unsupported_content")
        case kind:
            what = f"is {shown(kind)}. Allowed: {', '.join(_KINDS)}."
            raise InvalidRequestError.of(f"{where}.type", what, "unsupported_content")


def _said(item: dict[str, Any], where: str, thoughts: EarlierReasoning, newest: bool) -> Message:
    role = item.get("role")
    if role not in _ROLES:
        is_what = "is missing" if role is None else f"is {shown(role)}"
        what = f"{is_what}. Allowed: {', '.join(_ROLES)}."
        raise InvalidRequestError.of(f"{where}.role", what)
    reply = thoughts if role == "assistant" else None
    strict = newest or role in ("system", "developer") or "content" not in item
    content = read_content(item.get("content"), f"{where}.content", strict=strict, reply=reply)
    omitted, reasoning = tuple(content.omitted), BETWEEN.join(content.thoughts) or None
    return Message(role, content.text, field=where, omitted=omitted, reasoning=reasoning)


def _called(name: str, arguments: dict[str, Any] | str, call_id: str, where: str) -> Message:
    call = ToolCall(name, arguments, call_id, where)
    return Message("assistant", "", (call,), field=where)


def _ran(item: dict[str, Any], where: str, name: str) -> Message:
    """A call of a tool that is no function: what it was asked to do is its arguments."""
    require_text(item, ("call_id",), where)
    if name == "custom_tool":
        require_text(item, ("name",), where)
        return _called(item["name"], read_free_text(item, where), item["call_id"], where)
    wanted = ("action", "actions", "operation", "arguments")
    asked = {key: item[key] for key in wanted if item.get(key) is not None}
    return _called(name, asked, item["call_id"], where)


def _result(item: dict[str, Any], where: str, content: Content) -> Message:
    require_text(item, ("call_id",), where)
    fields = Fields(f"{where}.type", f"{where}.output", f"{where}.call_id")
    omitted = tuple(content.omitted)
    return Message("tool", content.text, (), item["call_id"], where, fields, omitted)


def _shown(output: Any, where: str) -> Content:
    """What came of a call elsewhere: text, parts, or one object of any form."""
    parts = output if isinstance(output, list) else [output]
    if isinstance(output, str) or not all(isinstance(part, dict) for part in parts):
        return read_content(output, where)
    found = Content()
    for index, part in enumerate(parts):
        if "type" in part:
            add_part(found, part, f"{where}[{index}]" if isinstance(output, list) else where)
        else:
            found.add(json.dumps(part, ensure_ascii=False))
    return found
