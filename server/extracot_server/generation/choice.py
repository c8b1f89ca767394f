"""One choice (of ``n``) from prompt to last token: reason, close, answer.

The engine is asked for one continuation at a time; ids are detokenised, split and attributed in
:mod:`extracot_server.generation.continuation`, so a cap is exact whatever the model's tags look
like: the token that would be reasoning token cap + 1 is dropped, the engine's request is aborted,
the block is closed and a second request answers. The same second request serves a model that ends
its text inside the block, and answers that need a grammar. Knows nothing of HTTP, reports or
metrics.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import replace

from extracot.card import LevelCard
from extracot.reasoning import Part
from extracot_server.budget.resolve import BudgetKind
from extracot_server.engine.base import (
    AnswerFormat,
    EngineDeadError,
    EngineError,
    GenerationDelta,
    GenerationRequest,
    Placement,
    SamplingParams,
)
from extracot_server.engine.pace import Pace
from extracot_server.generation.attribution import SampledToken
from extracot_server.generation.closing import BARE
from extracot_server.generation.continuation import Continuation
from extracot_server.generation.events import CallDelta, ChoiceEnded, Delta, hermes_format
from extracot_server.generation.fast_path import FastPath
from extracot_server.generation.report import ChoiceState
from extracot_server.generation.request import SEED_STEP, PreparedChat, shift_seed
from extracot_server.generation.stop_strings import AnswerText
from extracot_server.generation.token_bytes import TokenBytes, token_bytes

_FORBIDDEN = -100.0
# Ids at the end of a block that tell whether it was cut off within a sentence.
_TAIL = 16


class ChoiceStream:
    """Choice ``index`` of a request. ``events()`` is consumed once; ``state`` may be read always.

    All choices of a request are alike but for the index and the seed.
    """

    def __init__(
        self,
        chat: PreparedChat,
        index: int,
        pace: Pace | None = None,
        fast: FastPath | None = None,
    ) -> None:
        self.chat = chat
        self.index = index
        self._pace = pace
        self._fast = fast
        self.runtime = chat.model.runtime
        self.state = ChoiceState(limits=chat.limits, level=chat.resolved.level)
        self.sampling = shift_seed(chat.request.sampling, index)
        self.answer: AnswerText[SampledToken] = AnswerText(chat.request.stops)
        self.context: list[int] = []
        self.reads_hermes = (hermes := hermes_format(chat)) is not None
        prompt_ids = chat.rendered.prompt_ids
        self.call_tags = {} if hermes is None else hermes.tag_ids(prompt_ids)
        """Ids that are tags of calls."""
        self.answered = 0
        """Characters of the answer so far."""
        self.call_marks: deque[tuple[int, str]] = deque()
        """Where in the answer tags of calls stand that came as ids."""
        self._token_bytes: TokenBytes | None = None
        self._rendered = chat.rendered
        self._requests = 0

    async def events(self) -> AsyncGenerator[Delta | CallDelta | ChoiceEnded, None]:
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
            if answering and self._undecided:
                await self._choose_calls()
                continue
            run = Continuation(self, in_reasoning=in_reasoning, answering=answering)
            fast = self._fast
            if fast is not None:
                fast.begin(run)
            try:
                async with contextlib.aclosing(self.runtime.engine.generate(run.request())) as ids:
                    async for delta in ids:
                        for shown in run.take(delta) if fast is None else fast.taken(run, delta):
                            yield shown
                        if delta.finish_reason is not None and run.ended_by is None:
                            for shown in run.finish(delta.finish_reason):
                                yield shown
                        if run.ended_by is not None:
                            break
            finally:
                if fast is not None:
                    fast.end()
            if run.ended_by is None:
                raise EngineDeadError("the engine's stream ended without a finish reason")
            if run.ended_by != "close":
                break
            if run.forced and (closing := self.close_block(cut_off=run.cut_off)):
                yield Delta(self.index, Part.REASONING, closing)
            answering = True
        if self.state.finish_reason is None:
            self.state.finish_reason = "length"
            self.state.unclosed = in_reasoning and not answering
        yield ChoiceEnded(self.index)

    @property
    def remaining(self) -> int:
        return self.state.limits.max_tokens - self.state.sampled

    def bytes_of(self, token_id: int) -> bytes:
        """The bytes of a token as the vocabulary has them, for log-probabilities."""
        if self._token_bytes is None:
            self._token_bytes = token_bytes(self.runtime.engine.tokenizer)
        return self._token_bytes(token_id)

    def note_cached(self, tokens: int) -> None:
        """Note what a request found in a prefix cache. That is of the client's own prompt with the
        first one only: later ones hold what the choice has generated, and find their own prompt."""
        if self._requests == 1:
            self.state.cached = tokens

    def _inject(self, count: int) -> None:
        self.state.injected += count
        self.state.overhead += count

    def close_block(self, *, cut_off: bool = False) -> str:
        """Write the end of the think block into the context, as the renderer would.

        One that is ``cut_off`` gets the closing first: what is to be shown of it.
        """
        closing, end = self.chat.closing if cut_off else BARE, self.runtime.renderer.close_ids
        if cut_off:
            self.state.cut_off = self.last_text(_TAIL)
        self.context.extend((*closing.ids, *end))
        self._inject(len(closing.ids) + len(end))
        self.state.closing += len(closing.ids)
        self.state.closed_by = "server"
        return closing.text

    def last_text(self, count: int) -> str:
        """The text of the last ids so far."""
        return self.runtime.engine.tokenizer.decode(self.context[-count:])

    async def _choose_level(self) -> None:
        """Step 1 of auto: one token among the allowed levels; step 2 goes on from it."""
        by_id = {level.control()[1]: level for level in self.chat.resolved.allowed}
        chosen, delta = await self._pick(self._rendered.token_ids, tuple(by_id))
        self.state.probabilities = _renormalise(delta, by_id)
        level = by_id[chosen]
        self.state.level = level
        self.state.limits = self.chat.limits_for(level=level)
        self._rendered = self.runtime.renderer.after_choice(self._rendered, level.control()[0])

    @property
    def _undecided(self) -> bool:
        return self.chat.call_choice is not None and self.state.calls is None

    async def _choose_calls(self) -> None:
        """With tools and a format: one token, which is not kept, says which of both it will be."""
        choice = self.chat.call_choice
        assert choice is not None
        context = tuple(self.context)
        if self.remaining > len(choice.line_break) + 1 and self.state.closed_by == "model":
            context += choice.line_break  # where a model that has reasoned begins its answer
        chosen, _ = await self._pick(context, choice.allowed)
        self.state.calls = chosen in choice.begins_call

    async def _pick(
        self, context: tuple[int, ...], allowed: tuple[int, ...]
    ) -> tuple[int, GenerationDelta]:
        """One token among ``allowed``, sampled as the request asks; it counts as overhead."""
        plain = self.sampling
        request = GenerationRequest(
            request_id=self._next_id(),
            token_ids=context,
            max_tokens=1,
            sampling=SamplingParams(
                temperature=plain.temperature, top_p=plain.top_p, seed=plain.seed
            ),
            allowed_token_ids=allowed,
            priority=self.chat.request.principal.priority,
            placement=self._placement,
            continues=self._requests > 1,
        )
        async with contextlib.aclosing(self.runtime.engine.generate(request)) as stream:
            async for delta in stream:
                if delta.cached_tokens is not None:
                    self.note_cached(delta.cached_tokens)
                if delta.token_ids and delta.token_ids[0] in allowed:
                    self.state.sampled += 1
                    self.state.overhead += 1
                    return delta.token_ids[0], delta
        raise EngineError("the engine chose none of the tokens it was given")

    @property
    def _placement(self) -> Placement | None:
        return None if self.chat.trial is None else self.chat.trial.placement

    def _next_id(self) -> str:
        self._requests += 1
        return f"{self.chat.request.request_id}-{self.index}-{self._requests}"

    def next_request(self, *, answering: bool, strict: bool) -> GenerationRequest:
        """The next continuation. A strict one stops at the end tag, so that another answers."""
        request, renderer = self.chat.request, self.runtime.renderer
        sampling = shift_seed(self.sampling, self._requests * SEED_STEP)
        if answering and renderer.single_id_tags:
            tags = [renderer.think_start_id]
            if self.state.cut_off is None:  # else a model that reasons on has to find its end
                tags.append(renderer.think_end_id)
            bias = {k: _FORBIDDEN for k in tags if k is not None} | dict(sampling.logit_bias)
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
            answer_format=self._format() if answering else None,
            priority=request.principal.priority,
            placement=self._placement,
            continues=self._requests > 1,
            pace=self._pace,
            receiver=self._fast,
        )

    def _format(self) -> AnswerFormat | None:
        choice = self.chat.call_choice
        return choice.calls if choice and self.state.calls else self.chat.request.answer_format


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
