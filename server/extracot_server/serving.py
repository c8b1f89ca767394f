"""ChatService: one chat request from its budget to its accounts, as one stream of typed events.

``prepare`` refuses what is wrong before anything reaches the engine; ``run`` yields events that
the JSON reply collects and the SSE stream forwards, so the two cannot diverge. Accounts are settled
in ``finally``, however a request ends. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from time import perf_counter

from extracot.reasoning import Part
from extracot_server.accounting import BudgetReport, choice_report, total_report, usage_of
from extracot_server.admission import RefusedError, Scheduler, Ticket
from extracot_server.calls import ReplyReader
from extracot_server.engine.base import EngineBusyError, EngineClosedError, EngineRequestError
from extracot_server.holdout import Holdout
from extracot_server.jobs import ChatJob, ChoiceDone, Event, Finished, PreparedChat, ServedModel
from extracot_server.merging import merge
from extracot_server.metrics import UNFINISHED, RequestTimes, ServerMetrics
from extracot_server.plan import Delta
from extracot_server.preparation import plan_reply, prepare
from extracot_server.receipts import current_receipt
from extracot_server.reply import Reply
from extracot_server.turnstile import Turnstile


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
        """What will be done about a request; see :func:`extracot_server.preparation.prepare`.

        Nothing has been sent to the engine then.
        """
        chat = prepare(self.model, self.holdout, job, times or RequestTimes())
        if (receipt := current_receipt()) is not None:
            receipt.chat = chat
        return chat

    async def check(self, chat: PreparedChat) -> None:
        """Let the engine refuse an answer's format, before any token of the reply is paid for."""
        if chat.job.answer_format is None:
            return
        try:
            await chat.model.tools.engine.check_format(chat.job.answer_format)
        except EngineRequestError as error:
            if chat.job.tools is None:
                raise
            raise EngineRequestError(str(error), param="tools") from None

    async def run(self, chat: PreparedChat) -> AsyncGenerator[Event, None]:
        """Serve a prepared request. Closing the generator aborts it in the engine.

        Raises :class:`~extracot_server.admission.RefusedError` before the first event, at once or
        after a wait.
        """
        replies = [Reply(plan_reply(chat, index), chat.model.tools) for index in range(chat.job.n)]
        readers = [ReplyReader(chat, index) for index in range(chat.job.n)]
        reports: dict[int, BudgetReport] = {}
        outcome, refused_for = "aborted", ""
        items = merge(replies)
        ticket = await self._enter(chat)
        self.metrics.in_flight.inc()
        try:
            async for item in items:
                if isinstance(item, Delta):
                    self.metrics.mark(chat.times, answer=item.part is Part.ANSWER)
                    for event in readers[item.index].read(item):
                        yield event
                    continue
                for event in readers[item].finish():
                    yield event
                reply = replies[item]
                reports[item] = self._report(chat, reply)
                reason = reply.state.finish_reason or "length"
                if readers[item].called and reason == "stop":
                    yield ChoiceDone(item, "tool_calls", reports[item])
                else:
                    yield ChoiceDone(item, reason, reports[item], reply.state.stop)
            ordered = [reports[index] for index in range(len(replies))]
            usage = usage_of(len(chat.rendered.prompt_ids), [r.state for r in replies])
            # The reply is whole: a client that leaves after this has had all of it.
            outcome = "length" if _any_length(replies) else "ok"
            yield Finished(usage, total_report(ordered))
        except (EngineRequestError, EngineBusyError) as error:
            # Refused before a token came: like any other refusal, it was never served.
            refused_for = "engine_busy" if isinstance(error, EngineBusyError) else "invalid_value"
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
                    self.metrics.rejected.labels(refused_for).inc()
                else:
                    self._settle(chat, replies, reports, outcome)

    async def _enter(self, chat: PreparedChat) -> Ticket:
        """Wait for a turn, and count how that went."""
        times, resolved = chat.times, chat.resolved
        times.queued = perf_counter()
        try:
            with self.metrics.queued.track_inprogress():
                ticket = await self.turnstile.enter(chat.job.caller)
        except RefusedError as refused:
            self.metrics.rejected.labels(refused.reason).inc()
            raise
        except asyncio.CancelledError:  # the client left; the engine never saw the prompt
            name, label = self.model.name, resolved.label
            self.metrics.record_request(name, label, resolved.source, "aborted", 0)
            raise
        times.turn = perf_counter()
        self.metrics.queue.observe(times.turn - times.queued)
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
        self.metrics.record_times(name, chat.times, complete=outcome in ("ok", "length"))
        if chat.arm is not None:
            tokens = sum(report.reasoning_tokens for report in settled) / len(settled)
            claimed = [
                r.saved_tokens_estimate for r in settled if r.saved_tokens_estimate is not None
            ]
            self.holdout.record(chat.arm, tokens, claimed, complete=outcome == "ok")
            self.metrics.record_holdout(name, chat.arm, outcome, tokens, self.holdout.saving)
        if (receipt := current_receipt()) is not None:
            total = total_report(settled)
            if outcome in UNFINISHED:
                total = replace(total, saved_tokens_estimate=None)
            states = [reply.state for reply in replies]
            usage = usage_of(prompt_tokens, states)
            receipt.settle(outcome, usage, total, [state.finish_reason for state in states])

    def _report(self, chat: PreparedChat, reply: Reply) -> BudgetReport:
        return choice_report(
            chat.resolved,
            reply.state,
            control_token=chat.control_token,
            calibrated=chat.calibrated,
            arm=chat.arm,
            ignored_fields=chat.job.ignored_fields,
        )


def _any_length(replies: Sequence[Reply]) -> bool:
    return any(reply.state.finish_reason == "length" for reply in replies)
