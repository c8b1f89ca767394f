"""A body of ``POST /v1/responses`` as a body of a chat request: items become messages.

Knows what the Responses API calls things and nothing of what becomes of them.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from extracot_server.api.chat.body import Body, ChatCompletionRequest
from extracot_server.api.chat.conversation import text_part
from extracot_server.errors import InvalidRequestError

_PLAIN = """background conversation context_management continuation_id image include
input_transformations max_tool_calls moderation prompt store top_logprobs truncation"""
REFUSED = {
    **dict.fromkeys(_PLAIN.split(), ""),
    "previous_response_id": "nothing is stored here: send the earlier items as `input`",
    "messages": "use `input`",
    "max_tokens": "use `max_output_tokens`",
    "max_completion_tokens": "use `max_output_tokens`",
    "reasoning_effort": "use `reasoning.effort`",
    "response_format": "use `text.format`",
}
HARMLESS: dict[str, tuple[Any, ...]] = {
    "background": (False,),
    "store": (False,),
    "include": ([],),
    "truncation": ("disabled",),
    "top_logprobs": (0,),
}
FIELDS = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort",
    "response_format": "text.format",
    "response_format.json_schema.schema": "text.format.schema",
}
"""Fields of a chat request by the names they have here."""
_TEXT_PARTS = ("input_text", "output_text", "text")
_SAME = [
    "model",
    "budget",
    "include_instruction",
    "temperature",
    "top_p",
    "parallel_tool_calls",
    "user",
    "metadata",
    "stream",
]


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


class ResponsesRequest(Body):
    """Body of ``POST /v1/responses``: the text subset of OpenAI's, and ``budget``."""

    model: str | None = Field(
        None, description="a served model's name, or `name@budget` such as `name@0.4`"
    )
    input: str | list[dict[str, Any]] = Field(
        description="a text, or items: messages, function calls and their outputs, and reasoning, "
        "which is left out"
    )
    instructions: str | None = Field(None, description="the system message")
    budget: Any = ChatCompletionRequest.model_fields["budget"]
    reasoning: Reasoning | None = Field(None, description="`effort` is one way to say a budget")
    include_reasoning: bool | None = Field(None, description="false leaves reasoning items out")
    include_instruction: bool | None = Field(
        None, description="false leaves the checkpoint's instruction out of the last user turn"
    )
    max_output_tokens: int | None = Field(None, ge=1, description="reasoning included")
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    text: TextConfig | None = Field(None, description="`format` binds the answer")
    tools: list[dict[str, Any]] | None = Field(None, description="functions only")
    tool_choice: str | dict[str, Any] | None = Field(
        None, description='auto, none, required, or {"type": "function", "name": …}'
    )
    parallel_tool_calls: bool | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = Field(None, description="accepted and not used")
    user: str | None = Field(None, description="accepted and not used")
    metadata: dict[str, str] | None = Field(None, description="given back in the reply")
    service_tier: str | None = Field(None, description="accepted and not used")
    safety_identifier: str | None = Field(None, description="accepted and not used")
    prompt_cache_key: str | None = Field(None, description="accepted and not used")
    prompt_cache_retention: str | None = Field(None, description="accepted and not used")


def as_chat(request: ResponsesRequest) -> tuple[dict[str, Any], list[str]]:
    """The chat request that asks for the same, and where each of its messages came from."""
    messages, origins = _messages(request)
    effort = request.reasoning.effort if request.reasoning is not None else None
    body = {name: getattr(request, name) for name in _SAME}
    body |= {
        "messages": messages,
        "reasoning_effort": effort,
        "max_completion_tokens": request.max_output_tokens,
        "response_format": _format(request.text),
        "tools": [_tool(tool, index) for index, tool in enumerate(request.tools or [])] or None,
        "tool_choice": _choice(request.tool_choice),
    }
    return {name: value for name, value in body.items() if value is not None}, origins


def _messages(request: ResponsesRequest) -> tuple[list[dict[str, Any]], list[str]]:
    messages: list[dict[str, Any]] = []
    origins: list[str] = []
    if request.instructions:
        messages.append({"role": "system", "content": request.instructions})
        origins.append("instructions")
    if isinstance(request.input, str):
        return [*messages, {"role": "user", "content": request.input}], [*origins, "input"]
    if not request.input:
        raise InvalidRequestError("`input` must not be empty.", param="input")
    for index, item in enumerate(request.input):
        where = f"input[{index}]"
        found = _message(item, where)
        if found is None:
            continue
        last = messages[-1] if messages else {}
        if found.get("tool_calls") and last.get("role") == "assistant":
            last["tool_calls"] = [*last.get("tool_calls", ()), *found["tool_calls"]]
        elif found["role"] in ("system", "developer") and len(messages) == 1 and index == 0:
            last["content"] += f"\n\n{found['content']}"  # it goes with the instructions
        else:
            messages.append(found)
            origins.append(f"{where}*")
    return messages, origins


def _message(item: dict[str, Any], where: str) -> dict[str, Any] | None:
    """A chat message of an item; ``None`` for earlier reasoning."""
    kind = item.get("type", "message")
    match kind:
        case "message":
            return {"role": item.get("role"), "content": _content(item.get("content"), where)}
        case "reasoning":
            return None
        case "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            call = {"id": item.get("call_id"), "type": "function", "function": function}
            _require_text(item, ("call_id", "name", "arguments"), where)
            return {"role": "assistant", "content": None, "tool_calls": [call]}
        case "function_call_output":
            _require_text(item, ("call_id",), where)
            content = _content(item.get("output"), where, "output")
            return {"role": "tool", "content": content, "tool_call_id": item["call_id"]}
    raise InvalidRequestError(
        f"`{where}.type` is {str(kind)[:40]!r}. Allowed: message, reasoning, function_call, "
        "function_call_output.",
        param=f"{where}.type",
        code="unsupported_content",
    )


def _require_text(item: dict[str, Any], names: tuple[str, ...], where: str) -> None:
    for name in names:
        if not isinstance(item.get(name), str):
            raise InvalidRequestError(
                f"`{where}.{name}` must be a string.", param=f"{where}.{name}"
            )


def _content(content: Any, where: str, name: str = "content") -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise InvalidRequestError(
            f"`{where}.{name}` must be a text or a list of text parts, and not empty.",
            param=f"{where}.{name}",
        )
    parts = []
    for index, part in enumerate(content):
        at = f"{where}.{name}[{index}]"
        if not isinstance(part, dict):
            raise InvalidRequestError(f"`{at}` must be an object.", param=at)
        parts.append(text_part(part, at, _TEXT_PARTS))
    return "".join(parts)


def _format(text: TextConfig | None) -> dict[str, Any] | None:
    wanted = text.format if text is not None else None
    if wanted is None:
        return None
    kind = wanted.get("type")
    if kind not in ("text", "json_object", "json_schema"):
        raise InvalidRequestError(
            f"`text.format.type` is {str(kind)[:40]!r}. Allowed: text, json_object, json_schema.",
            param="text.format.type",
        )
    if kind != "json_schema":
        return {"type": kind}
    return {"type": kind, "json_schema": {"schema": wanted.get("schema")}}


def _tool(tool: dict[str, Any], index: int) -> dict[str, Any]:
    if tool.get("type") != "function" or not isinstance(tool.get("name"), str):
        raise InvalidRequestError(
            f"`tools[{index}]` must be a function with a name; other tools are not supported.",
            param=f"tools[{index}]",
            code="unsupported_parameter",
        )
    function = {name: tool.get(name) for name in ("name", "description", "parameters", "strict")}
    return {"type": "function", "function": function}


def _choice(choice: str | dict[str, Any] | None) -> Any:
    if isinstance(choice, dict) and choice.get("type") == "function":
        return {"type": "function", "function": {"name": choice.get("name")}}
    return choice
