"""Bodies as clients send them: JSON read, and its shape checked field by field. Judges no value.

What is not of the right type or range is an :class:`InvalidRequestError` that names the field.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from extracot.tokens import is_unicode
from extracot_server.errors import InvalidRequestError

_MAX_FIELDS = 256  # each unknown one is compared with `budget` and reported back
B = TypeVar("B", bound=BaseModel)


class Body(BaseModel):
    """JSON types are taken at their word: `"1"` is no number, and no number is infinite."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class ResponseFormat(Body):
    """``response_format``: the answer's grammar; reasoning stays free."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None


class StreamOptions(Body):
    """``stream_options``."""

    include_usage: bool | None = None


class ChatMessage(Body):
    """One message; ``content`` is text or a list of text parts."""

    role: str
    content: str | list[dict[str, Any]] | None = None


class ChatCompletionRequest(Body):
    """Body of ``POST /v1/chat/completions``: OpenAI's, a few of vLLM's extras, and ``budget``."""

    model: str | None = Field(
        None, description="a served model's name, or `name@budget` such as `name@0.4`"
    )
    messages: list[ChatMessage] = Field(min_length=1)
    budget: Any = Field(
        None,
        description="how much reasoning the reply may cost",
        json_schema_extra={
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
                {"enum": ["auto", "native", "none"]},
                {
                    "type": "object",
                    "minProperties": 1,
                    "additionalProperties": False,
                    "properties": {
                        "ratio": {
                            "anyOf": [
                                {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
                                {"enum": ["auto", "native", "none"]},
                            ]
                        },
                        "max_reasoning_tokens": {"type": "integer", "minimum": 0},
                        "enforce": {"enum": ["soft", "hard"]},
                    },
                },
                {"type": "null"},
            ],
            "examples": [0.2, "auto", {"ratio": 0.4, "max_reasoning_tokens": 300}],
        },
    )
    reasoning_effort: str | None = None
    include_reasoning: bool | None = None
    include_instruction: bool | None = Field(
        None, description="false leaves the checkpoint's instruction out of the last user turn"
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = Field(None, ge=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1, lt=2**31)
    min_p: float | None = Field(None, ge=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    repetition_penalty: float | None = Field(None, ge=0.01, le=100)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: str | list[str] | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    min_tokens: int | None = Field(None, ge=0)
    ignore_eos: bool | None = None
    response_format: ResponseFormat | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None


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


def parse_json_object(raw: bytes) -> dict[str, Any]:
    """The body as a JSON object; anything else is an :class:`InvalidRequestError`."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        detail = str(error)[:200] or "nested too deeply"
        raise InvalidRequestError(
            f"The body is not valid JSON: {detail}.", code="invalid_json"
        ) from None
    if not isinstance(body, dict):
        raise InvalidRequestError("The body must be a JSON object.", code="invalid_json")
    if len(body) > _MAX_FIELDS:
        raise InvalidRequestError(f"The body has more than {_MAX_FIELDS} fields.")
    for key in body:
        if not is_unicode(key):
            raise InvalidRequestError("A field's name is not valid Unicode.", param=key[:64])
    return body


def field_path(location: tuple[int | str, ...]) -> str:
    """``("messages", 1, "role")`` -> ``messages[1].role``; names of union branches are left out."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif "[" not in part and part not in ("str", "float", "int", "bool"):
            path += f".{part}" if path else part
    return path
