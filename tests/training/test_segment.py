"""Atoms: lossless for any text, formulas whole, bad LaTeX harmless, linear in the length."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot_training.compression.segment import (
    FORMULAS,
    Kind,
    atoms_in,
    join,
    segment,
    spans_of,
)

_PIECES = (
    r"$ $$ \( \) \[ \] \boxed{ } { \begin{align} \end{align} 3 + = x km . , 1.5 因 $5 \$ of ( -"
)
MATHS = st.sampled_from([*_PIECES.split(), " + ", " ", "\n\n", "  \n"])
TEXTS = st.one_of(st.text(), st.lists(MATHS).map("".join))


def formulas(text: str) -> list[str]:
    return [atom.body for atom in segment(text) if atom.kind in FORMULAS]


@given(TEXTS)
def test_atoms_put_together_are_the_text(text: str) -> None:
    atoms = segment(text)
    assert "".join(atom.text for atom in atoms) == text
    assert all(text[atom.start : atom.end] == atom.text for atom in atoms)
    assert [atom.start for atom in atoms[1:]] == [atom.end for atom in atoms[:-1]]
    assert all(atom.body and not atom.body[0].isspace() for atom in atoms[1:])
    assert all(atom.kind is not Kind.SPACE for atom in atoms[1:])
    assert join(atoms, range(len(atoms))) == text


@given(TEXTS, st.data())
def test_spans_and_atoms_are_each_others_inverse(text: str, data: st.DataObject) -> None:
    atoms = segment(text)
    keep = data.draw(st.sets(st.integers(0, len(atoms) - 1)) if atoms else st.just(set()))
    assert atoms_in(atoms, spans_of(atoms, keep)) == sorted(keep)


@given(TEXTS, st.data())
def test_joining_keeps_every_kept_body(text: str, data: st.DataObject) -> None:
    atoms = segment(text)
    keep = data.draw(st.sets(st.integers(0, len(atoms) - 1)) if atoms else st.just(set()))
    joined, at = join(atoms, keep), 0
    for index in sorted(keep):
        at = joined.index(atoms[index].body, at) + len(atoms[index].body)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("We have 35 × 3 = 105 in all", ["35 × 3 = 105"]),
        ("12 + 7 = 19. Then 10 − 3 = 7, ok", ["12 + 7 = 19.", "10 − 3 = 7,"]),
        ("it is $x = 5$, not ($y$)", ["$x = 5$,", "($y$)"]),
        ("price $5 and $7 or $12 + $7 = $19", ["$12 + $7 = $19"]),
        ("see $$a\n+ b$$ and \\[c\\] and \\(d\\).", ["$$a\n+ b$$", "\\[c\\]", "\\(d\\)."]),
        ("\\begin{cases}1\\\\\n\n3\\end{cases} end", ["\\begin{cases}1\\\\\n\n3\\end{cases}"]),
        ("answer \\boxed{\\frac{1}{2}}. Done", ["\\boxed{\\frac{1}{2}}."]),
        ("50% of 20 = 10 and 3/4 of 12 = 9", ["50% of 20 = 10", "3/4 of 12 = 9"]),
        ("12 boxes × 3 apples per box = 36 apples", ["12 boxes × 3 apples per box = 36"]),
        ("total = 5, 2(3 + 4) = 14; 2x + 3 = 7", ["total = 5,", "2(3 + 4) = 14;", "2x + 3 = 7"]),
        ("所以$x=5$是答案。因此 3+4=7。", ["$x=5$", "3+4=7。"]),
        ("the $n$-th of a well-known list", ["$n$-th"]),
        ("speed is 5 km/h + 3 km/h = 8 km/h", ["5 km/h + 3 km/h = 8 km/h"]),
    ],
)
def test_formulas_are_whole(text: str, expected: list[str]) -> None:
    assert formulas(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("it is 12.5 km away", "12.5 km"),
        ("costs $1,250.50 today", "$1,250.50"),
        ("about 50% more", "50%"),
        ("5 dollars", "5 dollars"),
    ],
)
def test_numbers_keep_their_units_and_decimals(text: str, expected: str) -> None:
    assert [atom.body for atom in segment(text) if atom.kind is Kind.NUMBER] == [expected]


@pytest.mark.parametrize(
    "text",
    [
        "open $x and more",
        "\\[ y with no end",
        "\\boxed{3 ",
        "\\begin{align} a = ",
        "\\end{align} b",
        "$x\n\ny$",
        "}}} \\) \\] $$",
        "\\boxed{a}}} and {",
    ],
)
def test_unbalanced_latex_only_costs_itself(text: str) -> None:
    atoms = segment(f"before words {text}\n\nafter 2 + 3 = 5 and $z$")
    bodies = [atom.body for atom in atoms]
    assert bodies[:2] == ["before", "words"]
    assert "2 + 3 = 5" in bodies
    assert "$z$" in bodies


def test_empty_and_blank_text() -> None:
    assert segment("") == []
    assert [atom.kind for atom in segment(" \n ")] == [Kind.SPACE]


def test_one_formula_is_one_atom() -> None:
    assert [(atom.kind, atom.text) for atom in segment("$a + b$")] == [(Kind.MATH, "$a + b$")]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "piece",
    [
        "The sum 3 + 4 = 7 is $x$. ", "f(", "$a ", "{", "1 + ", "a", "sin ", "\\sqrt ", "|x", "√",
        "total = ", "a/", "x, ", "**a ", "| - ", "(a)", "half of ", "$$ a\n\n",
    ],
)  # fmt: skip
def test_a_million_characters(piece: str) -> None:
    # The suite's time limit is the guard: anything quadratic takes hours on this.
    text = piece * (1_000_000 // len(piece))
    atoms = segment(text)
    assert sum(len(atom.text) for atom in atoms) == len(text)
    assert max(len(atom.text) for atom in atoms) < 1000


def test_gaps_are_joined_by_one_space_or_line_break() -> None:
    atoms = segment("one two\nthree, four $x$")
    assert join(atoms, [0, 2]) == "one\nthree,"
    assert join(atoms, [0, 1, 4]) == "one two\n$x$"
    assert join(atoms, [2, 4]) == "three, $x$"
