"""r* estimated from few replies: by simulation, where the truth is known."""

from __future__ import annotations

import doctest
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from extracot_training.pipeline import metering
from extracot_training.pipeline.needs import Need, estimate_needs
from extracot_training.pipeline.reference_rows import (
    LevelAttempt,
    LevelAttempts,
    ReferenceRow,
    RStarRow,
    needed_level,
    read_r_star,
    with_estimates,
)

LEVELS = (0.2, 0.4, 0.6, 0.8, 1.0)


def drawn(accuracies: object, *, problems: int = 300, k: int = 3, seed: int = 1) -> np.ndarray:
    """Right replies per problem and level; ``accuracies`` by level, or by problem and level."""
    shape = (problems, len(LEVELS))
    return np.random.default_rng(seed).binomial(k, np.broadcast_to(accuracies, shape))


def needs_of(right: np.ndarray, k: int = 3, **settings: float) -> list[Need]:
    return estimate_needs(LEVELS, right.tolist(), np.full(right.shape, k).tolist(), **settings)


@pytest.mark.parametrize("accuracy", [0.93, 0.85, 0.6])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_levels_that_do_as_well_need_the_smallest(accuracy: float, seed: int) -> None:
    right = drawn([accuracy] * 5, seed=seed)
    found = needs_of(right)
    assert sum(need.level == 0.2 for need in found) >= 0.95 * len(found)
    assert np.mean([need.probabilities[0] for need in found]) > 0.8
    # The unanimous r* of the same replies is mostly luck.
    unanimous = [
        needed_level(
            {level: [n < row[at] for n in range(3)] for at, level in enumerate(LEVELS)}
        ).level
        for row in right
    ]
    assert Counter(unanimous)[1.0] > 0.3 * len(right)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("accuracy", "smallest", "whole"), [(0.93, 0.33, 0.36), (0.85, 0.09, 0.62)]
)
def test_counter_example_unanimous_needs_are_luck(
    accuracy: float, smallest: float, whole: float, seed: int
) -> None:
    """Equal accuracy at every level, k = 3: what is unanimous names 0.2 and 1.0 by chance, the
    estimate 0.2 for nearly all."""
    right = drawn([accuracy] * 5, problems=2000, seed=seed)
    unanimous = Counter(
        needed_level(
            {level: [n < row[at] for n in range(3)] for at, level in enumerate(LEVELS)}
        ).level
        for row in right
    )
    assert unanimous[0.2] / len(right) == pytest.approx(smallest, abs=0.05)
    assert unanimous[1.0] / len(right) == pytest.approx(whole, abs=0.05)
    estimated = Counter(need.level for need in needs_of(right))
    assert estimated[0.2] >= 0.98 * len(right)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_step_is_found(seed: int) -> None:
    found = needs_of(drawn([0.3, 0.3, 0.95, 0.95, 0.95], seed=seed))
    assert sum(need.level == 0.6 for need in found) >= 0.95 * len(found)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_kinds_are_told_apart_though_nobody_names_them(seed: int) -> None:
    truth = [LEVELS[number % 3] for number in range(300)]
    chances = [[0.95 if level >= need else 0.15 for level in LEVELS] for need in truth]
    right = drawn(chances, seed=seed)
    found = needs_of(right)
    hits = sum(need.level == level for need, level in zip(found, truth, strict=True))
    assert hits >= 0.8 * len(truth)
    # It knows how sure it is: as often right as it says, within sampling.
    assert hits / 300 == pytest.approx(np.mean([max(n.probabilities) for n in found]), abs=0.1)


def test_what_it_promises_of_every_problem() -> None:
    rng = np.random.default_rng(4)
    right = rng.integers(0, 5, (80, 5))
    for need in needs_of(right, k=4, delta=0.1):
        assert sum(need.probabilities) == pytest.approx(1.0, abs=1e-5)
        assert list(need.accuracies) == sorted(need.accuracies)
        assert need.probabilities[LEVELS.index(need.level)] == max(need.probabilities)
    again = needs_of(right[::-1], k=4, delta=0.1)[::-1]
    for one, other in zip(needs_of(right, k=4, delta=0.1), again, strict=True):
        assert one.level == other.level
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)


def test_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="right <= tried"):
        estimate_needs((0.5, 1.0), [[2, 1]], [[1, 1]])
    with pytest.raises(ValueError, match="right <= tried"):
        estimate_needs((0.5, 1.0), [[float("nan"), 1]], [[1, 1]])
    with pytest.raises(ValueError, match="shapes"):
        estimate_needs((0.5, 1.0), [[1]], [[1]])
    assert estimate_needs((0.5, 1.0), np.zeros((0, 2)), np.zeros((0, 2))) == []
    (unseen,) = estimate_needs((0.5, 1.0), [[0, 0]], [[0, 0]])
    assert unseen.level in (0.5, 1.0)


def attempts(level: float, right: int, k: int = 3, total: int = 45) -> LevelAttempts:
    made = [
        LevelAttempt(correct=n < right, closed=True, boxed="1", tokens=30, total=total)
        for n in range(k)
    ]
    return LevelAttempts(level=level, attempts=made)


def measured(number: int, *right: int) -> ReferenceRow:
    levels = [attempts(level, own) for level, own in zip(LEVELS, right, strict=True)]
    return ReferenceRow.measured(
        levels, problem_id=f"p{number}", question="?", gold="1", split="train"
    )


def test_rows_have_both(tmp_path: Path) -> None:
    """Unlucky once at level 0.8, the first counts as 1.0 by unanimity, not by the estimate."""
    rows = with_estimates(
        [measured(0, 3, 3, 3, 2, 3), *(measured(n, 3, 3, 3, 3, 3) for n in range(1, 20)),
         measured(20, 0, 0, 0, 0, 0)], delta=0.05
    )  # fmt: skip
    assert rows[0].needed("unanimous") == 1.0 and rows[0].needed("estimated") == 0.2
    assert rows[0].solved("unanimous") and rows[0].solved("estimated")
    assert not rows[20].solved("estimated") and rows[20].needed("unanimous") == 1.0
    text = "".join(row.model_dump_json() + "\n" for row in rows)
    (tmp_path / "rows.jsonl").write_text(text)
    assert read_r_star(tmp_path)["p0"] == 0.2
    assert read_r_star(tmp_path, "unanimous")["p0"] == 1.0


def test_rows_of_earlier_versions_mean_what_they_meant() -> None:
    old = {"problem_id": "p", "r_star": 0.6, "unanimous": False, "question": "q"}
    row = RStarRow.model_validate(old)
    assert row.needed("estimated") == row.needed("unanimous") == 0.6
    assert not row.solved("estimated")
    whole = measured(0, 3, 3, 3, 3, 3).model_dump()
    del whole["estimate"], whole["answer_need"]
    again = ReferenceRow.model_validate(whole)
    assert again.answer_need is None and again.need == 15.0 == measured(0, 3, 3, 3, 3, 3).need
    for level in whole["levels"]:
        for one in level["attempts"]:
            one["closed"] = False
    assert ReferenceRow.model_validate(whole).need == 0.0


def test_the_answers_need_is_of_right_replies_at_the_highest_level() -> None:
    wordy = LevelAttempts(
        level=1.0,
        attempts=[
            LevelAttempt(correct=False, closed=True, boxed="2", tokens=100, total=300),
            LevelAttempt(correct=True, closed=True, boxed="1", tokens=100, total=112),
            LevelAttempt(correct=True, closed=True, boxed="1", tokens=110, total=124),
        ],
    )
    row = ReferenceRow.measured(
        [attempts(0.2, 3, total=90), wordy], problem_id="p", question="?", gold="1", split="train"
    )
    assert row.answer_need == 13.0
    # L_ref is in the same measure: 287 of the first reply, 100, and 111 of the third.
    assert row.l_ref == pytest.approx((287 + 100 + 111) / 3)


def test_the_worked_values_of_metering_hold() -> None:
    outcome = doctest.testmod(metering)
    assert outcome.attempted >= 4 and outcome.failed == 0
