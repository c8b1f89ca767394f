"""A reply of ``POST /v1/responses``, whole or as a stream: items, official events, their numbers.

Both come from one writer that is fed the same events, so they cannot differ. Knows no body beyond
what a reply repeats of it.
"""

from __future__ import annotations

from time import time
from typing import Any, Literal

from extracot.reasoning import Part
from extracot_server.api.errors import HttpError
from extracot_server.api.exchange import WrittenShape
from extracot_server.api.responses.request import ResponsesRequest
from extracot_server.api.sse import to_json
from extracot_server.generation.events import CallDelta, ChoiceDone, Delta, Event, Finished
from extracot_server.generation.request import PreparedChat

Status = Literal["in_progress", "completed", "incomplete", "failed"]


def response_shape(chat: PreparedChat, body: ResponsesRequest) -> WrittenShape:
    """A response, whole or in events."""
    writer = ResponseWriter(chat, body)
    return WrittenShape(writer, ResponseEncoder(writer))


class ResponseEncoder:
    """Frames of a stream; see :class:`~extracot_server.api.sse.Encoder`."""

    def __init__(self, writer: ResponseWriter) -> None:
        self._writer = writer
        self._number = 0

    def begin(self) -> bytes:
        """The response before anything has come of it."""
        response = self._writer.reply
        return self._frames(
            [
                {"type": f"response.{name}", "response": response}
                for name in ("created", "in_progress")
            ]
        )

    def encode(self, event: Event) -> bytes:
        """The events that one of ours becomes."""
        return self._frames(self._writer.write(event))

    def failed(self, error: HttpError) -> bytes:
        """The response as far as it got, and why it ended."""
        return self._frames([self._writer.fail(error)])

    def end(self) -> bytes:
        """Nothing: a stream ends with the response's last event."""
        return b""

    def _frames(self, events: list[dict[str, Any]]) -> bytes:
        frames = []
        for event in events:
            numbered = {**event, "sequence_number": self._number}
            frames.append(f"event: {event['type']}\ndata: {to_json(numbered)}\n\n")
            self._number += 1
        return "".join(frames).encode()


class ResponseWriter:
    """Turns our events into those of the Responses API, and keeps the response up to date."""

    def __init__(self, chat: PreparedChat, body: ResponsesRequest) -> None:
        self._id = chat.request.request_id
        self._show_reasoning = body.include_reasoning is not False
        self._output: list[dict[str, Any]] = []
        self._open = False
        self._reason = "stop"
        self.reply = _empty(chat, body) | {"output": self._output}

    def write(self, event: Event) -> list[dict[str, Any]]:
        """The events that follow from one of ours."""
        if isinstance(event, Delta):
            return self._text(event)
        if isinstance(event, CallDelta):
            return self._call(event)
        if isinstance(event, ChoiceDone):
            self._reason = event.finish_reason
            start = [] if self._output else self._begin("message")
            return start + self._close("incomplete" if self._reason == "length" else "completed")
        return [self._finish(event)]

    def fail(self, error: HttpError) -> dict[str, Any]:
        """The last event of a response that broke off."""
        if self._open:
            self._close("incomplete")
        failure = {"code": "server_error", "message": error.message}
        self._settle("failed", error=failure)
        return {"type": "response.failed", "response": self.reply}

    def _text(self, event: Delta) -> list[dict[str, Any]]:
        reasoning = event.part is Part.REASONING
        if (reasoning and not self._show_reasoning) or not event.text:
            return []
        kind = "reasoning" if reasoning else "message"
        out = self._turn_to(kind)
        self._output[-1]["content"][0]["text"] += event.text
        delta = {"type": f"response.{_part_of(kind)}.delta", **self._place(), "delta": event.text}
        return [*out, delta if reasoning else {**delta, "logprobs": []}]

    def _call(self, event: CallDelta) -> list[dict[str, Any]]:
        part, out = event.part, []
        if part.name is not None:
            out = self._turn_to("function_call", again=True)
            self._output[-1] |= {"call_id": part.id, "name": part.name}
            out[-1]["item"] = dict(self._output[-1])
        if part.arguments:
            self._output[-1]["arguments"] += part.arguments
            place = self._place(content=False)
            kind = "response.function_call_arguments.delta"
            out.append({"type": kind, **place, "delta": part.arguments})
        return out

    def _turn_to(self, kind: str, *, again: bool = False) -> list[dict[str, Any]]:
        if self._open and self._output[-1]["type"] == kind and not again:
            return []
        return (self._close("completed") if self._open else []) + self._begin(kind)

    def _begin(self, kind: str) -> list[dict[str, Any]]:
        """A new item, and for text its only part."""
        item = _item(kind, self._id, len(self._output))
        part = _part(kind)
        added = {
            "type": "response.output_item.added",
            "output_index": len(self._output),
            "item": dict(item),
        }
        self._output.append(item)
        self._open = True
        if part is None:
            return [added]
        item["content"] = [part]
        return [
            added,
            {"type": "response.content_part.added", **self._place(), "part": dict(part)},
        ]

    def _close(self, status: Status) -> list[dict[str, Any]]:
        item = self._output[-1]
        item["status"] = status
        self._open = False
        done = {
            "type": "response.output_item.done",
            "output_index": len(self._output) - 1,
            "item": item,
        }
        if item["type"] == "function_call":
            place = self._place(content=False)
            written = {"name": item["name"], "arguments": item["arguments"]}
            kind = "response.function_call_arguments.done"
            return [{"type": kind, **place, **written}, done]
        part = item["content"][0]
        kind = f"response.{part['type']}.done"
        text = {"type": kind, **self._place(), "text": part["text"]}
        if part["type"] == "output_text":
            text["logprobs"] = []
        return [
            text,
            {"type": "response.content_part.done", **self._place(), "part": part},
            done,
        ]

    def _finish(self, end: Finished) -> dict[str, Any]:
        cut = self._reason == "length"
        status: Status = "incomplete" if cut else "completed"
        self._settle(status, budget=end.report.as_object())
        self.reply["incomplete_details"] = {"reason": "max_output_tokens"} if cut else None
        usage = end.usage
        self.reply["usage"] = {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        }
        return {"type": f"response.{status}", "response": self.reply}

    def _settle(self, status: Status, **fields: Any) -> None:
        self.reply |= {"status": status, "completed_at": int(time()), **fields}

    def _place(self, *, content: bool = True) -> dict[str, Any]:
        index = len(self._output) - 1
        place = {"item_id": self._output[index]["id"], "output_index": index}
        return {**place, "content_index": 0} if content else place


def _part_of(kind: str) -> str:
    return "reasoning_text" if kind == "reasoning" else "output_text"


def _part(kind: str) -> dict[str, Any] | None:
    if kind == "function_call":
        return None
    part: dict[str, Any] = {"type": _part_of(kind), "text": ""}
    return part if kind == "reasoning" else {**part, "annotations": [], "logprobs": []}


def _item(kind: str, reply_id: str, index: int) -> dict[str, Any]:
    prefix = {"reasoning": "rs", "message": "msg", "function_call": "fc"}[kind]
    item: dict[str, Any] = {"id": f"{prefix}_{reply_id}_{index}", "type": kind}
    item["status"] = "in_progress"
    match kind:
        case "reasoning":
            return {**item, "summary": [], "content": []}
        case "message":
            return {**item, "role": "assistant", "content": []}
    return {**item, "call_id": "", "name": "", "arguments": ""}


def _empty(chat: PreparedChat, body: ResponsesRequest) -> dict[str, Any]:
    """The response before anything has come of it."""
    reasoning = body.reasoning
    tools = [
        {"type": "function", "name": tool["name"], "strict": tool.get("strict")}
        | {name: tool.get(name) for name in ("description", "parameters")}
        for tool in body.tools or []
    ]
    form = body.text.format if body.text is not None else None
    return {
        "id": f"resp_{chat.request.request_id}",
        "object": "response",
        "created_at": int(time()),
        "completed_at": None,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata or {},
        "model": chat.model.name,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {
            "effort": reasoning.effort if reasoning is not None else None,
            "summary": None,
        },
        "store": False,
        "temperature": body.temperature,
        "text": {"format": form or {"type": "text"}},
        "tool_choice": body.tool_choice or "auto",
        "tools": tools,
        "top_p": body.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": body.user,
        "budget": None,
    }
