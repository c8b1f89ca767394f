"""Which of a trace's equations the answer comes from: a walk back over results that are operands.

Small numbers recur. So an equation whose result is an operand further on counts only if it is about
the same people or things, or if nothing tells, or if the question does not state that number (then
it must have been worked out). Knows equations and words, no atoms and no scores.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from extracot_training.math_text.equations import Equation, numbers_in

_SPELLED = {
    "half": 2, "twice": 2, "double": 2, "two": 2, "both": 2, "three": 3, "triple": 3, "thrice": 3,
    "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "dozen": 12,
}  # fmt: skip


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
    """A formula (``None``: no equation) and what its sentence speaks of."""

    equation: Equation | None
    about: Mention


def other_people(one: Mention, other: Mention) -> bool:
    """Whether both name somebody and nobody is in both."""
    return bool(one.names and other.names) and not one.names & other.names


def leading_to(gold: str, question: str, links: Mapping[int, Link]) -> frozenset[int]:
    """The keys (positions) of the links the answer comes from. All of them if no result is the
    answer; formulas that state no result can't be judged and are always among them."""
    stated = _stated(question)
    answers = set(numbers_in(gold)[:1])
    kept: set[int] = set()
    for index in sorted(links, reverse=True):
        equation = links[index].equation
        if equation is None or equation.result is None:
            continue
        if equation.result in answers or index in kept:
            kept.add(index)
            for operand in equation.operands:
                kept |= _sources(operand, index, links, stated)
    unread = {i for i, one in links.items() if one.equation is None or one.equation.result is None}
    return frozenset(kept | unread) if kept else frozenset(links)


def _sources(
    operand: Fraction, user: int, links: Mapping[int, Link], stated: frozenset[Fraction]
) -> set[int]:
    """The earlier equations that an operand of the equation at ``user`` comes from."""
    about = links[user].about
    makers = {
        index: one.about
        for index, one in links.items()
        if index < user and one.equation is not None and one.equation.result == operand
    }
    shared = {i: about.words & words.words for i, words in makers.items()}
    near = {i for i, common in shared.items() if common and not other_people(about, makers[i])}
    if near:
        return near
    open_ = {i for i, one in makers.items() if not (about.words and one.words)}
    if open_:
        return open_
    return set() if operand in stated else set(makers)


def _stated(question: str) -> frozenset[Fraction]:
    """The numbers a question gives, in digits or in the commonest words."""
    words = re.findall(r"[a-z]+", question.lower())
    spelled = {Fraction(_SPELLED[word]) for word in words if word in _SPELLED}
    return frozenset(spelled | set(numbers_in(question)))
