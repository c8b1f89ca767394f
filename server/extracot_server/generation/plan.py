"""What one reply is made from and what it has become so far: runtime, plan and state.

Plain data that ``generation.choice`` works on and accounting reads. Knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from extracot.card import LevelCard
from extracot.prompt import PromptRenderer, RenderedPrompt
from extracot.reasoning import ThinkTags
from extracot_server.budget.limits import Limits
from extracot_server.budget.resolve import BudgetKind
from extracot_server.engine.base import AnswerFormat, Engine, SamplingParams
from extracot_server.generation.detokenize import DetokenizerFactory
from extracot_server.tool_calls.tools import CallReaderFactory


@dataclass(frozen=True, slots=True)
class ModelRuntime:
    """The parts of a served model that replies are made with."""

    engine: Engine
    renderer: PromptRenderer
    tags: ThinkTags
    new_detokenizer: DetokenizerFactory
    control_ids: frozenset[int]
    new_plain_detokenizer: DetokenizerFactory
    """Also shows special tokens, by which some models mark their tool calls."""
    new_call_reader: CallReaderFactory | None = None
    """Reads the calls that this model writes by itself; ``None``: nobody said how it does."""


@dataclass(frozen=True, slots=True)
class ReplyPlan:
    """What one reply needs; the same for all ``n`` but for ``index`` and the seed."""

    request_id: str
    index: int
    kind: BudgetKind
    rendered: RenderedPrompt
    sampling: SamplingParams
    stops: tuple[str, ...]
    answer_format: AnswerFormat | None
    level: LevelCard | None
    allowed: tuple[LevelCard, ...]
    limits: Limits
    limits_for: Callable[[LevelCard], Limits]
    priority: int = 0
    calls: bool = False
    """Tools may be called: the answer's text is read for calls."""


@dataclass(slots=True)
class ReplyState:
    """What a reply has become so far; read by accounting at the end, however it ends.

    ``sampled`` counts ids the engine generated and that were kept, ``injected`` those the server
    wrote into the reply itself; reasoning + answer + overhead = sampled + injected.
    """

    limits: Limits
    level: LevelCard | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    reasoning: int = 0
    answer: int = 0
    overhead: int = 0
    sampled: int = 0
    injected: int = 0
    cap_hit: bool = False
    cut_for_room: bool = False
    """Reasoning was ended for the answer's room, before the cap itself was reached."""
    closed_by: Literal["model", "server"] | None = None
    unclosed: bool = False
    finish_reason: Literal["stop", "length"] | None = None
    stop: str | None = None
    """The stop string that ended the answer."""
