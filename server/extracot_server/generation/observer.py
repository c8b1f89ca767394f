"""The observer protocol: steps of a request, so that generation needs no metrics and no log.

Both implement the protocol (``observability.observer``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from extracot_server.budget.holdout import Saving
from extracot_server.generation.report import BudgetReport, Usage, total_report, without_saving
from extracot_server.generation.request import UNFINISHED, PreparedChat, RequestTimes


@dataclass(frozen=True, slots=True)
class RequestResult:
    """How a request that reached the engine has ended, however it did.

    ``choices`` claim no saving where the reply was not delivered. ``reasoning_tokens`` is the mean
    of the choices; ``saving`` is what the holdout has measured by now, where the request is part of
    its comparison.
    """

    outcome: str
    usage: Usage
    choices: tuple[BudgetReport, ...]
    finish_reasons: tuple[str, ...]
    saving: Saving | None = None
    compared: Mapping[str, float] = field(default_factory=dict)
    """What it counts as in a canary's comparison, where it is part of one."""

    @property
    def complete(self) -> bool:
        """Whether the client got the whole reply."""
        return self.outcome not in UNFINISHED

    @property
    def total(self) -> BudgetReport:
        """The report of the whole reply."""
        return total_report(self.choices)

    @property
    def reasoning_tokens(self) -> float:
        """Mean reasoning tokens a choice."""
        return sum(choice.reasoning_tokens or 0 for choice in self.choices) / len(self.choices)

    @property
    def answer_tokens(self) -> float:
        """Mean answer tokens a choice."""
        return sum(choice.answer_tokens or 0 for choice in self.choices) / len(self.choices)


def claimable(outcome: str, reports: Sequence[BudgetReport]) -> tuple[BudgetReport, ...]:
    """The reports, without the savings of a reply that no client got whole."""
    if outcome not in UNFINISHED:
        return tuple(reports)
    return tuple(report.model_copy(update=without_saving(report)) for report in reports)


class RequestObserver(Protocol):
    """Called at each step of a request. Nothing it does may raise."""

    def prepared(self, chat: PreparedChat) -> None:
        """The request may go to the engine."""

    def waiting(self) -> AbstractContextManager[object]:
        """Entered while a request waits in the queue."""

    def rejected(self, reason: str) -> None:
        """It is refused: by the queue, or by the engine before a token came."""

    def abandoned(self, chat: PreparedChat) -> None:
        """Its client left while it was queued."""

    def started(self, chat: PreparedChat) -> None:
        """It has left the queue to run; :meth:`stopped` follows in any case."""

    def text(self, times: RequestTimes, *, answer: bool) -> None:
        """Text has come. Called for every token."""

    def stopped(self, chat: PreparedChat) -> None:
        """It has given its slot back."""

    def finished(self, chat: PreparedChat, result: RequestResult) -> None:
        """It reached the engine and has ended, however it did."""
