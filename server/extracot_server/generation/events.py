"""The events of a reply: text, tool calls, the end of a choice, the end of the request.

A JSON reply collects them and a stream forwards them, so the two cannot diverge.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from typing import Literal, NamedTuple

from extracot.reasoning import Part
from extracot_server.engine.base import TokenLogprob
from extracot_server.generation.attribution import SampledToken
from extracot_server.generation.report import BudgetReport, ChoiceState, Usage
from extracot_server.generation.request import PreparedChat
from extracot_server.tool_calls.hermes import HermesFormat, HermesReader
from extracot_server.tool_calls.tool_reading import NamedReader, RequiredReader
from extracot_server.tool_calls.tools import CallPart, CallReader


class ShownLogprob(NamedTuple):
    """The log-probability of an answer's token, and its bytes: joined they are the answer's."""

    logprob: TokenLogprob
    data: bytes


@dataclass(slots=True)  # one is made for every token, and a frozen one takes many times as long
class Delta:
    """New text of one choice; ``token_ids`` and ``logprobs`` are of the answer tokens with it.

    ``refusal``: it is what the model says in place of an answer, where its server tells them apart.
    """

    index: int
    part: Part
    text: str
    logprobs: tuple[ShownLogprob, ...] = ()
    token_ids: tuple[int, ...] = ()
    refusal: bool = False


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
            logprob, data = delta.logprobs[0] if delta.logprobs else (None, b"")
            self.add_answer(delta.text, [SampledToken(delta.token_ids[0], logprob, data)])

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
        logprobs = tuple(
            ShownLogprob(t.logprob, t.data) for t in self._tokens if t.logprob is not None
        )
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
    finish_reason: Literal["stop", "length", "tool_calls", "content_filter"]
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

    ``marks`` are the tags of calls that came as ids, by where they stand in the answer, each there
    before its delta is; ``state`` says what was chosen where there is a format too. Knows no budget
    and counts nothing: tokens of a call are answer tokens.
    """

    def __init__(
        self,
        chat: PreparedChat,
        index: int,
        marks: deque[tuple[int, str]] | None = None,
        state: ChoiceState | None = None,
    ) -> None:
        self._index = index
        self._state = state
        self._marks: deque[tuple[int, str]] = deque() if marks is None else marks
        self._reader = _reader(chat)
        self._read = self._over = 0
        self._over_tag = ""
        self._arguments: dict[int, list[str]] = {}
        self.called = False

    @property
    def whole(self) -> bool:
        """Whether every call that was made has whole arguments: a JSON object."""
        try:
            found = [json.loads("".join(parts)) for parts in self._arguments.values()]
        except (ValueError, RecursionError):
            return False
        return all(isinstance(arguments, dict) for arguments in found)

    def read(self, delta: Delta | CallDelta) -> list[Event]:
        """The events of one delta; a call that a server has read itself is one already."""
        if isinstance(delta, CallDelta):
            self._note(delta.part)
            return [delta]
        if self._reader is None and self._state is not None and self._state.calls:
            self._reader = RequiredReader()
        if self._reader is None or delta.part is not Part.ANSWER or delta.refusal:
            return [delta]
        start, text = self._read, delta.text
        self._read += len(text)
        if not (self._marks or self._over):
            return self._events(self._reader.feed(text, delta.token_ids))
        at, self._over = self._over, max(0, self._over - len(text))
        found: list[str | CallPart] = []
        while self._marks and self._marks[0][0] < self._read:
            assert isinstance(self._reader, HermesReader)
            place, tag = self._marks.popleft()
            found += self._reader.feed(text[at : place - start], ())
            found += self._reader.mark(tag)
            self._over_tag = tag
            at = place - start + len(tag)
            self._over = max(0, at - len(text))  # of a tag that a stop string holds back in part
        return self._events(found + self._reader.feed(text[at:], ()))

    def finish(self) -> list[Event]:
        """The events of what was held back, less what a stop string left out of a tag."""
        if self._reader is None:
            return []
        found = self._reader.finish()
        if self._over and found and isinstance(last := found[-1], str):
            found[-1] = last[: -self._over] if last.endswith(self._over_tag) else last
        return self._events([item for item in found if item != ""])

    def _note(self, part: CallPart) -> None:
        self.called = True
        self._arguments.setdefault(part.call, []).append(part.arguments)

    def _events(self, found: list[str | CallPart]) -> list[Event]:
        out: list[Event] = []
        for item in found:
            if isinstance(item, str):
                out.append(Delta(self._index, Part.ANSWER, item))
            else:
                self._note(item)
                out.append(CallDelta(self._index, item))
        return out


def hermes_format(chat: PreparedChat) -> HermesFormat | None:
    """The format of calls that the model makes by itself, if it is the one that is built in."""
    tools, found = chat.request.tools, chat.model.runtime.new_call_reader
    own = tools is not None and not tools.forced and chat.call_choice is None
    return found if own and isinstance(found, HermesFormat) else None


def _reader(chat: PreparedChat) -> CallReader | None:
    tools = chat.request.tools
    if tools is None or chat.call_choice is not None or chat.model.offers is not None:
        return None
    if tools.choice == "named":
        return NamedReader(tools.name or "")
    if tools.choice == "required":
        return RequiredReader()
    hermes = hermes_format(chat)
    if hermes is not None:
        return hermes(tools, marked=bool(hermes.tag_ids(chat.rendered.prompt_ids)))
    factory = chat.model.runtime.new_call_reader
    assert factory is not None, "refused before"
    return factory(tools)
