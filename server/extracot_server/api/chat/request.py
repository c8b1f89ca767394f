"""The chat request as clients send it: OpenAI's body plus ``budget``, checked field by field.

:func:`parse_chat_request` turns bytes into a :class:`ChatCompletionRequest` or an
:class:`InvalidRequestError` that names the field; :func:`to_chat_request` turns it into what
serving understands. A closed list names the fields of OpenAI and vLLM that are not supported;
other unknown fields are tolerated and reported back.
"""

from __future__ import annotations

from typing import Any

from extracot_server.admission.keys import ANONYMOUS, Principal
from extracot_server.api.chat.body import (
    ChatCompletionRequest,
    ResponseFormat,
    parse_json_object,
    validated,
)
from extracot_server.api.chat.conversation import read_message, read_tools
from extracot_server.api.fields import refuse_fields
from extracot_server.budget.resolve import BudgetSources
from extracot_server.budget.values import Target
from extracot_server.engine.base import AnswerFormat, SamplingParams
from extracot_server.errors import InvalidRequestError
from extracot_server.generation.request import ChatRequest

_REPLACED = {
    "thinking_token_budget": "use `budget.max_reasoning_tokens`",
    "thinking_budget": "use `budget`",
    "thinking_budget_tokens": "use `budget.max_reasoning_tokens`",
    "structured_outputs": "use `response_format`",
    "guided_json": "use `response_format`",
    "chat_template_kwargs": "use `budget` to steer reasoning",
}
_PLAIN = """functions function_call audio prediction web_search_options best_of
guided_regex guided_choice guided_grammar prompt_logprobs use_beam_search length_penalty
stop_token_ids include_stop_str_in_output echo add_generation_prompt continue_final_message
chat_template documents mm_processor_kwargs bad_words allowed_token_ids logits_processors
kv_transfer_params return_token_ids return_tokens_as_token_ids truncate_prompt_tokens"""
UNSUPPORTED: dict[str, str] = {name: "" for name in _PLAIN.split()} | _REPLACED
# Values of otherwise unsupported fields that ask for nothing.
_HARMLESS: dict[str, tuple[Any, ...]] = {
    "modalities": (["text"],),
    "store": (False,),
    "echo": (False,),
    "use_beam_search": (False,),
    "include_stop_str_in_output": (False,),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
}
_KNOWN = frozenset(ChatCompletionRequest.model_fields)
_REFUSED = {"modalities": "", "store": "", **UNSUPPORTED}


def refused_fields() -> dict[str, tuple[tuple[Any, ...], str]]:
    """Fields that are refused, with the values that are not, because they ask for nothing, and a
    hint at what to use in their place (empty: there is none)."""
    return {
        name: ((*_HARMLESS.get(name, ()), None), UNSUPPORTED.get(name, ""))
        for name in sorted(set(_REFUSED) - _KNOWN)
    }


def parse_chat_request(raw: bytes) -> ChatCompletionRequest:
    """Bytes -> request; raises :class:`InvalidRequestError` with ``param`` set to the field."""
    return read_chat_request(parse_json_object(raw))


def read_chat_request(body: dict[str, Any]) -> ChatCompletionRequest:
    """A JSON object -> request; see :func:`parse_chat_request`."""
    refuse_fields(body, _KNOWN, _REFUSED, _HARMLESS)
    return validated(ChatCompletionRequest, body)


def to_chat_request(
    request: ChatCompletionRequest,
    *,
    request_id: str,
    alias: Target | None,
    principal: Principal = ANONYMOUS,
    max_messages: int,
    max_choices: int,
    ignored_fields: tuple[str, ...] | None = None,
) -> ChatRequest:
    """What serving needs of a request; raises :class:`InvalidRequestError` for the rest.

    ``ignored_fields`` are those of a body in another API's form that this one was made from.
    """
    if request.n is not None and request.n > max_choices:
        raise InvalidRequestError(f"`n` must be at most {max_choices}.", param="n")
    if len(request.messages) > max_messages:
        raise InvalidRequestError(f"At most {max_messages} messages.", param="messages")
    max_tokens = _max_tokens(request)
    if max_tokens is not None and (request.min_tokens or 0) > max_tokens:
        raise InvalidRequestError("`min_tokens` is above `max_tokens`.", param="min_tokens")
    tools = read_tools(request)
    answer_format = _answer_format(request.response_format)
    with_instruction = request.include_instruction
    if with_instruction is None:  # it asks for an answer in words
        with_instruction = answer_format is None and tools is None
    if tools is not None:
        answer_format = tools.answer_format()
    return ChatRequest(
        request_id=request_id,
        messages=tuple(read_message(m, i) for i, m in enumerate(request.messages)),
        budget=BudgetSources(request.budget, alias, request.reasoning_effort),
        sampling=_sampling(request),
        n=request.n or 1,
        max_tokens=max_tokens,
        stops=_stops(request.stop),
        answer_format=answer_format,
        with_instruction=with_instruction,
        principal=principal,
        ignored_fields=ignored_fields
        if ignored_fields is not None
        else tuple(sorted(key[:64] for key in request.model_extra or {})),
        tools=tools,
    )


def _sampling(request: ChatCompletionRequest) -> SamplingParams:
    if request.top_logprobs is not None and not request.logprobs:
        raise InvalidRequestError(
            "`top_logprobs` needs `logprobs` to be true.", param="top_logprobs"
        )
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
            raise InvalidRequestError(
                f"`logit_bias` keys are token ids, not {key[:40]!r}.", param="logit_bias"
            )
        converted[int(key)] = value
    return converted


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    stops = [stop] if isinstance(stop, str) else list(stop or ())
    if len(stops) > 16:
        raise InvalidRequestError("`stop` takes at most 16 strings.", param="stop")
    if any(not item or len(item) > 1024 for item in stops):
        raise InvalidRequestError("`stop` strings must have 1 to 1024 characters.", param="stop")
    return tuple(stops)


def _max_tokens(request: ChatCompletionRequest) -> int | None:
    """``max_completion_tokens`` is the current name, ``max_tokens`` the old one."""
    if request.max_completion_tokens is not None:
        return request.max_completion_tokens
    return request.max_tokens


def _answer_format(value: ResponseFormat | None) -> AnswerFormat | None:
    if value is None or value.type == "text":
        return None
    if value.type == "json_object":
        return AnswerFormat("json_object")
    if value.json_schema is None:
        raise InvalidRequestError(
            "`response_format.json_schema.schema` must be a JSON schema object.",
            param="response_format.json_schema.schema",
        )
    return AnswerFormat("json_schema", value.json_schema.schema_)
