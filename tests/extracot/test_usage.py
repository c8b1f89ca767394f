"""Arithmetic of counts, ratios and savings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot import (
    mean_of_ratios,
    ratio_of_sums,
    realised_ratio,
    saved_tokens,
    split_saving,
)


@given(st.integers(0, 10**6), st.none() | st.floats(0, 1e6))
def test_a_saving_is_what_its_parts_make(reasoning: int, baseline: float | None) -> None:
    saved = saved_tokens(reasoning, baseline)
    gained, lost = split_saving(saved)
    assert gained >= 0 and lost >= 0 and 0 in (gained, lost)
    if baseline is None:
        assert saved is None and gained == lost == 0
    else:
        assert gained - lost == saved == baseline - reasoning


@pytest.mark.parametrize("baseline", [None, 0.0, -1.0])
def test_no_baseline_no_ratio(baseline: float | None) -> None:
    assert realised_ratio(10, baseline) is None


def test_realised_ratio() -> None:
    assert realised_ratio(0, 200.0) == 0
    assert realised_ratio(300, 200.0) == 1.5


def test_the_two_ratios_of_a_set_differ() -> None:
    reasoning, full = [10, 90, 7], [100, 300, 0]
    assert ratio_of_sums(reasoning, full) == 107 / 400
    assert mean_of_ratios(reasoning, full) == pytest.approx(0.2)


def test_nothing_to_divide_by() -> None:
    assert ratio_of_sums([], []) is None
    assert mean_of_ratios([], []) is None
    assert ratio_of_sums([3], [0]) is None
    assert mean_of_ratios([3], [0]) is None


def test_counts_go_in_pairs() -> None:
    with pytest.raises(ValueError, match="in pairs"):
        ratio_of_sums([1], [1, 2])
    with pytest.raises(ValueError, match="in pairs"):
        mean_of_ratios([1, 2], [1])
