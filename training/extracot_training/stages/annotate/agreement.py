"""How far two annotators agree, atom by atom: Cohen's kappa and F1. Pure counting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from extracot_training.compression.segment import Kind, atoms_in, segment
from extracot_training.pipeline.records import Annotation


@dataclass(frozen=True, slots=True)
class Agreement:
    """Atoms by what two annotators said of them."""

    both: int = 0
    first_only: int = 0
    second_only: int = 0
    neither: int = 0
    traces: int = 0

    @property
    def atoms(self) -> int:
        return self.both + self.first_only + self.second_only + self.neither

    @property
    def f1(self) -> float | None:
        """Of "keep", one annotator taken as the truth (it is the same either way)."""
        said = 2 * self.both + self.first_only + self.second_only
        return 2 * self.both / said if said else None

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa; ``None`` where chance agreement is total (both say one thing only).

        >>> Agreement(both=20, first_only=5, second_only=10, neither=15).kappa
        0.4
        """
        total = self.atoms
        if not total:
            return None
        first = (self.both + self.first_only) / total
        second = (self.both + self.second_only) / total
        chance = first * second + (1 - first) * (1 - second)
        if chance == 1:
            return None
        return round(((self.both + self.neither) / total - chance) / (1 - chance), 6)


def agreement(first: Iterable[Annotation], second: Iterable[Annotation]) -> Agreement:
    """Over the traces that both have, matched by key and text."""
    others = {row.key: row for row in second}
    total: Counter[str] = Counter()
    for row in first:
        other = others.get(row.key)
        if other is None or other.reasoning != row.reasoning:
            continue
        atoms = segment(row.reasoning)
        left, right = set(atoms_in(atoms, row.keep)), set(atoms_in(atoms, other.keep))
        solid = {i for i, atom in enumerate(atoms) if atom.kind is not Kind.SPACE}
        total.update(
            both=len(left & right), first_only=len(left - right), second_only=len(right - left),
            neither=len(solid - left - right), traces=1,
        )  # fmt: skip
    return Agreement(**total)
