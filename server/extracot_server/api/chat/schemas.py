"""What replies of ``/v1/chat/completions`` look like: for the OpenAPI document and the tests.

Replies are made without these (:mod:`.response`), for there is one for every token. The tests hold
both together: a field that is not here fails them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from extracot.report import BudgetReport, Usage
from extracot_server.api.body import ReplyModel

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
"""``content_filter``: that of a server behind this one ended it."""


class TokenLogprobRow(ReplyModel):
    """One token and its probability."""

    token: str
    logprob: float = Field(le=0, description="natural logarithm; -9999 stands for less")
    bytes: list[int] | None = Field(description="the token's text in UTF-8")


class AnswerTokenRow(TokenLogprobRow):
    """One token of the answer."""

    top_logprobs: list[TokenLogprobRow]


class ChoiceLogprobs(ReplyModel):
    """Of the answer's tokens; joined they are the content."""

    content: list[AnswerTokenRow] | None
    refusal: None


class CalledFunction(ReplyModel):
    """A function and its arguments."""

    name: str
    arguments: str = Field(description="JSON text as the model wrote it")


class ToolCall(ReplyModel):
    """A call of one of the request's `tools`."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class AssistantMessage(ReplyModel):
    """The reply. Of `reasoning` and `reasoning_content` it has those that `reasoning_field` names,
    and neither where the request hides it."""

    role: Literal["assistant"]
    content: str | None = Field(description="null: the reply has only tool calls, or a refusal")
    tool_calls: list[ToolCall] | None = Field(None, description="only where there are any")
    refusal: str | None = Field(
        description="what a server behind this one says in place of an answer; else null"
    )
    reasoning: str | None = Field(None, description="null: the model did not reason")
    reasoning_content: str | None = Field(None, description="the same text again")


class ChatChoice(ReplyModel):
    """One of `n` replies."""

    index: int
    message: AssistantMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: FinishReason
    budget: BudgetReport = Field(description="of this choice")


class ChatCompletion(ReplyModel):
    """A whole reply."""

    id: str
    object: Literal["chat.completion"]
    created: int = Field(description="Unix seconds")
    model: str
    choices: list[ChatChoice]
    usage: Usage
    budget: BudgetReport = Field(description="sum over the choices")


class CalledFunctionDelta(ReplyModel):
    """New part of a call; the name comes first and once."""

    name: str | None = None
    arguments: str


class ToolCallDelta(ReplyModel):
    """New part of call number `index`; id and type come first and once."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: CalledFunctionDelta


class ChunkDelta(ReplyModel):
    """New part of one choice."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = Field(None, description="the same as `reasoning`")
    tool_calls: list[ToolCallDelta] | None = None


class ChunkChoice(ReplyModel):
    """One choice in a chunk."""

    index: int
    delta: ChunkDelta
    logprobs: ChoiceLogprobs | None
    finish_reason: FinishReason | None


class ChatCompletionChunk(ReplyModel):
    """The JSON of one `data:` line of a stream; `[DONE]` is the last."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice] = Field(description="empty in the usage chunk")
    usage: Usage | None = Field(
        None, description="with `stream_options.include_usage`: null, but for the last chunk"
    )
    budget: BudgetReport | None = Field(
        None, description="a choice's with its `finish_reason`; the whole in the usage chunk"
    )
