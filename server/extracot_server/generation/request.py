"""What serving is given: a model and a request, and what will be done about it. Plain data.

A :class:`ChatRequest` is what a client asks for, a :class:`PreparedChat` what will be done
about it. Knows no HTTP and runs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter, time
from typing import Any, Literal

from extracot.card import BudgetCard
from extracot.prompt import Message, RenderedPrompt
from extracot_server.admission.keys import ANONYMOUS, Principal
from extracot_server.budget.holdout import Arm
from extracot_server.budget.limits import Limits
from extracot_server.budget.resolve import BudgetPolicy, BudgetSources, ResolvedBudget
from extracot_server.engine.base import AnswerFormat, Sampling
from extracot_server.generation.plan import ModelRuntime
from extracot_server.tool_calls.tools import ToolUse

UNFINISHED = {"aborted": "disconnect", "error": "engine", "dropped": "shutdown"}
"""Outcomes of requests whose reply never became whole, and the reason `aborts` has for them."""


@dataclass(slots=True)
class RequestTimes:
    """Wall-clock marks of one request, in seconds of ``perf_counter``; 0.0 means not yet."""

    start: float = field(default_factory=perf_counter)
    resolved: float = 0.0
    queued: float = 0.0
    turn: float = 0.0
    first_token: float = 0.0
    first_answer: float = 0.0
    previous: float = 0.0
    overhead: float = 0.0


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model as it is served: engine, card (``None``: cap mode), renderer and policy."""

    name: str
    runtime: ModelRuntime
    card: BudgetCard | None
    policy: BudgetPolicy
    open_think: bool = False
    created: int = field(default_factory=lambda: int(time()))

    @property
    def mode(self) -> Literal["token", "cap"]:
        """Whether budgets are trained levels or hard caps."""
        return "cap" if self.card is None else "token"


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A validated chat request. ``max_tokens`` bounds generated tokens; ``None``: the context.

    ``messages_field`` is what its API calls the conversation, for errors.
    """

    request_id: str
    messages: tuple[Message, ...]
    budget: BudgetSources = field(default_factory=BudgetSources)
    sampling: Sampling = field(default_factory=Sampling)
    n: int = 1
    max_tokens: int | None = None
    stops: tuple[str, ...] = ()
    answer_format: AnswerFormat | None = None
    with_instruction: bool = True
    principal: Principal = ANONYMOUS
    ignored_fields: tuple[str, ...] = ()
    tools: ToolUse | None = None
    messages_field: str = "messages"


@dataclass(frozen=True, slots=True)
class PreparedChat:
    """A request that may go to the engine; ``header`` is what is known before the first token."""

    request: ChatRequest
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
