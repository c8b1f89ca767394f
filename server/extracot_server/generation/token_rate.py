"""Tokens of a server's chunks, learnt from its replies, the newest most.

Knows no requests and no budgets.
"""

from __future__ import annotations

from dataclasses import dataclass

_CHARACTERS = 4
"""In a token, until a server's replies say better."""
_ONE_EACH = 0.1
"""By how much chunks and tokens may differ where a chunk is still taken for a token."""
_PLAUSIBLE = (1 / 16, 4)
"""Tokens for a character of a reply; a server that says otherwise miscounts."""
_KEPT = 0.9
"""What a reply weighs when another one has come: a server may be replaced by another."""


@dataclass(slots=True)
class TokenRate:
    """What the replies of one model have shown of its server's chunks."""

    chunks: float = 0
    characters: float = 0
    tokens: float = 0

    def learn(self, chunks: int, characters: int, tokens: int) -> None:
        """A whole reply, of which the server has said how many tokens it was."""
        least, most = _PLAUSIBLE
        if not chunks or not tokens or not least * characters <= tokens <= most * characters:
            return
        self.chunks = self.chunks * _KEPT + chunks
        self.characters = self.characters * _KEPT + characters
        self.tokens = self.tokens * _KEPT + tokens

    def of(self, text: str, held: float) -> float:
        """Tokens of a chunk with this text; ``held`` is a fraction left of those before."""
        if not self.tokens:
            return max(1.0, len(text) / _CHARACTERS)
        if abs(self.tokens - self.chunks) <= _ONE_EACH * self.tokens:
            return 1.0
        return held + len(text) * self.tokens / self.characters
