"""What serving is given and what it yields: a model, a request, what becomes of it. Plain data.

A :class:`ChatJob` is what a client asks for, a :class:`PreparedChat` what will be done about it,
events are what comes of it. Knows no HTTP and runs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import time
from typing import Any, Literal

from extracot.card import BudgetCard
from extracot.prompt import Message, RenderedPrompt
from extracot_server.accounting import BudgetReport, Usage
from extracot_server.budget import BudgetPolicy, BudgetSources, ResolvedBudget
from extracot_server.engine.base import AnswerFormat, Sampling
from extracot_server.holdout import Arm
from extracot_server.keys import ANYBODY, Caller
from extracot_server.limits import Limits
from extracot_server.metrics import RequestTimes
from extracot_server.plan import Delta, ReplyTools
from extracot_server.tools import CallPart, ToolUse


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
    tools: ToolUse | None = None


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
class CallDelta:
    """Something new of a tool call of choice ``index``."""

    index: int
    part: CallPart


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
