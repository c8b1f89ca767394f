"""Word problems of the older generator told as reasoning, and two problems asked as one."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from random import Random

from extracot_training.synthetic.families import FAMILIES
from extracot_training.synthetic.reasoning.facts import (
    Fact,
    Graph,
    Problem,
    Reject,
    Slip,
    Value,
    tex,
)
from extracot_training.synthetic.reasoning.kinds.registry import KINDS, kind, slip
from extracot_training.synthetic.story import Draw, Op, Step, Story

# Bound of every number in a story.
CAP = 1000
_SIGN = {Op.ADD: "+", Op.SUB: "-", Op.MUL: "\\cdot", Op.DIV: "\\div"}


@kind("word_problem", "stories", weight=4.0)
def word_problem(rng: Random) -> Problem:
    """A story of the families; its steps are the facts, its facts the conditions."""
    family = FAMILIES[rng.choice(sorted(FAMILIES))]
    story = Story(CAP)
    family.write(Draw(rng, CAP, rng.randint(*family.steps)), story)
    last = story.steps[-1].result

    def solve(g: Graph) -> None:
        values: list[Fraction] = []
        for place, step in enumerate(story.steps):
            terms = [Fraction(t.value) if t.step is None else values[t.step] for t in step.terms]
            deps = " ".join(f"s{t.step}" for t in dict.fromkeys(step.terms) if t.step is not None)
            value = _value(step.op, terms)
            values.append(g.number(
                f"s{place}", (step.result.what,), _expression(step.op, terms), value, deps,
                unit=step.result.unit, slips=_slips(step, terms, value),
            ))  # fmt: skip

    facts = [fact.rstrip(".") for fact in story.facts if ". " not in fact]
    what = last.what
    return Problem(
        "word_problem", story.text, str(last.value), (what,), solve, f"s{len(story.steps) - 1}",
        conditions=tuple(_small(fact) for fact in facts),
        dead=_dead(story, rng),
        checks=(f"working backwards from ${last.value}$ leads to the given numbers again",),
        remarks=tuple(f"{given.what} is ${given.value}$" for given in story.givens
                      if given.spelled is None),
        unit=last.unit,
    )  # fmt: skip


def _value(op: Op, terms: list[Fraction]) -> Fraction:
    first, *rest = terms
    for term in rest:
        if op is Op.ADD:
            first += term
        elif op is Op.SUB:
            first -= term
        elif op is Op.MUL:
            first *= term
        else:
            first /= term
    if first < 0:
        raise Reject
    return first


def _expression(op: Op, terms: list[Fraction]) -> str:
    return f" {_SIGN[op]} ".join(tex(term) for term in terms)


def _slips(step: Step, terms: list[Fraction], value: Fraction) -> list[Slip]:
    """The wrong operation on the right terms."""
    notes = {
        Op.ADD: (f"for {step.result.what} the parts have to be *added*", "these belong together"),
        Op.SUB: (f"for {step.result.what} something is taken *away*", "that has to be subtracted"),
        Op.MUL: (f"it's that much for *each* one, so {step.result.what} is a product",
                 "these have to be multiplied"),
        Op.DIV: (f"{step.result.what} is a *share*, so I must divide", "this has to be divided"),
    }  # fmt: skip
    swapped = {Op.ADD: Op.SUB, Op.SUB: Op.ADD, Op.MUL: Op.ADD, Op.DIV: Op.SUB}[step.op]
    try:
        wrong = _value(swapped, terms)
    except Reject:
        return []
    if wrong == value:
        return []
    return [slip(_expression(swapped, terms), wrong, *notes[step.op], kind="misreading")]


def _small(sentence: str) -> str:
    """Without the capital of a sentence's beginning, if the first word isn't a name."""
    first = sentence.split()[0]
    common = {"The", "A", "An", "Each", "Every", "There", "In", "On", "At", "Then", "After", "One",
              "Two", "Half", "Later", "Of", "For", "It", "They", "Some"}  # fmt: skip
    return sentence[0].lower() + sentence[1:] if first in common else sentence


def _dead(story: Story, rng: Random) -> tuple[tuple[str, ...], ...]:
    """Adding all given numbers, or guessing the answer."""
    givens = [given.value for given in story.givens]
    last = story.answer
    guess = max(1, last.value + rng.choice((-7, -3, 5, 12)))
    total = f"${' + '.join(map(str, givens))} = {sum(givens)}$"
    return (
        (f"just adding all the numbers gives {total}", "these aren't amounts of the same kind"),
        (f"suppose {last.what} were ${guess}$", "going backwards from there is awkward",
         "a guess can't replace the calculation"),
        ("I could set up one big equation with an unknown", "$x$ would be what is asked for",
         "step by step is easier here"),
    )  # fmt: skip


class _Part(Graph):
    """A part of a larger graph: its facts have names of their own there."""

    def __init__(self, whole: Graph, prefix: str) -> None:
        super().__init__(whole.slips)
        self._whole, self._prefix = whole, prefix

    def _state(self, fact: Fact) -> Value:
        key = f"{self._prefix}_{fact.key}"
        deps = tuple(f"{self._prefix}_{dep}" for dep in fact.deps)
        value = self._whole._state(replace(fact, key=key, deps=deps))
        self.facts[fact.key] = self._whole.facts[key]
        return value


@kind("two_parts", "stories", weight=4.0)
def two_parts(rng: Random) -> Problem:
    """Two problems of different topics, and the sum or the product of their answers."""
    names = [name for name in sorted(KINDS) if name not in ("two_parts", "formula_rearranged")]
    first, second = (KINDS[name].draw(rng) for name in rng.sample(names, 2))
    if KINDS[first.kind].topic == KINDS[second.kind].topic:
        raise Reject
    values = []
    for part in (first, second):
        facts, complete = part.world()
        value = facts[part.last].value if complete else ""
        if not complete or not isinstance(value, int | Fraction):
            raise Reject
        values.append(Fraction(value))
    m, n = rng.choice((("m", "n"), ("A", "B"), ("p", "q"), ("u", "v")))
    sign, answer = rng.choice((("+", sum(values)), ("\\cdot", values[0] * values[1])))
    word = "sum" if sign == "+" else "product"

    def solve(g: Graph) -> None:
        found = []
        for name, part in ((m, first), (n, second)):
            part.solve(_Part(g, name))
            value = g.facts[f"{name}_{part.last}"].value
            if not isinstance(value, int | Fraction):
                raise Reject
            found.append(g.number(
                name, (f"${name}$", f"the value of ${name}$"), tex(value), Fraction(value),
                f"{name}_{part.last}", symbol=name,
            ))  # fmt: skip
        a, b = found
        expr = f"{tex(a)} {sign} {f'({tex(b)})' if b < 0 else tex(b)}"
        g.value("answer", (f"the {word} of ${m}$ and ${n}$", f"${m} {sign} {n}$"), expr,
                a + b if sign == "+" else a * b, f"{m} {n}")  # fmt: skip

    return Problem(
        "two_parts",
        f"Let ${m}$ be the answer to this question: {first.question} And let ${n}$ be the answer "
        "to this "
        f"one: {second.question} Find ${m} {sign} {n}$.",
        tex(answer), (f"${m} {sign} {n}$", f"the {word} of both answers"), solve, "answer",
        conditions=(*first.conditions, *second.conditions, f"in the end ${m} {sign} {n}$ is "
                                                           "asked for"),
        dead=(*first.dead, *second.dead), checks=(*first.checks, *second.checks),
        remarks=(*first.remarks, *second.remarks), parts=(first.kind, second.kind),
    )  # fmt: skip
