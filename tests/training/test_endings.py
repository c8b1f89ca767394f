"""What own solutions end in: another answer than the gold is no trace to learn from."""

from __future__ import annotations

from pathlib import Path

import pytest

from extracot_training.config.teach import TeachConfig
from extracot_training.pipeline.records import Problem, Trace, read_rows, write_rows
from extracot_training.stages.teach.endings import disagrees
from extracot_training.stages.teach.stage import ATTEMPTS_FILENAME, SampledTrace, run


@pytest.mark.parametrize(
    ("text", "gold"),
    [
        ("3 + 2 = 5.\n#### 5", "7"),
        ("3 + 3 = 6. The answer is: 6", "7"),
        ("3 + 3 = 6.\nTherefore the answer is 6 apples.", "7"),
        ("Answer: 1,000", "7"),
        ("**The answer is 6.**", "7"),
        ("The answer is $\\frac{1}{2}$.", "0.25"),
        ("It is odd. The answer is no.", "Yes"),
        ("#### B", "C"),
        ("#### 7\nSo \\boxed{6}.", "7"),
    ],
)
def test_another_answer_at_the_end_disagrees(text: str, gold: str) -> None:
    assert disagrees(text, gold)


@pytest.mark.parametrize(
    ("text", "gold"),
    [
        ("The answer is 12 apples.", "12"),
        ("The answer is twelve.", "12"),
        ("The answer is \\(12\\).", "12"),
        ("The answer is $12.00", "12"),
        ("The answer is $\\frac{1}{2}$.", "0.5"),
        ("The answer is 12, since 5 + 7 = 12.", "12"),
        ("The answer is 12 feet and 3 inches.", "12"),
        ("The answer is 7 days.", "1 week"),
        ("The answer is correct.", "12"),
        ("The answer is one that we have found.", "12"),
        ("The answer is not 6.", "12"),
        ("The answer is 6 at first. Then it is 12.", "12"),
        ("The answer is 6 at first.\nThen it is 12.", "12"),
        ("The answer is Paris.", "B"),
        ("The answer is yes.", "True"),
        ("Add.\n#### Summary\nIt is 12.", "12"),
        ("Add.\n#### Done", "12"),
        ("5 + 7 = 12", "7"),
    ],
)
def test_what_may_be_right_does_not(text: str, gold: str) -> None:
    assert not disagrees(text, gold)


def test_marked_solutions_are_kept_without_the_mark_or_left_out(tmp_path: Path) -> None:
    solutions = [
        "3 + 4 = 7.\n#### 7", "3 + 2 = 5.\n#### 5", "It is 6. The answer is: 6", "#### Add\n3 + 4",
        "<think>3 + 4</think>3 + 3\n#### 6",
    ]  # fmt: skip
    rows = [
        Problem(id=f"p{n}", question=f"{n}?", answer="7", source="s", license="MIT",
                split="train", solution=solution)
        for n, solution in enumerate(solutions)
    ]  # fmt: skip
    write_rows(tmp_path / "p" / "rows.jsonl", rows)
    run(TeachConfig(input=tmp_path / "p", out=tmp_path / "t", source="own", samples=1))
    attempts = read_rows(tmp_path / "t" / ATTEMPTS_FILENAME, SampledTrace)
    other = "solution_disagrees"
    assert [row.reason for row in attempts] == [None, other, other, None, other]
    kept = [row.reasoning for row in read_rows(tmp_path / "t", Trace)]
    assert kept == ["3 + 4 = 7.", "#### Add\n3 + 4"]
