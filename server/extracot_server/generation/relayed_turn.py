"""What a server that is asked by chat messages is asked for: messages, limits and the budget.

The budget goes there by whatever the server offers: a number of reasoning tokens, an effort, the
variables of its chat template, words in the prompt. What is refused is refused here, before
anything is sent. Runs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from extracot.conversation import Role, ToolCall, Turn, read_messages
from extracot_server.budget.resolve import BudgetKind, ResolvedBudget
from extracot_server.budget.telling import told, told_tokens
from extracot_server.config.offers import Offers
from extracot_server.engine.base import CALLS_FIELD, AnswerFormat, SamplingParams
from extracot_server.engine.openai.turn import put
from extracot_server.errors import BudgetError, InvalidRequestError
from extracot_server.generation.request import ChatRequest, PreparedChat, ServedModel
from extracot_server.profiles.profile import EFFORT_SWITCH
from extracot_server.tool_calls.tools import ToolUse

_BUDGET = "budget"
_ALWAYS = ("temperature", "top_p", "seed")
_PENALTIES = ("presence_penalty", "frequency_penalty")
_HEED_CLIENTS = ("openai", "plain")
"""Kinds whose schemas hold where their client wants so; those with a grammar hold to all."""
_OWN_NAMES = {"llama.cpp": {"repetition_penalty": "repeat_penalty"}}


class Beginning(NamedTuple):
    """How a reply begins: its reasoning, and all of it as the model would have written it."""

    reasoning: str
    text: str


def check_relayed(model: ServedModel, request: ChatRequest) -> None:
    """Raise :class:`InvalidRequestError` for what the server behind a model cannot do.

    That is what needs token ids, and what it does not offer.
    """
    offers = model.offers
    assert offers is not None
    sampling = request.sampling
    if sampling.logprobs is not None:
        raise _not_there("logprobs", "tells no log-probabilities that could be matched to text")
    if sampling.min_tokens:
        raise _not_there("min_tokens", "knows no least length of the answer alone")
    for name in ("top_k", "min_p", "repetition_penalty"):
        if getattr(sampling, name) is not None and name not in offers.sampling:
            raise _not_there(name, "does not take it")
    for name in ("ignore_eos", "logit_bias"):
        if getattr(sampling, name) and name not in offers.sampling:
            raise _not_there(name, "does not take it")
    form = request.answer_format
    if form is not None and form.field != CALLS_FIELD and not offers.formats:
        field = form.field.partition(".json_schema")[0]
        raise _not_there(field, "holds answers to no format")
    if request.template_variables and not offers.variables:
        raise _not_there("chat_template_kwargs", "takes no variables of a chat template")
    budget = request.budget.budget
    if budget is not None and budget.hard and not offers.can_continue:
        raise BudgetError(
            "`budget.enforce` cannot be hard on this model: the server behind it does not go on "
            "with a reply that was cut off, so a budget is only asked for.",
            param="budget.enforce",
        )


def check_skipping(model: ServedModel, request: ChatRequest, resolved: ResolvedBudget) -> None:
    """Raise :class:`BudgetError` where a client asks for no reasoning and cannot have that."""
    asked = resolved.kind is BudgetKind.NONE and resolved.source != "default"
    if asked and not model.policy.can_skip:
        raise BudgetError(
            'This model cannot be asked not to reason ("none"): the server behind it has no field '
            "for that which this server knows; the operator sets `upstream_offers` off.",
            param=request.budget.target_field,
        )


def _not_there(field: str, why: str) -> InvalidRequestError:
    message = f"`{field}` is not supported by this model: the server behind it {why}."
    return InvalidRequestError(message, param=field, code="unsupported_parameter")


def fields_of(
    chat: PreparedChat,
    sampling: SamplingParams,
    *,
    max_tokens: int,
    beginning: Beginning | None = None,
) -> dict[str, Any]:
    """The body of a request, without model and stream.

    ``beginning`` is how the reply begins, for a server to go on with: then nothing is said of the
    budget, which has been used.
    """
    request, offers = chat.request, chat.model.offers
    assert offers is not None
    messages = _messages(chat)
    body: dict[str, Any] = {"messages": messages}
    put(body, offers.max_tokens, max_tokens)
    body |= _sampling(sampling, offers)
    for name, value in offers.counts.items():
        put(body, name, value)
    if request.tools is not None:
        body |= _tools(request.tools, offers)
    form = request.answer_format
    if form is not None and form.field != CALLS_FIELD:
        body["response_format"] = _format(form, offers)
    for name, value in request.template_variables.items():
        put(body, f"chat_template_kwargs.{name}", value)
    if beginning is not None:
        messages.append(_begun(beginning, offers))
        said: Mapping[str, Any] = offers.continuing
    else:
        said = _budget_fields(chat, offers)
    for name, value in said.items():
        put(body, name, value)
    return body


def _begun(beginning: Beginning, offers: Offers) -> dict[str, Any]:
    """The assistant's message that a server is to go on with."""
    if offers.splits and offers.reasoning is not None and beginning.reasoning:
        message: dict[str, Any] = {"role": "assistant", "content": ""}
        put(message, offers.reasoning, beginning.reasoning)
        return message
    return {"role": "assistant", "content": beginning.text}


def asks_for_budget(chat: PreparedChat) -> bool:
    """Whether the server is told of the budget by something that is its own to keep."""
    offers = chat.model.offers
    assert offers is not None
    fields = _budget_fields(chat, offers)
    return bool(set(fields) - set(offers.on) - set(_switched(chat)))


def _switched(chat: PreparedChat) -> list[str]:
    """Fields that turn reasoning on: they say nothing of how much."""
    return [f"chat_template_kwargs.{name}" for name in chat.model.runtime.profile.switches]


def _budget_fields(chat: PreparedChat, offers: Offers) -> dict[str, Any]:
    """Names of fields, with dots, and values, by which the server is told of the budget."""
    resolved, profile = chat.resolved, chat.model.runtime.profile
    policy = chat.model.policy
    fields: dict[str, Any] = {}
    asked = resolved.source != "default" or bool(chat.request.budget.fields)
    if resolved.kind is BudgetKind.NATIVE and not asked and resolved.max_reasoning_tokens is None:
        return {}  # the server has its own default
    for name, value in told(profile, resolved, policy).items():
        if name == EFFORT_SWITCH and offers.effort is not None:
            fields[offers.effort] = value
        elif offers.variables:
            fields[f"chat_template_kwargs.{name}"] = value
    if resolved.kind is BudgetKind.NONE:
        return fields | dict(offers.off)
    fields |= dict(offers.on)
    takes_number = replace(profile, budget_switch=profile.budget_switch or _BUDGET)
    number = told_tokens(takes_number, resolved, chat.limits.reasoning_cap)
    for cap in number.values():
        if offers.budget is not None:
            fields[offers.budget] = cap
        if profile.budget_switch is not None and offers.variables:
            fields[f"chat_template_kwargs.{profile.budget_switch}"] = cap
    return fields


def _messages(chat: PreparedChat) -> list[dict[str, Any]]:
    """The conversation in OpenAI's form, as it was checked when it was rendered."""
    request, runtime, offers = chat.request, chat.model.runtime, chat.model.offers
    assert offers is not None
    turns = read_messages(request.messages, runtime.tags, (), request.messages_field)
    last = max(at for at, turn in enumerate(turns) if turn.role is Role.USER)
    if request.with_instruction and runtime.instruction:
        turns[last] = turns[last]._replace(text=f"{runtime.instruction}\n{turns[last].text}")
    words = _words(chat, offers)
    if words:
        turns[last] = turns[last]._replace(text=f"{turns[last].text}\n\n{words}")
    messages = [_message(turn, offers.reasoning) for turn in turns]
    if runtime.system_prompt and turns[0].role is not Role.SYSTEM:
        messages.insert(0, {"role": "system", "content": runtime.system_prompt})
    return messages


def _words(chat: PreparedChat, offers: Offers) -> str | None:
    """What the prompt says of a cap; ``None``: nothing."""
    if offers.words is None:
        return None
    takes_number = replace(chat.model.runtime.profile, budget_switch=_BUDGET)
    number = told_tokens(takes_number, chat.resolved, chat.limits.reasoning_cap)
    return offers.words.replace("{tokens}", str(number[_BUDGET])) if number else None


def _message(turn: Turn, reasoning_field: str | None) -> dict[str, Any]:
    message: dict[str, Any] = {"role": turn.role.value, "content": turn.text}
    if turn.calls:
        message["tool_calls"] = [_call(call) for call in turn.calls]
        message["content"] = turn.text or None
    if turn.reasoning and reasoning_field is not None:
        put(message, reasoning_field, turn.reasoning)
    if turn.answers is not None:
        message["tool_call_id"] = turn.answers.id
    return message


def _call(call: ToolCall) -> dict[str, Any]:
    arguments = call.arguments
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    function = {"name": call.name, "arguments": text}
    return {"id": call.id, "type": "function", "function": function}


def _sampling(sampling: SamplingParams, offers: Offers) -> dict[str, Any]:
    found = {name: getattr(sampling, name) for name in (*_ALWAYS, *offers.sampling)}
    # What is not given, by identity: 0 is a temperature and a seed, and equals False.
    values = {n: v for n, v in found.items() if not (v is None or v is False or v == {})}
    values |= {name: getattr(sampling, name) for name in _PENALTIES if getattr(sampling, name)}
    if "logit_bias" in values:
        values["logit_bias"] = {str(id_): bias for id_, bias in sampling.logit_bias.items()}
    own = _OWN_NAMES.get(offers.kind or "", {})
    return {own.get(name, name): value for name, value in values.items()}


def _tools(tools: ToolUse, offers: Offers) -> dict[str, Any]:
    strict = tools.strict if offers.kind in _HEED_CLIENTS else frozenset()
    functions = [
        {**tool["function"], **({"strict": True} if tool["function"]["name"] in strict else {})}
        for tool in tools.tools
    ]
    found: dict[str, Any] = {
        "tools": [{"type": "function", "function": function} for function in functions]
    }
    if tools.choice == "named":
        found["tool_choice"] = {"type": "function", "function": {"name": tools.name}}
    elif tools.choice == "required":
        found["tool_choice"] = "required"
    if not tools.parallel:
        found["parallel_tool_calls"] = False
    return found


def _format(form: AnswerFormat, offers: Offers) -> dict[str, Any]:
    if form.kind == "json_object":
        return {"type": form.kind}
    said = {"description": form.description, "strict": form.strict}
    if offers.kind not in _HEED_CLIENTS:
        said = {"strict": True}
    told = {name: value for name, value in said.items() if value is not None}
    named = {"name": form.name or "answer", **told, "schema": dict(form.schema or {})}
    return {"type": form.kind, "json_schema": named}
