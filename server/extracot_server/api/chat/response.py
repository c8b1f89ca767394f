"""Replies of ``/v1/chat/completions``, whole and as a stream of chunks.

A chunk is a prefix made once per request plus ``json.dumps`` of the text: no object per token.
Knows nothing of budgets beyond passing the report on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from time import time
from typing import Any

from extracot.prompt import Tokenizer
from extracot.reasoning import Part
from extracot_server.api.chat.request import ChatCompletionRequest
from extracot_server.api.errors import HttpError
from extracot_server.api.sse import to_json
from extracot_server.config.settings import ReasoningField
from extracot_server.engine.base import EngineDeadError
from extracot_server.generation.detokenize import token_text
from extracot_server.generation.events import (
    CallDelta,
    ChoiceDone,
    Delta,
    Event,
    Finished,
    ShownLogprob,
)
from extracot_server.generation.request import PreparedChat
from extracot_server.generation.token_bytes import TokenBytes, token_bytes

_FIELDS: dict[ReasoningField, tuple[str, ...]] = {
    "both": ("reasoning", "reasoning_content"),
    "reasoning": ("reasoning",),
    "reasoning_content": ("reasoning_content",),
}


@dataclass(slots=True)
class _Choice:
    """The state of one of the ``n`` choices."""

    texts: dict[Part, list[str]] = field(
        default_factory=lambda: {Part.REASONING: [], Part.ANSWER: []}
    )
    refusal: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    logprobs: list[ShownLogprob] = field(default_factory=list)
    done: ChoiceDone | None = None


class ChatReply:
    """A chat completion from the events of one request: whole, or as ``data:`` frames."""

    def __init__(
        self,
        chat: PreparedChat,
        body: ChatCompletionRequest,
        reasoning_field: ReasoningField = "both",
    ) -> None:
        self._model = chat.model
        self._name = chat.reply_model
        self._reasoning = _FIELDS[body.reasoning_field or reasoning_field]
        if body.include_reasoning is False:
            self._reasoning = ()
        self._logprobs = bool(body.logprobs)
        self._token_bytes: TokenBytes | None = None
        options = body.stream_options
        self._include_usage = bool(options and options.include_usage)
        self._reply_id = f"chatcmpl-{chat.new_reply_id()}"
        self._created = int(time())
        head = {"id": self._reply_id, "object": "chat.completion.chunk", "created": self._created}
        head["model"] = self._name
        self._head = "data: " + to_json(head)[:-1]
        self._usage = ',"usage":null' if self._include_usage else ""
        self._started: set[int] = set()
        self._choices = [_Choice() for _ in range(chat.request.n)]
        self._end: Finished | None = None

    def begin(self) -> bytes:
        """Nothing: a choice begins with its first event."""
        return b""

    def failed(self, error: HttpError) -> bytes:
        """The error's body in place of a chunk."""
        return f"data: {to_json(error.body)}\n\n".encode()

    def end(self) -> bytes:
        """OpenAI's end of a stream."""
        return b"data: [DONE]\n\n"

    def encode(self, event: Event) -> bytes:
        """The frames of one event; empty where it shows nothing."""
        if isinstance(event, Delta):
            return self._delta(event)
        if isinstance(event, CallDelta):
            return self._call(event)
        if isinstance(event, ChoiceDone):
            opening = self._open(event.index)
            budget = f',"budget":{to_json(event.report.as_object())}'
            closing = self._chunk(event.index, "{}", f'"{event.finish_reason}"', extra=budget)
            return opening + closing
        return self._finished(event)

    def _delta(self, event: Delta) -> bytes:
        opening = self._open(event.index)
        text = to_json(event.text)
        if event.part is Part.REASONING:
            if not self._reasoning:
                return opening
            first, second = self._reasoning[0], self._reasoning[-1]
            also = "" if first is second else f',"{second}":{text}'
            body = f'{{"{first}":{text}{also}}}'
            return opening + self._chunk(event.index, body)
        body = f'{{"refusal":{text}}}' if event.refusal else f'{{"content":{text}}}'
        logprobs = "null"
        if self._logprobs and event.logprobs:
            logprobs = to_json(self._logprob_table(event.logprobs))
        return opening + self._chunk(event.index, body, logprobs=logprobs)

    def _call(self, event: CallDelta) -> bytes:
        part = event.part
        call: dict[str, Any] = {"index": part.call}
        function = {"arguments": part.arguments}
        if part.name is not None:
            call |= {"id": part.id, "type": "function"}
            function = {"name": part.name, **function}
        body = to_json({"tool_calls": [{**call, "function": function}]})
        return self._open(event.index) + self._chunk(event.index, body)

    def _open(self, index: int) -> bytes:
        if index in self._started:
            return b""
        self._started.add(index)
        return self._chunk(index, '{"role":"assistant","content":""}')

    def _chunk(
        self,
        index: int,
        delta: str,
        finish: str = "null",
        *,
        logprobs: str = "null",
        extra: str = "",
    ) -> bytes:
        return (
            f'{self._head},"choices":[{{"index":{index},"delta":{delta},"logprobs":{logprobs},'
            f'"finish_reason":{finish}}}]{self._usage}{extra}}}\n\n'
        ).encode()

    def _finished(self, event: Finished) -> bytes:
        if not self._include_usage:
            return b""
        usage, budget = to_json(event.usage.as_openai()), to_json(event.report.as_object())
        return f'{self._head},"choices":[],"usage":{usage},"budget":{budget}}}\n\n'.encode()

    def _logprob_table(self, logprobs: tuple[ShownLogprob, ...]) -> dict[str, Any]:
        tokenizer = self._model.runtime.engine.tokenizer
        if self._token_bytes is None:
            self._token_bytes = token_bytes(tokenizer)
        rows = []
        for item, data in logprobs:
            row = _logprob_row(tokenizer, item.token_id, item.logprob, data)
            row["top_logprobs"] = [
                _logprob_row(tokenizer, i, lp, self._token_bytes(i)) for i, lp in item.top
            ]
            rows.append(row)
        return {"content": rows, "refusal": None}

    def add(self, event: Event) -> None:
        """See :class:`~extracot_server.api.exchange.ReplyWriter`."""
        if isinstance(event, Finished):
            self._end = event
            return
        choice = self._choices[event.index]
        if isinstance(event, Delta):
            (choice.refusal if event.refusal else choice.texts[event.part]).append(event.text)
            choice.logprobs.extend(event.logprobs)
        elif isinstance(event, CallDelta):
            part = event.part
            if part.name is not None:
                function = {"name": part.name, "arguments": ""}
                choice.calls.append({"id": part.id, "type": "function", "function": function})
            choice.calls[-1]["function"]["arguments"] += part.arguments
        else:
            choice.done = event

    def whole(self) -> dict[str, Any]:
        """See :class:`~extracot_server.api.exchange.ReplyWriter`."""
        end = self._end
        if end is None:
            raise EngineDeadError("the reply ended without its report")
        return {
            "id": self._reply_id,
            "object": "chat.completion",
            "created": self._created,
            "model": self._name,
            "choices": [self._choice(choice) for choice in self._choices],
            "usage": end.usage.as_openai(),
            "budget": end.report.as_object(),
        }

    def _choice(self, choice: _Choice) -> dict[str, Any]:
        done = choice.done
        if done is None:
            raise EngineDeadError("a reply ended without its report")
        reasoning, answer = ("".join(choice.texts[part]) for part in (Part.REASONING, Part.ANSWER))
        refusal = "".join(choice.refusal) or None
        content = answer if answer or not (choice.calls or refusal) else None
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": refusal}
        message |= dict.fromkeys(self._reasoning, reasoning or None)
        if choice.calls:
            message["tool_calls"] = choice.calls
        logprobs = self._logprob_table(tuple(choice.logprobs)) if self._logprobs else None
        return {
            "index": done.index,
            "message": message,
            "logprobs": logprobs,
            "finish_reason": done.finish_reason,
            "budget": done.report.as_object(),
        }


def _logprob_row(
    tokenizer: Tokenizer, token_id: int, logprob: float, data: bytes
) -> dict[str, Any]:
    try:  # as it is in the content, where it is whole characters
        text = data.decode() or token_text(tokenizer, token_id)
    except UnicodeDecodeError:
        text = token_text(tokenizer, token_id)
    return {"token": text, "logprob": max(logprob, -9999.0), "bytes": list(data)}
