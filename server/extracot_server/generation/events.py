"""What becomes of a request, as typed events: text, tool calls, a choice's end, the end of all.

A JSON reply collects them and a stream forwards them, so the two cannot diverge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from extracot.reasoning import Part
from extracot_server.engine.base import TokenLogprob
from extracot_server.generation.report import BudgetReport, Usage
from extracot_server.tool_calls.tools import CallPart


@dataclass(slots=True)  # one is made for every token, and a frozen one takes many times as long
class Delta:
    """New text of one choice; ``token_ids`` and ``logprobs`` are of the answer tokens with it."""

    index: int
    part: Part
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class CallDelta:
    """Something new of a tool call of choice ``index``."""

    index: int
    part: CallPart


@dataclass(frozen=True, slots=True)
class ChoiceEnded:
    """The engine is done with choice ``index``; it becomes a :class:`ChoiceDone` with a report."""

    index: int


@dataclass(frozen=True, slots=True)
class ChoiceDone:
    """One choice has ended; ``stop`` is the stop string that ended it, if one did."""

    index: int
    finish_reason: Literal["stop", "length", "tool_calls"]
    report: BudgetReport
    stop: str | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """All choices have ended; always the last event."""

    usage: Usage
    report: BudgetReport


Event = Delta | CallDelta | ChoiceDone | Finished
