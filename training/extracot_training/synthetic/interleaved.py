"""Several stories worked through in one trace, of which the question asks for one or more.

Which part of such a trace matters is decided by the question alone: the telling takes no account
of what is asked, so it is the same for every question about these stories. Results of several that
are to be added are added in what follows the trace. Every story is about somebody, whom each of its
sentences names. This module knows no families and draws no stories.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations, pairwise
from random import Random

from extracot_training.synthetic.narrate import (
    brief_final,
    equation,
    expression,
    plain_equation,
    terse,
)
from extracot_training.synthetic.story import NAMES, Op, Quantity, Step, Story, WordProblem, listing

# Families whose stories need not name anybody: these can't be interleaved.
FAMILIES_WITHOUT_NAMES = frozenset(
    ("bill_split", "bus", "car_park", "factory", "fence", "library", "school_trip", "scores")
) | frozenset(("tickets", "water_tank"))

_NAMES = frozenset(NAMES)

# An answer below this is guessed too often without reading.
SMALLEST_ANSWER = 2

OPENINGS = ("All stories, step by step.", "I work on all of them.", "Every story gets its turn.")
STEPS = ("{who}, {what}: {eq}.", "{who}: {what}, {eq}.")
ANNOUNCEMENTS = ("Now {who}.", "{who} comes next.", "The turn of {who}.")
CONCLUSIONS = ("So {who} has {value}.", "That makes {who} {value}.", "So for {who} {value}.")
CHECKS = ("Check for {who}: {eq}.", "Let me check {who}: {eq}.")
RESULTS = ("Results: {listed}.", "In the end: {listed}.", "That gives {listed}.")
ASKS = (
    "This is about {who}. {ask}",
    "Only {who} counts now. {ask}",
    "Now tell me about {who}. {ask}",
)
# Of several: what each comes to is asked first, whose are added last, so that the end of a question
# shows how many it needs.
SUM_ASKS = (
    "{asks} Add {whose} results.",
    "{asks} What do {whose} results add up to?",
    "{asks} What is the sum of {whose} results?",
    "{asks} Put {whose} results together.",
)


@dataclass(frozen=True, slots=True)
class InterleavedStory:
    """A story told among others, of this family; ``who`` is the first person it names."""

    who: str
    family: str
    story: Story


def people(story: Story) -> list[str]:
    """The persons a story names, each once, in order."""
    return list(dict.fromkeys(w for w in re.findall(r"[A-Z][a-z]+", story.text) if w in _NAMES))


def without_names(story: Story) -> str:
    """What a story tells, whoever it is about: its facts with A, B, … for the persons."""
    text = " ".join(story.facts)
    for number, who in enumerate(people(story)):
        text = re.sub(rf"\b{who}\b", chr(ord("A") + number), text)
    return text


def well_posed(stories: Sequence[Story], added: int = 1, cap: int | None = None) -> bool:
    """Whether these can be told together: each names somebody, nobody occurs in two, no equation
    comes twice, and each answer is a number that occurs nowhere else in the texts (whoever hides it
    hides nothing else) and is at least :data:`SMALLEST_ANSWER`.

    ``added``: a question may ask for the sum of so many of them. Then the sums of any two up to any
    ``added`` are no larger than ``cap``, and occur nowhere in the texts and only once among the
    sums. That holds for all of them, asked for or not, so that numbers tell nobody what is asked.
    """
    cast = [people(story) for story in stories]
    if not all(cast) or len({name for names in cast for name in names}) < sum(map(len, cast)):
        return False
    steps = [step for story in stories for step in story.steps]
    numbers = [(s.result.value, *sorted(term.value for term in s.terms)) for s in steps]
    if len(set(numbers)) < len(numbers):
        return False
    values = _occurring(stories)
    answers = [story.answer.value for story in stories]
    if not all(values[answer] == 1 and answer >= SMALLEST_ANSWER for answer in answers):
        return False
    sums = [sum(some) for size in range(2, added + 1) for some in combinations(answers, size)]
    if len(set(sums)) < len(sums) or any(values[total] for total in sums):
        return False
    return cap is None or max(sums, default=0) <= cap


def _occurring(stories: Sequence[Story]) -> Counter[int]:
    """How often each number is given, told or worked out, repetitions in telling aside."""
    values = Counter(step.result.value for story in stories for step in story.steps)
    for story in stories:
        told = [story.text, *(step.result.what for step in story.steps)]
        values.update(int(number) for text in told for number in re.findall(r"\d+", text))
        values.update(given.value for given in story.givens)
    return values


def tell(
    stories: Sequence[InterleavedStory],
    rng: Random,
    *,
    interleaved: bool = True,
    thorough: bool = False,
) -> str:
    """All steps, each story's in its order; one check; all results. Steps of stories and results
    are mixed at random or, if not ``interleaved``, come one story after the other. ``thorough``
    tells them in that order too, a paragraph for each story, which is announced, concluded and
    checked before the next."""
    if thorough:
        return _tell_thoroughly(stories, rng)
    left = {one.who: iter(one.story.steps) for one in stories}
    turns = [one for one in stories for _ in one.story.steps]
    if interleaved:
        rng.shuffle(turns)
    sentences = [rng.choice(OPENINGS), *(_step(one, next(left[one.who]), rng) for one in turns)]
    check = _check(rng.choice(stories), rng)
    end = rng.choice(RESULTS)
    mixed = rng.sample(stories, len(stories))
    listed = _results(mixed if interleaved else stories)
    return "\n\n".join([" ".join(sentences), check, end.format(listed=listed)])


def _tell_thoroughly(stories: Sequence[InterleavedStory], rng: Random) -> str:
    paragraphs = [rng.choice(OPENINGS)]
    for one in stories:
        told = {"who": one.who, "value": one.story.answer.value}
        sentences = [
            rng.choice(ANNOUNCEMENTS).format(**told),
            *(_step(one, step, rng) for step in one.story.steps),
            rng.choice(CONCLUSIONS).format(**told),
            _check(one, rng),
        ]
        paragraphs.append(" ".join(sentences))
    paragraphs.append(rng.choice(RESULTS).format(listed=_results(stories)))
    return "\n\n".join(paragraphs)


def _step(one: InterleavedStory, step: Step, rng: Random) -> str:
    sentence, what = rng.choice(STEPS), _short(step.result)
    return sentence.format(who=one.who, what=what, eq=plain_equation(step))


def _check(one: InterleavedStory, rng: Random) -> str:
    answer = one.story.answer
    whole = f"{expression(one.story, answer)} = {answer.value}"
    return rng.choice(CHECKS).format(who=one.who, eq=whole)


def _results(stories: Sequence[InterleavedStory]) -> str:
    return ", ".join(f"{one.who} {one.story.answer.value}" for one in stories)


def _short(quantity: Quantity) -> str:
    """``muffins left over`` for ``the number of muffins left over``."""
    return quantity.what.removeprefix("the ").removeprefix("number of ")


def problem(
    index: int,
    stories: Sequence[InterleavedStory],
    asked: Sequence[int],
    trace: str,
    rng: Random,
    *,
    named: bool = False,
) -> WordProblem:
    """All the stories' facts and a question about those at the places ``asked``, in that order (of
    several: what their answers add up to), solved by ``trace``. ``named``: what follows the trace
    begins with whose story it answers and what is asked for; of several it always does."""
    wanted = [stories[place] for place in asked]
    others = [one for one in stories if one not in wanted]
    facts = [" ".join(one.story.facts) for one in stories]
    final = _final(wanted, named=named)
    told = [terse(one.story) for one in stories if one in wanted]
    return WordProblem(
        index=index,
        family=wanted[0].family,
        question=" ".join([*facts, _question(wanted, rng)]),
        answer=sum(one.story.answer.value for one in wanted),
        steps=sum(len(one.story.steps) for one in wanted),
        trace=trace,
        terse="\n".join([*told, *_sums(wanted)]),
        final=final,
        brief=trace,
        brief_final=final,
        numbers=tuple(given.value for one in stories for given in one.story.givens),
        stories=tuple(without_names(one.story) for one in (*wanted, *others)),
        families=tuple(one.family for one in wanted),
    )


def _question(wanted: Sequence[InterleavedStory], rng: Random) -> str:
    asks = " ".join(one.story.ask for one in wanted)
    if len(wanted) == 1:
        return rng.choice(ASKS).format(who=wanted[0].who, ask=asks)
    return rng.choice(SUM_ASKS).format(asks=asks, whose=listing([f"{w.who}'s" for w in wanted]))


def _final(wanted: Sequence[InterleavedStory], *, named: bool) -> str:
    if len(wanted) == 1:
        final = brief_final(wanted[0].story)
        return f"{_whose(wanted[0])} {final}" if named else final
    replies = [f"{_whose(one)} {one.story.reply.format(one.story.answer.amount)}" for one in wanted]
    total = sum(one.story.answer.value for one in wanted)
    return " ".join([*replies, *(f"{eq}." for eq in _sums(wanted)), f"\\boxed{{{total}}}"])


def _whose(one: InterleavedStory) -> str:
    """Before the number: two layers find it by whose it is and what."""
    return f"{one.who}, {_short(one.story.answer)}."


def _sums(wanted: Sequence[InterleavedStory]) -> list[str]:
    """``11 + 20 = 31`` and ``31 + 7 = 38``: one number at a time. Empty for one story."""
    answers = [one.story.answer.value for one in wanted]
    totals = pairwise(accumulate(answers))
    return [
        equation(Op.ADD, (before, answer), after)
        for (before, after), answer in zip(totals, answers[1:], strict=True)
    ]
