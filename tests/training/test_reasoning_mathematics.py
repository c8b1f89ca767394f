"""The mathematics of reasoning traces: right facts are true, slips are wrong, answers are found
by other means, too."""

from __future__ import annotations

import re
from functools import cache
from itertools import combinations, permutations
from random import Random

import pytest

from extracot_training.synthetic.reasoning import KINDS
from extracot_training.synthetic.reasoning.facts import Problem, tex
from extracot_training.synthetic.reasoning.make import draw
from extracot_training.synthetic.reasoning.side_math import inverse, remarks
from tests.training.latex_value import NoNumber, value_of
from tests.training.test_reasoning import close


@cache
def drawn(name: str) -> tuple[Problem, ...]:
    return tuple(draw(name, Random(f"{name}:{turn}")) for turn in range(12))


def test_there_are_kinds_of_every_topic() -> None:
    assert len(KINDS) >= 30
    assert len({kind.topic for kind in KINDS.values()}) == 7


def number(value: object) -> float | None:
    """A fact's value as a number, ``None`` for a formula with symbols or words."""
    try:
        return float(value_of(tex(value)))  # type: ignore[arg-type]
    except NoNumber:
        return None


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_formula_of_a_right_fact_has_the_value_that_it_is_given(name: str) -> None:
    checked = 0
    for problem in drawn(name):
        facts, complete = problem.world()
        assert complete
        for fact in facts.values():
            for expr in fact.expr:
                value = number(fact.value)
                assert value is not None, f"{fact.key}: {fact.value} is no number"
                assert close(value_of(expr), value), f"{fact.key}: {expr} = {tex(fact.value)}"
                checked += 1
    assert checked or name == "formula_rearranged"


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_slip_is_wrong_and_says_so(name: str) -> None:
    """Its value is another one; a wrong formula is worked out rightly; it has words for why."""
    slips = 0
    for problem in drawn(name):
        facts, _ = problem.world()
        for fact in facts.values():
            for slip in fact.slips:
                world, _ = problem.world({fact.key: slip})
                if fact.key not in world:
                    continue
                slips += 1
                assert tex(slip.value) != tex(fact.value), f"{fact.key}: {slip} is right"
                assert slip.notes and (slip.says or not fact.says)
                if slip.expr is not None:
                    value = number(slip.value)
                    assert value is not None and close(value_of(slip.expr), value), slip
                for changed in world.values():
                    same = (changed.value, changed.expr, changed.says) == (
                        (right := facts.get(changed.key, changed)).value, right.expr, right.says,
                    )  # fmt: skip
                    assert same or changed.wrong, f"{changed.key} depends on {fact.key}"
    assert slips >= 5


@pytest.mark.parametrize("name", sorted(KINDS))
def test_the_answer_is_the_last_fact(name: str) -> None:
    for problem in drawn(name):
        facts, _ = problem.world()
        last = facts[problem.last]
        if not last.says or number(last.value) is not None:
            assert close(value_of(problem.answer), number(last.value))


def test_what_is_said_beside_the_way_is_true() -> None:
    """Checks, other ways, remarks and dead ends: each equation between numbers holds."""
    seen = 0
    for problem in (problem for name in sorted(KINDS) for problem in drawn(name)):
        beside = [*problem.checks, *problem.other, *problem.remarks]
        for clause in [*beside, *(clause for way in problem.dead for clause in way)]:
            for formula in re.findall(r"\$([^$]+)\$", clause):
                values = []
                for side in formula.split(" = "):
                    try:
                        values.append(value_of(side.replace("\\%", "")))
                    except NoNumber:
                        continue
                seen += len(values) > 1
                assert all(close(values[0], value) for value in values), clause
    assert seen > 500


def test_side_remarks_are_true() -> None:
    for name in sorted(KINDS):
        for problem in drawn(name)[:4]:
            for fact in problem.world()[0].values():
                shown = [inverse(fact) or "1 = 1"]
                for remark in remarks(fact, Random(1)):
                    shown += [f for f in re.findall(r"\$([^$]+)\$", remark) if "=" in f]
                for formula in shown:
                    left, right = map(value_of, formula.split(" = "))
                    assert close(left, right), formula


def numbers(text: str) -> list[int]:
    return [int(found) for found in re.findall(r"-?\d+", text)]


def by_force(name: str, question: str) -> object:
    """The answer found without any of the generator's formulas, by counting or by trying."""
    n = numbers(question)
    low = question.lower()
    if name == "neither_divides":
        return sum(1 for i in range(n[0], n[1] + 1) if i % n[2] and i % n[3])
    if name == "divisor_count":
        found = [i for i in range(1, n[0] + 1) if n[0] % i == 0]
        parity = [i for i in found if ("odd" in low and i % 2) or ("even" in low and i % 2 == 0)]
        return len(parity) if "odd" in low or "even" in low else len(found)
    if name == "two_remainders":
        m, a, k, b = (n[1], n[0], n[3], n[2]) if low.startswith("what") else n[:4]
        return next(x for x in range(1, 5000) if x % m == a and x % k == b)
    if name == "last_digit":
        return (n[0] ** n[1] + (n[2] if len(n) > 2 else 0)) % 10
    if name == "committee":
        women, men, size = n[:3]
        least = 2 if "at least two" in low else 1
        people = range(women + men)
        return sum(sum(i < women for i in c) >= least for c in combinations(people, size))
    if name == "even_numbers":
        return sum(c[0] != 0 and c[2] % 2 == 0 for c in permutations(n, 3))
    if name == "common_period":
        a, b, c, span = n[:4]
        return sum(i % a == i % b == i % c == 0 for i in range(span + 1))
    if name == "recurrence":
        rule = re.search(r"a_n = (\d*)a_\{n-1\} ([+-]) (\d*)a_\{n-2\}", question)
        assert rule is not None
        p, q = int(rule[1] or 1), int(rule[2] + (rule[3] or "1"))
        terms = [int(x) for x in re.findall(r"a_[12] = (-?\d+)", question)]
        while len(terms) < n[-1]:
            terms.append(p * terms[-1] + q * terms[-2])
        return terms[-1]
    if name == "border":
        w, h, d = n[:3]
        cells = [(x, y) for x in range(-d, w + d) for y in range(-d, h + d)]
        return sum(not (0 <= x < w and 0 <= y < h) for x, y in cells)
    if name == "not_adjacent":
        return sum(abs(o.index(0) - o.index(1)) > 1 for o in permutations(range(_size(low))))
    if name == "not_at_the_ends":
        size = _size(low)
        bad = {"first": 0, "last": size - 1}.get((re.findall(r"must not be (\w+)", low) or [""])[0])
        return sum(
            0 < o.index(0) < size - 1 and o.index(1) != bad for o in permutations(range(size))
        )
    raise KeyError(name)


def _size(question: str) -> int:
    names = ("five", "six", "seven", "eight")
    return next(place + 5 for place, name in enumerate(names) if question.startswith(name))


FORCED = ("neither_divides", "divisor_count", "two_remainders", "last_digit", "committee",
          "even_numbers", "common_period", "recurrence", "border", "not_adjacent",
          "not_at_the_ends")  # fmt: skip


@pytest.mark.parametrize("name", FORCED)
def test_the_answer_is_what_counting_or_trying_finds(name: str) -> None:
    for problem in drawn(name)[: 4 if name.startswith("not_") else 12]:
        assert str(by_force(name, problem.question)) == problem.answer, problem.question


def test_the_unknown_solves_its_equation() -> None:
    for problem in drawn("linear_equation"):
        found = re.search(r"for \$(\w)\$: \$(.+) = (.+)\$", problem.question)
        assert found is not None
        letter, *sides = found.groups()
        values = []
        for side in sides:
            put = side.replace(letter, f"({problem.answer})")
            values.append(value_of(re.sub(r"(?<=\d)\(", r" \\cdot (", put)))
        assert close(*values)
