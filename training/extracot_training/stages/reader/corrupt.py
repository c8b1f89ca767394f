"""Ways to corrupt a trace, for training the reader: it must read what any compressor left over.

Neutral between compressors on purpose: whole atoms, single words, head and tail, equations whole or
in pieces, everything, nothing. Knows no tokens and no compressor.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from extracot_training.compression.segment import FORMULAS, Atom, join, segment

KINDS = ("full", "atoms", "words", "head_tail", "equations", "pieces", "empty")
WEIGHTS = (12, 18, 18, 10, 18, 18, 6)


def corrupt(text: str, rng: Random, atoms: Sequence[Atom] | None = None) -> tuple[str, str]:
    """``(what is left, kind of corruption)``; ``atoms`` are the text's, if cut already."""
    kind = rng.choices(KINDS, WEIGHTS)[0]
    ratio = rng.uniform(0.02, 0.3) if rng.random() < 0.5 else rng.uniform(0.3, 0.95)
    if kind == "full":
        return text, kind
    if kind == "empty":
        return "", kind
    if kind == "words":
        return " ".join(word for word in text.split() if rng.random() < ratio), kind
    if kind == "head_tail":
        words = text.split()
        head = rng.randint(0, int(len(words) * ratio))
        tail = int(len(words) * ratio) - head
        return " ".join(words[:head] + words[len(words) - tail :]), kind
    atoms = segment(text) if atoms is None else atoms
    if kind == "atoms":
        return join(atoms, [i for i in range(len(atoms)) if rng.random() < ratio]), kind
    # Mostly mathematics survives, whole ("equations") or word by word ("pieces").
    share, rest = rng.uniform(0.4, 1.0), rng.uniform(0.0, 0.25)
    if kind == "equations":
        kept = [
            i
            for i, atom in enumerate(atoms)
            if rng.random() < (share if atom.kind in FORMULAS else rest)
        ]
        return join(atoms, kept), kind
    words = []
    for atom in atoms:
        chance = share if atom.kind in FORMULAS else rest
        words += [word for word in atom.body.split() if rng.random() < chance]
    return " ".join(words), kind
