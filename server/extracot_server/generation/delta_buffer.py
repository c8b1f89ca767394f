"""Collects what one delta of the engine adds to a choice: one delta a part, not one a token."""

from __future__ import annotations

from extracot.reasoning import Part
from extracot_server.generation.attribution import SampledToken
from extracot_server.generation.events import Delta


class DeltaBuffer:
    """The text and tokens that one delta of the engine adds, until they are taken out."""

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
