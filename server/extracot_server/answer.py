"""The answer as it is shown: up to the first stop string, with the log-probabilities of its tokens.

Text that may become a stop string is held back, and so are the log-probabilities of the tokens
that begin in it: what is shown and what is listed beside it never part. Knows no reasoning.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from extracot_server.detokenize import StopMatcher
from extracot_server.engine.base import TokenLogprob

Shown = tuple[str, list[TokenLogprob]]


class AnswerText:
    """The answer of one reply. Feed it text in order; ``stopped`` tells that a stop was met."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._matcher = StopMatcher(stops)
        self._waiting: deque[tuple[int, TokenLogprob]] = deque()  # offset of a token's first char
        self._fed = 0
        self._shown = 0
        self.stopped = False

    def feed(self, text: str, logprobs: Iterable[TokenLogprob]) -> Shown:
        """Add text and the log-probabilities of the tokens that begin with it."""
        self._waiting.extend((self._fed, logprob) for logprob in logprobs)
        self._fed += len(text)
        shown, self.stopped = self._matcher.feed(text)
        self._shown += len(shown)
        ready: list[TokenLogprob] = []
        while self._waiting and self._waiting[0][0] < self._shown:
            ready.append(self._waiting.popleft()[1])
        return shown, ready

    def finish(self) -> Shown:
        """The reply is over: what was held back and did not become a stop string."""
        rest = [logprob for _, logprob in self._waiting]
        self._waiting.clear()
        return self._matcher.finish(), rest
