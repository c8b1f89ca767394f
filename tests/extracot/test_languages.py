"""Numbers as people of many languages write them, and the words behind them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot.answers import same_answer, same_plain_answer
from tests.examples import examples
from tests.extracot.language_pairs import DIFFERENT, SAME, UNDECIDED

PAIRS = [
    *[(*pair, True) for pair in SAME],
    *[(*pair, False) for pair in DIFFERENT],
    *[(*pair, None) for pair in UNDECIDED],
]


@pytest.mark.parametrize(("answer", "gold", "same"), PAIRS)
def test_other_spellings_are_judged_alike_both_ways(
    answer: str, gold: str, same: bool | None
) -> None:
    assert same_plain_answer(answer, gold) is same_plain_answer(gold, answer) is same
    assert same_answer(answer, gold) is same_answer(gold, answer) is bool(same)


@pytest.mark.parametrize(
    ("text", "listed"), [("30,60 degrees", "30, 60 degrees"), ("12,5", "12, 5"), ("1,2", "1, 2")]
)
def test_lists_stay_lists(text: str, listed: str) -> None:
    assert same_answer(text, listed) and same_answer(listed, text)


@examples(150)
@given(
    value=st.integers(1000, 10**12),
    by=st.sampled_from([" ", "'", "’", "\u00a0", "\u202f", ",", "\\,", "{,}"]),
    unit=st.sampled_from(["", " €", " рублей", "円", " élèves"]),
)
def test_groups_of_three_are_one_number(value: int, by: str, unit: str) -> None:
    grouped = f"{value:,}".replace(",", by)
    assert same_plain_answer(f"{grouped}{unit}", str(value))
    assert not same_plain_answer(f"{grouped}{unit}", str(value + 1))
    assert not same_plain_answer(f"{grouped}{by}5", f"{value}5")
