"""Makes longer sentences of neighbours that are for the same thing.

What a model writes in one breath is often two claims; what follows may be said of both. Sentences
are merged only where one label is right for the whole. This module does not know problems.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from extracot_training.synthetic.reasoning.script import Sentence

# Longest sentence that is made, in words.
LONGEST = 50

_JOINERS = (", and ", ", and ", ", so ", "; ", ", and then ", " and ", ", which means that ",
            ", so that ", ", while ", " - ", ", and also ")  # fmt: skip
# Behind these a sentence doesn't go on.
_STOPS = ("?", "!", ":", "...", "\\]")
# A sentence that begins so can't follow another within one.
_FRESH = ("wait", "no", "hmm", "okay", "so", "and", "but", "then", "hold", "stop", "now", "yes")


def merged(sentences: Sequence[Sentence], rng: Random, rate: float) -> list[Sentence]:
    """The sentences with some neighbours put together; references are kept."""
    takers: dict[int, list[int]] = {}
    for number, sentence in enumerate(sentences):
        for gone in sentence.revokes:
            takers.setdefault(id(gone), []).append(number)
    kept: list[Sentence] = []
    alias: dict[int, Sentence] = {}
    for sentence in sentences:
        before = kept[-1] if kept else None
        if (
            before is not None
            and rng.random() < rate
            and _fit(before, sentence)
            and takers.get(id(before)) == takers.get(id(sentence))
        ):
            _append(before, sentence, rng.choice(_JOINERS))
            alias[id(sentence)] = before
        else:
            kept.append(sentence)
    for sentence in kept:
        sentence.refers = _followed(sentence.refers, alias, sentence)
        sentence.revokes = _followed(sentence.revokes, alias, sentence)
    return kept


def _fit(first: Sentence, second: Sentence) -> bool:
    left, right = first.markup.rstrip(), second.markup.lstrip()
    words = right.lower().split()
    plain = not any(mark in right for mark in "$*{")
    alike = first.role == second.role or (
        first.role == "needed" and second.role == "narration" and plain and len(words) <= 6
    )
    return (
        alike
        and first.role != "takeback"
        and not second.revokes
        and first.after == second.after == " "
        and "$!" not in left + right
        and not left.endswith(_STOPS)
        and not right.endswith(("?", ":"))
        and words[0].strip(",.:") not in _FRESH
        and len(left.split()) + len(words) <= LONGEST
        and (first.role != "narration" or len(words) > 3)
    )


def _append(first: Sentence, second: Sentence, joiner: str) -> None:
    first.markup = f"{first.markup.rstrip().removesuffix('.')}{joiner}{second.markup.lstrip()}"
    first.groups += second.groups
    first.misstates += second.misstates
    first.refers += second.refers


def _followed(
    others: Sequence[Sentence], alias: dict[int, Sentence], own: Sentence
) -> list[Sentence]:
    found = {id(one): one for one in (alias.get(id(other), other) for other in others)}
    found.pop(id(own), None)
    return list(found.values())
