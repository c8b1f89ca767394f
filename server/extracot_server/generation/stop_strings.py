"""The answer as it is shown: up to the first stop string, with its tokens.

Text that may become a stop string is held back, and so are the tokens that begin in it: what is
shown and what is listed beside it never part. Knows no reasoning.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

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


class StopMatcher:
    """Finds the stop string that is complete first, holding back what may become one.

    Of several that end at the same character the longest counts, so that what is shown does not
    depend on how the text was cut.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.met: str | None = None
        """The stop string that was met."""

    def feed(self, text: str) -> tuple[str, bool]:
        """Text that is safe to show, and whether a stop string was met (it is not shown)."""
        if not self._stops:
            return text, False
        self._held += text
        places = [(self._held.find(stop), stop) for stop in self._stops]
        found = [(at + len(stop), at, stop) for at, stop in places if at >= 0]
        if found:
            _, at, self.met = min(found)
            shown, self._held = self._held[:at], ""
            return shown, True
        keep = max(self._overlap(stop) for stop in self._stops)
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown, False

    def finish(self) -> str:
        """What was held back and did not become a stop string."""
        held, self._held = self._held, ""
        return held

    def _overlap(self, stop: str) -> int:
        """Length of the longest end of the held text that begins ``stop``."""
        for size in range(min(len(stop) - 1, len(self._held)), 0, -1):
            if self._held.endswith(stop[:size]):
                return size
        return 0
