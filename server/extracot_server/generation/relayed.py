"""One choice of a model whose server is asked by chat messages: reason, cut off, answer.

The twin of :mod:`extracot_server.generation.choice`, with the same events and the same counts; only
that these are of a server's chunks. A cap is kept by watching: at the chunk that would be too much
the stream is closed, and another request goes on from the reasoning so far, closed, where the
server continues the beginning of a reply. Knows nothing of HTTP, reports or metrics.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from typing import Literal

from extracot.reasoning import Part, Piece, ReasoningSplitter
from extracot_server.budget.resolve import BudgetKind
from extracot_server.engine.base import EngineDeadError, GenerationDelta
from extracot_server.engine.openai.turn import ChatTurn
from extracot_server.engine.said import Said
from extracot_server.generation.closing import BARE
from extracot_server.generation.events import CallDelta, ChoiceEnded, Delta
from extracot_server.generation.relayed_calls import RelayedCalls
from extracot_server.generation.relayed_counts import Counted, RequestCount, settle
from extracot_server.generation.relayed_turn import Beginning, asks_for_budget, fields_of
from extracot_server.generation.report import ChoiceState, Enforcement
from extracot_server.generation.request import SEED_STEP, PreparedChat, shift_seed
from extracot_server.generation.sentence_ends import ends_between
from extracot_server.generation.stop_strings import AnswerText

_TAIL = 200
"""Characters at the end of reasoning that tell where it was cut off."""
Shown = Delta | CallDelta


class RelayedChoice:
    """Choice ``index`` of a request. ``events()`` is consumed once."""

    def __init__(self, chat: PreparedChat, index: int) -> None:
        offers = chat.model.offers
        assert offers is not None
        self.chat, self.index, self._offers = chat, index, offers
        limits = chat.limits if offers.can_continue else replace(chat.limits, grace=0)
        self.state = ChoiceState(limits=limits, level=chat.resolved.level)
        self._promise(visible=True)
        self.call_marks: deque[tuple[int, str]] = deque()
        self._tags = chat.model.runtime.tags
        self._answer: AnswerText[None] = AnswerText(chat.request.stops)
        self._reasoning: list[str] = []
        self._calls = RelayedCalls()
        self._cut = self._ended = False
        self._requests = 0

    async def events(self) -> AsyncGenerator[Delta | CallDelta | ChoiceEnded, None]:
        """Yield what is said as it comes, and :class:`ChoiceEnded` when it is over."""
        goes_on = self._unwanted and self._offers.can_continue and not self._offers.off
        beginning = Beginning("", self._tags.skips) if goes_on else None
        while True:
            async with contextlib.aclosing(self._request(beginning)) as stream:
                async for shown in stream:
                    yield shown
            if not self._cut:
                break
            closing = self._close_block()
            if closing:
                yield Delta(self.index, Part.REASONING, closing)
            beginning = self._so_far(closing)
            self._cut = self._ended = False
            if self.state.sampled >= self.state.limits.max_tokens:
                self.state.finish_reason = "length"
                break
        self._promise(visible=not self._hidden)
        yield ChoiceEnded(self.index)

    async def _request(self, beginning: Beginning | None) -> AsyncGenerator[Shown, None]:
        """One request to the server and what is made of it."""
        runtime, state = self.chat.model.runtime, self.state
        answering = beginning is not None
        self._splitter = ReasoningSplitter(
            self._tags, in_reasoning=False, expect_reasoning=not answering
        )
        count = RequestCount(self.chat.model.rate)
        before = Counted.of(state)
        turn = self._turn(beginning)
        async with contextlib.aclosing(runtime.engine.generate(turn)) as stream:
            async for delta in stream:
                for shown in self._take(delta, count, answering=answering):
                    yield shown
                if self._cut or self._answer.stopped:
                    break
        if not (self._ended or self._cut or self._answer.stopped):
            raise EngineDeadError("the engine's stream ended without a finish reason")
        self._note_prompt(count, first=not answering)
        if self._requests == 1:
            state.cached = count.usage.cached
        if self._ended:
            count.learn()
            settle(state, before, count.usage, goes_on=answering)
        if not self._cut:
            text, _ = self._answer.finish()
            if text:
                yield Delta(self.index, Part.ANSWER, text)

    def _turn(self, beginning: Beginning | None) -> ChatTurn:
        request, state = self.chat.request, self.state
        sampling = shift_seed(request.sampling, self.index + self._requests * SEED_STEP)
        self._requests += 1
        left = max(1, state.limits.max_tokens - state.sampled)
        return ChatTurn(
            request_id=f"{request.request_id}-{self.index}-{self._requests}",
            token_ids=(),
            max_tokens=left,
            priority=request.principal.priority,
            placement=None if self.chat.trial is None else self.chat.trial.placement,
            continues=self._requests > 1,
            fields=fields_of(self.chat, sampling, max_tokens=left, beginning=beginning),
            path=self._offers.path,
        )

    # ------------------------------------------------------------------------- what has been said

    def _take(
        self, delta: GenerationDelta, count: RequestCount, *, answering: bool
    ) -> Iterator[Shown]:
        said = delta.said
        assert said is not None
        tokens = count.see(said)
        pieces = list(self._parts(said))
        # A chunk is its text's: white space and tags beside it are no tokens of their own.
        whose = next((n for n, (part, _) in enumerate(pieces) if part is not Part.MARKUP), 0)
        for number, (part, text) in enumerate(pieces):
            new = tokens if number == whose else 0
            if part is Part.REASONING:
                if not answering and self._too_much(new, text):
                    return
                self._count(part, new)
                self._reasoning.append(text)
                self.state.late_end |= answering
                yield Delta(self.index, part, text)
            elif part is Part.ANSWER:
                self._count(part, new)
                shown, _ = self._answer.feed(text, ())
                if shown:
                    yield Delta(self.index, part, shown)
                if self._answer.stopped:
                    self.state.finish_reason, self.state.stop = "stop", self._answer.met
                    return
            else:
                self._count(part, new)
        tokens = 0 if pieces else tokens
        if said.refusal:
            self._count(Part.ANSWER, tokens)
            tokens = 0
            yield Delta(self.index, Part.ANSWER, said.refusal, refusal=True)
        for call in said.calls:
            self._count(Part.ANSWER, tokens)
            tokens = 0
            if (told := self._calls.take(call)) is not None:
                yield CallDelta(self.index, told)
        self._count(Part.MARKUP, tokens)
        self._note_block(said, answering=answering)
        if delta.finish_reason is not None:
            yield from self._finish(delta.finish_reason)
            if said.filtered:
                self.state.finish_reason = "content_filter"

    def _parts(self, said: Said) -> Iterator[Piece]:
        """The text of a chunk by part; tags in a content count until an answer has begun."""
        reasoning = said.reasoning if self._reasoning else said.reasoning.lstrip()
        if reasoning:
            yield Piece(Part.REASONING, reasoning)
        content = said.content
        if self._reasoning and self._splitter.state == "before":
            content = content.lstrip()  # what separated it from the reasoning
        if content:
            yield from self._splitter.feed(content)

    def _finish(self, reason: Literal["stop", "length"]) -> Iterator[Shown]:
        for part, text in self._splitter.finish():
            if part is Part.REASONING:
                self._reasoning.append(text)
                yield Delta(self.index, part, text)
            elif part is Part.ANSWER:
                shown, _ = self._answer.feed(text, ())
                if shown:
                    yield Delta(self.index, part, shown)
        self._ended = True
        self.state.finish_reason = reason
        self.state.unclosed = bool(self._reasoning) and self.state.closed_by is None

    def _count(self, part: Part, tokens: int) -> None:
        state = self.state
        state.sampled += tokens
        if part is Part.REASONING:
            state.reasoning += tokens
        elif part is Part.ANSWER:
            state.answer += tokens
        else:
            state.overhead += tokens

    def _note_block(self, said: Said, *, answering: bool) -> None:
        """Note that the reasoning is over: an answer or a call has begun, or its tag has come."""
        written = said.content and self._splitter.state == "answer"
        answers = bool(said.calls or said.refusal or written)
        if not answering and self._reasoning and answers and self.state.closed_by is None:
            self.state.closed_by = "model"

    def _note_prompt(self, count: RequestCount, *, first: bool) -> None:
        """The prompt as the server counts it; one that goes on holds what came before, too."""
        prompt = count.usage.prompt
        if not prompt or self.state.prompt is not None:
            return
        before = 0 if first else self.state.reasoning + self.state.injected
        self.state.prompt = max(1, prompt - before)

    # ---------------------------------------------------------------------------- the end of a cap

    def _too_much(self, tokens: int, text: str) -> bool:
        """Whether reasoning is cut off before this text, which would be so many tokens."""
        limits, state = self.state.limits, self.state
        after, cap = state.reasoning + tokens, limits.reasoning_cap
        if self._unwanted:
            cap = 0
        elif after <= cap + limits.grace and not ends_between(self._last_text(), text):
            return False
        if after <= cap or not self._offers.can_continue:
            return False
        state.cap_hit = self._cut = True
        return True

    def _last_text(self) -> str:
        tail: list[str] = []
        for text in reversed(self._reasoning):
            tail.append(text)
            if sum(map(len, tail)) >= _TAIL:
                break
        return "".join(reversed(tail))[-_TAIL:]

    def _close_block(self) -> str:
        """Note the end of a block that is cut off; what is shown of its closing."""
        closing, state = BARE if self._unwanted else self.chat.closing, self.state
        state.cut_off = self._last_text()
        state.closed_by = "server"
        written = len(closing.ids) + len(self.chat.model.runtime.renderer.close_ids)
        state.injected += written
        state.overhead += written
        state.closing += len(closing.ids)
        return closing.text

    def _so_far(self, closing: str) -> Beginning:
        """The beginning of a reply whose reasoning has been cut off."""
        reasoning = "".join(self._reasoning).strip() + closing
        if not reasoning:
            return Beginning("", self._tags.skips)
        return Beginning(reasoning, f"{self._tags.opens}{reasoning}{self._tags.closes}")

    # --------------------------------------------------------------------------- what is promised

    @property
    def _unwanted(self) -> bool:
        """No reasoning was asked for; a server may do so all the same."""
        return self.chat.resolved.kind is BudgetKind.NONE

    @property
    def _hidden(self) -> bool:
        """The server has reasoned without showing it."""
        return self.state.reasoning > 0 and not self._reasoning

    def _promise(self, *, visible: bool) -> None:
        """Note what keeps to the budget, and whether a cap can be kept at all."""
        self.state.bounded = visible and self._offers.can_continue
        self.state.enforced = self._enforcement()

    def _enforcement(self) -> Enforcement:
        """What keeps to the budget: what the server was asked for, what is watched here, or
        neither."""
        chat, limits = self.chat, self.chat.limits
        resolved = chat.resolved
        if self._unwanted:
            return "none"
        capped = resolved.kind is BudgetKind.CAP or limits.cap_reason != "room"
        asked = asks_for_budget(chat)
        if capped and self.state.bounded:
            return "effort+cap" if asked else "cap"
        return "effort" if asked else "none"
