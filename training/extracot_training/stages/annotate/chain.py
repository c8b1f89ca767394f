"""Which of a trace's formulas the answer comes from: a walk back by value and by symbol.

A value is the whole of it: ``\\frac{36}{5}`` comes from no 36. Small numbers recur. So a formula
whose outcome is an operand further on counts only if it is about the same people or things, or if
nothing tells, or if the question does not state that value (then it must have been worked out). A
symbol comes from where it was last defined, and from the relations that hold it. Knows formulas
and words, no atoms and no scores.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from extracot_training.compression.reading import StepReading, question_values, read_step
from extracot_training.compression.segment import segment
from extracot_training.math_text.values import flat, value_key

_SPELLED = {
    "half": 2, "twice": 2, "double": 2, "both": 2, "triple": 3, "thrice": 3, "dozen": 12,
}  # fmt: skip
_NUMBER = r"([\d,]*\.?\d+)"
_DIVISION = re.compile(rf"{_NUMBER}(?:\s*(?:÷|\\div)\s*|\s+/\s+){_NUMBER}")


@dataclass(frozen=True, slots=True)
class Mention:
    """What a sentence speaks of: ``words`` in lower case, and of these the ``names``."""

    words: frozenset[str]
    names: frozenset[str]

    @classmethod
    def of(cls, words: Sequence[str], question: str) -> Mention:
        """From a sentence's content words. A name is written with a capital, in the question too
        and wherever it occurs there."""
        names = (
            word.lower()
            for word in words
            if word[:1].isupper()
            and re.search(rf"\b{word}\b", question)
            and not re.search(rf"\b{word.lower()}\b", question)
        )
        return cls(frozenset(word.lower() for word in words), frozenset(names))


@dataclass(frozen=True, slots=True)
class Link:
    """What a formula says and what its sentence speaks of."""

    reading: StepReading
    about: Mention


def link(text: str, about: Mention) -> Link:
    """A formula's text read. A division, told from a fraction by its sign or its spaces, uses both
    of its numbers."""
    reading = read_step(segment(text))
    parts = {value_key(number) for pair in _DIVISION.findall(text) for number in pair}
    divided = frozenset(part for part in parts if part is not None) - reading.results
    return Link(replace(reading, uses=reading.uses | divided), about)


def other_people(one: Mention, other: Mention) -> bool:
    """Whether both name somebody and nobody is in both."""
    return bool(one.names and other.names) and not one.names & other.names


def leading_to(
    gold: str, question: str, links: Mapping[int, Link], closing: Sequence[str] = ()
) -> frozenset[int]:
    """The keys (positions) of the links the answer comes from; all of them if none states it.
    ``closing`` are formulas behind the last link: what they start from counts, if they end in the
    answer."""
    behind = max(links, default=-1) + 1
    nobody = Mention(frozenset(), frozenset())
    after = {behind + place: link(text, nobody) for place, text in enumerate(closing)}
    return (_leading_to(gold, question, {**links, **after}) - after.keys()) or frozenset(links)


def _leading_to(gold: str, question: str, links: Mapping[int, Link]) -> frozenset[int]:
    stated = _stated(question)
    answer = value_key(flat(gold))
    written = re.sub(r"\s", "", flat(gold))
    kept: set[int] = set()
    for index in sorted(links, reverse=True):
        reading = links[index].reading
        ends = any(relation.endswith(f"={written}") for relation in reading.relations)
        if index in kept or ends or (answer is not None and answer in reading.results):
            kept.add(index)
            for value in reading.uses:
                kept |= _sources(value, index, links, stated)
            for name in reading.names:
                kept |= _named(name, index, links)
    return frozenset(kept or links)


def _named(name: str, user: int, links: Mapping[int, Link]) -> set[int]:
    """Where a symbol of the formula at ``user`` comes from: its last definition before, and the
    relations before that hold it."""
    earlier = {index: one.reading for index, one in links.items() if index < user}
    makers = [i for i, one in earlier.items() if any(name == own for own, _ in one.defines)]
    relations = {i for i, one in earlier.items() if one.relations and name in one.names}
    return relations | set(sorted(makers)[-1:])


def _sources(value: str, user: int, links: Mapping[int, Link], stated: frozenset[str]) -> set[int]:
    """The earlier formulas that an operand of the formula at ``user`` comes from."""
    about = links[user].about
    makers = {
        index: one.about
        for index, one in links.items()
        if index < user and value in one.reading.results
    }
    shared = {i: about.words & words.words for i, words in makers.items()}
    near = {i for i, common in shared.items() if common and not other_people(about, makers[i])}
    if near:
        return near
    open_ = {i for i, one in makers.items() if not (about.words and one.words)}
    if open_:
        return open_
    return set() if value in stated else set(makers)


def _stated(question: str) -> frozenset[str]:
    """The values a question gives, in digits or in the commonest words."""
    words = re.findall(r"[a-z]+", question.lower())
    return question_values(question) | {str(_SPELLED[word]) for word in words if word in _SPELLED}
