"""Lists of calculations: right, within bounds, the same every time, and rows of the stage."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from extracot_training.config.problems import DrillSource, ProblemsConfig
from extracot_training.config.teach import TeachConfig
from extracot_training.pipeline.records import Problem, Trace, read_rows
from extracot_training.stages.problems.stage import run
from extracot_training.stages.teach.stage import run as teach
from extracot_training.synthetic.drill import Drill
from tests.examples import examples
from tests.training.test_generator import equations, value_of


@examples(40)
@given(
    seed=st.integers(0, 10**6), index=st.integers(0, 99), most=st.integers(20, 400),
    count=st.integers(1, 40),
)  # fmt: skip
def test_every_calculation_holds_and_the_last_is_the_answer(
    seed: int, index: int, most: int, count: int
) -> None:
    made = Drill(seed, most, count).problem(index)
    told = equations(made.trace)
    assert len(told) == count
    for left, right in told:
        assert value_of(left) == int(right)
        assert left.strip() in made.question
    numbers = [int(number) for number in re.findall(r"\d+", made.question + made.trace)]
    assert 1 <= min(numbers) <= max(numbers) <= most
    assert told[-1][1] == str(made.answer)
    assert made.final.endswith(f"\\boxed{{{made.answer}}}")
    assert made == Drill(seed, most, count).problem(index)


def test_all_four_operations_and_large_numbers_occur() -> None:
    drawn = [one for made in Drill(1, 150, 24).make(60) for one in equations(made.trace)]
    signs = [re.sub(r"[\d ]", "", left) for left, _ in drawn]
    shares = {sign: signs.count(sign) / len(signs) for sign in "+-×÷"}
    assert sum(shares.values()) == 1
    assert shares["+"] > shares["×"] > shares["÷"] > 0.05
    assert max(int(right) for _, right in drawn) > 140
    assert len(set(drawn)) > 0.7 * len(drawn)


def test_rows_of_the_stage_are_traces_that_teach_takes(tmp_path: Path) -> None:
    source = DrillSource(size=20, seed=4, max_number=50, count=3)
    run(ProblemsConfig(out=tmp_path / "problems", sources=(source,)))
    rows = list(read_rows(tmp_path / "problems", Problem))
    assert len(rows) == 20
    assert {row.family for row in rows} == {"drill"} and all(row.synthetic for row in rows)
    assert rows[0].asked is None
    teach(TeachConfig(input=tmp_path / "problems", out=tmp_path / "teach", source="own", samples=1))
    traces = list(read_rows(tmp_path / "teach", Trace))
    assert [trace.reasoning for trace in traces] == [
        row.solution for row in rows if row.split in ("train", "dev")
    ]
    assert all(trace.answer.startswith("The answer is ") for trace in traces)


@pytest.mark.parametrize(
    ("field", "value"), [("count", 0), ("count", 201), ("max_number", 19), ("size", 0)]
)
def test_settings_out_of_range_are_refused(field: str, value: int) -> None:
    with pytest.raises(ValidationError, match=field):
        DrillSource.model_validate({"size": 5, field: value})
