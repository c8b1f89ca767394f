"""Bare arithmetic, written out: equations are true, answers the gold, every seed the same."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import pytest

from extracot.answers import extract_answer, same_answer
from extracot_training.errors import ConfigError
from extracot_training.synthetic.arithmetic import Arithmetic
from extracot_training.synthetic.arithmetic.spelling import decimal, money, spelled
from extracot_training.synthetic.arithmetic.tasks import KINDS
from extracot_training.synthetic.arithmetic.written import division, steps, working
from extracot_training.synthetic.story import Op
from tests.training.equations_told import equations_told
from tests.training.own_traces import all_kept

OPS = {Op.ADD: int.__add__, Op.SUB: int.__sub__, Op.MUL: int.__mul__}


@pytest.mark.parametrize("op", OPS, ids=[op.name for op in OPS])
def test_what_is_written_last_is_the_result_for_all_pairs_of_a_grid(op: Op) -> None:
    numbers = [
        *range(1, 14),
        19,
        20,
        29,
        45,
        56,
        90,
        99,
        100,
        101,
        189,
        250,
        495,
        500,
        909,
        995,
        999,
        1000,
    ]
    for left in numbers:
        for right in numbers:
            if op is Op.SUB and right > left:
                continue
            text = steps(op, left, right)
            made = OPS[op](left, right)
            assert int(re.findall(r"\d+", text)[-1]) == made or text.endswith("borrow 1"), text
            assert all(equations_told(text)), text


def test_long_division_writes_the_quotient_and_leaves_the_remainder() -> None:
    for right in [*range(2, 20), 24, 25, 37, 58, 99, 312]:
        for left in [*range(right, right + 300, 7), 500, 936, 999]:
            text = division(left, right)
            assert int(text.rpartition("write ")[2]) == left // right, text
            assert re.findall(r" - \d+ = (\d+), write", text)[-1] == str(left % right), text
            assert all(equations_told(text)), text


def test_easy_calculations_are_not_written_out_and_hard_ones_are() -> None:
    assert working(Op.ADD, 48, 24) == "48 + 24 = 72"
    assert working(Op.SUB, 1000, 400) == "1000 - 400 = 600"
    assert working(Op.MUL, 30, 12) == "30 × 12 = 360"
    assert working(Op.ADD, 48, 24, always=True).startswith("48 + 24: ones 8 + 4 = 12, write 2, ")
    assert working(Op.SUB, 632, 285) == (
        "632 - 285: ones 12 - 5 = 7, write 7, borrow 1; tens 13 - 1 - 8 = 4, write 47, borrow 1; "
        "hundreds 6 - 1 - 2 = 3, write 347; so 632 - 285 = 347"
    )
    assert working(Op.MUL, 56, 9) == (
        "56 × 9: 50 × 9 = 450, 6 × 9 = 54, 450 + 54 = 504; so 56 × 9 = 504"
    )


def test_every_equation_of_every_kind_is_true_and_the_answer_is_the_last_result() -> None:
    asked = list(Arithmetic(5).make(1000))
    assert {made.kind for made in asked} == set(KINDS)
    for made in asked:
        told = equations_told(made.trace)
        assert told and all(told), made.trace
        assert same_answer(extract_answer(made.final) or "", made.answer), made.final
        magnitude = made.answer.removeprefix("-")
        assert re.search(rf"(?<![\d.]){re.escape(magnitude)}(?!\d)", made.trace), made.trace


def test_sums_ask_for_what_they_answer() -> None:
    for made in Arithmetic(6, kinds=("sum",)).make(400):
        numbers = [int(found) for found in re.findall(r"\d+", made.question)]
        if len(numbers) == 2:
            assert sum(numbers) == int(made.answer), made.question


def test_a_question_is_the_same_for_every_size_and_hardly_any_is_asked_twice() -> None:
    made = list(Arithmetic(7).make(1500))
    assert made[1234] == Arithmetic(7).problem(1234)
    assert made[0] != Arithmetic(8).problem(0)
    assert len({one.question for one in made}) > 1470
    shapes = {re.sub(r"\d+", "0", one.question) for one in made}
    assert len(shapes) > 500


def test_verbosity_is_the_share_that_says_more() -> None:
    brief, talkative = (list(Arithmetic(3, verbosity=share).make(200)) for share in (0.0, 1.0))
    for few, many in zip(brief, talkative, strict=True):
        assert len(few.trace) < len(many.trace)


def test_numbers_are_spelled_and_priced() -> None:
    assert [spelled(n) for n in (0, 13, 40, 99, 100, 999)] == [
        *("zero", "thirteen", "forty", "ninety-nine", "one hundred"),
        "nine hundred and ninety-nine",
    ]
    assert [money(1650), money(800), decimal(875, 3), decimal(7, 0)] == ["16.50", "8", "0.875", "7"]


def test_an_unknown_kind_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown kind 'sums'"):
        Arithmetic(1, kinds=("sums",))
    with pytest.raises(ConfigError, match="empty"):
        Arithmetic(1, kinds=())


def test_the_configuration_makes_traces_that_teach_keeps_all_of(tmp_path: Path) -> None:
    rows = all_kept("problems-smollm2-arithmetic", 300, tmp_path)
    assert Fraction(len(rows), 300) > Fraction(95, 100)
