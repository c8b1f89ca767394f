"""How many tokens a server has generated, as far as it lets that be known.

One that counts as it goes is believed; of others chunks are counted by what the replies so far have
shown of them. What a reply's own usage says in the end replaces what was counted on the way. Knows
nothing of budgets.
"""

from __future__ import annotations

from dataclasses import dataclass

from extracot_server.engine.said import Said, SaidUsage
from extracot_server.generation.report import ChoiceState
from extracot_server.generation.token_rate import TokenRate

_MARKUP = 8
"""Tokens of a reply that are in no chunk: tags and its end."""


class RequestCount:
    """The tokens of one request as they come."""

    def __init__(self, rate: TokenRate) -> None:
        self._rate = rate
        self._chunks = self._characters = self._counted = 0
        self._left = 0.0
        self.usage = SaidUsage()
        """What the server has said last."""

    def see(self, said: Said) -> int:
        """Tokens of what a chunk adds."""
        text = said.reasoning + said.content + said.refusal
        text += "".join(call.arguments for call in said.calls)
        named = any(call.name for call in said.calls)
        before = self.usage.completion or None
        if said.usage is not None:
            self.usage = said.usage
        if not (text or named):
            return 0
        self._chunks += 1
        self._characters += len(text)
        # Something has come, so a server that says nought does not count.
        told = (said.usage.completion or None) if said.usage is not None else None
        if told is not None and (self._chunks == 1 or before is not None):
            new = max(0, told - self._counted)
        else:
            exact = self._rate.of(text, self._left)
            new = int(exact)
            self._left = exact - new
        self._counted += new
        return new

    def learn(self) -> None:
        """The request has ended by itself: what its usage says holds for the ones to come."""
        self._rate.learn(self._chunks, self._characters, self.usage.completion or 0)


@dataclass(frozen=True, slots=True)
class Counted:
    """Tokens by part: as counted before a request, for what it adds to be settled."""

    reasoning: int
    answer: int
    overhead: int
    sampled: int

    @staticmethod
    def of(state: ChoiceState) -> Counted:
        """The counts of a choice now."""
        return Counted(state.reasoning, state.answer, state.overhead, state.sampled)


def settle(state: ChoiceState, before: Counted, usage: SaidUsage, *, goes_on: bool = False) -> None:
    """Replace what was counted of a request by what its server says of it.

    Reasoning is the server's number where it has one, unless the request ``goes_on`` with a reply
    whose reasoning is over: vLLM takes an answer without an end tag for reasoning. Otherwise a few
    tokens that were in no chunk are markup, and a larger difference is spread over the parts as
    they were counted. None at all are not believed where something has come.
    """
    total = usage.completion
    reasoning, answer = state.reasoning - before.reasoning, state.answer - before.answer
    seen = reasoning + answer
    if total is None or (seen and not total):
        return
    if usage.reasoning and not goes_on:
        reasoning = min(usage.reasoning, total)
        answer, rest = total - reasoning, 0
    elif seen <= total <= seen + max(_MARKUP, seen // 10):
        rest = total - seen
    else:
        reasoning = round(total * reasoning / seen) if seen else 0
        answer, rest = total - reasoning, 0
    state.reasoning = before.reasoning + reasoning
    state.answer = before.answer + answer
    state.overhead = before.overhead + rest
    state.sampled = before.sampled + total
