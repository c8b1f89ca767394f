"""What the problems of a card look like, and whether a prompt looks like them. Pure.

A card's figures are means over its own problems, so they say something of a request only where its
prompt could be one of those: as long as they are, in their words. The sketch is made of the
problems' texts alone, and needs no tokenizer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Self

from pydantic import Field, PrivateAttr, StringConstraints, model_validator

from extracot.figures import CardModel, Count, Share, wrong

LEAST_PROBLEMS = 30
"""Fewer problems say too little of the others of their kind."""
MOST_WORDS = 1000
"""Of the words that occur in several problems, those of the most problems are kept."""
KNOWN_SHARE = 0.95
"""A prompt may have so many new words that this share of its words is known, at least."""
_CUT = 0.005
"""Share of the problems beyond either end of the lengths that count as usual."""

# Letters in a row; a letter of a script without spaces between words is a word of its own.
_SPACELESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_SPACELESS}]|[^\W\d_{_SPACELESS}]+")

_Word = Annotated[str, StringConstraints(min_length=1, max_length=200)]


def words_of(text: str) -> list[str]:
    """The words of a text in lower case; numbers and signs are none.

    >>> words_of("In the 2nd bed, Ben plants 6 rows.")
    ['in', 'the', 'nd', 'bed', 'ben', 'plants', 'rows']
    """
    return _WORD.findall(text.lower())


class PromptSketch(CardModel):
    """Lengths and words of ``n`` problems. See :meth:`of` and :meth:`covers`."""

    n: Count
    min_characters: Count
    max_characters: Count
    known_share: Share
    """The least share of a prompt's running words that must be in ``words``."""
    words: Annotated[list[_Word], Field(max_length=20 * MOST_WORDS)]
    _known: frozenset[str] = PrivateAttr(default=frozenset())

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_characters > self.max_characters:
            raise wrong("max_characters", "must not be below min_characters")
        return self

    def model_post_init(self, _: Any) -> None:
        """Keep the words for looking up."""
        self._known = frozenset(self.words)

    @classmethod
    def of(cls, questions: Iterable[str]) -> Self | None:
        """The sketch of problems; ``None`` of fewer than :data:`LEAST_PROBLEMS`.

        Known are the words of two problems or more. So the share of each problem's own words that
        is known is what the other problems would know of it, and the hundredth least of these
        shares is asked of a prompt, or :data:`KNOWN_SHARE` where that is less.
        """
        texts = sorted({question.strip() for question in questions})
        problems = [(len(text), words_of(text)) for text in texts]
        if len(problems) < LEAST_PROBLEMS:
            return None
        counts = Counter(word for _, words in problems for word in set(words))
        shared = sorted((-n, word) for word, n in counts.items() if n > 1)
        kept = sorted(word for _, word in shared[:MOST_WORDS])
        known = frozenset(kept)
        lengths = sorted(length for length, _ in problems)
        shares = sorted(_known_share(words, known) for _, words in problems)
        cut = int(len(lengths) * _CUT)
        return cls(
            n=len(problems),
            min_characters=lengths[cut],
            max_characters=lengths[-1 - cut],
            known_share=min(KNOWN_SHARE, shares[len(shares) // 100]),
            words=kept,
        )

    def covers(self, text: str) -> bool:
        """Whether a prompt could be one of the problems."""
        text = text.strip()
        if not self.min_characters <= len(text) <= self.max_characters:
            return False
        return _known_share(words_of(text), self._known) >= self.known_share


def _known_share(words: Sequence[str], known: frozenset[str]) -> float:
    """Of running words; a text without words is as known as any."""
    return sum(word in known for word in words) / len(words) if words else 1.0
