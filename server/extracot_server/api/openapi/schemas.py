"""What replies look like, for the OpenAPI document: every field that an endpoint sends, no other.

Replies are plain dictionaries on their way out; nothing is validated with these when the server
runs. The tests hold both together: a field that is not here fails them.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from extracot.card import BudgetCard
from extracot.report import BudgetReport, Usage

Ratio = float | Literal["auto", "native", "none"]


class Shape(BaseModel):
    """A JSON object with these fields only."""

    model_config = ConfigDict(extra="forbid")


class TokenLogprobRow(Shape):
    """One token and its probability."""

    token: str
    logprob: float = Field(le=0, description="natural logarithm; -9999 stands for less")
    bytes: list[int] | None = Field(description="the token's text in UTF-8")


class AnswerTokenRow(TokenLogprobRow):
    """One token of the answer."""

    top_logprobs: list[TokenLogprobRow]


class ChoiceLogprobs(Shape):
    """Of the answer's tokens; joined they are the content."""

    content: list[AnswerTokenRow] | None
    refusal: None


class CompletionUsage(Usage):
    """Token counts; reasoning is part of the completion."""


class CalledFunction(Shape):
    """A function and its arguments."""

    name: str
    arguments: str = Field(description="JSON text as the model wrote it")


class ToolCall(Shape):
    """A call of one of the request's `tools`."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class AssistantMessage(Shape):
    """The reply. Without `reasoning` at all where the request hides it."""

    role: Literal["assistant"]
    content: str | None = Field(description="null: nothing but tool calls")
    tool_calls: list[ToolCall] | None = Field(None, description="only where there are any")
    refusal: None
    reasoning: str | None = Field(None, description="null: the model did not reason")
    reasoning_content: str | None = Field(None, description="the same text under its other name")


class ChatChoice(Shape):
    """One of `n` replies."""

    index: int
    message: AssistantMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"]
    budget: BudgetReport = Field(description="of this choice")


class ChatCompletion(Shape):
    """A whole reply."""

    id: str
    object: Literal["chat.completion"]
    created: int = Field(description="Unix seconds")
    model: str
    choices: list[ChatChoice]
    usage: CompletionUsage
    budget: BudgetReport = Field(description="the sum of the choices'")


class CalledFunctionDelta(Shape):
    """What is new of a call; the name comes first and once."""

    name: str | None = None
    arguments: str


class ToolCallDelta(Shape):
    """What is new of call number `index`; id and type come first and once."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: CalledFunctionDelta


class ChunkDelta(Shape):
    """What is new of one choice."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = Field(None, description="the same as `reasoning`")
    tool_calls: list[ToolCallDelta] | None = None


class ChunkChoice(Shape):
    """One choice in a chunk."""

    index: int
    delta: ChunkDelta
    logprobs: ChoiceLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"] | None


class ChatCompletionChunk(Shape):
    """The JSON of one `data:` line of a stream; `[DONE]` is the last."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice] = Field(description="empty in the usage chunk")
    usage: CompletionUsage | None = Field(
        None, description="with `stream_options.include_usage`: null, but for the last chunk"
    )
    budget: BudgetReport | None = Field(
        None, description="a choice's with its `finish_reason`; the whole in the usage chunk"
    )


class Tokens(Shape):
    """The reply. `count` is the length of `tokens`: prompt and what is written of the reply;
    `prompt_tokens` of them are the prompt, as `usage` counts it."""

    tokens: list[int]
    count: int
    prompt_tokens: int
    max_model_len: int


class LevelInformation(Shape):
    """A trained level."""

    name: str
    control_token: str
    ratio: float = Field(description="nominal")
    expected_ratio: float = Field(description="as measured; the nominal one where it was not")
    allowed_by_policy: bool = Field(description="within floor and ceiling of this caller")


class ModelBudget(Shape):
    """Which budgets a model takes."""

    mode: Literal["token", "cap"] = Field(description="trained levels, or hard caps")
    allowed: list[str]
    levels: list[LevelInformation]
    aliases: list[str] = Field(description="names under which it is served with a budget")


class ModelEntry(Shape):
    """A served model, or one of its aliases."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    parent: str | None = Field(description="an alias: the model's own name")
    max_model_len: int
    budget: ModelBudget


class ModelList(Shape):
    """All of them."""

    object: Literal["list"]
    data: list[ModelEntry]


class PolicyInformation(Shape):
    """What holds for this caller: the server's policy, narrowed by the key's."""

    default: Ratio = Field(description="of a request without a budget")
    floor: float | None
    ceiling: float | None
    reasoning_tokens_ceiling: int | None
    answer_reserve_tokens: int
    reasoning_effort: dict[str, Ratio] = Field(description="which budget an effort stands for")


class BaselineInformation(Shape):
    """Where the native reasoning length to compare with comes from."""

    source: Literal["card", "assumed", "holdout"]
    assumed_reasoning_tokens: int | None
    measured_reasoning_tokens: float | None


class ArmInformation(Shape):
    """One side of the holdout."""

    requests: int
    mean_reasoning_tokens: float | None
    left_out: int = Field(description="requests that did not end by themselves")


class MeasuredSaving(Shape):
    """Reasoning tokens saved a reply: mean(native) - mean(budgeted), with its interval."""

    mean: float
    low: float
    high: float


class ClaimedSaving(Shape):
    """What the same replies save against their baselines. `saved` alone overstates it."""

    replies: int
    saved: float = Field(description="the positive parts alone")
    overspent: float = Field(description="the negative parts")
    net_per_reply: float | None = Field(description="(saved - overspent) / replies")


class HoldoutInformation(Shape):
    """The measured saving since the server started."""

    fraction: float
    since: int = Field(description="Unix seconds")
    arms: dict[Literal["budgeted", "holdout"], ArmInformation]
    saving_per_reply: MeasuredSaving | None = Field(description="null while there is too little")
    confidence: float = Field(description="of the interval")
    against_baseline: ClaimedSaving


class BudgetInformation(Shape):
    """Card, policy, baseline and measured saving of one model."""

    object: Literal["budget"]
    model: str
    mode: Literal["token", "cap"]
    allowed: list[str]
    levels: list[LevelInformation]
    policy: PolicyInformation
    baseline: BaselineInformation
    holdout: HoldoutInformation
    card: BudgetCard | None


class Status(Shape):
    """The process answers."""

    status: Literal["ok"]


class Readiness(Shape):
    """How the engines are."""

    status: str = Field(description="`ready`, or what is the matter with the first engine")
    models: dict[str, str] = Field(description="the same of each model")


class ErrorObject(Shape):
    """What is wrong."""

    message: str
    type: str
    param: str | None = Field(description="the field at fault")
    code: str | None = Field(description="one of a closed list")


class Error(Shape):
    """OpenAI's error body."""

    error: ErrorObject


REPLIES: tuple[type[Any], ...] = (
    *(ChatCompletion, ChatCompletionChunk, Tokens, ModelEntry, ModelList),
    *(BudgetInformation, Status, Readiness, Error),
)
