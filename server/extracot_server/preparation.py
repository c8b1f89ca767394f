"""From a request to what will be done about it: budget, prompt, limits, and a plan for each reply.

Refuses what is wrong before anything reaches the engine. Runs nothing and counts nothing.
"""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

from extracot.card import LevelCard
from extracot.control import Control
from extracot.prompt import RenderedPrompt
from extracot_server.accounting import announced
from extracot_server.budget import (
    BudgetKind,
    BudgetPolicy,
    ResolvedBudget,
    policy_level,
    resolve_budget,
)
from extracot_server.errors import ContextLengthError, InvalidRequestError
from extracot_server.holdout import Arm, Holdout, held_out
from extracot_server.jobs import ChatJob, PreparedChat, ServedModel
from extracot_server.limits import Limits, resolve_limits
from extracot_server.metrics import RequestTimes
from extracot_server.plan import ReplyPlan


def prepare(
    model: ServedModel, holdout: Holdout, job: ChatJob, times: RequestTimes
) -> PreparedChat:
    """Resolve, render and bound a request.

    Raises :class:`~extracot_server.errors.InvalidRequestError` (budget, context length) and
    :class:`~extracot.errors.PromptError`.
    """
    narrowed = job.caller.narrow(model.policy)
    policy = replace(narrowed, measured_baseline=holdout.baseline)
    resolved = resolve_budget(job.budget, model.card, policy)
    arm = holdout.draw(resolved, policy)
    if arm is Arm.HOLDOUT:
        resolved = held_out(resolved)
    times.resolved = perf_counter()
    control, rendered, limits = _render(model, job, resolved, policy)
    if limits.reasoning_cap < 1 and resolved.kind is not BudgetKind.NONE:
        # There is room for an answer and for nothing else, not even for an empty block.
        resolved = replace(resolved, kind=BudgetKind.NONE, level=None, applied_ratio=None)
        control, rendered, limits = _render(model, job, resolved, policy)
    if job.tools is not None and not job.tools.forced and model.tools.new_call_reader is None:
        raise InvalidRequestError(
            "`tools`: how this model writes a call is not known here. The operator sets "
            '`--tool-parser`; `tool_choice` "required" or a named function works without.',
            param="tools",
            code="unsupported_parameter",
        )
    own_system = any(m.role in ("system", "developer") for m in job.messages)
    calibrated = (
        model.card is not None
        and model.card.is_calibrated
        and resolved.kind in (BudgetKind.LEVEL, BudgetKind.AUTO)
        and job.with_instruction
        and job.tools is None
        and not own_system
    )
    times.overhead = perf_counter() - times.start
    return PreparedChat(
        job=job,
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


def render_only(model: ServedModel, job: ChatJob) -> RenderedPrompt:
    """The prompt of a request that is not going to run, however long it is; raises as `prepare`."""
    resolved = resolve_budget(job.budget, model.card, job.caller.narrow(model.policy))
    return _prompt(model, job, _control(resolved, model))


def plan_reply(chat: PreparedChat, index: int) -> ReplyPlan:
    """What choice ``index`` of a request is made from."""
    job, resolved = chat.job, chat.resolved
    sampling = job.sampling
    if sampling.seed is not None and index:
        sampling = replace(sampling, seed=(sampling.seed + index) % 2**32)

    def limits_for(level: LevelCard) -> Limits:
        return _limits(chat.model, job, resolved, chat.policy, chat.rendered, level)

    return ReplyPlan(
        request_id=job.request_id,
        index=index,
        kind=resolved.kind,
        rendered=chat.rendered,
        sampling=sampling,
        stops=job.stops,
        answer_format=job.answer_format,
        level=resolved.level,
        allowed=resolved.allowed,
        limits=chat.limits,
        limits_for=limits_for,
        priority=job.caller.priority,
        calls=job.tools is not None,
    )


def _render(
    model: ServedModel, job: ChatJob, resolved: ResolvedBudget, policy: BudgetPolicy
) -> tuple[Control, RenderedPrompt, Limits]:
    control = _control(resolved, model)
    rendered = _prompt(model, job, control)
    return control, rendered, _limits(model, job, resolved, policy, rendered, None)


def _prompt(model: ServedModel, job: ChatJob, control: Control) -> RenderedPrompt:
    renderer, use = model.tools.renderer, job.tools
    if use is not None and not renderer.takes_tools:
        raise InvalidRequestError(
            "`tools` are not supported by this model: its chat template has no place for them.",
            param="tools",
            code="unsupported_parameter",
        )
    return renderer.render(
        job.messages,
        control,
        with_instruction=job.with_instruction,
        tools=use.tools if use is not None else (),
    )


def _limits(
    model: ServedModel,
    job: ChatJob,
    resolved: ResolvedBudget,
    policy: BudgetPolicy,
    rendered: RenderedPrompt,
    level: LevelCard | None,
) -> Limits:
    room = _room(model, rendered, resolved)
    if room < 1:
        raise ContextLengthError(len(rendered.prompt_ids), model.tools.engine.info.max_model_len)
    return resolve_limits(
        resolved,
        model.card,
        policy,
        prompt_tokens=len(rendered.prompt_ids),
        room=room,
        max_tokens=job.max_tokens,
        level=level,
    )


def _room(model: ServedModel, rendered: RenderedPrompt, resolved: ResolvedBudget) -> int:
    """Tokens the context has left once all that the server may write itself is in it."""
    renderer = model.tools.renderer
    written = len(rendered.prefill_ids)
    if resolved.kind is not BudgetKind.NONE:
        written += len(renderer.close_ids)
    if resolved.kind is BudgetKind.AUTO:
        chosen = renderer.after_choice(rendered, resolved.allowed[0].token)
        written += len(chosen.prefill_ids) - 1  # the level token itself is generated
    size = model.tools.engine.info.max_model_len
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
