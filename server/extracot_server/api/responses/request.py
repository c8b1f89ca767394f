"""From the body of ``POST /v1/responses`` to a chat request: items become messages.

Knows what the Responses API calls things; runs nothing.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from pydantic import Field

from extracot.prompt import Message, ToolCall
from extracot_server.api.body import Body, ChatBody, Unsupported, validated
from extracot_server.api.conversation import (
    FunctionDefinition,
    ToolMode,
    json_schema_format,
    read_arguments,
    read_tools,
    require_text,
    text_of,
)
from extracot_server.api.exchange import RequestContext
from extracot_server.engine.base import AnswerFormat, SamplingParams
from extracot_server.errors import InvalidRequestError
from extracot_server.generation.request import ChatRequest
from extracot_server.tool_calls.tools import ToolUse

_PLAIN = """background conversation context_management continuation_id image include
input_transformations max_tool_calls moderation prompt store top_logprobs truncation"""
_HINTS = {
    **dict.fromkeys(_PLAIN.split(), ""),
    "previous_response_id": "nothing is stored here: send the earlier items as `input`",
    "messages": "use `input`",
    "max_tokens": "use `max_output_tokens`",
    "max_completion_tokens": "use `max_output_tokens`",
    "reasoning_effort": "use `reasoning.effort`",
    "response_format": "use `text.format`",
}
_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "background": (False,),
    "store": (False,),
    "include": ([],),
    "truncation": ("disabled",),
    "top_logprobs": (0,),
}
_CHOICES = 'auto, none, required or {"type": "function", "name": …}'
UNSUPPORTED = Unsupported(_HINTS, _DEFAULTS)
_TEXT_PARTS = ("input_text", "output_text", "text")
_KINDS = ("message", "reasoning", "function_call", "function_call_output")
_ROLES = ("system", "developer", "user", "assistant")


class Reasoning(Body):
    """``reasoning``."""

    effort: str | None = Field(None, description="an effort of the server's map to budgets")
    summary: str | None = Field(None, description="accepted; the reasoning itself is in the reply")


class TextConfig(Body):
    """``text``."""

    format: dict[str, Any] | None = Field(
        None, description="text, json_object, or json_schema with `name` and `schema`"
    )
    verbosity: str | None = Field(None, description="accepted and not used")


class ResponsesRequest(ChatBody):
    """Body of ``POST /v1/responses``: the text subset of OpenAI's, and ``budget``."""

    unsupported = UNSUPPORTED

    input: str | list[dict[str, Any]] = Field(
        description="a text, or items: messages, function calls and their outputs, and reasoning, "
        "which is left out"
    )
    instructions: str | None = Field(None, description="the system message")
    reasoning: Reasoning | None = Field(None, description="`effort` sets a budget")
    include_reasoning: bool | None = Field(None, description="false leaves reasoning items out")
    max_output_tokens: int | None = Field(None, ge=1, description="reasoning included")
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    text: TextConfig | None = Field(None, description="`format` of the answer")
    tools: list[dict[str, Any]] | None = Field(None, description="functions only")
    tool_choice: ToolMode | dict[str, Any] | None = Field(
        None, description='auto, none, required, or {"type": "function", "name": …}'
    )
    parallel_tool_calls: bool | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = Field(None, description="accepted and not used")
    user: str | None = Field(None, description="accepted and not used")
    metadata: dict[str, str] | None = Field(None, description="returned in the reply")
    service_tier: str | None = Field(None, description="accepted and not used")
    safety_identifier: str | None = Field(None, description="accepted and not used")
    prompt_cache_key: str | None = Field(None, description="accepted and not used")
    prompt_cache_retention: str | None = Field(None, description="accepted and not used")


def to_chat_request(request: ResponsesRequest, context: RequestContext) -> ChatRequest:
    """The chat that asks for the same; raises :class:`InvalidRequestError` for the rest."""
    answer_format = _answer_format(request.text)
    return context.chat_request(
        request,
        _messages(request),
        messages_field="input",
        budget=request.budget,
        effort=request.reasoning.effort if request.reasoning is not None else None,
        effort_field="reasoning.effort",
        sampling=SamplingParams(temperature=request.temperature, top_p=request.top_p),
        tools=_tools(request, answer_format),
        answer_format=answer_format,
        max_tokens=request.max_output_tokens,
    )


def _messages(request: ResponsesRequest) -> list[Message]:
    messages: list[Message] = []
    if request.instructions:
        messages.append(Message("system", request.instructions, field="instructions"))
    if isinstance(request.input, str):
        return [*messages, Message("user", request.input, field="input")]
    if not request.input:
        raise InvalidRequestError.of("input", "must not be empty.")
    for index, item in enumerate(request.input):
        found = _message(item, f"input[{index}]")
        if found is None:
            continue
        last = messages[-1] if messages else None
        if last is not None and found.tool_calls and last.role == "assistant":
            calls = last.tool_calls + found.tool_calls
            messages[-1] = replace(last, tool_calls=calls)
        elif last is not None and found.role in ("system", "developer") and index == 0:
            # It goes with the instructions.
            messages[-1] = replace(last, content=f"{last.content}\n\n{found.content}")
        else:
            messages.append(found)
    return messages


def _message(item: dict[str, Any], where: str) -> Message | None:
    """A message of an item; ``None`` for earlier reasoning."""
    kind = item.get("type", "message")
    match kind:
        case "message":
            role = item.get("role")
            if role not in _ROLES:
                what = f"is {str(role)[:40]!r}. Allowed: {', '.join(_ROLES)}."
                raise InvalidRequestError.of(f"{where}.role", what)
            text = text_of(item.get("content"), f"{where}.content", _TEXT_PARTS)
            return Message(role, text, field=where)
        case "reasoning":
            return None
        case "function_call":
            require_text(item, ("call_id", "name", "arguments"), where)
            arguments = read_arguments(item["arguments"], f"{where}.arguments")
            call = ToolCall(item["name"], arguments, item["call_id"])
            return Message("assistant", "", (call,), field=where)
        case "function_call_output":
            require_text(item, ("call_id",), where)
            text = text_of(item.get("output"), f"{where}.output", _TEXT_PARTS)
            return Message("tool", text, tool_call_id=item["call_id"], field=where)
    what = f"is {str(kind)[:40]!r}. Allowed: {', '.join(_KINDS)}."
    raise InvalidRequestError.of(f"{where}.type", what, "unsupported_content")


def _answer_format(text: TextConfig | None) -> AnswerFormat | None:
    wanted = text.format if text is not None else None
    if wanted is None:
        return None
    match wanted.get("type"):
        case "text":
            return None
        case "json_object":
            return AnswerFormat("json_object", field="text.format")
        case "json_schema":
            return json_schema_format(wanted.get("schema"), "text.format.schema")
        case kind:
            what = f"is {str(kind)[:40]!r}. Allowed: text, json_object, json_schema."
            raise InvalidRequestError.of("text.format.type", what)


def _tools(request: ResponsesRequest, answer_format: AnswerFormat | None) -> ToolUse | None:
    functions = [_function(tool, f"tools[{n}]") for n, tool in enumerate(request.tools or ())]
    excluded = {"text.format": answer_format is not None}
    read = partial(read_tools, functions, parallel=request.parallel_tool_calls, excluded=excluded)
    match request.tool_choice:
        case {"type": "function", "name": str(name)}:
            return read("named", name)
        case dict() as choice:
            what = f"is {str(choice)[:60]!r}. Allowed: {_CHOICES}."
            raise InvalidRequestError.of("tool_choice", what)
        case mode:
            return read(mode)


def _function(tool: dict[str, Any], where: str) -> tuple[str, FunctionDefinition]:
    if tool.get("type") != "function" or not isinstance(tool.get("name"), str):
        what = "must be a function with a name; other tools are not supported."
        raise InvalidRequestError.of(where, what, "unsupported_parameter")
    return where, validated(FunctionDefinition, tool, where)
