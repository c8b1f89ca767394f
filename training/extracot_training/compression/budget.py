"""Chooses atoms by score within a token budget. Atoms stay whole; tokens are the policy model's.

Kept sets are nested: what a small budget keeps, a larger one keeps too. Sizes are measured on the
joined text, never added up from pieces, because tokens depend on their neighbours. This module does
not know where scores come from.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from extracot_training.compression.segment import Atom, Kind, join
from extracot_training.errors import TrainingError
from extracot_training.policy.pretrained import load_tokenizer

TOLERANCE = 0.05


class RatioError(TrainingError):
    """A ratio outside (0, 1]."""


@dataclass(frozen=True, slots=True)
class Selection:
    """A text shortened to ``target``. ``tokens`` of ``tokens_full`` are left, in the policy model's
    tokens; ``kept`` are atom indices, sorted."""

    target: float
    kept: tuple[int, ...]
    text: str
    tokens: int
    tokens_full: int

    @property
    def realised(self) -> float:
        """Share of tokens left; an empty text is left whole (1.0)."""
        return self.tokens / self.tokens_full if self.tokens_full else 1.0

    @property
    def overshoot(self) -> float:
        return max(0.0, self.realised - self.target)


class TokenCounter:
    """Counts in the tokens of a fast Hugging Face tokenizer, special tokens apart."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def count(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False)) if text else 0

    def per_atom(self, text: str, atoms: Sequence[Atom]) -> list[int]:
        """Tokens of the whole text by the atom that holds each token's last character."""
        counts = [0] * len(atoms)
        if atoms:
            offsets = self._tokenizer(
                text, add_special_tokens=False, return_offsets_mapping=True
            ).offset_mapping
            starts = [atom.start for atom in atoms]
            for start, end in offsets:
                counts[bisect_right(starts, max(start, end - 1)) - 1] += 1
        return counts


def token_counter(name: str | None) -> Callable[[str], int] | None:
    """Counts as the tokenizer of this name does; ``None`` for none. Raises ``PretrainedError``."""
    return None if name is None else TokenCounter(load_tokenizer(name)).count


def checked_ratio(ratio: float) -> float:
    """The ratio, or :class:`RatioError` if it is not in (0, 1]."""
    if not 0 < ratio <= 1:
        raise RatioError(f"ratio {ratio:g} is outside (0, 1]")
    return ratio


def allowance(costs: Sequence[int]) -> float:
    """How far realised may be from target with atoms of these token costs: half the largest atom's
    share, at least :data:`TOLERANCE`."""
    total = sum(costs)
    return max(TOLERANCE, max(costs) / 2 / total) if total else TOLERANCE


def words(text: str) -> list[Atom]:
    """The text cut at white space only, for compressors that know no formulas."""
    atoms = [
        Atom(match.start(), match.end(), Kind.WORD, match.group())
        for match in re.finditer(r"\S+\s*", text)
    ]
    lead = atoms[0].start if atoms else len(text)
    return [Atom(0, lead, Kind.SPACE, text[:lead]), *atoms] if lead else atoms


def spend(
    text: str,
    atoms: Sequence[Atom],
    scores: Sequence[float],
    ratios: Sequence[float],
    counter: TokenCounter,
    *,
    always: Collection[int] = (),
) -> list[Selection]:
    """One selection per ratio: the best-scored atoms whose joint size is nearest to the budget.

    ``always`` is kept whatever the budget; one atom at least is. Ties go to the earlier atom.
    Raises :class:`RatioError`.
    """
    for ratio in ratios:
        checked_ratio(ratio)
    costs = counter.per_atom(text, atoms)
    solid = [index for index, atom in enumerate(atoms) if atom.kind is not Kind.SPACE]
    order = sorted(solid, key=lambda i: (i not in always, -scores[i], i))
    least = max(min(1, len(order)), sum(index in always for index in order))
    ladder = Ladder(atoms, order, list(accumulate(costs[i] for i in order)), counter, least)
    full = counter.count(text)
    found: list[Selection] = []
    for ratio in ratios:
        steps = ladder.nearest(ratio * full) if ratio < 1 else len(order)
        whole = steps == len(order)
        kept = tuple(range(len(atoms)) if whole else sorted(order[:steps]))
        size = full if whole else ladder.size(steps)
        found.append(Selection(ratio, kept, join(atoms, kept), size, full))
    return found


@dataclass(frozen=True, slots=True)
class Ladder:
    """Sizes of the texts of the first 1, 2, … atoms in order of score, measured when asked."""

    atoms: Sequence[Atom]
    order: Sequence[int]
    sums: Sequence[int]
    counter: TokenCounter
    least: int
    sizes: dict[int, int] = field(default_factory=dict)

    def size(self, steps: int) -> int:
        if steps not in self.sizes:
            self.sizes[steps] = self.counter.count(join(self.atoms, self.order[:steps]))
        return self.sizes[steps]

    def nearest(self, budget: float) -> int:
        """How many atoms come nearest to ``budget`` tokens, at least ``least``.

        Starts where the atoms' costs in the full text say, then brackets the budget in growing
        steps and halves the bracket.
        """
        low, high = self.least, len(self.order)
        if high <= low:
            return high
        guess = min(max(bisect_right(self.sums, budget), low), high)
        step = 1
        if self.size(guess) <= budget:
            low = guess
            while low < high and self.size(min(low + step, high)) <= budget:
                low, step = min(low + step, high), step * 2
            high = min(low + step, high)
        else:
            high = guess
            while high > low and self.size(max(high - step, low)) > budget:
                high, step = max(high - step, low), step * 2
            low = max(high - step, low)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.size(middle) <= budget else (low, middle)
        return min((low, high), key=lambda steps: (abs(self.size(steps) - budget), steps))
