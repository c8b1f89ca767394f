"""Reasoning traces with gold labels: labels that fit, and words that vary."""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from functools import cache
from random import Random

import pytest

from extracot_training.compression.step_labels import StepLabel
from extracot_training.errors import ConfigError
from extracot_training.synthetic.reasoning import KINDS, ReasoningGenerator, ReasoningProblem
from extracot_training.synthetic.reasoning.facts import Fact, Root, needed_facts, tex
from extracot_training.synthetic.reasoning.make import draw
from extracot_training.synthetic.reasoning.markup import render, tidied
from extracot_training.synthetic.reasoning.narrator import Narrator
from extracot_training.synthetic.reasoning.notation import Notation, plain
from extracot_training.synthetic.reasoning.script import tokens
from extracot_training.synthetic.reasoning.style import Telling
from tests.training.latex_value import NoNumber, value_of


@cache
def traces(size: int = 500) -> tuple[ReasoningProblem, ...]:
    return tuple(ReasoningGenerator(seed=77).make(size))


def close(left: object, right: object) -> bool:
    return math.isclose(float(left), float(right), rel_tol=1e-9, abs_tol=1e-9)  # type: ignore[arg-type]


def parts(made: ReasoningProblem) -> list[tuple[StepLabel, str]]:
    return [(step, made.trace[step.start : step.end]) for step in made.labels.steps]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", re.sub(r"\$[^$]*\$|\\[\[(].*?\\[\])]", " ", text.lower()))


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
