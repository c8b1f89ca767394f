"""The body of a reply of ``POST /v1/responses``, as it is sent and documented. Only shapes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from extracot.report import BudgetReport
from extracot_server.api.body import ReplyModel

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class _Model(ReplyModel):
    """Fields with a fixed or first value are always there, too."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


class ReasoningText(_Model):
    """Reasoning as it is."""

    type: Literal["reasoning_text"] = "reasoning_text"
    text: str = ""


class SummaryText(_Model):
    """The same text, for clients that ask for a summary and read nothing else."""

    type: Literal["summary_text"] = "summary_text"
    text: str = ""


class ReasoningItem(_Model):
    """What the model thought, in ``content``, or in ``summary`` where one was asked for.

    Nothing is summed up.
    """

    id: str
    type: Literal["reasoning"] = "reasoning"
    status: ItemStatus = "in_progress"
    summary: list[SummaryText] = Field([], description="with `reasoning.summary`: the reasoning")
    content: list[ReasoningText] = Field([], description="the reasoning, unless `summary` has it")
    encrypted_content: str | None = Field(
        None,
        description="with `reasoning.encrypted_content` in `include`: the reasoning, sealed, for "
        "the `input` of a later request",
    )


class OutputText(_Model):
    """The answer."""

    type: Literal["output_text"] = "output_text"
    text: str = ""
    annotations: list[Any] = Field([], max_length=0)
    logprobs: list[Any] = Field([], max_length=0)


class OutputRefusal(_Model):
    """What a server behind this one says in place of an answer."""

    type: Literal["refusal"] = "refusal"
    refusal: str = ""


class MessageItem(_Model):
    """The answer's item."""

    id: str
    type: Literal["message"] = "message"
    status: ItemStatus = "in_progress"
    role: Literal["assistant"] = "assistant"
    content: list[OutputText | OutputRefusal] = Field([])


class FunctionCallItem(_Model):
    """A call of one of the request's functions."""

    id: str
    type: Literal["function_call"] = "function_call"
    status: ItemStatus = "in_progress"
    call_id: str
    name: str
    namespace: str | None = Field(None, description="the namespace that the function was given in")
    arguments: str = Field("", description="JSON text as the model wrote it")


Item = ReasoningItem | MessageItem | FunctionCallItem


class InputTokensDetails(_Model):
    """Parts of the prompt."""

    cached_tokens: int = Field(
        0, description="those that came from the engine's prefix cache; 0 also where not known"
    )
    cache_write_tokens: int = 0


class OutputTokensDetails(_Model):
    """Parts of the generated tokens."""

    reasoning_tokens: int


class ResponseUsage(_Model):
    """Token counts; reasoning is part of the output."""

    input_tokens: int
    input_tokens_details: InputTokensDetails = InputTokensDetails()
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ResponseObject(_Model):
    """A whole response; what is not listed as measured repeats the request."""

    id: str
    object: Literal["response"] = "response"
    created_at: int = Field(description="Unix seconds")
    completed_at: int | None = Field(None, description="of a status `completed`, else null")
    status: Literal["in_progress", "completed", "incomplete", "failed"] = "in_progress"
    background: Literal[False] = False
    error: dict[str, Any] | None = None
    incomplete_details: dict[str, Any] | None = Field(
        None,
        description="`max_output_tokens` ended it, or `content_filter`, that of a server behind "
        "this one",
    )
    instructions: str | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    metadata: dict[str, str] = Field({})
    model: str
    output: list[Item] = Field([])
    parallel_tool_calls: bool = True
    previous_response_id: None = None
    prompt_cache_key: str | None = None
    reasoning: dict[str, Any] = Field({"effort": None, "summary": None})
    safety_identifier: str | None = None
    service_tier: Literal["default"] = "default"
    store: bool = Field(True, description="its items can be named by `item_reference` for a while")
    temperature: float | None = None
    text: dict[str, Any] = Field({"format": {"type": "text"}, "verbosity": None})
    tool_choice: str | dict[str, Any] = "auto"
    tools: list[dict[str, Any]] = Field([], description="those that the model was given")
    top_logprobs: Literal[0] = 0
    top_p: float | None = None
    truncation: Literal["disabled"] = "disabled"
    usage: ResponseUsage | None = None
    user: str | None = None
    budget: BudgetReport | None = None
