"""What replies of the Responses and the Messages API look like, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from extracot_server.api.openapi.schemas import Shape
from extracot_server.generation.report import BudgetReport

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class ReasoningText(Shape):
    """Reasoning as it is."""

    type: Literal["reasoning_text"]
    text: str


class ReasoningItem(Shape):
    """What the model thought; nothing is summed up."""

    id: str
    type: Literal["reasoning"]
    status: ItemStatus
    summary: list[Any] = Field(max_length=0)
    content: list[ReasoningText]


class OutputText(Shape):
    """The answer."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any] = Field(max_length=0)
    logprobs: list[Any] = Field(max_length=0)


class MessageItem(Shape):
    """The answer's item."""

    id: str
    type: Literal["message"]
    status: ItemStatus
    role: Literal["assistant"]
    content: list[OutputText]


class FunctionCallItem(Shape):
    """A call of one of the request's functions."""

    id: str
    type: Literal["function_call"]
    status: ItemStatus
    call_id: str
    name: str
    arguments: str = Field(description="JSON text as the model wrote it")


class InputTokensDetails(Shape):
    """Parts of the prompt; the cache is the engine's and is not told."""

    cached_tokens: int
    cache_write_tokens: int


class OutputTokensDetails(Shape):
    """Parts of the generated tokens."""

    reasoning_tokens: int


class ResponseUsage(Shape):
    """Token counts; reasoning is part of the output."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ResponseObject(Shape):
    """A whole response; what is not listed as measured repeats the request."""

    id: str
    object: Literal["response"]
    created_at: int = Field(description="Unix seconds")
    completed_at: int | None
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    background: Literal[False]
    error: dict[str, Any] | None
    incomplete_details: dict[str, Any] | None = Field(description="`max_output_tokens` ended it")
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    model: str
    output: list[ReasoningItem | MessageItem | FunctionCallItem]
    parallel_tool_calls: bool
    previous_response_id: None
    reasoning: dict[str, Any]
    store: Literal[False]
    temperature: float | None
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_p: float | None
    truncation: Literal["disabled"]
    usage: ResponseUsage | None
    user: str | None
    budget: BudgetReport | None


class ThinkingBlock(Shape):
    """What the model thought; it is not signed, and not needed back."""

    type: Literal["thinking"]
    thinking: str
    signature: Literal[""]


class TextBlock(Shape):
    """The answer."""

    type: Literal["text"]
    text: str


class ToolUseBlock(Shape):
    """A call of one of the request's tools."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class ThinkingTokens(Shape):
    """Parts of the generated tokens."""

    thinking_tokens: int


class MessageUsage(Shape):
    """Token counts; thinking is part of the output."""

    input_tokens: int
    output_tokens: int
    output_tokens_details: ThinkingTokens


class MessageObject(Shape):
    """A whole message."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[ThinkingBlock | TextBlock | ToolUseBlock]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]
    stop_sequence: str | None
    usage: MessageUsage
    budget: BudgetReport


class InputTokens(Shape):
    """The reply of `count_tokens`."""

    input_tokens: int


class AnthropicErrorDetail(Shape):
    """What is wrong; the message names the field."""

    type: str
    message: str


class AnthropicError(Shape):
    """An error in Anthropic's form."""

    type: Literal["error"]
    error: AnthropicErrorDetail
    request_id: str | None


ADAPTER_REPLIES: tuple[type[Shape], ...] = (
    ResponseObject,
    MessageObject,
    InputTokens,
    AnthropicError,
)
