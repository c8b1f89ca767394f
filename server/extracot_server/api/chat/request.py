"""The chat request as clients send it: OpenAI's body plus ``budget``, checked field by field.

:func:`to_chat_request` turns it into the server's own request. A closed list names the fields of
OpenAI and vLLM that are not supported; other unknown fields are tolerated and reported back.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal, cast

from pydantic import Field

from extracot_server.api.body import Body, ChatBody, closed_list, described_as, other_lengths
from extracot_server.api.chat.message import ChatMessage, read_messages
from extracot_server.api.conversation import (
    FunctionDefinition,
    ToolMode,
    check_no_schema,
    json_schema_format,
    read_stops,
    read_tools,
)
from extracot_server.api.request_context import RequestContext
from extracot_server.budget.values import shown
from extracot_server.config.settings import ReasoningField
from extracot_server.engine.base import SCHEMA_FIELD, AnswerFormat, SamplingParams
from extracot_server.errors import InvalidRequestError
from extracot_server.generation.request import ChatRequest
from extracot_server.tool_calls.tools import ToolUse

_CHOICES = (
    'auto, none, required, {"type": "function", "function": {"name": …}} or {"type": '
    '"allowed_tools", "allowed_tools": {"mode": "auto" or "required", "tools": […]}}'
)
UNSUPPORTED = closed_list(
    {
        **dict.fromkeys(("structured_outputs", "guided_json"), "use `response_format`"),
        "store": "",
        # What the other APIs call things.
        "text": "use `response_format`",
        "input": "use `messages`",
        **dict.fromkeys(("system", "instructions"), "use a message of the role system"),
        **other_lengths("max_tokens", "max_completion_tokens"),
        "stop_sequences": "use `stop`",
    }
)


class JsonSchemaFormat(Body):
    """``response_format.json_schema``."""

    name: str | None = Field(None, description="required by OpenAI; not used")
    description: str | None = Field(None, description="accepted and not used")
    strict: bool | None = Field(
        None,
        description="schemas are always enforced; servers of kind openai or plain behind a model "
        "are told this, the name and the description",
    )
    schema_: dict[str, Any] = Field(alias="schema", description="a JSON schema")


class ResponseFormat(Body):
    """``response_format``: the answer's grammar; reasoning stays free."""

    type: Literal["text", "json_object", "json_schema"] = Field(description="text: no constraint")
    json_schema: JsonSchemaFormat | None = Field(None, description="goes with `json_schema`")


class StreamOptions(Body):
    """``stream_options``."""

    include_usage: bool | None = Field(
        None, description="adds a last chunk, without choices, with `usage` and the whole `budget`"
    )


class ToolDefinition(Body):
    """One of ``tools``."""

    type: Literal["function"]
    function: FunctionDefinition


class FunctionName(Body):
    """One of ``tools``."""

    name: str


class NamedTool(Body):
    """The function to call."""

    type: Literal["function"]
    function: FunctionName


class AllowedTools(Body):
    """Some of ``tools``."""

    mode: Literal["auto", "required"]
    tools: list[NamedTool] = Field(min_length=1)


class AmongTools(Body):
    """The functions that may be called, of those that there are."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


Stop = Annotated[str, Field(min_length=1, max_length=1024)]


class ChatCompletionRequest(ChatBody):
    """Body of ``POST /v1/chat/completions``: OpenAI's, a few of vLLM's extras, and ``budget``."""

    unsupported = UNSUPPORTED

    messages: list[ChatMessage] = Field(
        min_length=1, description="the conversation; the last message is not an assistant's"
    )
    reasoning_effort: Annotated[Any, described_as(str | None)] = Field(
        None,
        description="a budget by OpenAI's names (`GET /v1/budget` shows what each stands for); "
        "`budget` and a model alias with a budget take precedence",
    )
    include_reasoning: bool | None = Field(
        None, description="false hides the reasoning; it is still generated and counted"
    )
    reasoning_field: ReasoningField | None = Field(
        None,
        description="where the reply has its reasoning: `reasoning`, `reasoning_content`, or both "
        "(the server's setting says which is the default)",
    )
    stream: bool | None = Field(None, description="server-sent events, `[DONE]` at the end")
    stream_options: StreamOptions | None = Field(None, description="goes with `stream`")
    n: int | None = Field(None, ge=1, description="number of choices; each has its own budget")
    max_tokens: int | None = Field(
        None, ge=1, description="old name of `max_completion_tokens`, which takes precedence"
    )
    max_completion_tokens: int | None = Field(
        None,
        ge=1,
        description="most tokens to generate, reasoning included; some are kept for the answer",
    )
    temperature: float | None = Field(None, ge=0, le=2, description="default: the model's own")
    top_p: float | None = Field(None, gt=0, le=1, description="default: the model's own")
    top_k: int | None = Field(
        None, ge=-1, lt=2**31, description="vLLM's; sample from the k likeliest; -1 or 0: all"
    )
    min_p: float | None = Field(
        None, ge=0, le=1, description="vLLM's; smallest probability, relative to the largest"
    )
    presence_penalty: float | None = Field(
        None, ge=-2, le=2, description="above 0 discourages tokens that occurred before"
    )
    frequency_penalty: float | None = Field(
        None, ge=-2, le=2, description="the same, in proportion to their number"
    )
    repetition_penalty: float | None = Field(
        None, ge=0.01, le=100, description="vLLM's; above 1 discourages repetition"
    )
    seed: int | None = Field(
        None, ge=-(2**63), lt=2**63, description="choice i of n uses seed + i; modulo 2^32"
    )
    stop: Annotated[
        str | list[str] | None,
        described_as(Stop | Annotated[list[Stop], Field(max_length=16)] | None),
    ] = Field(None, description="ends the answer (never the reasoning) and is left out of it")
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = Field(
        None,
        description="token id (as text) to bias; -100 forbids the token",
        json_schema_extra={"propertyNames": {"pattern": "^[0-9]{1,9}$"}},
    )
    logprobs: bool | None = Field(None, description="of the answer's tokens, aligned with content")
    top_logprobs: int | None = Field(
        None, ge=0, le=20, description="alternatives per token; above 0 needs `logprobs`"
    )
    min_tokens: int | None = Field(None, ge=0, description="vLLM's; least length of the answer")
    ignore_eos: bool | None = Field(None, description="vLLM's; generate up to the token limit")
    response_format: ResponseFormat | None = Field(
        None, description="form of the answer; reasoning is free"
    )
    tools: list[ToolDefinition] | None = Field(
        None, description="functions that the reply may call; the chat template must support tools"
    )
    tool_choice: Annotated[
        ToolMode | dict[str, Any] | None, described_as(ToolMode | NamedTool | AmongTools | None)
    ] = Field(
        None,
        description="auto (where there are tools), none, required, the function to call, or those "
        "of `tools` that the model is given",
    )
    parallel_tool_calls: bool | None = Field(None, description="false: at most one call in a reply")
    user: str | None = Field(None, description="accepted and not used")
    metadata: dict[str, str] | None = Field(None, description="accepted and not used")


def to_chat_request(request: ChatCompletionRequest, context: RequestContext) -> ChatRequest:
    """What serving needs of a request; raises :class:`InvalidRequestError` for the rest."""
    if request.n is not None and request.n > context.max_choices:
        raise InvalidRequestError.of("n", f"must be at most {context.max_choices}.")
    max_tokens = request.max_completion_tokens
    if max_tokens is None:  # the old name
        max_tokens = request.max_tokens
    if max_tokens is not None and (request.min_tokens or 0) > max_tokens:
        raise InvalidRequestError.of("min_tokens", "is above `max_tokens`.")
    answer_format = _answer_format(request.response_format)
    _check_in_content(request)
    return context.chat_request(
        request,
        read_messages(request.messages, context.thoughts),
        budget=request.budget,
        effort=request.reasoning_effort,
        sampling=_sampling(request),
        tools=_tools(request),
        answer_format=answer_format,
        max_tokens=max_tokens,
        stops=read_stops([request.stop] if isinstance(request.stop, str) else request.stop, "stop"),
        n=request.n or 1,
    )


def _check_in_content(request: ChatCompletionRequest) -> None:
    """Raise :class:`InvalidRequestError` for what needs the reasoning apart from the content."""
    if not request.reasoning_in_content:
        return
    for field in ("logprobs", "reasoning_field"):
        if getattr(request, field):
            what = "cannot be combined with reasoning in the content (`separate_reasoning: false`)."
            raise InvalidRequestError.of(field, what)


def _sampling(request: ChatCompletionRequest) -> SamplingParams:
    if request.top_logprobs and not request.logprobs:
        raise InvalidRequestError.of("top_logprobs", "needs `logprobs` to be true.")
    return SamplingParams(
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        min_p=request.min_p,
        presence_penalty=request.presence_penalty or 0.0,
        frequency_penalty=request.frequency_penalty or 0.0,
        repetition_penalty=request.repetition_penalty,
        seed=None if request.seed is None else request.seed % 2**32,
        logit_bias=_logit_bias(request.logit_bias),
        logprobs=(request.top_logprobs or 0) if request.logprobs else None,
        min_tokens=request.min_tokens or 0,
        ignore_eos=bool(request.ignore_eos),
    )


def _logit_bias(bias: dict[str, float] | None) -> dict[int, float]:
    converted: dict[int, float] = {}
    for key, value in (bias or {}).items():
        if not key.isascii() or not key.isdigit() or len(key) > 9:
            raise InvalidRequestError.of("logit_bias", f"keys are token ids, not {shown(key)}.")
        converted[int(key)] = value
    return converted


def _tools(request: ChatCompletionRequest) -> ToolUse | None:
    functions = [
        (f"tools[{index}].function", tool.function)
        for index, tool in enumerate(request.tools or ())
    ]
    excluded = {"logprobs": bool(request.logprobs)}
    read = partial(read_tools, parallel=request.parallel_tool_calls, excluded=excluded)
    match request.tool_choice:
        case {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(allowed)}}:
            if mode in ("auto", "required"):
                return read(_among(functions, allowed), cast(ToolMode, mode))
            what = f"is {shown(mode)}. Allowed: auto, required."
            raise InvalidRequestError.of("tool_choice.allowed_tools.mode", what)
        case {"type": "function", "function": {"name": str(name)}}:
            return read(functions, "named", name)
        case dict() as choice:
            what = f"is {shown(choice)}. Allowed: {_CHOICES}."
            raise InvalidRequestError.of("tool_choice", what)
        case mode:
            return read(functions, mode)


def _among(
    functions: list[tuple[str, FunctionDefinition]], allowed: list[Any]
) -> list[tuple[str, FunctionDefinition]]:
    """The functions that `tool_choice` leaves; raises :class:`InvalidRequestError` for others."""
    where, known, names = "tool_choice.allowed_tools.tools", {f.name for _, f in functions}, set()
    for index, tool in enumerate(allowed):
        match tool:
            case {"type": "function", "function": {"name": str(name)}} if name in known:
                names.add(name)
            case _:
                what = 'is no function of `tools`: {"type": "function", "function": {"name": …}}.'
                raise InvalidRequestError.of(f"{where}[{index}]", what)
    if not names:
        raise InvalidRequestError.of(where, "must name a function of `tools`.")
    return [(at, function) for at, function in functions if function.name in names]


def _answer_format(value: ResponseFormat | None) -> AnswerFormat | None:
    if value is None:
        return None
    if value.type != "json_schema":
        check_no_schema(
            {"json_schema": value.json_schema, **(value.model_extra or {})}, "response_format"
        )
    if value.type == "text":
        return None
    if value.type == "json_object":
        return AnswerFormat("json_object", field="response_format")
    given = value.json_schema
    if given is None:
        return json_schema_format(None, SCHEMA_FIELD)
    said = {"name": given.name, "description": given.description, "strict": given.strict}
    return json_schema_format(given.schema_, SCHEMA_FIELD, **said)
