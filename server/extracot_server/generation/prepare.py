"""Prepares a request: budget, prompt and token limits.

Refuses what is wrong before anything reaches the engine. Runs nothing and counts nothing.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any

from extracot.control import Control
from extracot.prompt import RenderedPrompt
from extracot.sketch import LEAST_PROBLEMS
from extracot_server.budget.canary import Side
from extracot_server.budget.holdout import Arm, Holdout, at_ceiling, held_out
from extracot_server.budget.limits import Limits, resolve_limits
from extracot_server.budget.resolve import (
    BudgetKind,
    BudgetPolicy,
    ResolvedBudget,
    policy_level,
    resolve_budget,
)
from extracot_server.budget.telling import told, told_tokens
from extracot_server.errors import BudgetError, ContextLengthError, InvalidRequestError
from extracot_server.generation.answer_formats import CallChoice, call_choice
from extracot_server.generation.closing import Closing, ClosingError, make_closing
from extracot_server.generation.relayed_turn import check_relayed, check_skipping
from extracot_server.generation.request import ChatRequest, PreparedChat, RequestTimes, ServedModel
from extracot_server.generation.trial import Trial
from extracot_server.ledger.meter import Account
from extracot_server.profiles.profile import Profile


def prepare(
    model: ServedModel,
    holdout: Holdout,
    request: ChatRequest,
    times: RequestTimes,
    trial: Trial | None = None,
) -> PreparedChat:
    """Resolve the budget, render the prompt with its control, and set the token limits.

    What a canary of the model serves has no part in the model's holdout.

    Raises :class:`~extracot_server.errors.InvalidRequestError` (budget, context length) and
    :class:`~extracot.errors.PromptError`.
    """
    policy = replace(
        request.principal.narrow(model.policy),
        measured_baseline=holdout.baseline,
        measured_total=holdout.baseline_total,
    )
    resolved = resolve_budget(request.budget, model.card, policy)
    excluded, arm = None, None
    if trial is None or trial.served_by is Side.STABLE or trial.canary.settings.model is not None:
        excluded = holdout.exclusion(resolved, model.card, policy)
        arm = None if excluded is not None else holdout.draw(resolved, policy)
    if arm is Arm.HOLDOUT:
        resolved = held_out(resolved)
    elif arm is Arm.CEILING:
        resolved = at_ceiling(resolved, model.card, policy)
    if model.offers is not None:
        check_relayed(model, request)
        check_skipping(model, request, resolved)
    request = replace(request, sampling=model.defaults.fill(request.sampling))
    times.resolved = perf_counter()
    closing = _closing(model, request)
    rendered, limits_for, limits = _within_limits(model, request, resolved, policy, closing)
    if limits.reasoning_cap < 1 and resolved.kind is not BudgetKind.NONE:
        # There is room for an answer and for nothing else, not even for an empty block.
        resolved = replace(resolved, kind=BudgetKind.NONE, level=None, applied_ratio=None)
        rendered, limits_for, limits = _within_limits(model, request, resolved, policy, closing)
    _check_call_reader(model, request)
    times.overhead = perf_counter() - times.start
    return PreparedChat(
        request=request,
        model=model,
        resolved=resolved,
        rendered=rendered,
        limits=limits,
        limits_for=limits_for,
        control_token=_control(model, resolved).token,
        arm=arm,
        times=times,
        account=Account(request.principal, model.name),
        excluded=excluded,
        closing=closing,
        like_card=_like_card(model, request),
        trial=trial,
        call_choice=_call_choice(model, request),
    )


def render_only(model: ServedModel, request: ChatRequest) -> RenderedPrompt:
    """The prompt of a request that is not going to run, however long it is; raises as `prepare`."""
    policy = request.principal.narrow(model.policy)
    resolved = resolve_budget(request.budget, model.card, policy)
    try:
        return _within_limits(model, request, resolved, policy, _closing(model, request))[0]
    except ContextLengthError:
        return _render(model, request, resolved, policy)


def _within_limits(
    model: ServedModel,
    request: ChatRequest,
    resolved: ResolvedBudget,
    policy: BudgetPolicy,
    closing: Closing,
) -> tuple[RenderedPrompt, partial[Limits], Limits]:
    """The prompt and its limits. A prompt that tells the cap is longer, and the cap may be less."""
    cap: int | None = None
    while True:
        rendered = _render(model, request, resolved, policy, cap)
        limits_for = _bind_limits(model, request, resolved, policy, rendered, closing)
        limits = limits_for()
        least = limits.reasoning_cap
        settled = cap is not None and cap <= least
        if settled or not told_tokens(model.runtime.profile, resolved, least):
            return rendered, limits_for, limits
        cap = least


def _closing(model: ServedModel, request: ChatRequest) -> Closing:
    """The request's own closing, else its model's."""
    budget = request.budget.budget
    if budget is None or budget.closing is None:
        return model.closing
    runtime = model.runtime
    reserved = runtime.profile.ends_reasoning
    try:
        return make_closing(budget.closing, runtime.renderer, runtime.engine.tokenizer, reserved)
    except ClosingError as error:
        raise BudgetError.of(budget.closing_field, f"{error}.") from None


def _render(
    model: ServedModel,
    request: ChatRequest,
    resolved: ResolvedBudget,
    policy: BudgetPolicy,
    cap: int | None = None,
) -> RenderedPrompt:
    """The prompt; ``cap`` is told to a template that takes a number of reasoning tokens."""
    renderer, profile = model.runtime.renderer, model.runtime.profile
    by_default = _says_nothing(request, resolved)
    if request.tools is not None and not renderer.takes_tools:
        raise InvalidRequestError(
            "`tools` are not supported by this model: its chat template has no place for them.",
            param="tools",
            code="unsupported_parameter",
        )
    return renderer.render(
        request.messages,
        _control(model, resolved),
        with_instruction=request.with_instruction,
        tools=request.tools.tools if request.tools is not None else (),
        field=request.messages_field,
        switches={
            **_asked_variables(request, resolved, profile),
            **({} if by_default else told(profile, resolved, policy)),
            **({} if cap is None else told_tokens(profile, resolved, cap)),
        },
        by_default=by_default,
    )


def _says_nothing(request: ChatRequest, resolved: ResolvedBudget) -> bool:
    """Neither client nor operator says how to reason: the template has its own default, as it would
    in any other server."""
    asked = resolved.source != "default" or request.budget.fields
    bounded = resolved.max_reasoning_tokens is not None
    return resolved.kind is BudgetKind.NATIVE and not (asked or bounded)


def _asked_variables(
    request: ChatRequest, resolved: ResolvedBudget, profile: Profile
) -> dict[str, Any]:
    """The template's variables that the client set, but for those that its budget decides."""
    decided = profile.switches if resolved.kind is BudgetKind.NONE else ()
    return {name: v for name, v in request.template_variables.items() if name not in decided}


def _like_card(model: ServedModel, request: ChatRequest) -> bool:
    """Whether the card speaks of such prompts: one user turn under the card's own instruction, as
    all its problems were asked, and by its sketch a text like theirs. Without a sketch any text is,
    unless it has none because it was measured on too few problems to tell what they are like."""
    card, messages = model.card, request.messages
    alone = len(messages) == 1 and messages[0].role == "user"
    if card is None or not alone or not request.with_instruction or request.tools is not None:
        return False
    if card.prompts is None:
        return card.is_trained or max(level.n or 0 for level in card.levels) >= LEAST_PROBLEMS
    return card.prompts.covers(messages[0].content)


def _control(model: ServedModel, resolved: ResolvedBudget) -> Control:
    chooser = policy_level(model.card)
    match resolved.kind:
        case BudgetKind.LEVEL if resolved.level is not None:
            return Control.level(resolved.level.control()[0])
        case BudgetKind.AUTO if chooser is not None:
            return Control.policy(chooser.control()[0])
        case BudgetKind.NONE:
            return Control.none()
        case BudgetKind.CAP if not resolved.by_effort:
            return Control.open()
        case _:
            opens = model.mode == "cap" and model.open_think
            return Control.open() if opens else Control.native()


def _bind_limits(
    model: ServedModel,
    request: ChatRequest,
    resolved: ResolvedBudget,
    policy: BudgetPolicy,
    rendered: RenderedPrompt,
    closing: Closing,
) -> partial[Limits]:
    """``resolve_limits`` for this prompt; ``level=`` is what an ``auto`` request has chosen.

    Raises :class:`ContextLengthError` where the context has no token left once the prompt and all
    that the server may write itself is in it.
    """
    renderer, context = model.runtime.renderer, model.runtime.engine.info.max_model_len
    written = len(rendered.prefill_ids)
    if resolved.kind is not BudgetKind.NONE:
        written += len(closing.ids) + len(renderer.close_ids)
    if resolved.kind is BudgetKind.AUTO:
        chosen = renderer.after_choice(rendered, resolved.allowed[0].control()[0])
        written += len(chosen.prefill_ids) - 1  # the level token itself is generated
    prompt_tokens = len(rendered.prompt_ids)
    room = context - prompt_tokens - written
    if room < 1:
        field = request.messages_field
        raise ContextLengthError(prompt_tokens, context, field, written=written)
    max_tokens = request.max_tokens
    if max_tokens is None:
        max_tokens = model.defaults.bound_of(resolved, policy, has_card=model.card is not None)
    return partial(
        resolve_limits,
        resolved,
        model.card,
        policy,
        prompt_tokens=prompt_tokens,
        room=room,
        max_tokens=max_tokens,
    )


def _check_call_reader(model: ServedModel, request: ChatRequest) -> None:
    tools = request.tools
    if model.offers is not None:
        return  # its server reads them
    if tools is not None and not tools.forced and model.runtime.new_call_reader is None:
        raise InvalidRequestError(
            "`tools`: no tool parser is configured for this model; the operator sets "
            '`--tool-parser`; `tool_choice` "required" or a named function works without.',
            param="tools",
            code="unsupported_parameter",
        )


def _call_choice(model: ServedModel, request: ChatRequest) -> CallChoice | None:
    runtime, wanted = model.runtime, request.answer_format
    if model.offers is not None:
        return None
    try:
        return call_choice(request.tools, wanted, runtime.call_opener, runtime.engine.tokenizer)
    except ValueError as error:
        field = wanted.field.partition(".json_schema")[0] if wanted is not None else None
        raise InvalidRequestError(
            f"`{field}` cannot be combined with `tools` on this model unless `tool_choice` is "
            f'"none", "required" or a function: {error}.',
            param=field,
            code="unsupported_parameter",
        ) from None
