"""From the chunks of one streamed chat completion to typed events and a :class:`Solution`.

No input or output happens here: :class:`StreamReader` is fed bytes by the sync and the async
stream alike, so that the two cannot differ. It decides when a reply is whole: only ``[DONE]``
after a ``finish_reason`` is an end, everything else is a broken stream.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from extracot.answers import extract_answer
from extracot_client import errors
from extracot_client.retries import Clock
from extracot_client.sse import SSEDecoder
from extracot_client.types import (
    AnswerDelta,
    BudgetReport,
    Done,
    Event,
    ReasoningDelta,
    Solution,
    Timings,
    Usage,
)

M = TypeVar("M", bound=BaseModel)
_HALF = re.compile("[\ud800-\udfff]")
_ESCAPED_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def parse_model(model: type[M], value: Any, what: str, request_id: str | None) -> M:
    """``value`` as ``model``; raises :class:`UnexpectedReplyError` naming the first bad field."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise errors.UnexpectedReplyError(
            f"The server's {what} is not as expected: {where or 'it'}: {first['msg']}",
            request_id=request_id,
        ) from None


def _text(value: object) -> str:
    if value is not None and not isinstance(value, str):
        raise TypeError("text expected")
    return value or ""


def mended(text: str) -> str:
    """``text`` with the halves of a character (surrogates) joined; one that is alone is U+FFFD.

    >>> mended("hi \\ud83d\\ude00") == "hi \\U0001f600", mended("hi \\ud83d") == "hi \\ufffd"
    (True, True)
    """
    if _HALF.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def mended_json(value: Any) -> Any:
    """``value`` with all its texts mended."""
    if isinstance(value, str):
        return mended(value)
    if isinstance(value, list):
        return [mended_json(item) for item in value]
    if isinstance(value, dict):
        return {mended_json(name): mended_json(item) for name, item in value.items()}
    return value


class Text(list[str]):
    """The pieces of one text, mended; half a character at the end of one waits for the next."""

    _held = ""

    def add(self, piece: str) -> str:
        """Take the next piece in; gives what can be shown now."""
        piece = self._held + piece
        cut = len(piece) - ("\ud800" <= piece[-1:] <= "\udbff")
        self._held = piece[cut:]
        return self._keep(piece[:cut])

    def end(self) -> str:
        """What is still to be shown when no piece follows."""
        held, self._held = self._held, ""
        return self._keep(held)

    def _keep(self, piece: str) -> str:
        piece = mended(piece)
        if piece:
            self.append(piece)
        return piece


_CALLED = {"function": "arguments", "custom": "input"}
"""What a tool call has by its kind: JSON for a function, free text for a custom tool."""


def add_call(calls: dict[int, dict[str, Any]], place: int, part: Mapping[str, Any]) -> None:
    """Add a part of a tool call to ``calls``, by its index (else by its place among the parts).

    Raises ``TypeError`` or ``AttributeError`` on a part of another shape.
    """
    index = part.get("index")
    index = place if index is None else index
    if not isinstance(index, int):
        raise TypeError("number expected")
    call = calls.setdefault(index, {"id": "", "type": "function"})
    for name in ("id", "type"):
        call[name] = _text(part.get(name)) or call[name]
    for kind, said in _CALLED.items():
        if part.get(kind) is not None:
            called = call.setdefault(kind, dict.fromkeys(("name", said), ""))
            for name in called:
                called[name] += _text(part[kind].get(name))


@dataclass(slots=True)
class ReplyAssembler:
    """Collects the chunks of choice 0: text, tool calls, finish reason, usage and report."""

    reasoning: Text = field(default_factory=Text)
    answer: Text = field(default_factory=Text)
    finish_reason: str | None = None
    escapes: bool = False
    """Whether any text but these two may hold half a character."""
    _calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    _head: dict[str, Any] = field(default_factory=dict)
    _logprobs: list[Any] = field(default_factory=list)
    _usage: dict[str, Any] | None = None
    _budget: dict[str, Any] | None = None

    def add(self, chunk: Mapping[str, Any]) -> list[ReasoningDelta | AnswerDelta]:
        """Take one chunk in; gives the text it brought. Raises ``TypeError``, ``KeyError`` or
        ``AttributeError`` on a chunk of another shape."""
        for name in ("id", "created", "model", "system_fingerprint"):
            if chunk.get(name) is not None:
                self._head[name] = chunk[name]
        if chunk.get("usage") is not None:
            self._usage = dict(chunk["usage"])
        deltas: list[ReasoningDelta | AnswerDelta] = []
        for choice in chunk.get("choices") or ():
            if choice.get("index", 0) == 0:
                deltas += self._add_choice(choice)
        # The usage chunk comes last and sums the request up, so that later reports replace it.
        if chunk.get("budget") is not None:
            self._budget = dict(chunk["budget"])
        return deltas

    def _add_choice(self, choice: Mapping[str, Any]) -> list[ReasoningDelta | AnswerDelta]:
        delta = choice.get("delta") or {}
        deltas: list[ReasoningDelta | AnswerDelta] = []
        # Both names carry the same text; only one of them counts.
        reasoning = _text(delta.get("reasoning") or delta.get("reasoning_content"))
        # A refusal stands in place of an answer, and is shown as one.
        content = _text(delta.get("content")) or _text(delta.get("refusal"))
        if shown := self.reasoning.add(reasoning):
            deltas.append(ReasoningDelta(shown))
        if shown := self.answer.add(content):
            deltas.append(AnswerDelta(shown))
        for place, part in enumerate(delta.get("tool_calls") or ()):
            add_call(self._calls, place, part)
        if choice.get("finish_reason") is not None:
            self.finish_reason = str(choice["finish_reason"])
        if choice.get("budget") is not None:
            self._budget = dict(choice["budget"])
        self._logprobs += (choice.get("logprobs") or {}).get("content") or []
        return deltas

    def end(self) -> list[ReasoningDelta | AnswerDelta]:
        """The text that waited for more; none comes."""
        deltas: list[ReasoningDelta | AnswerDelta] = []
        if shown := self.reasoning.end():
            deltas.append(ReasoningDelta(shown))
        if shown := self.answer.end():
            deltas.append(AnswerDelta(shown))
        return deltas

    def solution(self, timings: Timings, request_id: str | None) -> Solution:
        """The whole reply; raises :class:`UnexpectedReplyError` if report or usage are odd."""
        answer, reasoning = "".join(self.answer), "".join(self.reasoning)
        calls = [call for _, call in sorted(self._calls.items())]
        content = answer if answer or not calls else None
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if reasoning:
            message["reasoning"] = message["reasoning_content"] = reasoning
        if calls:
            message["tool_calls"] = calls
        choice: dict[str, Any] = {
            "index": 0,
            "message": message,
            "finish_reason": self.finish_reason,
            "logprobs": {"content": self._logprobs} if self._logprobs else None,
        }
        raw = {**self._head, "object": "chat.completion", "choices": [choice]}
        raw |= {"usage": self._usage, "budget": self._budget}
        raw = mended_json(raw) if self.escapes else raw
        budget, usage = raw["budget"] or {}, raw["usage"] or {}
        return Solution(
            answer=answer,
            reasoning=reasoning,
            boxed=extract_answer(answer),
            report=parse_model(BudgetReport, budget, "budget report", request_id),
            usage=parse_model(Usage, usage, "usage", request_id),
            timings=timings,
            finish_reason=raw["choices"][0]["finish_reason"] or "",
            model=raw.get("model"),
            request_id=request_id,
            raw=raw,
        )


@dataclass(slots=True, kw_only=True)
class StreamReader:
    """Bytes in, events out, for one reply; ``solution`` is set once it is whole."""

    clock: Clock
    started: float
    deadline_at: float | None
    request_id: str | None
    retries: int
    base_url: str
    solution: Solution | None = None
    _decoder: SSEDecoder = field(default_factory=SSEDecoder, init=False)
    _assembler: ReplyAssembler = field(default_factory=ReplyAssembler, init=False)
    _ttft: float | None = field(default=None, init=False)
    _first_answer: float | None = field(default=None, init=False)

    @property
    def partial(self) -> dict[str, str]:
        """What has come so far, as the errors of a broken stream carry it."""
        return {
            "partial_reasoning": "".join(self._assembler.reasoning),
            "partial_answer": "".join(self._assembler.answer),
        }

    def feed(self, data: bytes) -> Iterator[Event]:
        """The events that ``data`` completes.

        Raises :class:`StreamFailedError` for an error event, :class:`UnexpectedReplyError` for
        anything that is no chunk, :class:`ExtracotTimeoutError` once the deadline has passed.
        """
        for event in self._decoder.feed(data):
            if self.solution is not None:
                return  # What follows [DONE] is not read.
            if event.strip() == "[DONE]":
                yield from self._finish()
                return
            yield from self._chunk(event)
        now = self.clock.monotonic()
        if self.solution is None and self.deadline_at is not None and now > self.deadline_at:
            raise self.out_of_time()

    def out_of_time(self) -> errors.ExtracotTimeoutError:
        """The error for a reply that the deadline cut short."""
        return errors.ExtracotTimeoutError(
            "The deadline passed before the reply was whole",
            phase="deadline",
            request_id=self.request_id,
            **self.partial,
        )

    def end(self) -> None:
        """The connection has ended; raises :class:`ConnectionLostError` if the reply has not."""
        if self.solution is not None:
            return
        half = ", in the middle of an event" if self._decoder.pending else ""
        raise errors.ConnectionLostError(
            f"The server at {self.base_url} ended the stream before the reply was whole{half}",
            started=True,
            request_id=self.request_id,
            **self.partial,
        )

    def _chunk(self, data: str) -> Iterator[Event]:
        try:
            chunk = json.loads(data)
        except (ValueError, RecursionError):
            raise self._unexpected("an event that is not JSON", data) from None
        if not isinstance(chunk, dict):
            raise self._unexpected("an event that is no chunk", data)
        if chunk.get("error") is not None:
            raise self._failed(mended_json(chunk["error"]))
        self._assembler.escapes |= _ESCAPED_HALF.search(data) is not None
        try:
            deltas = self._assembler.add(chunk)
        except (TypeError, KeyError, AttributeError, ValueError):
            raise self._unexpected("a chunk of another shape", data) from None
        yield from self._timed(deltas)

    def _timed(self, deltas: list[ReasoningDelta | AnswerDelta]) -> Iterator[Event]:
        for delta in deltas:
            now = self.clock.monotonic() - self.started
            if self._ttft is None:
                self._ttft = now
            if self._first_answer is None and isinstance(delta, AnswerDelta):
                self._first_answer = now
            yield delta

    def _finish(self) -> Iterator[Event]:
        if self._assembler.finish_reason is None:
            raise self._unexpected("a stream that ended without a finish_reason")
        yield from self._timed(self._assembler.end())
        total = self.clock.monotonic() - self.started
        timings = Timings(self._ttft, self._first_answer, total, self.retries)
        self.solution = self._assembler.solution(timings, self.request_id)
        yield Done(self.solution)

    def _unexpected(self, what: str, data: str | None = None) -> errors.UnexpectedReplyError:
        what += "" if data is None else f": {errors.one_line(data, 120)!r}"
        return errors.UnexpectedReplyError(f"The server sent {what}", request_id=self.request_id)

    def _failed(self, error: Any) -> errors.ExtracotAPIError:
        fields = error if isinstance(error, dict) else {"message": str(error)}
        return errors.refine(
            errors.StreamFailedError, fields, request_id=self.request_id, **self.partial
        )


def unexpected_stream(response: httpx.Response, start: bytes) -> errors.UnexpectedReplyError:
    """The error for a success that is no event stream; ``start`` is the beginning of its body."""
    kind = response.headers.get("content-type", "no content type").partition(";")[0]
    return errors.UnexpectedReplyError(
        f"The server answered {response.status_code} with {kind} instead of an event stream: "
        f"{errors.describe_body(start)}",
        status=response.status_code,
        request_id=response.headers.get(errors.REQUEST_ID_HEADER),
    )
