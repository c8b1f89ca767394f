"""A reply of ``POST /v1/responses``, whole or as a stream: items, official events, their numbers.

Both come from one writer that is fed the same events, so they cannot differ. Knows no body beyond
what a reply repeats of it.
"""

from __future__ import annotations

from collections.abc import Callable
from time import time
from typing import Any, Literal
from uuid import uuid4

from extracot.reasoning import Part
from extracot_server.api.errors import HttpError
from extracot_server.api.responses.request import ResponsesRequest
from extracot_server.api.responses.schemas import (
    FunctionCallItem,
    InputTokensDetails,
    Item,
    ItemStatus,
    MessageItem,
    OutputRefusal,
    OutputText,
    OutputTokensDetails,
    ReasoningItem,
    ReasoningText,
    ResponseObject,
    ResponseUsage,
    SummaryText,
)
from extracot_server.api.sse import to_json
from extracot_server.generation.events import CallDelta, ChoiceDone, Delta, Event, Finished
from extracot_server.generation.request import PreparedChat

_PREFIXES: dict[type[Item], str] = {ReasoningItem: "rs", MessageItem: "msg", FunctionCallItem: "fc"}
TextPart = ReasoningText | SummaryText | OutputText | OutputRefusal
_CUT = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Reasons for an end for which a response is incomplete, and what it calls them."""


class ResponseWriter:
    """Turns our events into those of the Responses API, and keeps the response up to date.

    ``hold`` is given each item once it is whole; ``None``: nothing is to be kept of this reply.
    ``seal`` makes of reasoning what a client may send back; ``None``: it has not asked for that.
    """

    def __init__(
        self,
        chat: PreparedChat,
        body: ResponsesRequest,
        hold: Callable[[dict[str, Any]], None] | None = None,
        seal: Callable[[str], str | None] | None = None,
    ) -> None:
        # Not of the request's id, which a client may send again: these name one item for ever.
        self._id = uuid4().hex
        self._show_reasoning = body.include_reasoning is not False
        self._reasoning_part: type[TextPart] = SummaryText if body.summary else ReasoningText
        self._offered = body.offered
        self._hold, self._seal = hold, seal
        self._reply = _new_response(chat, body, stored=hold is not None)
        self._output = self._reply.output
        self._part: TextPart | None = None
        self._delta_head: dict[str, Any] = {}
        """What is the same in each event of the open item's text."""
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
            return start + self._close("incomplete" if self._reason in _CUT else "completed")
        return [self._finish(event)]

    def _delta(self, event: Delta) -> list[dict[str, Any]]:
        reasoning = event.part is Part.REASONING
        hidden = reasoning and not self._show_reasoning
        if (hidden and self._seal is None) or not event.text:
            return []
        kind = ReasoningItem if reasoning else MessageItem
        goes_on = self._open and isinstance(self._output[-1], kind)
        if goes_on and isinstance(self._part, OutputRefusal) == event.refusal:
            out = []
        else:
            out = self._begin(kind, refusal=event.refusal)
        self._text.append(event.text)
        if hidden:
            return out
        delta = {**self._delta_head, "delta": event.text}
        if isinstance(self._part, OutputText):
            delta["logprobs"] = []
        return [*out, delta]

    def _call(self, event: CallDelta) -> list[dict[str, Any]]:
        part, out = event.part, []
        if part.name is not None:
            namespace, name = self._offered.namespaces.get(part.name, (None, part.name))
            out = self._begin(FunctionCallItem, call_id=part.id, name=name, namespace=namespace)
        if part.arguments:
            self._text.append(part.arguments)
            out.append({**self._delta_head, "delta": part.arguments})
        return out

    def _begin(
        self, kind: type[Item], *, refusal: bool = False, **fields: Any
    ) -> list[dict[str, Any]]:
        """A new item after the end of the last one, and for text its only part."""
        out = self._close("completed") if self._open else []
        index = len(self._output)
        item = kind(id=f"{_PREFIXES[kind]}_{self._id}_{index}", **fields)
        self._output.append(item)
        self._open = True
        added = {"type": "response.output_item.added", "output_index": index}
        out.append({**added, "item": item.model_dump()})
        self._part = self._new_part(item, refusal=refusal)
        self._delta_head = {"type": f"{self._text_event}.delta", **self._place()}
        if self._part is not None:
            part = self._part.model_dump()
            out.append({"type": f"{self._part_event}.added", **self._place(), "part": part})
        return out

    def _new_part(self, item: Item, *, refusal: bool) -> TextPart | None:
        """The part that an item's text goes into; a call has none, nor has what is hidden."""
        if isinstance(item, FunctionCallItem):
            return None
        if isinstance(item, ReasoningItem) and not self._show_reasoning:
            return None
        if isinstance(item, MessageItem):
            item.content.append(said := OutputRefusal() if refusal else OutputText())
            return said
        if self._reasoning_part is SummaryText:
            item.summary.append(summary := SummaryText())
            return summary
        item.content.append(reasoning := ReasoningText())
        return reasoning

    def _close(self, status: ItemStatus) -> list[dict[str, Any]]:
        item, text = self._output[-1], "".join(self._text)
        self._text.clear()
        self._open = False
        item.status = status
        if isinstance(item, ReasoningItem) and self._seal is not None:
            item.encrypted_content = self._seal(text)
        if isinstance(item, FunctionCallItem):
            item.arguments = text
            written = {"name": item.name, "arguments": text}
            out = [{"type": f"{self._text_event}.done", **self._place(), **written}]
        elif self._part is None:
            out = []
        else:
            name = "refusal" if isinstance(self._part, OutputRefusal) else "text"
            setattr(self._part, name, text)
            place = self._place()
            done = {"type": f"{self._text_event}.done", **place, name: text}
            if isinstance(self._part, OutputText):
                done["logprobs"] = []
            kind, part = f"{self._part_event}.done", self._part.model_dump()
            out = [done, {"type": kind, **place, "part": part}]
        whole = item.model_dump()
        if self._hold is not None:
            self._hold(whole)
        index = len(self._output) - 1
        return [*out, {"type": "response.output_item.done", "output_index": index, "item": whole}]

    def _finish(self, end: Finished) -> dict[str, Any]:
        cut, usage = _CUT.get(self._reason), end.usage
        self._reply.budget = end.report
        self._reply.incomplete_details = {"reason": cut} if cut else None
        self._reply.usage = ResponseUsage(
            input_tokens=usage.prompt_tokens,
            input_tokens_details=InputTokensDetails(cached_tokens=usage.cached_tokens or 0),
            output_tokens=usage.completion_tokens,
            output_tokens_details=OutputTokensDetails(reasoning_tokens=usage.reasoning_tokens),
            total_tokens=usage.prompt_tokens + usage.completion_tokens,
        )
        return self._settle("incomplete" if cut else "completed")

    def _settle(self, status: Literal["completed", "incomplete", "failed"]) -> dict[str, Any]:
        self._reply.status = status
        self._reply.completed_at = int(time()) if status == "completed" else None
        return {"type": f"response.{status}", "response": self.whole()}

    def _frames(self, events: list[dict[str, Any]]) -> bytes:
        frames = []
        for event in events:
            numbered = {**event, "sequence_number": self._number}
            frames.append(f"event: {event['type']}\ndata: {to_json(numbered)}\n\n")
            self._number += 1
        return "".join(frames).encode()

    @property
    def _text_event(self) -> str:
        """What the events of the open item's text are called."""
        if self._part is None:
            return "response.function_call_arguments"
        if isinstance(self._part, SummaryText):
            return "response.reasoning_summary_text"
        if isinstance(self._part, OutputRefusal):
            return "response.refusal"
        reasoning = isinstance(self._part, ReasoningText)
        return "response.reasoning_text" if reasoning else "response.output_text"

    @property
    def _part_event(self) -> str:
        """What the events of the open part itself are called."""
        summary = isinstance(self._part, SummaryText)
        return "response.reasoning_summary_part" if summary else "response.content_part"

    def _place(self) -> dict[str, Any]:
        """Where the open item is, and the part in it that is written."""
        index = len(self._output) - 1
        place = {"item_id": self._output[index].id, "output_index": index}
        if self._part is None:
            return place
        summary = isinstance(self._part, SummaryText)
        return {**place, "summary_index" if summary else "content_index": 0}


def _new_response(chat: PreparedChat, body: ResponsesRequest, *, stored: bool) -> ResponseObject:
    """The response before anything has come of it."""
    reasoning, text = body.reasoning, body.text
    return ResponseObject(
        id=f"resp_{chat.new_reply_id()}",
        created_at=int(time()),
        instructions=body.instructions,
        max_output_tokens=body.max_output_tokens,
        max_tool_calls=body.max_tool_calls,
        metadata=body.metadata or {},
        model=chat.reply_model,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        prompt_cache_key=body.prompt_cache_key,
        reasoning={"effort": reasoning and reasoning.effort, "summary": body.summary},
        safety_identifier=body.safety_identifier,
        store=stored,
        temperature=body.temperature,
        text={
            "format": (text and text.format) or {"type": "text"},
            "verbosity": text and text.verbosity,
        },
        tool_choice=body.tool_choice or "auto",
        tools=[dict(tool) for tool in body.offered.shown],
        top_p=body.top_p,
        user=body.user,
    )
