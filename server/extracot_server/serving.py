"""ChatService: one chat request from its budget to its accounts, as one stream of typed events.

``prepare`` refuses what is wrong before anything reaches the engine; ``run`` yields events that
the JSON reply collects and the SSE stream forwards, so the two cannot diverge. Accounts are settled
in ``finally``, however a request ends. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter, time
from typing import Any, Literal

from extracot.card import BudgetCard, LevelCard
from extracot.control import Control
from extracot.prompt import Message, RenderedPrompt
from extracot.reasoning import Part
from extracot_server.accounting import (
    BudgetReport,
    Usage,
    announced,
    choice_report,
    total_report,
    usage_of,
)
from extracot_server.admission import RefusedError, Scheduler, Ticket
from extracot_server.budget import (
    BudgetKind,
    BudgetPolicy,
    BudgetSources,
    Limits,
    ResolvedBudget,
    resolve_budget,
    resolve_limits,
)
from extracot_server.engine.base import (
    AnswerFormat,
    EngineClosedError,
    EngineRequestError,
    Sampling,
)
from extracot_server.errors import ContextLengthError
from extracot_server.holdout import Arm, Holdout, held_out
from extracot_server.keys import ANYBODY, Caller
from extracot_server.merging import merge
from extracot_server.metrics import UNFINISHED, RequestTimes, ServerMetrics
from extracot_server.plan import Delta, ReplyPlan, ReplyTools
from extracot_server.reply import Reply
from extracot_server.turnstile import Turnstile


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model as it is served: engine, card (``None``: cap mode), renderer and policy."""

    name: str
    tools: ReplyTools
    card: BudgetCard | None
    policy: BudgetPolicy
    open_think: bool = False
    created: int = field(default_factory=lambda: int(time()))

    @property
    def mode(self) -> Literal["token", "cap"]:
        """Whether budgets are trained levels or hard caps."""
        return "cap" if self.card is None else "token"


@dataclass(frozen=True, slots=True)
class ChatJob:
    """A validated chat request. ``max_tokens`` bounds generated tokens; ``None``: the context."""

    request_id: str
    messages: tuple[Message, ...]
    budget: BudgetSources = field(default_factory=BudgetSources)
    sampling: Sampling = field(default_factory=Sampling)
    n: int = 1
    max_tokens: int | None = None
    stops: tuple[str, ...] = ()
    answer_format: AnswerFormat | None = None
    with_instruction: bool = True
    caller: Caller = ANYBODY
    ignored_fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PreparedChat:
    """A request that may go to the engine; ``header`` is what is known before the first token."""

    job: ChatJob
    model: ServedModel
    policy: BudgetPolicy
    resolved: ResolvedBudget
    rendered: RenderedPrompt
    limits: Limits
    calibrated: bool
    control_token: str | None
    header: Mapping[str, Any]
    arm: Arm | None
    times: RequestTimes


@dataclass(frozen=True, slots=True)
class ChoiceDone:
    """One choice has ended."""

    index: int
    finish_reason: Literal["stop", "length"]
    report: BudgetReport


@dataclass(frozen=True, slots=True)
class Finished:
    """All choices have ended; always the last event."""

    usage: Usage
    report: BudgetReport


Event = Delta | ChoiceDone | Finished


class ChatService:
    """Serves chat requests on one model."""

    def __init__(
        self,
        model: ServedModel,
        metrics: ServerMetrics,
        turnstile: Turnstile | None = None,
        holdout: Holdout | None = None,
    ) -> None:
        self.model = model
        self.metrics = metrics
        self.turnstile = turnstile or Turnstile(Scheduler())
        self.holdout = holdout or Holdout()

    def prepare(self, job: ChatJob, times: RequestTimes | None = None) -> PreparedChat:
        """Resolve, render and bound a request.

        Raises :class:`~extracot_server.errors.InvalidRequestError` (budget, context length) and
        :class:`~extracot.errors.PromptError`; nothing has been sent to the engine then.
        """
        times = times or RequestTimes()
        model = self.model
        narrowed = job.caller.narrow(model.policy)
        policy = replace(narrowed, measured_baseline=self.holdout.baseline)
        resolved = resolve_budget(job.budget, model.card, policy)
        arm = self.holdout.draw(resolved, policy)
        if arm is Arm.HOLDOUT:
            resolved = held_out(resolved)
        control, rendered, limits = self._render(job, resolved, policy)
        if limits.reasoning_cap < 1 and resolved.kind is not BudgetKind.NONE:
            # There is room for an answer and for nothing else, not even for an empty block.
            resolved = replace(resolved, kind=BudgetKind.NONE, level=None, applied_ratio=None)
            control, rendered, limits = self._render(job, resolved, policy)
        own_system = any(m.role in ("system", "developer") for m in job.messages)
        calibrated = (
            model.card is not None
            and model.card.is_calibrated
            and resolved.kind in (BudgetKind.LEVEL, BudgetKind.AUTO)
            and job.with_instruction
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
            header=announced(resolved, control.token, arm),
            arm=arm,
            times=times,
        )

    def _render(
        self, job: ChatJob, resolved: ResolvedBudget, policy: BudgetPolicy
    ) -> tuple[Control, RenderedPrompt, Limits]:
        control = _control(resolved, self.model)
        rendered = self.model.tools.renderer.render(
            job.messages, control, with_instruction=job.with_instruction
        )
        room = self._room(rendered, resolved)
        if room < 1:
            size = self.model.tools.engine.info.max_model_len
            raise ContextLengthError(len(rendered.prompt_ids), size)
        return control, rendered, self._limits(job, resolved, policy, rendered, room, None)

    async def run(self, chat: PreparedChat) -> AsyncGenerator[Event, None]:
        """Serve a prepared request. Closing the generator aborts it in the engine.

        Raises :class:`~extracot_server.admission.RefusedError` before the first event, at once or
        after a wait.
        """
        replies = [Reply(self._plan(chat, index), chat.model.tools) for index in range(chat.job.n)]
        reports: dict[int, BudgetReport] = {}
        outcome = "aborted"
        items = merge(replies)
        ticket = await self._enter(chat)
        self.metrics.in_flight.inc()
        try:
            async for item in items:
                if isinstance(item, Delta):
                    self.metrics.mark(chat.times, answer=item.part is Part.ANSWER)
                    yield item
                    continue
                reply = replies[item]
                reports[item] = self._report(chat, reply)
                reason = reply.state.finish_reason or "length"
                yield ChoiceDone(item, reason, reports[item])
            ordered = [reports[index] for index in range(len(replies))]
            usage = usage_of(len(chat.rendered.prompt_ids), [r.state for r in replies])
            # The reply is whole: a client that leaves after this has had all of it.
            outcome = "length" if _any_length(replies) else "ok"
            yield Finished(usage, total_report(ordered))
        except EngineRequestError:
            # Refused before a token came: like any other 400, it was never served.
            outcome = "error" if any(r.state.sampled for r in replies) else "refused"
            raise
        except EngineClosedError:
            outcome = "dropped"
            raise
        except Exception:
            outcome = "error"
            raise
        finally:
            try:
                await items.aclose()
            finally:
                self.turnstile.leave(ticket)
                self.metrics.in_flight.dec()
                if outcome == "refused":
                    self.metrics.rejected.labels("invalid_value").inc()
                else:
                    self._settle(chat, replies, reports, outcome)

    async def _enter(self, chat: PreparedChat) -> Ticket:
        """Wait for a turn, and count how that went."""
        began, resolved = perf_counter(), chat.resolved
        try:
            ticket = await self.turnstile.enter(chat.job.caller)
        except RefusedError as refused:
            self.metrics.rejected.labels(refused.reason).inc()
            raise
        except asyncio.CancelledError:  # the client left; the engine never saw the prompt
            name, label = self.model.name, resolved.label
            self.metrics.record_request(name, label, resolved.source, "aborted", 0)
            raise
        self.metrics.queue.observe(perf_counter() - began)
        return ticket

    def _settle(
        self,
        chat: PreparedChat,
        replies: Sequence[Reply],
        reports: Mapping[int, BudgetReport],
        outcome: str,
    ) -> None:
        name, resolved = chat.model.name, chat.resolved
        settled = []
        for index, reply in enumerate(replies):
            report = reports.get(index) or self._report(chat, reply)
            settled.append(report)
            if outcome in UNFINISHED:  # nobody got the reply, so it saved nothing
                report = replace(report, saved_tokens_estimate=None)
            self.metrics.record_choice(name, report)
        prompt_tokens = len(chat.rendered.prompt_ids)
        self.metrics.record_request(name, resolved.label, resolved.source, outcome, prompt_tokens)
        self.metrics.record_times(chat.times, complete=outcome in ("ok", "length"))
        if chat.arm is not None:
            tokens = sum(report.reasoning_tokens for report in settled) / len(settled)
            claimed = [
                r.saved_tokens_estimate for r in settled if r.saved_tokens_estimate is not None
            ]
            self.holdout.record(chat.arm, tokens, claimed, complete=outcome == "ok")
            self.metrics.record_holdout(name, chat.arm, outcome, self.holdout.saving)

    def _report(self, chat: PreparedChat, reply: Reply) -> BudgetReport:
        return choice_report(
            chat.resolved,
            reply.state,
            control_token=chat.control_token,
            calibrated=chat.calibrated,
            arm=chat.arm,
            ignored_fields=chat.job.ignored_fields,
        )

    def _plan(self, chat: PreparedChat, index: int) -> ReplyPlan:
        job, resolved = chat.job, chat.resolved
        sampling = job.sampling
        if sampling.seed is not None and index:
            sampling = replace(sampling, seed=(sampling.seed + index) % 2**32)

        def limits_for(level: LevelCard) -> Limits:
            room = self._room(chat.rendered, resolved)
            return self._limits(job, resolved, chat.policy, chat.rendered, room, level)

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
        )

    def _room(self, rendered: RenderedPrompt, resolved: ResolvedBudget) -> int:
        """Tokens the context has left once all that the server may write itself is in it."""
        renderer = self.model.tools.renderer
        written = len(rendered.prefill_ids)
        if resolved.kind is not BudgetKind.NONE:
            written += len(renderer.close_ids)
        if resolved.kind is BudgetKind.AUTO:
            chosen = renderer.after_choice(rendered, resolved.allowed[0].token)
            written += len(chosen.prefill_ids) - 1  # the level token itself is generated
        size = self.model.tools.engine.info.max_model_len
        return size - len(rendered.prompt_ids) - written

    def _limits(
        self,
        job: ChatJob,
        resolved: ResolvedBudget,
        policy: BudgetPolicy,
        rendered: RenderedPrompt,
        room: int,
        level: LevelCard | None,
    ) -> Limits:
        return resolve_limits(
            resolved,
            self.model.card,
            policy,
            prompt_tokens=len(rendered.prompt_ids),
            room=room,
            max_tokens=job.max_tokens,
            level=level,
        )


def _control(resolved: ResolvedBudget, model: ServedModel) -> Control:
    match resolved.kind:
        case BudgetKind.LEVEL if resolved.level is not None:
            return Control.level(resolved.level.token)
        case BudgetKind.AUTO if model.card is not None and model.card.policy is not None:
            return Control.policy(model.card.policy.token)
        case BudgetKind.NONE:
            return Control.none()
        case BudgetKind.CAP:
            return Control.open()
        case _:
            opens = model.card is None and model.open_think
            return Control.open() if opens else Control.native()


def _any_length(replies: Sequence[Reply]) -> bool:
    return any(reply.state.finish_reason == "length" for reply in replies)
