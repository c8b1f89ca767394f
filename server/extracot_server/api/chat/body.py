"""Bodies as clients send them: JSON read, and its shape checked field by field. Judges no value.

What is not of the right type or range is an :class:`InvalidRequestError` that names the field.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from extracot.tokens import is_unicode
from extracot_server.errors import InvalidRequestError

_MAX_DEPTH = 128  # of lists and objects; what is deeper breaks whoever walks or prints it
_MAX_FIELDS = 256  # each unknown one is compared with `budget` and reported back
B = TypeVar("B", bound=BaseModel)


class Body(BaseModel):
    """JSON types are taken at their word: `"1"` is no number, and no number is infinite."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class JsonSchemaFormat(Body):
    """``response_format.json_schema``."""

    name: str | None = Field(None, description="OpenAI asks for one; not used")
    description: str | None = Field(None, description="accepted and not used")
    strict: bool | None = Field(None, description="every schema is kept to, strict or not")
    schema_: dict[str, Any] = Field(alias="schema", description="a JSON schema")


class ResponseFormat(Body):
    """``response_format``: the answer's grammar; reasoning stays free."""

    type: Literal["text", "json_object", "json_schema"] = Field(description="text is no grammar")
    json_schema: JsonSchemaFormat | None = Field(None, description="goes with `json_schema`")


class StreamOptions(Body):
    """``stream_options``."""

    include_usage: bool | None = Field(
        None, description="a last chunk without choices that has `usage` and the whole `budget`"
    )


TOOL_CALL_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["id", "type", "function"],
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "required": ["name", "arguments"],
            "properties": {
                "name": {"type": "string", "minLength": 1},
                "arguments": {"type": "string", "description": "JSON text of an object"},
            },
        },
    },
}


class FunctionDefinition(Body):
    """A function that the model may call."""

    name: str = Field(description="1 to 128 of a-z, A-Z, 0-9, `_`, `-` and `.`")
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="JSON schema of its arguments")
    strict: bool | None = Field(None, description="accepted; a forced call always keeps to it")


class ToolDefinition(Body):
    """One of ``tools``."""

    type: Literal["function"]
    function: FunctionDefinition


class ChatMessage(Body):
    """One message; ``content`` is text or a list of text parts."""

    role: str = Field(
        description="system or developer (first only), user, assistant, or tool; the last message "
        "is a user's or a tool's",
        json_schema_extra={"enum": ["system", "developer", "user", "assistant", "tool"]},
    )
    content: str | list[dict[str, Any]] | None = Field(
        None,
        description="text, or text parts that are joined",
        json_schema_extra={
            "anyOf": [
                {"type": "string"},
                {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["type", "text"],
                        "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
                    },
                },
                {"type": "null"},
            ]
        },
    )
    tool_calls: list[dict[str, Any]] | None = Field(
        None,
        description="of an assistant: the calls as they came in its reply",
        json_schema_extra={
            "anyOf": [{"type": "array", "items": TOOL_CALL_SCHEMA}, {"type": "null"}]
        },
    )
    tool_call_id: str | None = Field(None, description="of a tool: the call that this answers")


class ChatCompletionRequest(Body):
    """Body of ``POST /v1/chat/completions``: OpenAI's, a few of vLLM's extras, and ``budget``."""

    model: str | None = Field(
        None, description="a served model's name, or `name@budget` such as `name@0.4`"
    )
    messages: list[ChatMessage] = Field(
        min_length=1, description="the conversation; the last message is the user's"
    )
    budget: Any = Field(
        None,
        description="how much reasoning the reply may cost",
        json_schema_extra={
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
                {"enum": ["auto", "native", "none"]},
                {
                    "type": "object",
                    "additionalProperties": False,
                    "not": {"type": "object", "additionalProperties": {"type": "null"}},
                    "properties": {
                        "ratio": {
                            "anyOf": [
                                {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
                                {"enum": ["auto", "native", "none", None]},
                            ],
                            "description": "as a budget by itself",
                        },
                        "max_reasoning_tokens": {
                            "type": ["integer", "null"],
                            "minimum": 0,
                            "description": "an exact cap",
                        },
                        "enforce": {
                            "enum": ["soft", "hard", None],
                            "description": "hard: the ratio is a cap as well",
                        },
                    },
                },
                {"type": "null"},
            ],
            "examples": [0.2, "auto", {"ratio": 0.4, "max_reasoning_tokens": 300}],
        },
    )
    reasoning_effort: str | None = Field(
        None,
        description="a budget by OpenAI's names; which ratio each stands for is a setting "
        "(`GET /v1/budget`); `budget` and the model's alias come before it",
    )
    include_reasoning: bool | None = Field(
        None, description="false hides the reasoning's text; it is made and counted all the same"
    )
    include_instruction: bool | None = Field(
        None,
        description="false leaves the checkpoint's instruction out of the last user turn; "
        "by default it is in, but for a `response_format`",
    )
    stream: bool | None = Field(None, description="server-sent events, `[DONE]` at the end")
    stream_options: StreamOptions | None = Field(None, description="goes with `stream`")
    n: int | None = Field(None, ge=1, description="choices; each has its own seed and budget")
    max_tokens: int | None = Field(
        None, ge=1, description="the old name of `max_completion_tokens`, which wins"
    )
    max_completion_tokens: int | None = Field(
        None,
        ge=1,
        description="most generated tokens, reasoning included; a part is kept for the answer",
    )
    temperature: float | None = Field(None, ge=0, le=2, description="default: the model's own")
    top_p: float | None = Field(None, gt=0, le=1, description="default: the model's own")
    top_k: int | None = Field(
        None, ge=-1, lt=2**31, description="vLLM's; the likeliest so many; -1 or 0 is all"
    )
    min_p: float | None = Field(
        None, ge=0, le=1, description="vLLM's; least probability, as a share of the likeliest's"
    )
    presence_penalty: float | None = Field(
        None, ge=-2, le=2, description="above 0 discourages tokens that were there"
    )
    frequency_penalty: float | None = Field(
        None, ge=-2, le=2, description="the same, by how often they were there"
    )
    repetition_penalty: float | None = Field(
        None, ge=0.01, le=100, description="vLLM's; above 1 discourages"
    )
    seed: int | None = Field(
        None, ge=-(2**63), lt=2**63, description="choice i of n uses seed + i; modulo 2^32"
    )
    stop: str | list[str] | None = Field(
        None,
        description="ends the answer, not the reasoning; not part of it",
        json_schema_extra={
            "anyOf": [
                {"type": "string", "minLength": 1, "maxLength": 1024},
                {
                    "type": "array",
                    "maxItems": 16,
                    "items": {"type": "string", "minLength": 1, "maxLength": 1024},
                },
                {"type": "null"},
            ]
        },
    )
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = Field(
        None,
        description="token id (as text) to bias; -100 forbids",
        json_schema_extra={
            "anyOf": [
                {
                    "type": "object",
                    "propertyNames": {"pattern": "^[0-9]{1,9}$"},
                    "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
                },
                {"type": "null"},
            ]
        },
    )
    logprobs: bool | None = Field(None, description="of the answer's tokens, aligned with content")
    top_logprobs: int | None = Field(
        None, ge=0, le=20, description="alternatives a token; needs `logprobs`"
    )
    min_tokens: int | None = Field(None, ge=0, description="vLLM's; of the answer")
    ignore_eos: bool | None = Field(None, description="vLLM's; go on to the last token allowed")
    response_format: ResponseFormat | None = Field(
        None, description="binds the answer, after the reasoning"
    )
    tools: list[ToolDefinition] | None = Field(
        None, description="functions that the reply may call, where the model's template has them"
    )
    tool_choice: str | dict[str, Any] | None = Field(
        None,
        description="auto (where there are tools), none, required, or the function to call",
        json_schema_extra={
            "anyOf": [
                {"enum": ["auto", "none", "required"]},
                {
                    "type": "object",
                    "required": ["type", "function"],
                    "properties": {
                        "type": {"const": "function"},
                        "function": {
                            "type": "object",
                            "required": ["name"],
                            "properties": {"name": {"type": "string"}},
                        },
                    },
                },
                {"type": "null"},
            ]
        },
    )
    parallel_tool_calls: bool | None = Field(None, description="false: at most one call in a reply")
    user: str | None = Field(None, description="accepted and not used")
    metadata: dict[str, str] | None = Field(None, description="accepted and not used")


def validated(kind: type[B], body: dict[str, Any]) -> B:
    """A JSON object as ``kind``; raises :class:`InvalidRequestError` for its first wrong field."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        param = field_path(first["loc"])
        missing = first["type"] == "missing"
        code = "missing_required_parameter" if missing else "invalid_value"
        raise InvalidRequestError(
            f"`{param}`: {first['msg']}.", param=param or None, code=code
        ) from None


def _number(text: str) -> float | int:
    """JSON has one kind of number: what has no fraction is an integer, however it is written."""
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def parse_json_object(raw: bytes) -> dict[str, Any]:
    """The body as a JSON object; anything else is an :class:`InvalidRequestError`."""
    try:
        body = json.loads(raw, parse_float=_number)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise InvalidRequestError(
            f"The body is not valid JSON: {str(error)[:200]}.", code="invalid_json"
        ) from None
    if not isinstance(body, dict):
        raise InvalidRequestError("The body must be a JSON object.", code="invalid_json")
    if raw.count(b"[") + raw.count(b"{") > _MAX_DEPTH and _depth(body) > _MAX_DEPTH:
        raise _too_deep()
    if len(body) > _MAX_FIELDS:
        raise InvalidRequestError(f"The body has more than {_MAX_FIELDS} fields.")
    for key in body:
        if not is_unicode(key):
            raise InvalidRequestError("A field's name is not valid Unicode.", param=key[:64])
    return body


def _too_deep() -> InvalidRequestError:
    message = f"The body is nested more than {_MAX_DEPTH} levels deep."
    return InvalidRequestError(message, code="invalid_json")


def _depth(value: Any) -> int:
    """Levels of lists and objects in a JSON value; a loop, since what is deep breaks recursion."""
    depth, level = 0, [value]
    while level := [one for one in level if isinstance(one, list | dict)]:
        depth += 1
        level = [
            inner for one in level for inner in (one if isinstance(one, list) else one.values())
        ]
    return depth


def field_path(location: tuple[int | str, ...]) -> str:
    """``("messages", 1, "role")`` -> ``messages[1].role``; names of union branches are left out."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif "[" not in part and part not in ("str", "float", "int", "bool"):
            path += f".{part}" if path else part
    return path
