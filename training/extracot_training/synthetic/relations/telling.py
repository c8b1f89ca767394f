"""Tells a problem and its solution: the sentences in some order and form, and the reasoning.

The reasoning is talkative (what each number is, why this calculation, what it means, a check) or
brief (a label and the calculation) or bare; in all of them hard calculations are written out.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from extracot_training.synthetic.arithmetic.spelling import money
from extracot_training.synthetic.arithmetic.written import division, working
from extracot_training.synthetic.relations.bank import capitals, rules
from extracot_training.synthetic.relations.problem import Calculation, Problem
from extracot_training.synthetic.story import INVERSE, Op

KEPT_AS_THEY_ARE: tuple[str, ...] = (
    "I ",
    "I'",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
)
KEPT_AS_THEY_ARE += ("Saturday", "Sunday")


def text(p: Problem) -> str:
    """The question: in sentences, joined, the question first, or as one with if."""
    (form,) = p.rng.choices(("plain", "joined", "first", "if"), (50, 28, 9, 13))
    single = all(". " not in fact for fact in p.facts)
    asks = p.ask.startswith(("How", "What")) and p.ask.count("?") == 1 and ". " not in p.ask
    if not p.facts:
        return p.ask
    if form == "first" and asks:
        return _first(p)
    if form == "if" and asks and single and len(p.facts) < 4:
        return f"If {_list([_lower(p, fact)[:-1] for fact in p.facts])}, {_lower(p, p.ask)}"
    told = _joined(p) if form == "joined" and single else p.facts
    return " ".join([*told, p.ask])


def _first(p: Problem) -> str:
    """The question before the story: it names the person, or asks of the whole."""
    who = p.voice.who
    words = p.ask.split(" ")
    ask = " ".join(who.name if word == who.subject and word != "I" else word for word in words)
    return " ".join([ask, *p.facts])


def _list(parts: Sequence[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]


def _lower(p: Problem, sentence: str) -> str:
    """A sentence as it stands within another."""
    people = (p.voice.who.name, p.other.name)
    names = (*(name for name in people if not name[0].islower()), *KEPT_AS_THEY_ARE)
    return sentence if sentence.startswith(names) else sentence[0].lower() + sentence[1:]


def _joined(p: Problem) -> list[str]:
    """Neighbouring sentences as one: ``Tom has 3 apples and buys 5 more.``"""
    told: list[str] = []
    subject = capitals(p.voice.who.subject) + " "
    name = capitals(p.voice.who.name) + " "
    for fact in p.facts:
        if not told or p.rng.random() < 0.25 or told[-1].count(" and ") > 1:
            told.append(fact)
            continue
        before = told.pop()[:-1]
        if fact.startswith(subject) and before.startswith((name, subject)):
            fact = fact.removeprefix(subject)
            link = p.rng.choice((" and ", " and ", " and then ", ", then ", " and later "))
            told.append(f"{before}{link}{fact}")
        else:
            link = p.rng.choice((" and ", ", and ", ", then ", "; "))
            later = fact.startswith(("Then", "Later", "Soon", "After"))
            told.append(f"{before}{', and ' if later else link}{_lower(p, fact)}")
    return told


def bare(p: Problem) -> str:
    """The calculations alone."""
    return " ".join([*p.before, *(f"{_worked(p, step)}." for step in p.steps), *_money(p)])


def brief(p: Problem) -> str:
    """Each calculation with what it is, in a few words."""
    told = list(p.before)
    for step in p.steps:
        told += [step.note] if step.note else []
        told.append(f"{_worked(p, step)}.")
        told += [step.thus] if step.thus else []
    return " ".join([*told, *_money(p)])


def verbose(p: Problem, rng: Random, *, thorough: bool = False) -> str:
    """What is done and why, with a check at times; ``thorough`` says first what the text says, and
    checks every calculation."""
    told = [rng.choice(rules()["say_open"])]
    if thorough:
        told += [rng.choice(rules()["say_text"]), *p.facts] if p.facts else []
        told += [rng.choice(rules()["say_asked"]), p.ask]
    first = p.steps[0]
    if first.op in (Op.ADD, Op.SUB) and not first.note and rng.random() < 0.5:
        told.append(_said(rng, "begin", first.left, 0))
    told += [rng.choice(rules()["say_aside"]).replace("{q}", number) for number in p.asides]
    told += p.before
    for step in p.steps:
        told += [step.told] if step.told and (thorough or rng.random() < 0.7) else []
        told += [step.note] if step.note else []
        told.append(_said(rng, step.op.name.lower(), step.left, step.right))
        told.append(f"{_worked(p, step)}.")
        told += [step.thus] if step.thus and (thorough or rng.random() < 0.8) else []
    checked = p.steps[::-1] if thorough else p.steps[-1:] if rng.random() < 0.35 else []
    if back := [f"{_back(p, step)}." for step in checked if _goes_back(step)]:
        told += [rng.choice(rules()["say_check"]), *back]
        told += [rng.choice(rules()["say_fits"])] if thorough else []
    return " ".join([*told, *_money(p), _said(rng, "end", 0, answer(p))])


def _goes_back(step: Calculation) -> bool:
    """Not what left a remainder, nor a division by much."""
    return step.kept is None and not (step.op is Op.MUL and step.right > 20)


def _back(p: Problem, step: Calculation) -> str:
    """The calculation from the other side."""
    return working(INVERSE[step.op], step.value, step.right, always=p.two_digits)


def final(p: Problem, rng: Random) -> str:
    """What follows the reasoning."""
    return _said(rng, "final", 0, f"\\boxed{{{answer(p)}}}")


def answer(p: Problem) -> str:
    return money(p.value) if p.cents else str(p.value)


def _said(rng: Random, rule: str, left: object, right: object) -> str:
    return rng.choice(rules()[f"say_{rule}"]).replace("{l}", str(left)).replace("{r}", str(right))


def _worked(p: Problem, step: Calculation) -> str:
    if step.kept is None:
        return working(step.op, step.left, step.right, always=p.two_digits)
    times, rest = divmod(step.left, step.right)
    told = f"{step.left} ÷ {step.right}"
    return f"{told}: {division(step.left, step.right)}; so {told} is {times} with {rest} left over"


def _money(p: Problem) -> list[str]:
    return [f"{p.value} cents is {answer(p)}."] if p.cents and p.value % 100 else (
        [f"{p.value} cents is {answer(p)} dollars."] if p.cents else []
    )  # fmt: skip
