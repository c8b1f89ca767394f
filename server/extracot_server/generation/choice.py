"""One choice (of ``n``) from prompt to last token: reason, close, answer.

The engine is asked for one continuation at a time; ids are detokenised, split and attributed here,
so a cap is exact whatever the model's tags look like: the token that would be reasoning token
cap + 1 is dropped, the engine's request is aborted, the block is closed and a second request
answers. The same second request serves a model that ends its text inside the block, and answers
that need a grammar. Knows nothing of HTTP, reports or metrics.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Literal

from extracot.card import LevelCard
from extracot.reasoning import Part, ReasoningSplitter
from extracot_server.budget.resolve import BudgetKind
from extracot_server.engine.base import (
    EngineDeadError,
    EngineError,
    GenerationDelta,
    GenerationRequest,
    SamplingParams,
    TokenLogprob,
)
from extracot_server.generation.attribution import Attributor, Fragment, SampledToken
from extracot_server.generation.events import ChoiceEnded, Delta, DeltaBuffer
from extracot_server.generation.report import ChoiceState
from extracot_server.generation.request import PreparedChat
from extracot_server.generation.stop_strings import AnswerText

# A second request of the same choice must not replay the first one's random numbers.
_SEED_STEP = 1_000_003
_FORBIDDEN = -100.0


class ChoiceStream:
    """Choice ``index`` of a request. ``events()`` is consumed once; ``state`` may be read always.

    All choices of a request are alike but for the index and the seed.
    """

    def __init__(self, chat: PreparedChat, index: int) -> None:
        self.chat = chat
        self.index = index
        self.runtime = chat.model.runtime
        self.state = ChoiceState(limits=chat.limits, level=chat.resolved.level)
        self.sampling = _shift_seed(chat.request.sampling, index)
        self.answer: AnswerText[SampledToken] = AnswerText(chat.request.stops)
        self.context: list[int] = []
        self._rendered = chat.rendered
        self._requests = 0

    async def events(self) -> AsyncGenerator[Delta | ChoiceEnded, None]:
        """Yield text as it comes, and :class:`ChoiceEnded` when it is over.

        Closing the generator aborts the engine's request.
        """
        kind = self.chat.resolved.kind
        if kind is BudgetKind.AUTO:
            await self._choose_level()
            self._inject(len(self._rendered.prefill_ids) - 1)  # the level in it was generated
        else:
            self._inject(len(self._rendered.prefill_ids))
        self.context = list(self._rendered.token_ids)
        in_reasoning = self._rendered.in_reasoning
        answering = kind is BudgetKind.NONE
        while self.remaining > 0:
            run = _Continuation(self, in_reasoning=in_reasoning, answering=answering)
            async with contextlib.aclosing(self.runtime.engine.generate(run.request())) as stream:
                async for delta in stream:
                    for shown in run.take(delta):
                        yield shown
                    if delta.finish_reason is not None and run.ended_by is None:
                        for shown in run.finish(delta.finish_reason):
                            yield shown
                    if run.ended_by is not None:
                        break
            if run.ended_by is None:
                raise EngineDeadError("the engine's stream ended without a finish reason")
            if run.ended_by != "close":
                break
            if run.forced:
                self._close_block()
            answering = True
        if self.state.finish_reason is None:
            self.state.finish_reason = "length"
            self.state.unclosed = in_reasoning and not answering
        yield ChoiceEnded(self.index)

    @property
    def remaining(self) -> int:
        return self.state.limits.max_tokens - self.state.sampled

    def _inject(self, count: int) -> None:
        self.state.injected += count
        self.state.overhead += count

    def _close_block(self) -> None:
        """Write the end of the think block into the context, as the renderer would."""
        ids = self.runtime.renderer.close_ids
        self.context.extend(ids)
        self._inject(len(ids))
        self.state.closed_by = "server"

    async def _choose_level(self) -> None:
        """Step 1 of auto: one token among the allowed levels; step 2 goes on from it."""
        by_id = {level.token_id: level for level in self.chat.resolved.allowed}
        plain = self.sampling
        request = GenerationRequest(
            request_id=self._next_id(),
            token_ids=self._rendered.token_ids,
            max_tokens=1,
            sampling=SamplingParams(
                temperature=plain.temperature, top_p=plain.top_p, seed=plain.seed
            ),
            allowed_token_ids=tuple(by_id),
            priority=self.chat.request.principal.priority,
        )
        chosen: int | None = None
        async with contextlib.aclosing(self.runtime.engine.generate(request)) as stream:
            async for delta in stream:
                if delta.token_ids:
                    chosen = delta.token_ids[0]
                    self.state.probabilities = _renormalise(delta, by_id)
                    break
        if chosen is None or chosen not in by_id:
            raise EngineError("the engine chose no level token for an `auto` request")
        level = by_id[chosen]
        self.state.level = level
        self.state.limits = self.chat.limits_for(level=level)
        self.state.sampled += 1
        self.state.overhead += 1
        self._rendered = self.runtime.renderer.after_choice(self._rendered, level.token)

    def _next_id(self) -> str:
        self._requests += 1
        return f"{self.chat.request.request_id}-{self.index}-{self._requests}"

    def next_request(self, *, answering: bool, strict: bool) -> GenerationRequest:
        """The next continuation. A strict one stops at the end tag, so that another answers."""
        request, renderer = self.chat.request, self.runtime.renderer
        sampling = _shift_seed(self.sampling, self._requests * _SEED_STEP)
        if answering and renderer.single_id_tags:
            tags = {renderer.think_start_id: _FORBIDDEN, renderer.think_end_id: _FORBIDDEN}
            bias = {k: v for k, v in tags.items() if k is not None} | dict(sampling.logit_bias)
            sampling = replace(sampling, logit_bias=bias)
        if sampling.min_tokens:  # meant for the answer, and never more than is left
            least = min(sampling.min_tokens, self.remaining) if answering else 0
            sampling = replace(sampling, min_tokens=least)
        stop_ids: tuple[int, ...] = ()
        if strict and not answering and renderer.think_end_id is not None:
            stop_ids = (renderer.think_end_id,)
        return GenerationRequest(
            request_id=self._next_id(),
            token_ids=tuple(self.context),
            max_tokens=self.remaining,
            sampling=sampling,
            stop_token_ids=stop_ids,
            answer_format=request.answer_format if answering else None,
            priority=request.principal.priority,
        )


class _Continuation:
    """One request to the engine and what is made of its tokens."""

    def __init__(self, choice: ChoiceStream, *, in_reasoning: bool, answering: bool) -> None:
        self._choice = choice
        self._state = choice.state
        self._runtime = runtime = choice.runtime
        self._answering = answering
        request = choice.chat.request
        self._may_reason = not answering
        # A grammar or min_tokens binds from a request's first token: the answer needs its own.
        self._strict = request.answer_format is not None or request.sampling.min_tokens > 0
        self._splitter = ReasoningSplitter(
            runtime.tags,
            in_reasoning=in_reasoning and not answering,
            expect_reasoning=not answering,
        )
        self._attributor = Attributor(self._splitter)
        new = runtime.new_detokenizer if request.tools is None else runtime.new_plain_detokenizer
        self._decode = new(choice.context)
        self._shown = DeltaBuffer(choice.index)
        self.ended_by: Literal["engine", "stop", "close"] | None = None
        """What has ended it; ``None`` while it goes on."""
        self.forced = False

    def request(self) -> GenerationRequest:
        """What the engine is asked for."""
        strict = self._strict and self._may_reason and self._splitter.state != "answer"
        return self._choice.next_request(answering=self._answering, strict=strict)

    def take(self, delta: GenerationDelta) -> list[Delta]:
        """What a delta shows: id by id, so that how an engine bundles them makes no difference."""
        ids = delta.token_ids
        ended = delta.finish_reason == "stop" and ids
        if ended and ids[-1] != self._runtime.renderer.think_end_id:
            ids = ids[:-1]
        out = self._shown
        for at, token_id in enumerate(ids):
            logprob = delta.logprobs[at] if delta.logprobs is not None else None
            silent = token_id in self._runtime.control_ids
            text = "" if silent else self._decode(token_id)
            if text and (shown := self._plain(token_id, text, logprob)) is not None:
                if len(delta.token_ids) == 1:
                    return [shown]
                out.add(shown)
                continue
            self._absorb(self._attributor.feed(token_id, text, logprob), out)
            if self.ended_by is None and self._in_block and self._over(self._attributor.mute):
                self._cut(self._attributor.mute)
            if self.ended_by is not None:
                return out.deltas()
        if len(ids) < len(delta.token_ids):  # the end-of-text token: neither text nor context
            self._state.sampled += 1
            self._state.overhead += 1
        return out.deltas()

    def _plain(self, token_id: int, text: str, logprob: TokenLogprob | None) -> Delta | None:
        """A token in the midst of reasoning or answer, which nothing can turn into anything else.

        Nearly all are, so they take this way, which costs a fraction of the other and counts the
        same; ``None`` for the rest, of which nothing has been counted then.
        """
        choice, state = self._choice, self._state
        part = self._attributor.certain(text)
        if part is Part.ANSWER:
            if not choice.answer.holds_nothing_back or (self._strict and self._may_reason):
                return None
            state.answer += 1
            logprobs = () if logprob is None else (logprob,)
            shown = Delta(choice.index, part, text, logprobs, (token_id,))
        elif part is Part.REASONING and self._may_reason and not self._over(1):
            state.reasoning += 1
            shown = Delta(choice.index, part, text)
        else:
            return None
        state.sampled += 1
        choice.context.append(token_id)
        return shown

    def _absorb(self, fragments: list[Fragment], out: DeltaBuffer) -> None:
        """Count and show fragments in order, until one of them ends this run."""
        for fragment in fragments:
            if fragment.tokens and not self._admit(fragment):
                break
            if fragment.part is Part.ANSWER:
                out.add_answer(*self._choice.answer.feed(fragment.text, fragment.tokens))
                if self._choice.answer.stopped:
                    self.ended_by = "stop"
                    self._state.finish_reason = "stop"
                    self._state.stop = self._choice.answer.met
                    break
            elif fragment.part is Part.REASONING:
                out.reasoning.append(fragment.text)
        if self._may_reason and self._splitter.closed:
            self._state.closed_by = "model"
            if self.ended_by is None and self._strict:
                self._end_block(forced=False)

    def _admit(self, fragment: Fragment) -> bool:
        """Count the ids of a fragment, or end the run before them."""
        state, size = self._state, len(fragment.tokens)
        reasoning = fragment.part is Part.REASONING
        if fragment.part is Part.ANSWER and self._strict and self._may_reason:
            self._end_block(forced=False)
            return False
        closing = fragment.part is Part.MARKUP and state.closed_by is None and self._splitter.closed
        if self._may_reason and reasoning and self._over(size):
            self._cut(size)
            return False
        if self._may_reason and closing and self._leaves_no_room(size):
            self._end_block(forced=True)  # it has ended by itself; only its tag is written for it
            return False
        self._choice.context.extend(token.token_id for token in fragment.tokens)
        state.sampled += size
        if reasoning:
            state.reasoning += size
        elif fragment.part is Part.ANSWER:
            state.answer += size
        else:
            state.overhead += size
            if self._in_block and self._leaves_no_room(1):
                self._cut(1)  # the tag alone took all there was
        return True

    @property
    def _in_block(self) -> bool:
        return self._may_reason and self._splitter.state == "reasoning"

    def _over(self, more: int) -> bool:
        """Whether this many more reasoning ids are too many."""
        return more > 0 and (self._over_cap(more) or self._leaves_no_room(more))

    def _over_cap(self, more: int) -> bool:
        return self._state.reasoning + more > self._state.limits.reasoning_cap

    def _leaves_no_room(self, more: int) -> bool:
        """Whether the reserve of the answer would be touched."""
        limits = self._state.limits
        return self._state.sampled + more > limits.max_tokens - limits.answer_reserve

    def _cut(self, more: int) -> None:
        """End reasoning that may not have this many more ids: the cap's doing, or the room's."""
        self._state.cap_hit = True
        self._state.cut_for_room = not self._over_cap(more)
        self._end_block(forced=True)

    def _end_block(self, *, forced: bool) -> None:
        """End the run and let another answer; ``forced``: the end tag has to be written."""
        self.ended_by = "close"
        self.forced = forced

    def finish(self, reason: Literal["stop", "length"]) -> list[Delta]:
        """The engine is done: flush what was held back, and see whether an answer is still owed."""
        in_block = self._splitter.state == "reasoning"
        out = self._shown
        self._absorb(self._attributor.finish(), out)
        if self.ended_by is not None:
            return out.deltas()
        owed = in_block or (self._strict and self._may_reason)
        if owed and reason == "stop" and self._choice.remaining > 0:
            self._end_block(forced=in_block)
            return out.deltas()
        out.add_answer(*self._choice.answer.finish())
        self.ended_by = "engine"
        self._state.finish_reason = reason
        self._state.unclosed = in_block
        return out.deltas()


def _shift_seed(sampling: SamplingParams, by: int) -> SamplingParams:
    """The same settings with another seed, where one is set."""
    if sampling.seed is None or not by:
        return sampling
    return replace(sampling, seed=(sampling.seed + by) % 2**32)


def _renormalise(delta: GenerationDelta, by_id: dict[int, LevelCard]) -> dict[str, float]:
    """Raw log-probabilities over the whole vocabulary -> probabilities over the allowed levels."""
    if not delta.logprobs:
        return {}
    first = delta.logprobs[0]
    raw = {i: lp for i, lp in ((first.token_id, first.logprob), *first.top) if i in by_id}
    best = max(raw.values())
    weights = {i: math.exp(lp - best) for i, lp in raw.items()}
    total = sum(weights.values())
    return {by_id[i].name: weights[i] / total for i in by_id if i in weights}
