"""ChatService: one chat request from its budget to its report, as one stream of typed events.

``prepare`` refuses what is wrong before anything reaches the engine; ``run`` yields events that
the JSON reply collects and the SSE stream forwards, so the two cannot diverge. The result is
recorded in ``finally``, however a request ends. Knows nothing of HTTP, metrics or logs: it has an
observer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Protocol

from extracot.escapes import escape_of
from extracot.reasoning import Part
from extracot_server.admission.queue import RequestQueue
from extracot_server.admission.scheduler import Permit, RefusedError, Scheduler, Ticket
from extracot_server.budget.holdout import Holdout
from extracot_server.engine.base import (
    EngineBusyError,
    EngineClosedError,
    EngineRequestError,
    FormatNotKeptError,
    grammar_failure,
)
from extracot_server.engine.pace import Pace
from extracot_server.generation.answer_formats import holds_json
from extracot_server.generation.choice import ChoiceStream
from extracot_server.generation.events import (
    CallDelta,
    ChoiceDone,
    ChoiceEnded,
    Delta,
    Event,
    Finished,
    ToolEventReader,
)
from extracot_server.generation.fast_path import FastPath
from extracot_server.generation.observer import RequestObserver, RequestResult, claimable
from extracot_server.generation.prepare import prepare
from extracot_server.generation.relayed import RelayedChoice
from extracot_server.generation.report import (
    BudgetReport,
    ChoiceState,
    choice_report,
    total_report,
    usage_of,
)
from extracot_server.generation.request import ChatRequest, PreparedChat, RequestTimes, ServedModel
from extracot_server.generation.trial import Canary, Trial, amounts_of
from extracot_server.ledger.meter import HOLDOUT, Meter, Used

_Item = Delta | CallDelta | ChoiceEnded


class ChatService:
    """Serves chat requests on one model."""

    def __init__(
        self,
        model: ServedModel,
        observer: RequestObserver,
        queue: RequestQueue | None = None,
        holdout: Holdout | None = None,
        meter: Meter | None = None,
        pace: Pace | None = None,
    ) -> None:
        self.model = model
        self.observer = observer
        self.queue = queue or RequestQueue(Scheduler())
        self.holdout = holdout or Holdout()
        self.meter = meter or Meter()
        self.pace = pace or Pace()
        self.canary: Canary | None = None
        """Where some of its requests go instead, to be compared."""
        self.holdout_name = f"{model.name} {self.holdout.fraction:g} "
        """Under which what the holdout has found is kept: another share is another comparison."""

    async def within_quotas(self, request: ChatRequest) -> ChatRequest:
        """The request, its budget lowered where its key has used up what lowers it.

        Raises ``admission.scheduler.RefusedError`` where it has used up what refuses.
        """
        if not request.principal.quotas:
            return request
        return replace(request, principal=await self.meter.soften(request.principal))

    def prepare(
        self,
        request: ChatRequest,
        times: RequestTimes | None = None,
        trial: Trial | None = None,
        model: ServedModel | None = None,
    ) -> PreparedChat:
        """What will be done about a request; see ``generation.prepare.prepare``.

        ``model`` is that of a canary on the same engine. Nothing has been sent to the engine then.
        """
        times = times or RequestTimes()
        chat = prepare(model or self.model, self.holdout, request, times, trial)
        self.observer.prepared(chat)
        return chat

    async def check(self, chat: PreparedChat) -> None:
        """Let the engine refuse an answer's format, before any token of the reply is paid for."""
        wanted = [chat.request.answer_format]
        if chat.call_choice is not None:
            wanted.append(chat.call_choice.calls)
        for form in wanted:
            if form is None:
                continue
            try:
                await chat.model.runtime.engine.check_format(form)
            except EngineRequestError as error:
                raise EngineRequestError(str(error), param=form.field) from None

    async def run(
        self, chat: PreparedChat, fast: FastPath | None = None, permit: Permit | None = None
    ) -> AsyncGenerator[Event, None]:
        """Serve a prepared request. Closing the generator aborts it in the engine.

        Events that ``fast`` could take at once are not yielded. ``permit`` is what the request has
        of its key's limits; without one they are checked here.

        Raises ``admission.scheduler.RefusedError`` before the first event, at once or
        after a wait.
        """
        if chat.request.n > 1:  # what comes of several has to wait for each other
            fast = None
        choices = [_choice(chat, index, self.pace, fast) for index in range(chat.request.n)]
        readers = [ToolEventReader(chat, c.index, c.call_marks, c.state) for c in choices]
        written: list[list[str]] = [[] for _ in choices]
        reports: dict[int, BudgetReport] = {}
        kept = chat.request.answer_format is not None
        refused: set[int] = set()

        def read(item: Delta | CallDelta) -> Sequence[Event]:
            """The events of text or a call, once it has been noted."""
            answer = item.part is not Part.REASONING  # text, or a call
            self.observer.text(chat.times, answer=answer)
            index = item.index
            cut_off = choices[index].state.cut_off is not None
            if isinstance(item, Delta) and item.refusal:
                refused.add(index)
            elif answer and (kept or cut_off) and isinstance(item, Delta):
                written[index].append(item.text)
            return readers[index].read(item)

        if fast is not None:
            fast.show = _shower(read, fast.sink.emit)
        outcome, refused_for = "aborted", ""
        items = _merge(choices)
        await self._reserve(chat)
        ticket = await self._enter(chat, permit)
        self.observer.started(chat)
        self.pace.watch()
        try:
            async for item in items:
                if not isinstance(item, ChoiceEnded):
                    for event in read(item):
                        yield event
                    continue
                index = item.index
                for event in readers[index].finish():
                    yield event
                state = choices[index].state
                called = chat.model.offers is not None and readers[index].called
                if not (called or index in refused):
                    _check_format(chat, state, written[index])
                if not readers[index].called:
                    _check_escape(chat, state, written[index])
                reports[index] = choice_report(chat, state)
                reason = state.finish_reason or "length"
                # A stop string within a call ends the reply, and makes no call of what is there.
                made = readers[index].called and (state.stop is None or readers[index].whole)
                if made and reason == "stop":
                    yield ChoiceDone(index, "tool_calls", reports[index])
                else:
                    yield ChoiceDone(index, reason, reports[index], state.stop)
            ordered = [reports[index] for index in range(len(choices))]
            # The reply is whole: a client that leaves after this has had all of it.
            cut = any(choice.state.finish_reason == "length" for choice in choices)
            outcome = "length" if cut else "ok"
            yield Finished(usage_of(chat, [c.state for c in choices]), total_report(ordered))
        except (EngineRequestError, EngineBusyError) as error:
            # Refused before a token came: like any other refusal, it was never served.
            refused_for = _refused_for(error)
            outcome = "error" if any(c.state.sampled for c in choices) else "refused"
            if isinstance(error, EngineRequestError):
                error.param = chat.request.own_field(error.param)
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
                self.pace.unwatch()
                self.queue.leave(ticket)
                self.observer.stopped(chat)
                if outcome == "refused":
                    self.observer.rejected(refused_for)
                    self.meter.drop(chat.account)
                else:
                    self._record(chat, [c.state for c in choices], reports, outcome)

    async def _reserve(self, chat: PreparedChat) -> None:
        """Claim what it may use on the quotas of its key."""
        try:
            await self.meter.reserve(chat.account, chat.most_tokens)
        except RefusedError as refused:
            self.observer.rejected(refused.reason)
            raise
        except asyncio.CancelledError:
            self.observer.abandoned(chat)
            raise

    async def _enter(self, chat: PreparedChat, permit: Permit | None) -> Ticket:
        """Wait for a slot in the queue, and count how that went."""
        times = chat.times
        times.queued = perf_counter()
        try:
            with self.observer.waiting():
                ticket = await self.queue.enter(chat.request.principal, permit)
        except BaseException as error:
            self.meter.drop(chat.account)
            if isinstance(error, RefusedError):
                self.observer.rejected(error.reason)
            elif isinstance(error, asyncio.CancelledError):  # the client left; nothing was served
                self.observer.abandoned(chat)
            raise
        times.admitted = perf_counter()
        return ticket

    def _record(
        self,
        chat: PreparedChat,
        states: Sequence[ChoiceState],
        reports: Mapping[int, BudgetReport],
        outcome: str,
    ) -> None:
        every = [reports.get(i) or choice_report(chat, state) for i, state in enumerate(states)]
        result = RequestResult(
            outcome,
            usage_of(chat, states),
            claimable(outcome, every),
            tuple(state.finish_reason for state in states if state.finish_reason is not None),
        )
        if chat.arm is not None:
            claimed = [
                r.saved_tokens_estimate for r in every if r.saved_tokens_estimate is not None
            ]
            # A filter of a server behind ends what would have been longer.
            whole = outcome == "ok" and "content_filter" not in result.finish_reasons
            tokens = result.reasoning_tokens
            total = tokens + result.answer_tokens
            self.holdout.record(chat.arm, tokens, total, claimed, complete=whole)
            result = replace(result, saving=self.holdout.saving)
        elif chat.excluded is not None:
            self.holdout.exclude(chat.excluded)
        changes = self.holdout.changes().items()
        found = {(HOLDOUT, self.holdout_name + name): n for name, n in changes}
        if (trial := chat.trial) is not None:
            result = replace(result, compared=amounts_of(trial, chat, outcome, every))
            changes = trial.record(result.compared).items()
            found |= {(trial.canary.bucket, name): n for name, n in changes}
        self.meter.settle(chat.account, _used(result), found)
        self.observer.finished(chat, result)


def _used(result: RequestResult) -> Used:
    """What a request's key has used: all that was generated, and the saving that was claimed."""
    savings = [choice.saved_tokens_estimate or 0.0 for choice in result.choices]
    return Used(
        prompt=result.usage.prompt_tokens,
        completion=result.usage.completion_tokens,
        reasoning=sum(choice.reasoning_tokens or 0 for choice in result.choices),
        answer=sum(choice.answer_tokens or 0 for choice in result.choices),
        saved=sum(savings),
    )


def _refused_for(error: EngineRequestError | EngineBusyError) -> str:
    """The label in metrics of a refusal before a token came: its code, as a client is told it."""
    return "engine_busy" if isinstance(error, EngineBusyError) else error.code


def _check_format(chat: PreparedChat, state: ChoiceState, written: Sequence[str]) -> None:
    """Raise :class:`EngineRequestError` for an answer that ended before its format did.

    A grammar backend that gives up lets a reply end wherever it is, without a word. What a server
    makes of a format that it was asked for is its own fault: :class:`FormatNotKeptError`.
    """
    wanted = chat.request.answer_format
    ended = state.finish_reason == "stop" and state.stop is None
    if wanted is not None and ended and not holds_json("".join(written)):
        if chat.model.offers is not None:
            raise FormatNotKeptError(wanted.field.partition(".json_schema")[0])
        raise grammar_failure(wanted)


def _check_escape(chat: PreparedChat, state: ChoiceState, written: Sequence[str]) -> None:
    """Note whether an answer in words goes on with reasoning that was cut off."""
    answer = "".join(written)
    if state.cut_off is not None and chat.request.answer_format is None and answer:
        escape = escape_of(answer, state.cut_off, chat.model.runtime.tags)
        state.escaped = state.late_end or escape is not None


class _Choice(Protocol):
    """One choice of a request, whatever its engine is asked by."""

    index: int
    state: ChoiceState
    call_marks: deque[tuple[int, str]]

    def events(self) -> AsyncGenerator[_Item, None]: ...


def _choice(chat: PreparedChat, index: int, pace: Pace, fast: FastPath | None) -> _Choice:
    relayed = chat.model.offers is not None
    return RelayedChoice(chat, index) if relayed else ChoiceStream(chat, index, pace, fast)


def _shower(
    read: Callable[[Delta], Sequence[Event]], emit: Callable[[Event], None]
) -> Callable[[Delta], None]:
    def show(delta: Delta) -> None:
        for event in read(delta):
            emit(event)

    return show


def _merge(choices: Sequence[_Choice]) -> AsyncGenerator[_Item, None]:
    """Deltas of all choices as they come, and a :class:`ChoiceEnded` for each that is over."""
    return choices[0].events() if len(choices) == 1 else _together(choices)


async def _together(choices: Sequence[_Choice]) -> AsyncGenerator[_Item, None]:
    queue: asyncio.Queue[_Item | Exception] = asyncio.Queue(maxsize=64)
    tasks = [asyncio.create_task(_pump(choice, queue)) for choice in choices]
    try:
        ended = 0
        while ended < len(choices):
            item = await queue.get()
            if isinstance(item, Exception):
                raise item
            ended += isinstance(item, ChoiceEnded)
            yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(choice: _Choice, queue: asyncio.Queue[_Item | Exception]) -> None:
    try:
        async with contextlib.aclosing(choice.events()) as stream:
            async for item in stream:
                await queue.put(item)
    except Exception as error:  # whatever it is, it is raised where the events are read
        await queue.put(error)
