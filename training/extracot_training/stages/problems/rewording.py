"""Finds a test question that was told again with other names, numbers, pronouns or nouns.

Exchanging one noun breaks every n-gram that it is in, but it is one change, however often it is
made. So two questions are aligned, and what differs is counted once for each pair of words that
were exchanged. Names, pronouns and numbers count for nothing. Only the few test questions that
share most runs of three words are looked at. Knows no problem and no file.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import zip_longest

from extracot_training.math_text.normalise import ngrams, numbers_in, template_words

# Fewer words than this say too little: "what is the sum of # and #" is no copy of the product.
FEWEST_WORDS = 12
_RUN = 3
_CANDIDATES = 3
_SHARED = 0.15


class Rewordings:
    """Test questions, ready to be compared with; rows are added by :meth:`add`.

    ``same_numbers``: with other numbers a question is another one.
    """

    def __init__(self, *, same_numbers: bool) -> None:
        self._same_numbers = same_numbers
        self._numbers: dict[int, list[str]] = {}
        self._words: dict[int, list[str]] = {}
        self._runs: dict[tuple[str, ...], list[int]] = defaultdict(list)

    def add(self, row: int, question: str) -> None:
        """A test question and the number of its row."""
        words = template_words(question)
        if len(words) < FEWEST_WORDS:
            return
        self._words[row] = words
        self._numbers[row] = numbers_in(question)
        for run in ngrams(words, _RUN):
            self._runs[run].append(row)

    def closest(self, question: str) -> tuple[int | None, float]:
        """The most similar row and the share of its words that was kept; ``None`` without one."""
        words = template_words(question)
        if len(words) < FEWEST_WORDS:
            return None, 0.0
        runs = ngrams(words, _RUN)
        shared = Counter(row for run in runs for row in self._runs.get(run, ()))
        likely = [
            row for row, count in shared.most_common(_CANDIDATES) if count >= _SHARED * len(runs)
        ]
        if self._same_numbers:
            likely = [row for row in likely if self._numbers[row] == numbers_in(question)]
        if not likely:
            return None, 0.0
        row, share = max(
            ((row, similarity(words, self._words[row])) for row in likely),
            key=lambda item: (item[1], -item[0]),
        )
        return row, share


def similarity(first: Sequence[str], second: Sequence[str]) -> float:
    """1 less the changes per word of the longer list; an exchange made many times is one change.

    >>> similarity("# red pens cost # so pens".split(), "# red cups cost # so cups".split())
    0.8571428571428572
    """
    matcher = SequenceMatcher(None, first, second, autojunk=False)
    changes: set[tuple[str | None, str | None]] = set()
    lone = 0
    for kind, a, b, c, d in matcher.get_opcodes():
        for one, other in zip_longest(first[a:b], second[c:d]) if kind != "equal" else ():
            if one is None or other is None:
                lone += 1
            else:
                changes.add((one, other))
    return max(0.0, 1 - (len(changes) + lone) / max(len(first), len(second), 1))
