"""Formulas as models write them stay whole: a corpus of marked forms, and texts made of them.

``formulas.txt`` marks every formula with ⟦⟧. What is checked is what compression promises: atoms
put together are the text, no formula is cut, and no piece states a wrong equation.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot_training.compression.segment import FORMULAS, Kind, segment
from extracot_training.math_text.equations import read_equation
from tests.examples import examples

CORPUS = (Path(__file__).parent / "formulas.txt").read_text(encoding="utf-8").splitlines()


def unmarked(line: str) -> tuple[str, list[tuple[int, int]]]:
    """The text of a line and the spans that its marks enclose."""
    text, spans = "", []
    for part in re.split("([⟦⟧])", line):
        if part == "⟦":
            spans.append((len(text), len(text)))
        elif part == "⟧":
            spans[-1] = (spans[-1][0], len(text))
        else:
            text += part
    return text, spans


MARKED = [text[begin:end] for text, spans in map(unmarked, CORPUS) for begin, end in spans]


def cut(text: str, spans: list[tuple[int, int]]) -> list[str]:
    """The spans with a boundary of atoms inside."""
    atoms = segment(text)
    assert "".join(atom.text for atom in atoms) == text
    starts = {atom.start for atom in atoms}
    return [text[b:e] for b, e in spans if not starts.isdisjoint(range(b + 1, e))]


def wrong(text: str) -> list[str]:
    """Atoms that by themselves state a wrong equation."""
    found = []
    for atom in segment(text):
        equation = read_equation(atom.body)
        if equation is not None and equation.correct is False:
            found.append(atom.body)
    return found


def test_the_corpus_is_what_it_says() -> None:
    assert len(MARKED) > 330
    assert not [formula for formula in MARKED if not formula.strip()]


@pytest.mark.parametrize("line", CORPUS)
def test_formulas_as_models_write_them_are_whole(line: str) -> None:
    text, spans = unmarked(line)
    assert cut(text, spans) == []
    assert wrong(text) == []


@pytest.mark.parametrize("around", ["So {}.", "({})", "**{}**", "- {}", "“{}”", "{}\n", "答案{}。"])
def test_formulas_are_whole_in_any_company(around: str) -> None:
    before, behind = around.split("{}")
    broken = [
        formula
        for formula in MARKED
        if cut(f"{before}{formula}{behind}", [(len(before), len(before) + len(formula))])
    ]
    assert broken == []


PROSE = st.sampled_from(
    ["So ", "Then ", "Hence we find ", "We know that ", "It follows: ", "Wait, ", "Next, "]
)
ENDS = st.sampled_from([". ", ".\n", ",\n\n", "; ", ", which helps. ", " is what we need. ", "!\n"])
SENTENCES = st.lists(st.tuples(PROSE, st.sampled_from(MARKED), ENDS), min_size=1, max_size=8)


@examples(200)
@given(SENTENCES)
def test_texts_of_formulas_and_prose(sentences: list[tuple[str, str, str]]) -> None:
    text, spans = "", []
    for before, formula, behind in sentences:
        text += before
        spans.append((len(text), len(text) + len(formula)))
        text += formula + behind
    assert cut(text, spans) == []


NUMBER = st.integers(0, 99).map(str)
NAME = st.sampled_from(["x", "y", "n", "θ", "x₁", "x_2", "AB", "f(x)", "\\pi"])
TERM = st.recursive(
    st.one_of(NUMBER, NAME),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" + ", " - ", " × ", " · ", "/", "*", " ÷ "]), inner).map(
            "".join
        ),
        inner.map("({})".format),
        inner.map("|{}|".format),
        inner.map("√({})".format),
        inner.map("({})²".format),
        st.tuples(inner, inner).map(lambda pair: f"\\frac{{{pair[0]}}}{{{pair[1]}}}"),
        st.tuples(inner, inner).map(lambda pair: f"C({pair[0]}, {pair[1]})"),
        inner.map("sin({})".format),
        inner.map("\\sqrt{{{}}}".format),
    ),
    max_leaves=6,
)
RELATION = st.sampled_from([" = ", " ≤ ", " > ", " ≈ ", "=", " \\le ", " ≠ "])


@examples(300)
@given(st.lists(st.tuples(TERM, RELATION, TERM), min_size=1, max_size=3), PROSE, ENDS)
def test_equations_of_any_terms(equations: list[tuple[str, str, str]], so: str, end: str) -> None:
    text, spans = "", []
    for equation in map("".join, equations):
        text += so
        spans.append((len(text), len(text) + len(equation)))
        text += equation + end
    assert cut(text, spans) == []


@pytest.mark.parametrize(
    "text",
    [
        "$$\n\n\\frac{\\sqrt{2}}{3}\n\n= x\n\n$$",
        "\\[\n\na = b\n\n\\]",
        "$$\n\\begin{aligned}\n\na &= b\n\n\\end{aligned}\n\n$$",
    ],
)
def test_display_math_may_hold_blank_lines(text: str) -> None:
    assert cut(f"We get {text} and more", [(7, 7 + len(text))]) == []


@pytest.mark.parametrize(
    "text",
    [
        "A stray $$ here.\n\nThen a sentence with words and $$ again",
        "costs $ 5 and $ 7 each",
        "between $ 5, $ 7 and more",
        "a stray \\[ bracket\n\nthen more words follow until \\] here",
    ],
)
def test_stray_delimiters_open_nothing(text: str) -> None:
    assert [atom.body for atom in segment(text) if atom.kind is Kind.MATH] == []


@pytest.mark.parametrize(
    "text",
    [
        "The well-known x-axis and the A-level of it, and/or more.",
        "Tom - the boy - went home with friends; it's John's dog.",
        "I think a + sign is fine; C++ is a language.",
        "e.g. this one, i.e. that one (maybe) or “another”, see [a].",
        "| name | value |\n|---|---|\n| height | width |",
        "- item one\n- item two\n* star item\n> a quote",
        "x, y and z are names. Plan A or B? I have a dog.",
        "https://example.org/a/b and me@example.org",
    ],
)
def test_prose_holds_no_formula(text: str) -> None:
    assert [atom.body for atom in segment(text) if atom.kind in FORMULAS] == []


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("half of 10 = 5", "10 = 5"),
        ("the sum of 2 and 3 = 5", "3 = 5"),
        ("5 apples and 3 apples = 8 apples", "3 apples = 8"),
        ("x² - 3x = 0", "3x = 0"),
        ("log₂ 8 = 3", "8 = 3"),
        ("3 1/2 = 7/2", "1/2 = 7/2"),
        ("40 = 1/3 * Class C", "40 = 1/3"),
        ("1 hour 30 minutes = 90 minutes", "30 minutes = 90 minutes"),
        ("distance × time = 60 × 2", "time = 60 × 2"),
        ("x = 3 more than y", "x = 3"),
    ],
)
def test_no_piece_says_what_the_text_does_not(text: str, piece: str) -> None:
    assert piece not in [atom.body.rstrip(".") for atom in segment(f"So {text}.")]


@pytest.mark.parametrize(
    ("text", "right"),
    [("7 / 3 = 2.33", True), ("2 / 3 = 0.66", True), ("7/3 = 2.333 = 2.33", True),
     ("10 ÷ 3 = $3.33", True), ("7 / 3 = 2.43", False), ("17 ÷ 8 = 2", False), ("2.5 = 2", False),
     ("0.1 + 0.2 = 0.4", False), ("5 / 2 = 2.0", False)],
)  # fmt: skip
def test_decimals_are_compared_as_far_as_they_are_shown(text: str, right: bool) -> None:
    found = read_equation(text)
    assert found is not None and found.correct is right
