"""One request to the engine and what is made of its tokens: split, counted, capped, shown.

The choice that it continues (:mod:`extracot_server.generation.choice`) decides what is asked next.
Knows nothing of HTTP, reports or metrics.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Literal

from extracot.reasoning import Part, ReasoningSplitter
from extracot_server.engine.base import GenerationDelta, GenerationRequest, TokenLogprob
from extracot_server.generation.attribution import Attributor, Fragment
from extracot_server.generation.drafts import DraftedCalls
from extracot_server.generation.events import Delta, DeltaBuffer, ShownLogprob
from extracot_server.generation.loops import INTERVAL, loop_period
from extracot_server.generation.sentence_ends import ends_between
from extracot_server.generation.token_bytes import shares

if TYPE_CHECKING:
    from extracot_server.generation.choice import ChoiceStream

# Ids before a token that tell whether a sentence has ended.
_TAIL = 8


class Continuation:
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
        renderer = runtime.renderer
        ids = {renderer.think_start_id: runtime.tags.start, renderer.think_end_id: runtime.tags.end}
        tags = {token_id: tag for token_id, tag in ids.items() if token_id is not None}
        self._splitter = ReasoningSplitter(
            runtime.tags,
            in_reasoning=in_reasoning and not answering,
            expect_reasoning=not answering,
            marked=tags.values(),
        )
        self._attributor = Attributor(self._splitter, tags)
        hermes = choice.reads_hermes and not answering
        self._drafts = DraftedCalls(choice.call_tags) if hermes else None
        # With the built-in reader a call in a block is a draft until the reply has ended.
        calls = request.tools is not None and not (answering or hermes or self._strict)
        self._ends = runtime.ending_ids if calls else frozenset[int]()
        # Ids whose text does not say what they are.
        self._odd = runtime.control_ids | tags.keys() | choice.call_tags.keys() | self._ends
        new = runtime.new_detokenizer if request.tools is None else runtime.new_plain_detokenizer
        self._decode = new(choice.context)
        self._shown = DeltaBuffer(choice.index)
        self.ended_by: Literal["engine", "stop", "close"] | None = None
        """What has ended it; ``None`` while it goes on."""
        self.forced = False
        self.cut_off = False
        """The block was ended before the model had said all it would."""
        self._loop_tokens = choice.chat.model.loop_tokens
        self._next_look = self._state.reasoning + self._loop_tokens if self._loop_tokens else inf
        """With how many reasoning tokens a loop is looked for."""

    def request(self) -> GenerationRequest:
        """What the engine is asked for."""
        strict = self._strict and self._may_reason and self._splitter.state != "answer"
        return self._choice.next_request(answering=self._answering, strict=strict)

    def take(self, delta: GenerationDelta) -> list[Delta]:
        """What a delta shows: id by id, so that how an engine bundles them makes no difference."""
        ids = delta.token_ids
        if delta.cached_tokens is not None:
            self._choice.note_cached(delta.cached_tokens)
        ended = delta.finish_reason == "stop" and ids
        if ended and ids[-1] != self._runtime.renderer.think_end_id:
            ids = ids[:-1]
        out = self._shown
        for at, token_id in enumerate(ids):
            logprob = delta.logprobs[at] if delta.logprobs is not None else None
            if token_id in self._odd:
                text = "" if token_id in self._runtime.control_ids else self._decode(token_id)
            else:
                text = self._decode(token_id)
                if text and (shown := self._plain(token_id, text, logprob)) is not None:
                    if len(delta.token_ids) == 1:
                        return [shown]
                    out.add(shown)
                    continue
            left = self._attributor.leave() if self._leaves(token_id) else []
            fragments = left + self._attributor.feed(token_id, text, logprob)
            if self._drafts is not None:
                fragments = self._drafts.take(fragments)
            self._absorb(fragments, out)
            mute = self._attributor.mute
            over = self.ended_by is None and self._in_block and self._over(mute)
            if over and not self._within_grace(mute):
                self._cut(mute)
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
            choice.answered += len(text)
            logprobs = () if logprob is None else (ShownLogprob(logprob, text.encode()),)
            shown = Delta(choice.index, part, text, logprobs, (token_id,))
        elif (
            part is Part.REASONING
            and self._may_reason
            and state.reasoning < self._next_look
            and not self._over(1)
        ):
            if self._drafts is not None and not self._drafts.passes(text):
                return None
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
                self._answer(fragment, out)
                if self._choice.answer.stopped:
                    self.ended_by = "stop"
                    self._state.finish_reason = "stop"
                    self._state.stop = self._choice.answer.met
                    break
            elif fragment.part is Part.REASONING:
                out.reasoning.append(fragment.text)
        if not (self._may_reason and self._splitter.closed):
            return
        if self._in_block:  # a second one
            self._state.closed_by = None
            return
        self._state.closed_by = "model"
        if self.ended_by is None and self._strict:
            self._end_block(forced=False)

    def _answer(self, fragment: Fragment, out: DeltaBuffer) -> None:
        """Show a fragment of the answer, with what its tokens are beside their text."""
        choice, text, tokens = self._choice, fragment.text, fragment.tokens
        if tokens and (tag := choice.call_tags.get(tokens[-1].token_id)) is not None:
            choice.call_marks.append((choice.answered + max(text.find(tag), 0), tag))
        if tokens and tokens[0].logprob is not None:
            parts = shares(text, [token.token_id for token in tokens], choice.bytes_of)
            tokens = tuple(t._replace(data=part) for t, part in zip(tokens, parts, strict=True))
        choice.answered += len(text)
        shown, ready = choice.answer.feed(text, tokens)
        if choice.answer.stopped and ready and ready[-1].logprob is not None:
            # The last token may go on in the stop string.
            over = sum(len(token.data) for token in ready) - len(shown.encode())
            last = ready[-1]
            ready[-1] = last._replace(data=last.data[: len(last.data) - over])
        out.add_answer(shown, ready)

    def _admit(self, fragment: Fragment) -> bool:
        """Count the ids of a fragment, or end the run before them."""
        state, size = self._state, len(fragment.tokens)
        reasoning = fragment.part is Part.REASONING
        if fragment.part is Part.ANSWER and self._strict and self._may_reason:
            self._end_block(forced=False)
            return False
        closing = fragment.part is Part.MARKUP and state.closed_by is None and self._closed
        if self._may_reason and reasoning and self._ends_before(fragment):
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
            state.late_end |= self._answering and self._is_end(fragment)
            if self._in_block and self._leaves_no_room(1):
                self._cut(1)  # the tag alone took all there was
        return True

    def _is_end(self, fragment: Fragment) -> bool:
        end = self._runtime.renderer.think_end_id
        return any(token.token_id == end for token in fragment.tokens)

    def _leaves(self, token_id: int) -> bool:
        """Whether a token ends the block without being its tag: a call begins."""
        return token_id in self._ends and self._in_block

    @property
    def _closed(self) -> bool:
        """A block has been closed, and no other one is open."""
        return self._splitter.closed and self._splitter.state != "reasoning"

    @property
    def _in_block(self) -> bool:
        return self._may_reason and self._splitter.state == "reasoning"

    def _ends_before(self, fragment: Fragment) -> bool:
        """Whether the block is cut off here: by a bound, its grace considered, or as a loop."""
        size, choice = len(fragment.tokens), self._choice
        if self._over(size) and (
            not self._within_grace(size) or ends_between(choice.last_text(_TAIL), fragment.text)
        ):
            self._cut(size)
        elif self._state.reasoning >= self._next_look:
            self._next_look = self._state.reasoning + INTERVAL
            if loop_period(choice.context, self._loop_tokens, self._state.reasoning):
                self._state.looped = True
                self._cut(0)
        return self.ended_by is not None

    def _within_grace(self, more: int) -> bool:
        """Whether this many more ids are too many for the cap alone, and not for its grace."""
        state, limits = self._state, self._state.limits
        most = limits.reasoning_cap + limits.grace
        return state.reasoning + more <= most and not self._leaves_no_room(more)

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
        self._state.cap_hit = self.cut_off = True
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
        fragments, calls = self._attributor.finish(), list[Fragment]()
        if self._drafts is not None:
            fragments, calls = self._drafts.finish(fragments)
        self._absorb(fragments, out)
        if self.ended_by is not None:
            return out.deltas()
        if calls:  # the model has forgotten to close its block
            self._choice.close_block()
            self._may_reason = in_block = False
            self._absorb(calls, out)
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
