"""A reply of ``POST /v1/responses``, whole or as a stream: items, official events, their numbers.

Both come from one writer that is fed the same events, so they cannot differ. Knows no body beyond
what a reply repeats of it.
"""

from __future__ import annotations

from time import time
from typing import Any, Literal

from pydantic import ConfigDict, Field

from extracot.reasoning import Part
from extracot.report import BudgetReport
from extracot_server.api.body import ReplyModel
from extracot_server.api.errors import HttpError
from extracot_server.api.responses.request import ResponsesRequest
from extracot_server.api.sse import to_json
from extracot_server.generation.events import CallDelta, ChoiceDone, Delta, Event, Finished
from extracot_server.generation.request import PreparedChat

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class _Model(ReplyModel):
    """Fields with a fixed or first value are always there, too."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)


class ReasoningText(_Model):
    """Reasoning as it is."""

    type: Literal["reasoning_text"] = "reasoning_text"
    text: str = ""


class ReasoningItem(_Model):
    """What the model thought; nothing is summed up."""

    id: str
    type: Literal["reasoning"] = "reasoning"
    status: ItemStatus = "in_progress"
    summary: list[Any] = Field([], max_length=0)
    content: list[ReasoningText] = Field([])


class OutputText(_Model):
    """The answer."""

    type: Literal["output_text"] = "output_text"
    text: str = ""
    annotations: list[Any] = Field([], max_length=0)
    logprobs: list[Any] = Field([], max_length=0)


class MessageItem(_Model):
    """The answer's item."""

    id: str
    type: Literal["message"] = "message"
    status: ItemStatus = "in_progress"
    role: Literal["assistant"] = "assistant"
    content: list[OutputText] = Field([])


class FunctionCallItem(_Model):
    """A call of one of the request's functions."""

    id: str
    type: Literal["function_call"] = "function_call"
    status: ItemStatus = "in_progress"
    call_id: str
    name: str
    arguments: str = Field("", description="JSON text as the model wrote it")


Item = ReasoningItem | MessageItem | FunctionCallItem
_PREFIXES: dict[type[Item], str] = {ReasoningItem: "rs", MessageItem: "msg", FunctionCallItem: "fc"}


class InputTokensDetails(_Model):
    """Parts of the prompt; the cache is the engine's and is not told."""

    cached_tokens: int = 0
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
    completed_at: int | None = None
    status: Literal["in_progress", "completed", "incomplete", "failed"] = "in_progress"
    background: Literal[False] = False
    error: dict[str, Any] | None = None
    incomplete_details: dict[str, Any] | None = Field(
        None, description="`max_output_tokens` ended it"
    )
    instructions: str | None = None
    max_output_tokens: int | None = None
    metadata: dict[str, str] = Field({})
    model: str
    output: list[Item] = Field([])
    parallel_tool_calls: bool = True
    previous_response_id: None = None
    reasoning: dict[str, Any] = Field({"effort": None, "summary": None})
    store: Literal[False] = False
    temperature: float | None = None
    text: dict[str, Any] = Field({"format": {"type": "text"}})
    tool_choice: str | dict[str, Any] = "auto"
    tools: list[dict[str, Any]] = Field([])
    top_p: float | None = None
    truncation: Literal["disabled"] = "disabled"
    usage: ResponseUsage | None = None
    user: str | None = None
    budget: BudgetReport | None = None


class ResponseWriter:
    """Turns our events into those of the Responses API, and keeps the response up to date."""

    def __init__(self, chat: PreparedChat, body: ResponsesRequest) -> None:
        self._id = chat.request.request_id
        self._show_reasoning = body.include_reasoning is not False
        self._reply = _new_response(chat, body)
        self._output = self._reply.output
        self._text: list[str] = []
        self._open = False
        self._reason = "stop"
        self._number = 0

    def begin(self) -> bytes:
        """The response before anything has come of it."""
        response = self.whole()
        names = ("response.created", "response.in_progress")
        return self._frames([{"type": name, "response": response} for name in names])

    def encode(self, event: Event) -> bytes:
        """Official events that follow from one of ours."""
        return self._frames(self.add(event))

    def failed(self, error: HttpError) -> bytes:
        """The response as far as it got, and why it ended."""
        if self._open:
            self._close("incomplete")
        self._reply.error = {"code": "server_error", "message": error.message}
        return self._frames([self._settle("failed")])

    def end(self) -> bytes:
        """Nothing: a stream ends with the response's last event."""
        return b""

    def whole(self) -> dict[str, Any]:
        """See :class:`~extracot_server.api.exchange.ReplyWriter`."""
        return self._reply.model_dump()

    def add(self, event: Event) -> list[dict[str, Any]]:
        """The events that follow from one of ours."""
        if isinstance(event, Delta):
            return self._delta(event)
        if isinstance(event, CallDelta):
            return self._call(event)
        if isinstance(event, ChoiceDone):
            self._reason = event.finish_reason
            start = [] if self._output else self._begin(MessageItem)
            return start + self._close("incomplete" if self._reason == "length" else "completed")
        return [self._finish(event)]

    def _delta(self, event: Delta) -> list[dict[str, Any]]:
        reasoning = event.part is Part.REASONING
        if (reasoning and not self._show_reasoning) or not event.text:
            return []
        kind = ReasoningItem if reasoning else MessageItem
        out = [] if self._open and isinstance(self._output[-1], kind) else self._begin(kind)
        self._text.append(event.text)
        part = "reasoning_text" if reasoning else "output_text"
        delta = {"type": f"response.{part}.delta", **self._place(), "delta": event.text}
        return [*out, delta if reasoning else {**delta, "logprobs": []}]

    def _call(self, event: CallDelta) -> list[dict[str, Any]]:
        part, out = event.part, []
        if part.name is not None:
            out = self._begin(FunctionCallItem, call_id=part.id, name=part.name)
        if part.arguments:
            self._text.append(part.arguments)
            place = self._place(content=False)
            kind = "response.function_call_arguments.delta"
            out.append({"type": kind, **place, "delta": part.arguments})
        return out

    def _begin(self, kind: type[Item], **fields: Any) -> list[dict[str, Any]]:
        """A new item after the end of the last one, and for text its only part."""
        out = self._close("completed") if self._open else []
        index = len(self._output)
        item = kind(id=f"{_PREFIXES[kind]}_{self._id}_{index}", **fields)
        self._output.append(item)
        self._open = True
        added = {"type": "response.output_item.added", "output_index": index}
        out.append({**added, "item": item.model_dump()})
        if isinstance(item, FunctionCallItem):
            return out
        if isinstance(item, ReasoningItem):
            item.content.append(ReasoningText())
        else:
            item.content.append(OutputText())
        part = item.content[0].model_dump()
        return [*out, {"type": "response.content_part.added", **self._place(), "part": part}]

    def _close(self, status: ItemStatus) -> list[dict[str, Any]]:
        item, text = self._output[-1], "".join(self._text)
        self._text.clear()
        self._open = False
        item.status = status
        if isinstance(item, FunctionCallItem):
            item.arguments = text
            place = self._place(content=False)
            written = {"name": item.name, "arguments": text}
            out = [{"type": "response.function_call_arguments.done", **place, **written}]
        else:
            part = item.content[0]
            part.text = text
            place = self._place()
            done = {"type": f"response.{part.type}.done", **place, "text": text}
            if isinstance(part, OutputText):
                done["logprobs"] = []
            kind = "response.content_part.done"
            out = [done, {"type": kind, **place, "part": part.model_dump()}]
        index = len(self._output) - 1
        end = {"type": "response.output_item.done", "output_index": index}
        return [*out, {**end, "item": item.model_dump()}]

    def _finish(self, end: Finished) -> dict[str, Any]:
        cut, usage = self._reason == "length", end.usage
        self._reply.budget = end.report
        self._reply.incomplete_details = {"reason": "max_output_tokens"} if cut else None
        self._reply.usage = ResponseUsage(
            input_tokens=usage.prompt_tokens,
            output_tokens=usage.completion_tokens,
            output_tokens_details=OutputTokensDetails(reasoning_tokens=usage.reasoning_tokens),
            total_tokens=usage.prompt_tokens + usage.completion_tokens,
        )
        return self._settle("incomplete" if cut else "completed")

    def _settle(self, status: Literal["completed", "incomplete", "failed"]) -> dict[str, Any]:
        self._reply.status, self._reply.completed_at = status, int(time())
        return {"type": f"response.{status}", "response": self.whole()}

    def _frames(self, events: list[dict[str, Any]]) -> bytes:
        frames = []
        for event in events:
            numbered = {**event, "sequence_number": self._number}
            frames.append(f"event: {event['type']}\ndata: {to_json(numbered)}\n\n")
            self._number += 1
        return "".join(frames).encode()

    def _place(self, *, content: bool = True) -> dict[str, Any]:
        index = len(self._output) - 1
        place = {"item_id": self._output[index].id, "output_index": index}
        return {**place, "content_index": 0} if content else place


def _new_response(chat: PreparedChat, body: ResponsesRequest) -> ResponseObject:
    """The response before anything has come of it."""
    told = ("name", "strict", "description", "parameters")
    return ResponseObject(
        id=f"resp_{chat.request.request_id}",
        created_at=int(time()),
        instructions=body.instructions,
        max_output_tokens=body.max_output_tokens,
        metadata=body.metadata or {},
        model=chat.model.name,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        reasoning={"effort": body.reasoning and body.reasoning.effort, "summary": None},
        temperature=body.temperature,
        text={"format": (body.text and body.text.format) or {"type": "text"}},
        tool_choice=body.tool_choice or "auto",
        tools=[
            {"type": "function", **{name: tool.get(name) for name in told}}
            for tool in body.tools or ()
        ],
        top_p=body.top_p,
        user=body.user,
    )
