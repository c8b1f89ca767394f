"""The answer as it is shown: up to the first stop string, with its tokens.

Text that may become a stop string is held back, and so are the tokens that begin in it: what is
shown and what is listed beside it never part. Knows no reasoning.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

from extracot_server.generation.detokenize import StopMatcher

Token = TypeVar("Token")
"""Whatever is to be listed of a token."""


class AnswerText(Generic[Token]):
    """The answer of one choice. Feed it text in order; ``stopped`` tells that a stop was met."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._matcher = StopMatcher(stops)
        self.holds_nothing_back = not any(stops)
        self._waiting: deque[tuple[int, Token]] = deque()  # offset of a token's first char
        self._fed = 0
        self._shown = 0
        self.stopped = False

    @property
    def met(self) -> str | None:
        """The stop string that was met."""
        return self._matcher.met

    def feed(self, text: str, tokens: Iterable[Token]) -> tuple[str, list[Token]]:
        """Add text and the tokens that begin with it."""
        if self.holds_nothing_back and text and not self._waiting:
            return text, list(tokens)
        self._waiting.extend((self._fed, token) for token in tokens)
        self._fed += len(text)
        shown, self.stopped = self._matcher.feed(text)
        self._shown += len(shown)
        ready: list[Token] = []
        while self._waiting and self._waiting[0][0] < self._shown:
            ready.append(self._waiting.popleft()[1])
        return shown, ready

    def finish(self) -> tuple[str, list[Token]]:
        """The answer is over: what was held back and did not become a stop string."""
        rest = [token for _, token in self._waiting]
        self._waiting.clear()
        return self._matcher.finish(), rest
