"""Each step of a request, counted in the metrics and noted in the request record."""

from __future__ import annotations

from contextlib import AbstractContextManager

from extracot_server.generation.observer import RequestResult
from extracot_server.generation.report import Usage
from extracot_server.generation.request import PreparedChat
from extracot_server.observability.metrics import ServerMetrics
from extracot_server.observability.request_log import current_record


class ServerObserver:
    """A :class:`~extracot_server.generation.observer.RequestObserver`."""

    def __init__(self, metrics: ServerMetrics) -> None:
        self._metrics = metrics
        self.text = metrics.mark  # called for every token, so without a detour

    def prepared(self, chat: PreparedChat) -> None:
        """Note it in the request's record."""
        if (record := current_record()) is not None:
            record.chat = chat

    def waiting(self) -> AbstractContextManager[object]:
        """Count it among those that wait."""
        return self._metrics.queued.track_inprogress()

    def rejected(self, reason: str) -> None:
        """Count it by its reason."""
        self._metrics.rejected.labels(reason).inc()

    def abandoned(self, chat: PreparedChat) -> None:
        """Count it as aborted; the engine never saw its prompt."""
        name, resolved = chat.model.name, chat.resolved
        self._metrics.record_request(name, resolved.label, resolved.source, "aborted", Usage())

    def started(self, chat: PreparedChat) -> None:
        """Count it among those that run, and its wait."""
        self._metrics.queue.observe(chat.times.admitted - chat.times.queued)
        self._metrics.in_flight.inc()

    def stopped(self, chat: PreparedChat) -> None:
        """Count it no longer among those that run."""
        self._metrics.in_flight.dec()

    def finished(self, chat: PreparedChat, result: RequestResult) -> None:
        """Count its tokens and times, and write down how it ended."""
        metrics, name, resolved = self._metrics, chat.model.name, chat.resolved
        outcome = result.outcome
        for report in result.choices:
            metrics.record_choice(name, report)
        usage = result.usage
        metrics.record_request(name, resolved.label, resolved.source, outcome, usage)
        metrics.record_key(chat.request.principal.name, usage.prompt_tokens, result.choices)
        metrics.record_times(name, chat.times, complete=result.complete)
        if chat.arm is not None:
            tokens = result.reasoning_tokens
            metrics.record_holdout(name, chat.arm, outcome, tokens, result.saving)
        if chat.trial is not None:
            metrics.routing.record(chat.trial, result)
        if (record := current_record()) is not None:
            record.finish(result)
