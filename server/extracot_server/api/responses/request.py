"""From the body of ``POST /v1/responses`` to a chat request: items become messages.

Knows what the Responses API calls things; runs nothing.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import Field

from extracot_server.api.body import (
    CHAT_ONLY,
    Body,
    ChatBody,
    closed_list,
    described_as,
    other_lengths,
)
from extracot_server.api.budget_words import responses_words
from extracot_server.api.conversation import (
    ToolMode,
    check_no_schema,
    json_schema_format,
    read_tools,
)
from extracot_server.api.request_context import RequestContext
from extracot_server.api.responses.conversation import read_input
from extracot_server.api.responses.offered_tools import OfferedTools, read_offered
from extracot_server.budget.values import shown
from extracot_server.engine.base import AnswerFormat, SamplingParams
from extracot_server.errors import InvalidRequestError
from extracot_server.generation.request import ChatRequest
from extracot_server.tool_calls.tools import ToolUse

_EARLIER = "no conversation is stored here: send the earlier items, or their ids, as `input`"
_LOGPROBS = "log-probabilities are in `/v1/chat/completions`"
_FORMATS = ("response_format", "structured_outputs", "guided_json")
_HINTS = {
    **dict.fromkeys(("background", "generate", "prompt"), ""),
    **dict.fromkeys(("conversation", "previous_response_id"), _EARLIER),
    **dict.fromkeys(_FORMATS, "use `text.format`"),
    "stop_sequences": "use `stop` of `/v1/chat/completions`",
    "messages": "use `input`",
    **other_lengths("max_output_tokens"),
    "reasoning_effort": "use `reasoning.effort`",
    "system": "use `instructions`",
    **CHAT_ONLY,
}
_CHOICES = (
    'auto, none, required, {"type": "function", "name": …} or '
    '{"type": "allowed_tools", "mode": "auto" or "required", "tools": […]}'
)
_SEALED = "reasoning.encrypted_content"
_WITH_LOGPROBS = "message.output_text.logprobs"
Includable = Literal[  # what nothing of a reply here has is harmless to ask for
    "reasoning.encrypted_content",
    "message.input_image.image_url",
    "web_search_call.results",
    "web_search_call.action.sources",
    "file_search_call.results",
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
]
_ADVICE = ("max_tool_calls", "truncation")
UNSUPPORTED = closed_list(_HINTS)


Summary = Literal["auto", "concise", "detailed"]


class Reasoning(Body):
    """``reasoning``."""

    effort: Annotated[Any, described_as(str | None)] = Field(
        None, description="an effort of the server's map to budgets"
    )
    summary: Summary | None = Field(
        None, description="any: the reasoning, in full, is in `summary` instead of `content`"
    )
    generate_summary: Summary | None = Field(None, description="old name of `summary`")
    context: Literal["auto", "current_turn"] | None = Field(
        None,
        description="accepted; which earlier reasoning a prompt has is the template's to say",
    )
    mode: Literal["standard"] | None = Field(None, description="as always")


class TextConfig(Body):
    """``text``."""

    format: dict[str, Any] | None = Field(
        None, description="text, json_object, or json_schema with `name` and `schema`"
    )
    verbosity: Literal["low", "medium", "high"] | None = Field(
        None, description="accepted and not used"
    )


class PromptCacheOptions(Body):
    """``prompt_cache_options``."""

    prewarm: Annotated[bool | None, described_as(Literal[False] | None)] = Field(
        None, description="true, for no reply, is a 400"
    )


class ResponsesRequest(ChatBody):
    """Body of ``POST /v1/responses``: the text subset of OpenAI's, and ``budget``."""

    unsupported = UNSUPPORTED
    words = responses_words(Reasoning.model_fields)

    input: str | list[dict[str, Any]] = Field(
        description="a text, or items: messages, function calls and their outputs, and reasoning, "
        "which the chat template may keep; or an `item_reference` to an item of an earlier reply"
    )
    instructions: str | None = Field(None, description="the system message")
    reasoning: Reasoning | None = Field(None, description="`effort` sets a budget")
    include_reasoning: bool | None = Field(None, description="false leaves reasoning items out")
    max_output_tokens: int | None = Field(None, ge=1, description="reasoning included")
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=-1, lt=2**31, description="vLLM's; -1 or 0: all")
    text: TextConfig | None = Field(None, description="`format` of the answer")
    tools: list[dict[str, Any]] | None = Field(
        None,
        description="functions, also in namespaces; other tools are left out where functions are "
        "beside them and `tool_choice` is auto, and listed in `budget.ignored_fields`",
    )
    tool_choice: ToolMode | dict[str, Any] | None = Field(None, description=_CHOICES)
    parallel_tool_calls: bool | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = Field(
        None, description="goes with `stream`; accepted and not used"
    )
    store: bool | None = Field(
        None,
        description="false: the reply's items are not held in memory for `item_reference`; nothing "
        "is stored beyond that",
    )
    include: list[Annotated[str, described_as(Includable)]] | None = Field(
        None,
        description=f"`{_SEALED}`: reasoning items come with it; others that OpenAI has are "
        f"accepted and not used, but for `{_WITH_LOGPROBS}`",
    )
    truncation: Literal["auto", "disabled"] | None = Field(
        None, description="accepted and not used: a prompt that is too long is a 400"
    )
    max_tool_calls: int | None = Field(
        None, ge=0, description="accepted and not used: it is of tools that run on the server"
    )
    prompt_cache_options: PromptCacheOptions | None = Field(
        None, description="accepted and not used"
    )
    user: str | None = Field(None, description="accepted and not used")
    metadata: dict[str, str] | None = Field(None, description="returned in the reply")
    service_tier: str | None = Field(None, description="accepted and not used")
    safety_identifier: str | None = Field(None, description="accepted and not used")
    prompt_cache_key: str | None = Field(None, description="accepted and not used")
    prompt_cache_retention: str | None = Field(None, description="accepted and not used")

    @cached_property
    def offered(self) -> OfferedTools:
        """The tools as the model is given them; raises :class:`InvalidRequestError`."""
        return read_offered(self.tools or ())

    @property
    def summary(self) -> Summary | None:
        """The summary that is wanted, by either name."""
        asked = self.reasoning
        return None if asked is None else asked.summary or asked.generate_summary

    @property
    def wants_sealed(self) -> bool:
        """Whether reasoning items are to have their `encrypted_content`."""
        return _SEALED in (self.include or ())

    @property
    def ignored_fields(self) -> tuple[str, ...]:
        """Fields that would change a reply elsewhere and do nothing here, and unknown ones."""
        found = {*super().ignored_fields, *self.offered.left_out}
        found |= {f"include[{n}]" for n, what in enumerate(self.include or ()) if what != _SEALED}
        found |= {name for name in _ADVICE if getattr(self, name) is not None}
        extra = self.text.model_extra or {} if self.text is not None else {}
        found |= {f"text.{key[:64]}" for key in extra}
        if self.text is not None and self.text.verbosity is not None:
            found.add("text.verbosity")
        return tuple(sorted(found))


def to_chat_request(request: ResponsesRequest, context: RequestContext) -> ChatRequest:
    """The chat that asks for the same; raises :class:`InvalidRequestError` for the rest."""
    _check_reply_fields(request)
    answer_format = _answer_format(request.text)
    return context.chat_request(
        request,
        read_input(request.instructions, _as_the_model_calls(request), context.thoughts),
        messages_field="input",
        budget=request.budget,
        effort=request.reasoning.effort if request.reasoning is not None else None,
        effort_field="reasoning.effort",
        sampling=SamplingParams(
            temperature=request.temperature, top_p=request.top_p, top_k=request.top_k
        ),
        tools=_tools(request),
        answer_format=answer_format,
        max_tokens=request.max_output_tokens,
    )


def _check_reply_fields(request: ResponsesRequest) -> None:
    """Raises :class:`InvalidRequestError` for what would change how a reply looks."""
    for index, wanted in enumerate(request.include or ()):
        where = f"include[{index}]"
        if wanted == _WITH_LOGPROBS:
            what = f"is {shown(wanted)}, which is not supported by this server; {_LOGPROBS}."
            raise InvalidRequestError.of(where, what, "unsupported_parameter")
        if wanted not in get_args(Includable):
            what = f"is {shown(wanted)}. Allowed: {', '.join(get_args(Includable))}."
            raise InvalidRequestError.of(where, what)
    if request.prompt_cache_options is not None and request.prompt_cache_options.prewarm:
        what = "asks for no reply, which is not supported by this server."
        raise InvalidRequestError.of("prompt_cache_options.prewarm", what, "unsupported_parameter")


def _as_the_model_calls(request: ResponsesRequest) -> str | list[dict[str, Any]]:
    """The input, in which functions in namespaces are called as the model knows them."""
    if isinstance(request.input, str):
        return request.input
    return [
        {**item, "name": request.offered.name_of(item.get("namespace"), item["name"])}
        if item.get("type") == "function_call" and isinstance(item.get("name"), str)
        else item
        for item in request.input
    ]


def _answer_format(text: TextConfig | None) -> AnswerFormat | None:
    wanted = text.format if text is not None else None
    if wanted is None:
        return None
    if wanted.get("type") in ("text", "json_object"):
        check_no_schema(wanted, "text.format")
    match wanted.get("type"):
        case "text":
            return None
        case "json_object":
            return AnswerFormat("json_object", field="text.format")
        case "json_schema":
            said = {key: wanted.get(key) for key in ("name", "description", "strict")}
            return json_schema_format(wanted.get("schema"), "text.format.schema", **said)
        case kind:
            what = f"is {shown(kind)}. Allowed: text, json_object, json_schema."
            raise InvalidRequestError.of("text.format.type", what)


def _tools(request: ResponsesRequest) -> ToolUse | None:
    offered, name = request.offered, None
    functions, mode = offered.functions, cast(Any, request.tool_choice)
    match request.tool_choice:
        case {"type": "function", "name": str(called), **rest}:
            mode, name = "named", offered.name_of(rest.get("namespace"), called)
        case {"type": "allowed_tools", "mode": "auto" | "required" as mode, "tools": list(allowed)}:
            functions = offered.among(allowed, "tool_choice.tools", forced=mode == "required")
        case dict() as choice:
            what = f"is {shown(choice)}. Allowed: {_CHOICES}."
            raise InvalidRequestError.of("tool_choice", what)
    if mode != "none":
        offered.check(forced=request.tool_choice == "required")
    if mode == "auto" and not functions:  # Codex sends it with an empty list, as OpenAI takes it
        return None
    return read_tools(functions, mode, name, parallel=request.parallel_tool_calls, excluded={})
