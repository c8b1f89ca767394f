"""Reasoning traces with gold labels: true mathematics, labels that fit, and words that vary."""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from functools import cache
from itertools import combinations, permutations
from random import Random

import pytest

from extracot_training.compression.step_labels import StepLabel
from extracot_training.errors import ConfigError
from extracot_training.synthetic.reasoning import KINDS, ReasoningGenerator, ReasoningProblem
from extracot_training.synthetic.reasoning.facts import Fact, Problem, Root, needed_facts, tex
from extracot_training.synthetic.reasoning.make import draw
from extracot_training.synthetic.reasoning.markup import render, tidied
from extracot_training.synthetic.reasoning.narrator import Narrator
from extracot_training.synthetic.reasoning.notation import Notation, plain
from extracot_training.synthetic.reasoning.script import tokens
from extracot_training.synthetic.reasoning.side_math import inverse, remarks
from extracot_training.synthetic.reasoning.style import Telling
from tests.training.latex_value import NoNumber, value_of


@cache
def traces(size: int = 500) -> tuple[ReasoningProblem, ...]:
    return tuple(ReasoningGenerator(seed=77).make(size))


@cache
def drawn(name: str) -> tuple[Problem, ...]:
    return tuple(draw(name, Random(f"{name}:{turn}")) for turn in range(12))


def parts(made: ReasoningProblem) -> list[tuple[StepLabel, str]]:
    return [(step, made.trace[step.start : step.end]) for step in made.labels.steps]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", re.sub(r"\$[^$]*\$|\\[\[(].*?\\[\])]", " ", text.lower()))


# Mathematics.


def test_there_are_kinds_of_every_topic() -> None:
    assert len(KINDS) >= 30
    assert len({kind.topic for kind in KINDS.values()}) == 7


def close(left: object, right: object) -> bool:
    return math.isclose(float(left), float(right), rel_tol=1e-9, abs_tol=1e-9)  # type: ignore[arg-type]


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


# Labels.


def test_labels_cover_the_text_sentence_by_sentence() -> None:
    for made in traces():
        made.labels.check(made.trace)
        assert made.labels.steps[-1].role in ("needed", "repeat")


def test_every_needed_step_is_derived_from_needed_steps() -> None:
    for made in traces():
        for step in made.labels.steps:
            if step.role == "needed":
                assert all(made.labels.steps[i].role == "needed" for i in step.refers)
                assert not step.misstates


def test_needed_facts_are_what_the_answer_depends_on_each_stated_once() -> None:
    for turn, name in enumerate(sorted(KINDS)):
        problem = draw(name, Random(turn))
        narrator = Narrator(problem, Random(turn), Telling())
        _, labels = narrator.tell()
        wanted = {*needed_facts(narrator.right, problem.last), "conclusion"}
        assert {key for key in narrator.needs if not key.endswith("/formula")} == wanted
        stated = Counter(group for i in labels.needed() for group in labels.steps[i].groups)
        assert stated == Counter(labels.needs)


def equation(fact: Fact, notation: Notation) -> list[str]:
    return [notation(f"{expr} = {tex(fact.value)}").strip("$\\()") for expr in fact.expr]


def test_without_its_statements_a_fact_is_nowhere_worked_out() -> None:
    """Take out all steps that state needed facts: no equation of theirs is left (but for checks,
    which may come to the same numbers on another way, and for what is wrong)."""
    seen = 0
    for turn in range(150):
        rng = Random(f"hidden:{turn}")
        problem = draw(rng.choice(sorted(KINDS)), rng)
        narrator = Narrator(problem, rng, Telling())
        text, labels = narrator.tell()
        rest = " ".join(
            text[step.start : step.end]
            for step in labels.steps
            if not set(step.groups) & set(labels.needs) and step.role in ("narration", "takeback")
        )
        for key in narrator.needed:
            for shown in equation(narrator.right[key], narrator.notation):
                assert shown not in rest
                seen += 1
    assert seen > 500


def test_wrong_values_are_never_in_needed_sentences() -> None:
    """Each equation between numbers in a needed sentence is true; in revoked ones many aren't."""
    found: Counter[tuple[str, bool]] = Counter()
    for made in traces():
        for step, text in parts(made):
            if step.role not in ("needed", "revoked"):
                continue
            for formula in re.findall(r"\$([^$]+)\$|\\[(\[](.+?)\\[)\]]", text):
                sides = "".join(formula).replace("\\dfrac", "\\frac").split("=")
                values = []
                for side in sides:
                    try:
                        values.append(value_of(side))
                    except NoNumber:
                        continue
                true = all(close(values[0], value) for value in values)
                if len(values) > 1:
                    found[step.role, true] += 1
                    assert true or step.role == "revoked", text
    assert found["needed", True] > 500
    assert found["revoked", False] > 60


def test_atoms_hold_what_decides() -> None:
    heavy = 0
    for made in traces():
        inside = [made.trace[a.start : a.end] for a in made.labels.atoms if a.weight == 1.0]
        heavy += len(inside)
        for start, end in made.labels.protected:
            assert made.trace[start:end].strip() == made.trace[start:end] != ""
        for i in made.labels.needed():
            step = made.labels.steps[i]
            assert any(step.start <= a.start < step.end for a in made.labels.atoms)
    assert heavy > 5 * len(traces())
    protected = Counter(m.trace[a:b].lower() for m in traces() for a, b in m.labels.protected)
    assert len(protected) >= 25
    assert {"not", "at least", "only if", "neither"} <= set(protected)


def test_takebacks_revoke_and_reach_far_back() -> None:
    distances: list[int] = []
    for made in traces():
        taken = {i for step in made.labels.steps for i in step.revokes}
        for number, step in enumerate(made.labels.steps):
            assert (step.role == "revoked") == (number in taken), made.trace[step.start : step.end]
            distances += [number - i for i in step.revokes]
            if step.role == "takeback":
                assert step.revokes
    far = sum(distance >= 10 for distance in distances)
    assert far >= 60
    assert max(distances) >= 25


# Shape and words.


def test_lengths_and_shares() -> None:
    lengths, shares = [], []
    for made in traces():
        size = Counter[str]()
        for step, text in parts(made):
            size[step.role] += tokens(text)
        lengths.append(size.total())
        shares.append(size["needed"] / size.total())
    assert min(lengths) >= 250 and 2000 < max(lengths) < 4500
    assert statistics.quantiles(lengths, n=10)[8] > 1200
    assert 0.12 <= statistics.fmean(shares) <= 0.25
    assert sum(0.08 <= share <= 0.32 for share in shares) > 0.95 * len(shares)


def test_wordings_vary() -> None:
    """Across 500 traces: sentences and their takebacks are said in many ways."""
    sentences = [text.strip() for made in traces() for _, text in parts(made)]
    assert len(set(sentences)) > 0.6 * len(sentences)
    shapes = Counter(" ".join(words(text)) for text in sentences)
    assert len(shapes) > 0.4 * len(sentences)
    long = {shape: n for shape, n in shapes.items() if len(shape.split()) >= 6}
    assert max(long.values()) < 0.02 * len(sentences)
    trigrams = Counter(
        gram
        for text in sentences
        for gram in zip(*(words(text)[i:] for i in range(3)))  # noqa: B905
    )
    assert len(trigrams) > 20_000
    lengths = [len(text.split()) for text in sentences]
    assert min(lengths) == 1 and max(lengths) >= 45
    assert statistics.pstdev(lengths) > 5


def test_cue_words_alone_do_not_tell() -> None:
    """Many takebacks do without the usual words, and the words are often no takeback."""
    cue = re.compile(r"\b(wait|no|actually|hmm|oops|hold on|wrong|mistake)\b", re.IGNORECASE)
    takebacks = [bool(cue.search(t)) for m in traces() for s, t in parts(m) if s.revokes]
    others = [bool(cue.search(t)) for m in traces() for s, t in parts(m) if not s.revokes]
    assert 0.25 < 1 - statistics.fmean(takebacks) < 0.75
    assert sum(others) > 0.5 * sum(takebacks)


def test_notations_vary() -> None:
    styles = Counter(
        "\\(" if "\\(" in made.trace else "$" if "$" in made.trace else "plain" for made in traces()
    )
    assert min(styles.values()) > 0.1 * len(traces()) and len(styles) == 3
    assert sum("\\[" in made.trace for made in traces()) > 0.1 * len(traces())
    assert sum(len(re.findall(r"\n\n", made.trace)) < 3 for made in traces()) > 20


# The generator.


def test_a_problem_depends_on_seed_and_index_alone() -> None:
    generator = ReasoningGenerator(seed=5)
    assert list(generator.make(4)) == list(generator.make(6))[:4]
    assert generator.problem(3) == ReasoningGenerator(seed=5).problem(3)
    assert ReasoningGenerator(seed=6).problem(3).trace != generator.problem(3).trace


def test_unknown_kinds_are_named() -> None:
    with pytest.raises(ConfigError, match=r"no kind 'urm'.*'urn'"):
        ReasoningGenerator(kinds=("urm",)).problem(0)


def test_shares_can_be_set() -> None:
    calm = ReasoningGenerator(seed=1, telling=Telling(slips=0.0, moves={"hedge": 1.0}))
    roles = {step.role for made in calm.make(20) for step in made.labels.steps}
    assert not roles & {"revoked", "takeback", "detour"}
    late = ReasoningGenerator(seed=1, telling=Telling(slips=1.0, late=1.0))
    assert any(len(step.revokes) > 3 for made in late.make(20) for step in made.labels.steps)


@pytest.mark.parametrize(
    ("square", "shown"),
    [(12, "2\\sqrt{3}"), (49, "7"), (2, "\\sqrt{2}"), (0, "0")],
)
def test_roots_are_simplified(square: int, shown: str) -> None:
    assert tex(Root.of(square)) == shown


@pytest.mark.parametrize(
    ("latex", "said"),
    [
        (r"\frac{36}{5}", "36/5"),
        (r"\frac{n(n+1)}{2}", "(n(n+1))/2"),
        (r"\frac{1}{2} \cdot 6", "(1/2) · 6"),
        (r"2\sqrt{3}", "2√3"),
        (r"\binom{9}{4}", "C(9, 4)"),
        (r"x^{10} \le \pi", "x^10 ≤ π"),
        (r"90^\circ", "90°"),
    ],
)
def test_formulas_without_latex(latex: str, said: str) -> None:
    assert plain(latex) == said


def test_markup() -> None:
    found = render("so {the *not* red $n$ balls} are $3$", Notation("dollars"))
    assert found.text == "so the not red $n$ balls are $3$"
    assert [(found.text[a:b], w) for a, b, w in found.atoms] == [
        ("the", 0.6), ("not", 1.0), ("red", 0.6), ("$n$", 1.0), ("balls", 0.6), ("$3$", 1.0),
    ]  # fmt: skip
    assert [found.text[a:b] for a, b in found.protected] == ["not"]
    assert tidied("so then  $1 , 2$ , and then so on .") == "so $1 , 2$, and then on."
    for broken in ("$x", "{x", "*x"):
        with pytest.raises(ValueError, match="closed"):
            render(broken, Notation("dollars"))
