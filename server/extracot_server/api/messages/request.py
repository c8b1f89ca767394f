"""From the body of ``POST /v1/messages`` to a chat request: blocks become messages.

Knows what Anthropic's Messages API calls things; runs nothing.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from extracot_server.api.body import (
    CHAT_ONLY,
    Body,
    ChatBody,
    closed_list,
    described_as,
    other_lengths,
    validated,
)
from extracot_server.api.budget_words import MESSAGES_WORDS
from extracot_server.api.conversation import (
    FunctionDefinition,
    ToolMode,
    json_schema_format,
    read_stops,
    read_tools,
)
from extracot_server.api.messages.conversation import found_tools, read_conversation
from extracot_server.api.request_context import RequestContext
from extracot_server.budget.values import shown
from extracot_server.engine.base import AnswerFormat, SamplingParams
from extracot_server.errors import InvalidRequestError
from extracot_server.generation.request import ChatRequest
from extracot_server.tool_calls.tools import ToolUse

_ALL_MESSAGES = "nothing is stored here: send all messages, without it"
_FORMATS = "output_format response_format text structured_outputs guided_json"
_HINTS = {
    "container": "",
    "mcp_servers": "",
    "thread": _ALL_MESSAGES,
    **dict.fromkeys(_FORMATS.split(), "use `output_config.format`"),
    "reasoning_effort": "use `output_config.effort`",
    "parallel_tool_calls": "use `tool_choice.disable_parallel_tool_use`",
    **CHAT_ONLY,
    "stop": "use `stop_sequences`",
    "input": "use `messages`",
    "instructions": "use `system`",
    **other_lengths("max_tokens"),
}
# Anthropic's SDKs then send the whole conversation by themselves.
_DETAILS = {"thread": {"error_code": "thread_unsupported_request"}}
_SUMMARY = {"compaction": "a summary in place of a reply is nothing that this server makes"}
COUNT_UNSUPPORTED = closed_list(_HINTS, _DETAILS)
UNSUPPORTED = closed_list(_HINTS | _SUMMARY, _DETAILS)
_TOOL_MODES: dict[str, ToolMode] = {"auto": "auto", "any": "required", "none": "none"}


class Thinking(Body):
    """``thinking``: a hard cap on reasoning, or none of it."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int | None = Field(
        None, ge=1, description="enabled: the cap, in tokens, and required; adaptive: the same"
    )
    display: Literal["summarized", "omitted", "updates"] | None = Field(
        None, description="`omitted` leaves the thinking's text out"
    )


class OutputConfig(Body):
    """``output_config``."""

    effort: Annotated[Any, described_as(str | None)] = Field(
        None, description="an effort of the server's map to budgets"
    )
    format: dict[str, Any] | None = Field(None, description="json_schema with `schema`")


class MessageParam(Body):
    """One message; thinking of earlier turns is left out."""

    role: Literal["user", "assistant", "system"]
    content: str | list[dict[str, Any]] = Field(
        description="a text, or blocks: text, thinking, tool_use, tool_result"
    )


class CountRequest(ChatBody):
    """Body of ``POST /v1/messages/count_tokens``, and what both have in common."""

    unsupported = COUNT_UNSUPPORTED
    words = MESSAGES_WORDS

    messages: list[MessageParam] = Field(
        min_length=1, description="the last message is the user's or the system's"
    )
    system: str | list[dict[str, Any]] | None = Field(None, description="a text or text blocks")
    thinking: Thinking | None = Field(None, description="sets a budget; false is none of it")
    output_config: OutputConfig | None = None
    tools: list[dict[str, Any]] | None = Field(None, description="name, description, input_schema")
    tool_choice: dict[str, Any] | None = Field(None, description="type auto, any, tool or none")

    @field_validator("thinking", mode="before", json_schema_input_type=Thinking | bool | None)
    @classmethod
    def _switch(cls, given: Any) -> Any:
        """True or false is a word of the table, and has been read."""
        return None if isinstance(given, bool) else given


class MessagesRequest(CountRequest):
    """Body of ``POST /v1/messages``: the text subset of Anthropic's, and ``budget``."""

    unsupported = UNSUPPORTED

    max_tokens: int = Field(ge=1, description="thinking included")
    stop_sequences: list[str] | None = Field(None, description="they end the answer only")
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1, lt=2**31)
    stream: bool | None = None
    metadata: dict[str, Any] | None = Field(None, description="accepted and not used")
    service_tier: str | None = Field(None, description="accepted and not used")
    cache_control: dict[str, Any] | None = Field(None, description="accepted and not used")
    user_profile_id: str | None = Field(None, description="accepted and not used")
    workspace_id: str | None = Field(None, description="accepted and not used")


def to_chat_request(request: CountRequest, context: RequestContext) -> ChatRequest:
    """The chat that asks for the same, or whose prompt is to be counted.

    Raises :class:`InvalidRequestError` for the rest.
    """
    sampling = SamplingParams()
    max_tokens: int | None = None
    stops: tuple[str, ...] = ()
    if isinstance(request, MessagesRequest):
        max_tokens = request.max_tokens
        sampling = SamplingParams(
            temperature=request.temperature, top_p=request.top_p, top_k=request.top_k
        )
        stops = read_stops(request.stop_sequences, "stop_sequences")
    _check_thinking(request.thinking, max_tokens)
    config = request.output_config
    answer_format = _answer_format(config)
    return context.chat_request(
        request,
        read_conversation(request.system, request.messages, context.thoughts),
        budget=request.budget,
        effort=config.effort if config is not None else None,
        effort_field="output_config.effort",
        sampling=sampling,
        tools=_tools(request),
        answer_format=answer_format,
        max_tokens=max_tokens,
        stops=stops,
    )


def _check_thinking(thinking: Thinking | None, max_tokens: int | None) -> None:
    """Anthropic's own rules of it; what it says of the budget is read as in every API."""
    if thinking is None or thinking.type != "enabled":
        return
    tokens, where = thinking.budget_tokens, "thinking.budget_tokens"
    if tokens is None:
        raise InvalidRequestError.of(where, "is missing.")
    if max_tokens is not None and tokens >= max_tokens:
        what = f"({tokens}) must be less than `max_tokens` ({max_tokens})."
        raise InvalidRequestError.of(where, what)


def _answer_format(config: OutputConfig | None) -> AnswerFormat | None:
    wanted = config.format if config is not None else None
    if wanted is None:
        return None
    if wanted.get("type") != "json_schema":
        raise InvalidRequestError.of("output_config.format.type", "must be json_schema.")
    # Anthropic's schemas always hold, so none of its fields says so.
    return json_schema_format(wanted.get("schema"), "output_config.format.schema", strict=True)


def _tools(request: CountRequest) -> ToolUse | None:
    choice = request.tool_choice or {}
    alone, named = choice.get("disable_parallel_tool_use"), choice.get("name")
    if not (alone is None or isinstance(alone, bool)):
        what = f"must be true or false, not {shown(alone)}."
        raise InvalidRequestError.of("tool_choice.disable_parallel_tool_use", what)
    parallel = alone is not True
    loaded = {*found_tools(request.messages), named if isinstance(named, str) else None}
    functions = []
    for n, tool in enumerate(request.tools or ()):
        function = _function(tool, f"tools[{n}]")
        # Deferred until a search for tools has found it, which is one of the client's own.
        if tool.get("defer_loading") is not True or tool.get("name") in loaded:
            functions.append(function)
    read = partial(read_tools, functions, parallel=parallel, excluded={}, parameters="input_schema")
    match request.tool_choice:
        case None:
            return read(None)
        case {"type": "tool", "name": str(name)}:
            return read("named", name)
        case {"type": str(kind)} if kind in _TOOL_MODES:
            return read(_TOOL_MODES[kind])
    what = "must be auto, any, none, or tool with a `name`."
    raise InvalidRequestError.of("tool_choice.type", what)


def _function(tool: dict[str, Any], where: str) -> tuple[str, FunctionDefinition]:
    if tool.get("type") not in (None, "custom") or not isinstance(tool.get("input_schema"), dict):
        what = "must be a tool with an `input_schema`; Anthropic's own are not supported."
        raise InvalidRequestError.of(where, what, "unsupported_parameter")
    function = {**tool, "parameters": tool["input_schema"]}
    return where, validated(FunctionDefinition, function, where)
