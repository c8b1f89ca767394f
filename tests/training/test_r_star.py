"""What a problem needs: unanimous, monotone, and by its definition."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot_training.pipeline import reference_rows as module
from extracot_training.pipeline.reference_rows import needed_level, reference_length

LEVELS = (0.2, 0.4, 0.6, 0.8, 1.0)
k_and_marks = st.integers(1, 4).flatmap(
    lambda k: st.fixed_dictionaries(
        {level: st.lists(st.booleans(), min_size=k, max_size=k) for level in LEVELS}
    )
)


def test_the_worked_values_hold() -> None:
    outcome = doctest.testmod(module)
    assert outcome.attempted >= 4 and outcome.failed == 0


@given(k_and_marks)
def test_it_is_what_its_definition_says(correct: dict[float, list[bool]]) -> None:
    qualifying = [
        level for level in LEVELS if all(all(correct[above]) for above in LEVELS if above >= level)
    ]
    found = needed_level(correct)
    assert found == ((min(qualifying), True) if qualifying else (1.0, False))


@given(k_and_marks, st.sampled_from(LEVELS), st.integers(0, 3))
def test_answering_better_never_raises_it(
    correct: dict[float, list[bool]], level: float, number: int
) -> None:
    better = {key: list(marks) for key, marks in correct.items()}
    better[level][number % len(better[level])] = True
    assert needed_level(better).level <= needed_level(correct).level
    assert needed_level(better).unanimous >= needed_level(correct).unanimous


@given(k_and_marks)
def test_the_order_of_levels_is_of_no_account(correct: dict[float, list[bool]]) -> None:
    assert needed_level(dict(reversed(correct.items()))) == needed_level(correct)


def test_nothing_to_go_by_is_an_error() -> None:
    with pytest.raises(ValueError):
        needed_level({})
    with pytest.raises(ValueError):
        needed_level({0.2: [True], 1.0: []})


def test_the_reference_length_is_of_closed_replies() -> None:
    assert reference_length([10, 30], [True, True]) == 20.0
    assert reference_length([10, 4096], [True, False]) == 10.0
    assert reference_length([10, 30], [False, False]) is None
    assert reference_length([0, 0], [True, True]) is None  # nothing to divide by
    with pytest.raises(ValueError):
        reference_length([1], [True, False])
