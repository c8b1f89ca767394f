"""What counts as the same answer where no algebra is needed: one rule for client and training."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot.answers import same_answer, same_plain_answer
from extracot.quantities import plain_text
from extracot_training.math_text.verify import equal, verify
from tests.examples import examples
from tests.extracot import language_pairs
from tests.extracot.algebra_pairs import ALGEBRA, ONE_WAY
from tests.extracot.answer_pairs import DIFFERENT, NOUNS, SAME

PAIRS = [(*pair, True) for pair in (*SAME, *language_pairs.SAME)]
PAIRS += [(*pair, False) for pair in (*DIFFERENT, *language_pairs.DIFFERENT)]
EVERYWHERE = (same_plain_answer, same_answer, equal)


@pytest.mark.parametrize(("answer", "gold", "same"), PAIRS)
def test_plain_answers_are_judged_alike_everywhere(answer: str, gold: str, same: bool) -> None:
    for judge in EVERYWHERE:
        assert judge(answer, gold) in (same, None if not answer or not gold else same), judge
        assert bool(judge(gold, answer)) is same, judge
        assert bool(judge(answer, gold)) is same, judge


@pytest.mark.parametrize("noun", NOUNS)
def test_a_number_with_a_noun_is_that_number(noun: str) -> None:
    for judge in EVERYWHERE:
        assert judge(f"18 {noun}", "18") and judge(f"18\\text{{ {noun}}}", "18")
        assert not judge(f"17 {noun}", "18") and not judge(f"18 {noun} 2", "18")


@pytest.mark.parametrize(("answer", "gold", "same"), ALGEBRA)
def test_what_needs_algebra_is_left_to_math_verify(answer: str, gold: str, same: bool) -> None:
    assert same_plain_answer(answer, gold) is None or answer.replace(" ", "") == gold
    assert equal(answer, gold) is equal(gold, answer) is same


@pytest.mark.parametrize(("answer", "gold", "same"), ONE_WAY)
def test_the_gold_says_in_what_form(answer: str, gold: str, same: bool) -> None:
    assert equal(answer, gold) is same_answer(answer, gold) is same


PIECES = ("√", "√(", "0.\\overline{", "²", "9²", "a - ", "(D) ", "1:", "\\", "1 to ", "x_")


@pytest.mark.parametrize("piece", PIECES)
def test_long_answers_are_no_trouble(piece: str) -> None:
    for text in (piece * (390 // len(piece)), piece * 5000):
        for gold in ("(2,\\infty)", "D", "7", "ab"):
            assert not same_answer(text, gold) and not same_answer(gold, text)


def test_there_are_two_hundred_pairs() -> None:
    assert len({*SAME, *DIFFERENT}) + len(ALGEBRA) >= 190 and len(NOUNS) >= 100


def test_digits_of_two_numbers_do_not_run_together() -> None:
    assert not verify("\\boxed{1 1/2}", "11/2").strict
    assert verify("\\boxed{1\\,200}", "1200").correct


LETTER = {form.format(letter) for letter in "ABCDE" for form in ("{}", "({})", "{})")}
"""Golds that count for a letter with its value, which does not count for them."""

TEXT = st.one_of(
    st.text(max_size=40),
    st.text("\\{}[]()^_$%&#~ 0123456789/+-*=!,.:xyzfractexmpe°½", max_size=40),
)


@examples(150)
@given(answer=TEXT, gold=TEXT)
def test_any_text_has_one_verdict(answer: str, gold: str) -> None:
    if LETTER.isdisjoint(map(plain_text, (answer, gold))):
        assert same_plain_answer(answer, gold) == same_plain_answer(gold, answer)


@examples(100)
@given(st.fractions(max_denominator=999), st.sampled_from(NOUNS))
def test_a_fraction_in_any_form_is_itself(value: object, noun: str) -> None:
    assert same_plain_answer(f"{value} {noun}", str(value))
    assert same_plain_answer(f"{value}", f"{value} {noun}")
