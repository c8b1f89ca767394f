"""Which token belongs to reasoning, answer or markup: the splitter's text matched back to ids.

A token belongs to the part in which its first character lies; white space that is markup does not
count for a token that goes on (" First" after a tag is reasoning). Ids without text of their own
(half a character) go with the next one that completes it. A think tag that is one id is told from
its spelling here, by the id. Knows nothing of caps or budgets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from extracot.reasoning import Part, Piece, ReasoningSplitter
from extracot_server.engine.base import TokenLogprob


class SampledToken(NamedTuple):
    """One id and, if requested, its log-probability and the bytes of the answer that are its."""

    token_id: int
    logprob: TokenLogprob | None
    data: bytes = b""


class Fragment(NamedTuple):
    """Text of one part. ``tokens`` are the ids that begin here, none if it continues a token."""

    part: Part
    text: str
    tokens: tuple[SampledToken, ...]


class Attributor:
    """Feeds a splitter token by token and gives back fragments that carry their ids.

    ``tags`` are the ids that are think tags, each with its tag: the splitter's ``marked`` ones.
    """

    def __init__(self, splitter: ReasoningSplitter, tags: Mapping[int, str] | None = None) -> None:
        self._splitter = splitter
        self._tags = tags or {}
        self._mute: list[SampledToken] = []  # ids still without text
        # (ids not yet given out, characters that are left of their text), in order
        self._waiting: deque[tuple[tuple[SampledToken, ...], int]] = deque()

    @property
    def mute(self) -> int:
        """Ids at the end that have no text yet: the beginning of a character, or no text at all."""
        return len(self._mute)

    def certain(self, text: str) -> Part | None:
        """The part of a token with this text that is no tag, where no other token can change it.

        Such a token need not be fed.
        """
        return None if self._mute or self._waiting else self._splitter.certain(text)

    def feed(self, token_id: int, text: str, logprob: TokenLogprob | None) -> list[Fragment]:
        """Add one id with the text it completed; return what became certain."""
        tag = self._tags.get(token_id)
        if tag is not None:
            return self._feed_tag(SampledToken(token_id, logprob), tag, text)
        self._mute.append(SampledToken(token_id, logprob))
        if not text:
            return []
        self._waiting.append((tuple(self._mute), len(text)))
        self._mute = []
        return self._match(self._splitter.feed(text))

    def leave(self) -> list[Fragment]:
        """The block has ended without a tag; ids that have no text yet go with what follows."""
        return self._match(self._splitter.leave())

    def _feed_tag(self, token: SampledToken, tag: str, text: str) -> list[Fragment]:
        """A tag by its id; what else the decoder gave with it is text (a broken character, say)."""
        before, _, after = text.partition(tag)
        pieces: list[Piece] = []
        if before:
            self._waiting.append((tuple(self._mute), len(before)))
            self._mute = []
            pieces += self._splitter.feed(before)
        self._waiting.append(((*self._mute, token), len(tag)))
        self._mute = []
        pieces += self._splitter.mark(tag)
        if after:
            self._waiting.append(((), len(after)))
            pieces += self._splitter.feed(after)
        return self._match(pieces)

    def finish(self) -> list[Fragment]:
        """The end of the stream: everything held back, and ids that never became text."""
        fragments = self._match(self._splitter.finish())
        if self._mute:
            part = Part.REASONING if self._splitter.state == "reasoning" else Part.ANSWER
            fragments.append(Fragment(part, "", tuple(self._mute)))
            self._mute = []
        return fragments

    def _match(self, pieces: Iterable[Piece]) -> list[Fragment]:
        fragments: list[Fragment] = []
        for piece in pieces:
            at = 0
            while at < len(piece.text):
                tokens, left = self._waiting.popleft()
                size = min(left, len(piece.text) - at)
                text, rest = piece.text[at : at + size], left - size
                undecided = rest and piece.part is Part.MARKUP and text.isspace()
                fragments.append(Fragment(piece.part, text, () if undecided else tokens))
                if rest:
                    self._waiting.appendleft((tokens if undecided else (), rest))
                at += size
        return fragments
