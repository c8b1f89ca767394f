"""The record of one HTTP request, filled while it runs: for its log line and its trace.

The request's own task and all it starts share one :class:`RequestRecord`, found by
:func:`current_record`; where none was opened (a library call, a test) it is ``None``, and nothing
is written. Knows neither HTTP nor how it is shown; ``observability.metrics`` counts by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import perf_counter, time_ns
from typing import Any

from extracot_server.generation.observer import RequestResult
from extracot_server.generation.report import BudgetReport, Usage
from extracot_server.generation.request import PreparedChat


@dataclass(slots=True)
class RequestRecord:
    """One request. What was not reached stays ``None``; marks are seconds of ``perf_counter``."""

    method: str
    path: str
    """Its route's, with names in place of what the client put there."""
    keep_prompt: bool = False
    request_id: str | None = None
    status: int | None = None
    error: str | None = None
    """The code of a refusal or failure: a bounded word, never the client's own text."""
    outcome: str | None = None
    chat: PreparedChat | None = None
    usage: Usage | None = None
    report: BudgetReport | None = None
    finish_reasons: tuple[str, ...] = ()
    trace_id: str | None = None
    opened: float = field(default_factory=perf_counter)
    opened_ns: int = field(default_factory=time_ns)
    finished: float = 0.0
    closed: float = 0.0

    def finish(self, result: RequestResult) -> None:
        """Keep how a request that reached the engine has ended."""
        self.finished = perf_counter()
        self.outcome, self.usage, self.report = result.outcome, result.usage, result.total
        self.finish_reasons = result.finish_reasons

    def fields(self) -> dict[str, Any]:
        """Everything known, as flat JSON: tokens, seconds, words; no text of the client's.

        But for the messages, as ``prompt``, where the operator asked for them.
        """
        found: dict[str, Any] = {
            "request_id": self.request_id,
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "outcome": self.outcome,
            "error": self.error,
            "seconds": round(self.closed - self.opened, 6),
        }
        if self.chat is not None:
            found |= self._prepared(self.chat)
        if self.usage is not None and self.report is not None:
            found |= self._finished(self.usage, self.report)
        found["trace_id"] = self.trace_id
        return {name: value for name, value in found.items() if value is not None}

    def _prepared(self, chat: PreparedChat) -> dict[str, Any]:
        times = chat.times

        def since_start(mark: float) -> float | None:
            return round(mark - times.start, 6) if mark else None

        found: dict[str, Any] = {
            "model": chat.model.name,
            "key": chat.request.principal.name or None,
            "budget": chat.resolved.label,
            "source": chat.resolved.source,
            "arm": None if chat.arm is None else chat.arm.value,
            "canary": None if chat.trial is None else chat.trial.served_by.value,
            "choices": chat.request.n,
            "prompt_tokens": chat.prompt_tokens,
            "queue_seconds": round(times.admitted - times.queued, 6) if times.admitted else None,
            "first_token_seconds": since_start(times.first_token),
            "first_answer_token_seconds": since_start(times.first_answer),
        }
        if self.keep_prompt:
            found["prompt"] = [
                {"role": m.role, "content": m.content} for m in chat.request.messages
            ]
        return found

    def _finished(self, usage: Usage, report: BudgetReport) -> dict[str, Any]:
        return {
            "completion_tokens": usage.completion_tokens,
            "reasoning_tokens": report.reasoning_tokens,
            "answer_tokens": report.answer_tokens,
            "saved_tokens": report.saved_tokens_estimate,
            "total_saved_tokens": report.total_saved_tokens_estimate,
            "realised_ratio": report.realised_ratio,
            "chosen_level": report.chosen,
            "cap_hit": report.cap_hit,
            "escaped": report.escaped,
            "finish_reasons": list(self.finish_reasons) or None,
        }


_CURRENT: ContextVar[RequestRecord | None] = ContextVar("extracot_request_record", default=None)


def current_record() -> RequestRecord | None:
    """The record of the request that this task works for."""
    return _CURRENT.get()


@contextmanager
def open_record(record: RequestRecord) -> Iterator[RequestRecord]:
    """Make it the current one; it is closed at the end of the block."""
    token = _CURRENT.set(record)
    try:
        yield record
    finally:
        record.closed = perf_counter()
        _CURRENT.reset(token)
