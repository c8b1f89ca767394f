"""Cuts the answer at the first stop string, text and tokens alike.

Text that may become a stop string is held back from the beginning of its token, with its tokens:
what is shown and what is listed beside it never part. Knows no reasoning.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

from extracot.reasoning import tag_beginning

Token = TypeVar("Token")
"""Whatever is to be listed of a token."""


class AnswerText(Generic[Token]):
    """The answer of one choice. Feed it text in order; ``stopped`` is true after a stop string.

    It stops at the stop string that is complete first. Of several that end at the same character
    the longest counts, so that what is shown does not depend on how the text was cut.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self.holds_nothing_back = not self._stops
        self._waiting: deque[tuple[int, Token]] = deque()  # offset of a token's first char
        self._fed = self._shown = 0
        self._held = ""
        self.met: str | None = None
        """The stop string that was met."""

    @property
    def stopped(self) -> bool:
        """Whether a stop string was met; it is not shown."""
        return self.met is not None

    def feed(self, text: str, tokens: Iterable[Token]) -> tuple[str, list[Token]]:
        """Add text and the tokens that begin with it; what is safe to show, with its tokens."""
        if self.holds_nothing_back and text and not self._waiting:
            return text, list(tokens)
        self._waiting.extend((self._fed, token) for token in tokens)
        self._fed += len(text)
        self._held += text
        cut = self._find_stop()
        if not self.stopped and cut < len(self._held):
            cut = self._whole_tokens(cut)
        shown, self._held = self._held[:cut], "" if self.stopped else self._held[cut:]
        self._shown += cut
        ready: list[Token] = []
        while self._waiting and self._waiting[0][0] < self._shown:
            ready.append(self._waiting.popleft()[1])
        return shown, ready

    def finish(self) -> tuple[str, list[Token]]:
        """The answer is over: what was held back and did not become a stop string."""
        rest = [token for _, token in self._waiting]
        self._waiting.clear()
        held, self._held = self._held, ""
        return held, rest

    def _whole_tokens(self, cut: int) -> int:
        """Where the token begins that reaches beyond ``cut``."""
        begun = [offset for offset, _ in self._waiting if offset <= self._shown + cut]
        return begun[-1] - self._shown if begun else cut

    def _find_stop(self) -> int:
        """Where the held text has a stop string, or may be about to have one."""
        places = [(self._held.find(stop), stop) for stop in self._stops]
        found = [(at + len(stop), at, stop) for at, stop in places if at >= 0]
        if found:
            _, at, self.met = min(found)
            return at
        begun = max((tag_beginning(self._held, 0, stop) for stop in self._stops), default=0)
        return len(self._held) - begun
