"""Chat completion chunks: what a stream of ``/v1/chat/completions`` consists of.

A chunk is a prefix made once per request plus ``json.dumps`` of the text: no object per token.
Knows nothing of budgets beyond passing the report on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from extracot.reasoning import Part
from extracot_server.api.errors import HttpError
from extracot_server.api.sse import to_json
from extracot_server.engine.base import TokenLogprob
from extracot_server.generation.events import CallDelta, ChoiceDone, Delta, Event, Finished


class ChunkEncoder:
    """Turns the events of one request into ``data:`` frames."""

    def __init__(
        self,
        *,
        reply_id: str,
        created: int,
        model: str,
        include_usage: bool,
        include_reasoning: bool,
        logprobs: Callable[[tuple[TokenLogprob, ...]], dict[str, Any]] | None,
    ) -> None:
        head = {"id": reply_id, "object": "chat.completion.chunk", "created": created}
        head["model"] = model
        self._head = "data: " + to_json(head)[:-1]
        self._usage = ',"usage":null' if include_usage else ""
        self._include_usage = include_usage
        self._include_reasoning = include_reasoning
        self._logprobs = logprobs
        self._started: set[int] = set()

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
            closing = self._choice(event.index, "{}", f'"{event.finish_reason}"', extra=budget)
            return opening + closing
        return self._finished(event)

    def _delta(self, event: Delta) -> bytes:
        opening = self._open(event.index)
        text = to_json(event.text)
        if event.part is Part.REASONING:
            if not self._include_reasoning:
                return opening
            body = f'{{"reasoning":{text},"reasoning_content":{text}}}'
            return opening + self._choice(event.index, body)
        body = f'{{"content":{text}}}'
        logprobs = "null"
        if self._logprobs is not None and event.logprobs:
            logprobs = to_json(self._logprobs(event.logprobs))
        return opening + self._choice(event.index, body, logprobs=logprobs)

    def _call(self, event: CallDelta) -> bytes:
        part = event.part
        call: dict[str, Any] = {"index": part.call}
        function = {"arguments": part.arguments}
        if part.name is not None:
            call |= {"id": part.id, "type": "function"}
            function = {"name": part.name, **function}
        body = to_json({"tool_calls": [{**call, "function": function}]})
        return self._open(event.index) + self._choice(event.index, body)

    def _open(self, index: int) -> bytes:
        if index in self._started:
            return b""
        self._started.add(index)
        return self._choice(index, '{"role":"assistant","content":""}')

    def _choice(
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
