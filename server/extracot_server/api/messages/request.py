"""A body of ``POST /v1/messages`` as a body of a chat request: blocks become messages.

Knows what Anthropic's Messages API calls things and nothing of what becomes of them.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field

from extracot_server.api.chat.body import Body, ChatCompletionRequest
from extracot_server.api.chat.conversation import text_part
from extracot_server.budget.values import parse_budget
from extracot_server.errors import BudgetError, InvalidRequestError

_PLAIN = "container context_management diagnostics inference_geo speed"
REFUSED = {
    **dict.fromkeys(_PLAIN.split(), ""),
    "mcp_servers": "",
    "reasoning_effort": "use `output_config.effort`",
    "response_format": "use `output_config.format`",
    "stop": "use `stop_sequences`",
}
HARMLESS: dict[str, tuple[Any, ...]] = {"mcp_servers": ([],), "speed": ("standard",)}
FIELDS = {
    "max_completion_tokens": "max_tokens",
    "stop": "stop_sequences",
    "reasoning_effort": "output_config.effort",
    "response_format": "output_config.format",
    "response_format.json_schema.schema": "output_config.format.schema",
}
"""Fields of a chat request by the names they have here."""
_SAME = ["model", "temperature", "top_p", "top_k", "stream", "include_instruction"]


class Thinking(Body):
    """``thinking``: a hard cap on reasoning, or none of it."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: int | None = Field(None, ge=1, description="enabled: the cap, in tokens")
    display: str | None = Field(None, description="`omitted` leaves the thinking's text out")


class OutputConfig(Body):
    """``output_config``."""

    effort: str | None = Field(None, description="an effort of the server's map to budgets")
    format: dict[str, Any] | None = Field(None, description="json_schema with `schema`")


class MessageParam(Body):
    """One message; thinking of earlier turns is left out."""

    role: Literal["user", "assistant", "system"]
    content: str | list[dict[str, Any]] = Field(
        description="a text, or blocks: text, thinking, tool_use, tool_result"
    )


class CountRequest(Body):
    """Body of ``POST /v1/messages/count_tokens``, and what both have in common."""

    model: str | None = Field(
        None, description="a served model's name, or `name@budget` such as `name@0.4`"
    )
    messages: list[MessageParam] = Field(min_length=1, description="the last one is the user's")
    system: str | list[dict[str, Any]] | None = Field(None, description="a text or text blocks")
    budget: Any = ChatCompletionRequest.model_fields["budget"]
    thinking: Thinking | None = Field(None, description="one way to say a budget")
    output_config: OutputConfig | None = None
    include_instruction: bool | None = Field(
        None, description="false leaves the checkpoint's instruction out of the last user turn"
    )
    tools: list[dict[str, Any]] | None = Field(None, description="name, description, input_schema")
    tool_choice: dict[str, Any] | None = Field(None, description="type auto, any, tool or none")


class MessagesRequest(CountRequest):
    """Body of ``POST /v1/messages``: the text subset of Anthropic's, and ``budget``."""

    max_tokens: int = Field(ge=1, description="thinking included")
    stop_sequences: list[str] | None = Field(None, description="in the answer only")
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1, lt=2**31)
    stream: bool | None = None
    metadata: dict[str, Any] | None = Field(None, description="accepted and not used")
    service_tier: str | None = Field(None, description="accepted and not used")
    cache_control: dict[str, Any] | None = Field(None, description="accepted and not used")
    user_profile_id: str | None = Field(None, description="accepted and not used")
    workspace_id: str | None = Field(None, description="accepted and not used")


def as_chat(request: CountRequest) -> tuple[dict[str, Any], list[str]]:
    """The chat request that asks for the same, and where each of its messages came from."""
    messages, origins = _messages(request)
    config = request.output_config
    body = {name: getattr(request, name, None) for name in _SAME}
    body |= {
        "messages": messages,
        "budget": _budget(request),
        "reasoning_effort": config.effort if config is not None else None,
        "response_format": _format(config),
        "max_completion_tokens": getattr(request, "max_tokens", None),
        "stop": getattr(request, "stop_sequences", None),
        "tools": [_tool(tool, index) for index, tool in enumerate(request.tools or [])] or None,
        **_choice(request.tool_choice),
    }
    return {name: value for name, value in body.items() if value is not None}, origins


def _budget(request: CountRequest) -> Any:
    """``budget`` with what ``thinking`` says: its tokens are a cap on whatever else is asked."""
    thinking, budget = request.thinking, request.budget
    if thinking is None or thinking.type == "adaptive":
        return budget
    tokens, where = thinking.budget_tokens, "thinking.budget_tokens"
    if thinking.type == "disabled":
        if budget not in (None, "none"):
            raise BudgetError("`thinking` is disabled, and `budget` asks for it.", param="thinking")
        return "none"
    if tokens is None:
        raise InvalidRequestError(f"`{where}` is missing.", param=where)
    limit = getattr(request, "max_tokens", None)
    if limit is not None and tokens >= limit:
        raise InvalidRequestError(
            f"`{where}` ({tokens}) must be less than `max_tokens` ({limit}).", param=where
        )
    if budget is None:
        return {"max_reasoning_tokens": tokens}
    spec = parse_budget(budget)
    if spec.max_reasoning_tokens not in (None, tokens):
        raise BudgetError(f"`{where}` and `budget.max_reasoning_tokens` disagree.", param=where)
    whole = budget if isinstance(budget, dict) else {"ratio": budget}
    return {**whole, "max_reasoning_tokens": tokens}


def _messages(request: CountRequest) -> tuple[list[dict[str, Any]], list[str]]:
    messages: list[dict[str, Any]] = []
    origins: list[str] = []
    if request.system:
        messages.append({"role": "system", "content": _text(request.system, "system")})
        origins.append("system")
    for index, message in enumerate(request.messages):
        where = f"messages[{index}]"
        for found in _turns(message, where):
            last = messages[-1] if messages else {"role": None}
            if found["role"] == last["role"] and found["role"] in ("user", "assistant"):
                _join(last, found)  # turns of one role in a row are one turn
                continue
            messages.append(found)
            origins.append(f"{where}*")
    return messages, origins


def _join(last: dict[str, Any], found: dict[str, Any]) -> None:
    last["content"] = "\n".join(text for text in (last["content"], found["content"]) if text)
    calls = [*last.get("tool_calls", ()), *found.get("tool_calls", ())]
    if calls:
        last["tool_calls"] = calls


def _turns(message: MessageParam, where: str) -> list[dict[str, Any]]:
    """The chat messages of one message: results of tools come before what the user says."""
    content = message.content
    if isinstance(content, str):
        return [{"role": message.role, "content": content}]
    if not content:
        raise InvalidRequestError(f"`{where}.content` must not be empty.", param=f"{where}.content")
    texts: list[str] = []
    calls: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for index, block in enumerate(content):
        at = f"{where}.content[{index}]"
        match message.role, block.get("type"):
            case "assistant", "thinking" | "redacted_thinking":
                continue
            case "assistant", "tool_use":
                calls.append(_call(block, at))
            case "user", "tool_result":
                results.append(_result(block, at))
            case _:
                texts.append(text_part(block, at))
    said: dict[str, Any] = {"role": message.role, "content": "".join(texts)}
    if calls:
        said["tool_calls"] = calls
    return [*results, said] if texts or calls or not results else results


def _call(block: dict[str, Any], at: str) -> dict[str, Any]:
    given = block.get("input")
    for name, right in (("id", str), ("name", str), ("input", dict)):
        if not isinstance(block.get(name), right):
            kind = "an object" if right is dict else "a string"
            raise InvalidRequestError(f"`{at}.{name}` must be {kind}.", param=f"{at}.{name}")
    function = {"name": block["name"], "arguments": json.dumps(given)}
    return {"id": block["id"], "type": "function", "function": function}


def _result(block: dict[str, Any], at: str) -> dict[str, Any]:
    call_id, content = block.get("tool_use_id"), block.get("content") or ""
    if not isinstance(call_id, str):
        raise InvalidRequestError(
            f"`{at}.tool_use_id` must be a string.", param=f"{at}.tool_use_id"
        )
    text = _text(content, f"{at}.content")
    return {"role": "tool", "tool_call_id": call_id, "content": text}


def _text(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise InvalidRequestError(f"`{where}` must be a text or text blocks.", param=where)
    return "".join(text_part(block, f"{where}[{n}]") for n, block in enumerate(content))


def _format(config: OutputConfig | None) -> dict[str, Any] | None:
    wanted = config.format if config is not None else None
    if wanted is None:
        return None
    if wanted.get("type") != "json_schema":
        raise InvalidRequestError(
            "`output_config.format.type` must be json_schema.", param="output_config.format.type"
        )
    return {"type": "json_schema", "json_schema": {"schema": wanted.get("schema")}}


def _tool(tool: dict[str, Any], index: int) -> dict[str, Any]:
    where = f"tools[{index}]"
    if tool.get("type", "custom") != "custom" or not isinstance(tool.get("input_schema"), dict):
        raise InvalidRequestError(
            f"`{where}` must be a tool with an `input_schema`; Anthropic's own are not supported.",
            param=where,
            code="unsupported_parameter",
        )
    function = {"name": tool.get("name"), "parameters": tool["input_schema"]}
    if tool.get("description") is not None:
        function["description"] = tool["description"]
    return {"type": "function", "function": function}


def _choice(choice: dict[str, Any] | None) -> dict[str, Any]:
    if choice is None:
        return {}
    kinds = {"auto": "auto", "any": "required", "none": "none"}
    kind, name = choice.get("type"), choice.get("name")
    if kind == "tool" and isinstance(name, str):
        wanted: Any = {"type": "function", "function": {"name": name}}
    elif kind in kinds:
        wanted = kinds[kind]
    else:
        raise InvalidRequestError(
            "`tool_choice.type` must be auto, any, none, or tool with a `name`.",
            param="tool_choice.type",
        )
    parallel = False if choice.get("disable_parallel_tool_use") is True else None
    return {"tool_choice": wanted, "parallel_tool_calls": parallel}
