"""A reply of ``POST /v1/messages``, whole or as a stream: blocks, and Anthropic's events.

Both come from one writer that is fed the same events, so they cannot differ. Knows no body beyond
what a reply depends on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from extracot.reasoning import Part
from extracot.report import BudgetReport
from extracot_server.api.body import ReplyModel
from extracot_server.api.contents import writable_object
from extracot_server.api.earlier_reasoning import UNSIGNED
from extracot_server.api.errors import HttpError, anthropic_body
from extracot_server.api.messages.request import MessagesRequest
from extracot_server.api.sse import to_json
from extracot_server.errors import encodable
from extracot_server.generation.events import CallDelta, ChoiceDone, Delta, Event, Finished
from extracot_server.generation.request import PreparedChat

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]
_STOP_REASONS: dict[str, StopReason] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


class ThinkingBlock(ReplyModel):
    """What the model thought, or with `display: omitted` its signature alone."""

    type: Literal["thinking"]
    thinking: str
    signature: str = Field(
        description="of thinking that is left out the thinking itself, sealed, to be sent back; "
        "else always the same words, for clients take an empty one amiss"
    )


class TextBlock(ReplyModel):
    """The answer."""

    type: Literal["text"]
    text: str


class ToolUseBlock(ReplyModel):
    """A call of one of the request's tools."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class ThinkingTokens(ReplyModel):
    """Parts of the generated tokens."""

    thinking_tokens: int


class MessageUsage(ReplyModel):
    """Token counts; thinking is part of the output.

    The prompt is all input tokens together. The parts of a cache are absent where they are not
    known, and `input_tokens` is the whole prompt then.
    """

    input_tokens: int = Field(description="the prompt, without `cache_read_input_tokens`")
    cache_creation_input_tokens: Literal[0] | SkipJsonSchema[None] = Field(
        None, description="always 0: no prompt takes more for being cached"
    )
    cache_read_input_tokens: int | SkipJsonSchema[None] = Field(
        None, description="tokens of the prompt that came from the engine's prefix cache"
    )
    output_tokens: int
    output_tokens_details: ThinkingTokens


class MessageObject(ReplyModel):
    """A whole message."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[ThinkingBlock | TextBlock | ToolUseBlock]
    stop_reason: StopReason
    stop_sequence: str | None
    usage: MessageUsage
    budget: BudgetReport


class InputTokens(ReplyModel):
    """The reply of `count_tokens`."""

    input_tokens: int


class MessageWriter:
    """Turns our events into Anthropic's, and keeps the message up to date.

    ``seal`` makes of thinking that is not shown what a client may send back.
    """

    def __init__(
        self, chat: PreparedChat, body: MessagesRequest, seal: Callable[[str], str | None]
    ) -> None:
        self._seal = seal
        self._show_thinking = all(say.shown is not False for say in body.says)
        self._content: list[dict[str, Any]] = []
        self._open: str | None = None
        self._text: list[str] = []
        self._reply: dict[str, Any] = {
            "id": f"msg_{chat.new_reply_id()}",
            "type": "message",
            "role": "assistant",
            "model": chat.reply_model,
            "content": self._content,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": chat.prompt_tokens, "output_tokens": 0},
        }

    def begin(self) -> bytes:
        """The message before anything has come of it."""
        return _frames([{"type": "message_start", "message": self._reply}])

    def encode(self, event: Event) -> bytes:
        """Anthropic's events that follow from one of ours."""
        return _frames(self.add(event))

    def failed(self, error: HttpError) -> bytes:
        """An error ends a stream as it is."""
        return _frames([anthropic_body(error)])

    def end(self) -> bytes:
        """Nothing: the message says itself that it has ended."""
        return b""

    def whole(self) -> dict[str, Any]:
        """See :class:`~extracot_server.api.exchange.ReplyWriter`."""
        return self._reply

    def add(self, event: Event) -> list[dict[str, Any]]:
        """The events that follow from one of ours."""
        if isinstance(event, Delta):
            return self._text_delta(event)
        if isinstance(event, CallDelta):
            return self._call(event)
        if isinstance(event, ChoiceDone):
            stop = event.stop
            reason = "stop_sequence" if stop is not None else _STOP_REASONS[event.finish_reason]
            self._reply |= {"stop_reason": reason, "stop_sequence": stop}
            return self._close()
        return self._finish(event)

    def _text_delta(self, event: Delta) -> list[dict[str, Any]]:
        if not event.text:
            return []
        kind = "thinking" if event.part is Part.REASONING else "text"
        block: dict[str, Any] = {"type": kind, kind: ""}
        if kind == "thinking":
            block["signature"] = ""
        out = [] if self._open == kind else self._begin(block)
        self._text.append(event.text)
        if kind == "thinking" and not self._show_thinking:
            return out
        return [*out, self._delta({"type": f"{kind}_delta", kind: event.text})]

    def _call(self, event: CallDelta) -> list[dict[str, Any]]:
        part, out = event.part, []
        if part.name is not None:
            out = self._begin({"type": "tool_use", "id": part.id, "name": part.name, "input": {}})
        if part.arguments:
            self._text.append(part.arguments)
            delta = {"type": "input_json_delta", "partial_json": part.arguments}
            out.append(self._delta(delta))
        return out

    def _begin(self, block: dict[str, Any]) -> list[dict[str, Any]]:
        out = self._close()
        self._content.append(block)
        self._open = block["type"]
        start = {
            "type": "content_block_start",
            "index": len(self._content) - 1,
            "content_block": dict(block),
        }
        return [*out, start]

    def _close(self) -> list[dict[str, Any]]:
        """End the present block: its text is whole now, and a call's input can be read."""
        if self._open is None:
            return []
        out, block, text = [], self._content[-1], "".join(self._text)
        self._text.clear()
        if self._open == "tool_use":
            block["input"] = _read_input(text)
        elif self._open == "thinking":
            shown = self._show_thinking
            block["thinking"] = text if shown else ""
            block["signature"] = signature = (None if shown else self._seal(text)) or UNSIGNED
            out.append(self._delta({"type": "signature_delta", "signature": signature}))
        else:
            block[self._open] = text
        self._open = None
        return [*out, {"type": "content_block_stop", "index": len(self._content) - 1}]

    def _delta(self, delta: dict[str, Any]) -> dict[str, Any]:
        index = len(self._content) - 1
        return {"type": "content_block_delta", "index": index, "delta": delta}

    def _finish(self, end: Finished) -> list[dict[str, Any]]:
        message, usage = self._reply, end.usage
        cached, cache = usage.cached_tokens, {}
        if cached is not None:
            cache = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": cached}
        message["usage"] = {
            "input_tokens": usage.prompt_tokens - (cached or 0),
            **cache,
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
        }
        message["budget"] = end.report.as_object()
        delta = {name: message[name] for name in ("stop_reason", "stop_sequence")}
        told = {"usage": message["usage"], "budget": message["budget"]}
        return [{"type": "message_delta", "delta": delta, **told}, {"type": "message_stop"}]


def _read_input(arguments: str) -> dict[str, Any]:
    """A call's input; what is no JSON object is wrapped in one, as Anthropic advises.

    Nothing at all, where a limit ended the reply before them, is `{}`, as SDKs read a stream.
    """
    if not arguments.strip():
        return {}
    found = writable_object(arguments)
    return {"INVALID_JSON": encodable(arguments)} if found is None else found


def _frames(events: list[dict[str, Any]]) -> bytes:
    return "".join(
        f"event: {event['type']}\ndata: {to_json(event)}\n\n" for event in events
    ).encode()
