"""Questions in other people's words: their sums are right, and no training of SmolLM2 has them."""

from __future__ import annotations

import ast
import json
import operator
import re
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from extracot_training.config.load import load_config
from extracot_training.config.problems import ProblemsConfig

ASKED = Path("benchmarks/asked")
SETS = {"questions.jsonl": 300, "newcomers.jsonl": 50}
SIGNS = {ast.Add: operator.add, ast.Sub: operator.sub}
SIGNS |= {ast.Mult: operator.mul, ast.Div: operator.truediv}


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (ASKED / name).read_text().splitlines()]


def computed(formula: str) -> Fraction:
    """The value of ``a sign b``."""
    tree = ast.parse(formula, mode="eval").body
    assert isinstance(tree, ast.BinOp)
    left, right = (Fraction(ast.unparse(side)) for side in (tree.left, tree.right))
    return Fraction(SIGNS[type(tree.op)](left, right))


@pytest.mark.parametrize("name", SETS)
def test_each_answer_is_what_its_equations_come_to(name: str) -> None:
    for row in rows(name):
        assert len(row["equations"]) == row["steps"]
        for equation in row["equations"]:
            formula, _, result = equation.partition("=")
            assert computed(formula) == Fraction(result), row["id"]
        assert Fraction(row["equations"][-1].partition("=")[2]) == Fraction(row["answer"])


@pytest.mark.parametrize(("name", "count"), SETS.items())
def test_half_of_them_want_one_calculation_and_half_two(name: str, count: int) -> None:
    assert Counter(row["steps"] for row in rows(name)) == {1: count // 2, 2: count // 2}


def test_no_question_is_asked_twice() -> None:
    texts = [row["question"] for name in SETS for row in rows(name)]
    texts += [row["prompt"] for row in rows("ordinary.jsonl")]
    assert len({re.sub(r"\W+", " ", text.lower()) for text in texts}) == len(texts) == 380


def test_smollm2s_training_leaves_them_out() -> None:
    config = load_config(ProblemsConfig, Path("training/configs/problems-smollm2.yaml"))
    assert {ASKED / name for name in SETS} <= {
        Path(one.path) for one in config.contamination.against
    }
