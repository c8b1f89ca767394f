"""Types that the client returns: budget report, usage, events and the whole solution.

Pydantic models stand for what a server sent (unknown keys are kept, because a newer server may
say more); frozen dataclasses for what the client made of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from extracot.report import BudgetReport as BudgetReport
from extracot.report import CompletionTokensDetails, PromptTokensDetails

Budget = float | int | str | dict[str, Any] | None
"""A ratio in (0, 1], ``"auto"``, ``"native"``, ``"none"``, or an object with ``ratio``,
``max_reasoning_tokens``, ``enforce``, ``closing`` and ``grace``; ``None`` is the server's default.
What is allowed is the server's to say."""


def value_at(value: Any, *path: str) -> Any:
    """What a server sent at a path of nested JSON objects; ``None`` where there is nothing."""
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def number_at(value: Any, *path: str) -> float | None:
    """The number at a path of nested JSON objects; ``None`` where there is none."""
    found = value_at(value, *path)
    return float(found) if isinstance(found, int | float) else None


class ServerModel(BaseModel):
    """Base of everything read from a server: unknown keys stay, nothing can be changed."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())


class ModelInfo(ServerModel):
    """One entry of the model list; levels and aliases are kept as the server sent them."""

    id: str
    object: str = "model"
    created: int | None = None
    owned_by: str | None = None


class ModelList(ServerModel):
    """The body of ``GET /v1/models``."""

    data: list[ModelInfo]


class LevelInfo(ServerModel):
    """One level of a model with a card; ``expected_ratio`` is what it realises on average. What
    ``dominated_by`` names was measured to be cheaper and more accurate."""

    name: str
    enforced_by: str | None = None
    control_token: str | None = None
    effort: str | None = None
    dominated_by: str | None = None
    ratio: float | None = None
    expected_ratio: float | None = None
    allowed_by_policy: bool = True


class BudgetCardPage(ServerModel):
    """The body of ``GET /v1/budget``: levels, the operator's policy, what prompts are made with,
    where baselines come from, what the holdout has measured, the profile of the model's family, and
    the card itself (``None`` for a model in cap mode).

    ``takes_card``: whether it can have a card; a server that is older does not tell."""

    model: str | None = None
    mode: str | None = None
    takes_card: bool = True
    allowed: list[str] = Field(default_factory=list)
    levels: list[LevelInfo] = Field(default_factory=list)
    policy: dict[str, Any] = Field(default_factory=dict)
    prompt: dict[str, Any] = Field(default_factory=dict)
    baseline: dict[str, Any] = Field(default_factory=dict)
    holdout: dict[str, Any] = Field(default_factory=dict)
    profile: dict[str, Any] = Field(default_factory=dict)
    card: dict[str, Any] | None = None


class Usage(ServerModel):
    """What a reply took, in tokens, as its server counts them; ``None``: it does not tell.

    Completion tokens are the generated ones, reasoning included.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: PromptTokensDetails | None = None
    completion_tokens_details: CompletionTokensDetails | None = None

    @property
    def cached_tokens(self) -> int | None:
        """Prompt tokens that came from a prefix cache; ``None`` if the server does not tell."""
        details = self.prompt_tokens_details
        return None if details is None else details.cached_tokens

    @property
    def reasoning_tokens(self) -> int | None:
        """Reasoning tokens; ``None`` if the server does not tell."""
        details = self.completion_tokens_details
        return None if details is None else details.reasoning_tokens


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds on the client's own clock, from sending the request that was answered.

    ``ttft``: to the first text of any kind; ``first_answer``: to the first text that is answer;
    ``total``: to the end. ``retries``: how many requests were refused before it.
    """

    ttft: float | None
    first_answer: float | None
    total: float
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Solution:
    """One whole reply."""

    answer: str
    """The text after the reasoning."""
    reasoning: str
    boxed: str | None
    r"""What the answer's last ``\boxed{}`` holds, if it has one."""
    report: BudgetReport
    usage: Usage
    timings: Timings
    finish_reason: str
    model: str | None
    request_id: str | None
    raw: dict[str, Any]
    """The reply as a ``chat.completion`` body, put together from the stream with its tool calls."""

    @property
    def reasoning_tokens(self) -> int | None:
        """The report's count, else that of the usage; ``None`` if the server gives neither."""
        counted = self.report.reasoning_tokens
        return self.usage.reasoning_tokens if counted is None else counted

    def to_dict(self) -> dict[str, Any]:
        """Everything but ``raw``, as JSON values."""
        plain = ("answer", "reasoning", "boxed", "finish_reason", "model", "request_id")
        return {
            **{name: getattr(self, name) for name in plain},
            "budget": self.report.model_dump(mode="json"),
            "usage": self.usage.model_dump(mode="json", exclude_none=True),
            "timings": asdict(self.timings),
        }


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More text of the reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class AnswerDelta:
    """More text of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """The last event of every stream that ended well."""

    solution: Solution


Event = ReasoningDelta | AnswerDelta | Done


class SweepRow(BaseModel):
    """One problem at one budget: flat, so that it is a line of JSONL and of CSV alike.

    Tokens are the server's counts (``None``: it does not tell), times are seconds. ``correct`` is
    ``None`` without a known answer; ``error`` is set, and most else empty, where a request failed.
    """

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    problem_id: str
    budget: Any
    fingerprint: str = Field(
        description="hash of the question and of the request's settings; not of the server"
    )
    question: str
    gold: str | None = None
    boxed: str | None = None
    correct: bool | None = None
    answer: str | None = None
    reasoning: str | None = None
    finish_reason: str | None = None
    level: str | None = None
    prompt_tokens: int | None = None
    reasoning_tokens: int | None = None
    answer_tokens: int | None = None
    completion_tokens: int | None = None
    cap_hit: bool | None = None
    baseline_tokens: float | None = None
    baseline_source: str | None = None
    realised_ratio: float | None = None
    saved_tokens_estimate: float | None = None
    total_saved_tokens_estimate: float | None = None
    no_saving: str | None = None
    escaped: bool | None = Field(None, description="by the server's own report, if it has one")
    ttft: float | None = None
    first_answer: float | None = None
    total: float | None = None
    model: str | None = None
    request_id: str | None = None
    server: str | None = Field(None, description="its address")
    served: str | None = Field(None, description="what it told of itself: origins.served_of")
    error: str | None = None
