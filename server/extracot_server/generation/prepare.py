"""From a request to what will be done about it: budget, prompt, limits, and a plan for each reply.

Refuses what is wrong before anything reaches the engine. Runs nothing and counts nothing.
"""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

from extracot.card import LevelCard
from extracot.control import Control
from extracot.prompt import RenderedPrompt
from extracot_server.budget.holdout import Arm, Holdout, held_out
from extracot_server.budget.limits import Limits, resolve_limits
from extracot_server.budget.resolve import (
    BudgetKind,
    BudgetPolicy,
    ResolvedBudget,
    policy_level,
    resolve_budget,
)
from extracot_server.errors import ContextLengthError, InvalidRequestError
from extracot_server.generation.plan import ReplyPlan
from extracot_server.generation.report import announced
from extracot_server.generation.request import ChatRequest, PreparedChat, RequestTimes, ServedModel


def prepare(
    model: ServedModel, holdout: Holdout, request: ChatRequest, times: RequestTimes
) -> PreparedChat:
    """Resolve, render and bound a request.

    Raises :class:`~extracot_server.errors.InvalidRequestError` (budget, context length) and
    :class:`~extracot.errors.PromptError`.
    """
    narrowed = request.principal.narrow(model.policy)
    policy = replace(narrowed, measured_baseline=holdout.baseline)
    resolved = resolve_budget(request.budget, model.card, policy)
    arm = holdout.draw(resolved, policy)
    if arm is Arm.HOLDOUT:
        resolved = held_out(resolved)
    times.resolved = perf_counter()
    control, rendered, limits = _render(model, request, resolved, policy)
    if limits.reasoning_cap < 1 and resolved.kind is not BudgetKind.NONE:
        # There is room for an answer and for nothing else, not even for an empty block.
        resolved = replace(resolved, kind=BudgetKind.NONE, level=None, applied_ratio=None)
        control, rendered, limits = _render(model, request, resolved, policy)
    if (
        request.tools is not None
        and not request.tools.forced
        and model.runtime.new_call_reader is None
    ):
        raise InvalidRequestError(
            "`tools`: how this model writes a call is not known here. The operator sets "
            '`--tool-parser`; `tool_choice` "required" or a named function works without.',
            param="tools",
            code="unsupported_parameter",
        )
    own_system = any(m.role in ("system", "developer") for m in request.messages)
    calibrated = (
        model.card is not None
        and model.card.is_calibrated
        and resolved.kind in (BudgetKind.LEVEL, BudgetKind.AUTO)
        and request.with_instruction
        and request.tools is None
        and not own_system
    )
    times.overhead = perf_counter() - times.start
    return PreparedChat(
        request=request,
        model=model,
        policy=policy,
        resolved=resolved,
        rendered=rendered,
        limits=limits,
        calibrated=calibrated,
        control_token=control.token,
        header=announced(resolved, control.token, arm, limits),
        arm=arm,
        times=times,
    )


def render_only(model: ServedModel, request: ChatRequest) -> RenderedPrompt:
    """The prompt of a request that is not going to run, however long it is; raises as `prepare`."""
    resolved = resolve_budget(request.budget, model.card, request.principal.narrow(model.policy))
    return _prompt(model, request, _control(resolved, model))


def plan_reply(chat: PreparedChat, index: int) -> ReplyPlan:
    """What choice ``index`` of a request is made from."""
    request, resolved = chat.request, chat.resolved
    sampling = request.sampling
    if sampling.seed is not None and index:
        sampling = replace(sampling, seed=(sampling.seed + index) % 2**32)

    def limits_for(level: LevelCard) -> Limits:
        return _limits(chat.model, request, resolved, chat.policy, chat.rendered, level)

    return ReplyPlan(
        request_id=request.request_id,
        index=index,
        kind=resolved.kind,
        rendered=chat.rendered,
        sampling=sampling,
        stops=request.stops,
        answer_format=request.answer_format,
        level=resolved.level,
        allowed=resolved.allowed,
        limits=chat.limits,
        limits_for=limits_for,
        priority=request.principal.priority,
        calls=request.tools is not None,
    )


def _render(
    model: ServedModel, request: ChatRequest, resolved: ResolvedBudget, policy: BudgetPolicy
) -> tuple[Control, RenderedPrompt, Limits]:
    control = _control(resolved, model)
    rendered = _prompt(model, request, control)
    return control, rendered, _limits(model, request, resolved, policy, rendered, None)


def _prompt(model: ServedModel, request: ChatRequest, control: Control) -> RenderedPrompt:
    renderer, use = model.runtime.renderer, request.tools
    if use is not None and not renderer.takes_tools:
        raise InvalidRequestError(
            "`tools` are not supported by this model: its chat template has no place for them.",
            param="tools",
            code="unsupported_parameter",
        )
    return renderer.render(
        request.messages,
        control,
        with_instruction=request.with_instruction,
        tools=use.tools if use is not None else (),
        field=request.messages_field,
    )


def _limits(
    model: ServedModel,
    request: ChatRequest,
    resolved: ResolvedBudget,
    policy: BudgetPolicy,
    rendered: RenderedPrompt,
    level: LevelCard | None,
) -> Limits:
    room = _room(model, rendered, resolved)
    if room < 1:
        size = model.runtime.engine.info.max_model_len
        raise ContextLengthError(len(rendered.prompt_ids), size, request.messages_field)
    return resolve_limits(
        resolved,
        model.card,
        policy,
        prompt_tokens=len(rendered.prompt_ids),
        room=room,
        max_tokens=request.max_tokens,
        level=level,
    )


def _room(model: ServedModel, rendered: RenderedPrompt, resolved: ResolvedBudget) -> int:
    """Tokens the context has left once all that the server may write itself is in it."""
    renderer = model.runtime.renderer
    written = len(rendered.prefill_ids)
    if resolved.kind is not BudgetKind.NONE:
        written += len(renderer.close_ids)
    if resolved.kind is BudgetKind.AUTO:
        chosen = renderer.after_choice(rendered, resolved.allowed[0].token)
        written += len(chosen.prefill_ids) - 1  # the level token itself is generated
    size = model.runtime.engine.info.max_model_len
    return size - len(rendered.prompt_ids) - written


def _control(resolved: ResolvedBudget, model: ServedModel) -> Control:
    chooser = policy_level(model.card)
    match resolved.kind:
        case BudgetKind.LEVEL if resolved.level is not None:
            return Control.level(resolved.level.token)
        case BudgetKind.AUTO if chooser is not None:
            return Control.policy(chooser.token)
        case BudgetKind.NONE:
            return Control.none()
        case BudgetKind.CAP:
            return Control.open()
        case _:
            opens = model.card is None and model.open_think
            return Control.open() if opens else Control.native()
