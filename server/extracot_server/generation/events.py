"""The events of a reply: text, tool calls, the end of a choice, the end of the request.

A JSON reply collects them and a stream forwards them, so the two cannot diverge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from extracot.reasoning import Part
from extracot_server.engine.base import TokenLogprob
from extracot_server.generation.attribution import SampledToken
from extracot_server.generation.report import BudgetReport, Usage
from extracot_server.generation.request import PreparedChat
from extracot_server.tool_calls.tool_reading import NamedReader, RequiredReader
from extracot_server.tool_calls.tools import CallPart, CallReader


@dataclass(slots=True)  # one is made for every token, and a frozen one takes many times as long
class Delta:
    """New text of one choice; ``token_ids`` and ``logprobs`` are of the answer tokens with it."""

    index: int
    part: Part
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    token_ids: tuple[int, ...] = ()


class DeltaBuffer:
    """What one delta of the engine adds to a choice: one delta a part, not one a token."""

    def __init__(self, index: int) -> None:
        self._index = index
        self.reasoning: list[str] = []
        self._answer: list[str] = []
        self._tokens: list[SampledToken] = []

    def add(self, delta: Delta) -> None:
        """What one token has shown."""
        if delta.part is Part.REASONING:
            self.reasoning.append(delta.text)
        else:
            logprob = delta.logprobs[0] if delta.logprobs else None
            self.add_answer(delta.text, [SampledToken(delta.token_ids[0], logprob)])

    def add_answer(self, text: str, tokens: list[SampledToken]) -> None:
        """Answer text and the tokens that begin in it."""
        self._answer.append(text)
        self._tokens += tokens

    def deltas(self) -> list[Delta]:
        """One delta for each part that has something, which is forgotten then."""
        out: list[Delta] = []
        if not (self.reasoning or self._answer):
            return out
        reasoning, answer = "".join(self.reasoning), "".join(self._answer)
        if reasoning:
            out.append(Delta(self._index, Part.REASONING, reasoning))
        logprobs = tuple(t.logprob for t in self._tokens if t.logprob is not None)
        if answer or logprobs:
            ids = tuple(token.token_id for token in self._tokens)
            out.append(Delta(self._index, Part.ANSWER, answer, logprobs, ids))
        self.reasoning, self._answer, self._tokens = [], [], []
        return out


@dataclass(frozen=True, slots=True)
class CallDelta:
    """Something new of a tool call of choice ``index``."""

    index: int
    part: CallPart


@dataclass(frozen=True, slots=True)
class ChoiceEnded:
    """The engine is done with choice ``index``; it becomes a :class:`ChoiceDone` with a report."""

    index: int


@dataclass(frozen=True, slots=True)
class ChoiceDone:
    """One choice has ended; ``stop`` is the stop string that ended it, if one did."""

    index: int
    finish_reason: Literal["stop", "length", "tool_calls"]
    report: BudgetReport
    stop: str | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """All choices have ended; always the last event."""

    usage: Usage
    report: BudgetReport


Event = Delta | CallDelta | ChoiceDone | Finished


class ToolEventReader:
    """Deltas of choice ``index`` as events: text goes on as text, tool calls as calls.

    Knows no budget and counts nothing: tokens of a call are answer tokens.
    """

    def __init__(self, chat: PreparedChat, index: int) -> None:
        self._index = index
        self._reader = _reader(chat)
        self.called = False

    def read(self, delta: Delta) -> list[Event]:
        """The events of one delta."""
        if self._reader is None or delta.part is not Part.ANSWER:
            return [delta]
        return self._events(self._reader.feed(delta.text, delta.token_ids))

    def finish(self) -> list[Event]:
        """The events of what was held back."""
        return self._events(self._reader.finish()) if self._reader is not None else []

    def _events(self, found: list[str | CallPart]) -> list[Event]:
        out: list[Event] = []
        for item in found:
            if isinstance(item, str):
                out.append(Delta(self._index, Part.ANSWER, item))
            else:
                self.called = True
                out.append(CallDelta(self._index, item))
        return out


def _reader(chat: PreparedChat) -> CallReader | None:
    tools = chat.request.tools
    if tools is None:
        return None
    if tools.choice == "named":
        return NamedReader(tools.name or "")
    if tools.choice == "required":
        return RequiredReader()
    factory = chat.model.runtime.new_call_reader
    assert factory is not None, "refused before"
    return factory(tools)
