"""Solutions of others told again, and our families', with hard calculations written out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from extracot_training.config.problems import AnySource
from extracot_training.pipeline.records import Problem
from extracot_training.stages.problems.sources import read_source
from extracot_training.stages.problems.sources.retelling import retold
from extracot_training.synthetic.arithmetic.written import written_out
from tests.training.equations_told import equations_told

SOURCE: TypeAdapter[AnySource] = TypeAdapter(AnySource)


def read(**source: object) -> list[Problem]:
    return list(read_source(SOURCE.validate_python(source)))


def test_a_hard_calculation_is_written_out_before_its_sentence() -> None:
    made = retold("He sold 48/6 = <<48/6=8>>8 pens\nthen he had $347 + $285 = $<<347+285=632>>632.")
    assert made is not None
    assert made.full == (
        "He sold 48 ÷ 6 = 8 pens. 347 + 285: ones 7 + 5 = 12, write 2, carry 1; tens 4 + 8 + 1 = "
        "13, write 32, carry 1; hundreds 3 + 2 + 1 = 6, write 632; so 347 + 285 = 632. Then he had "
        "$347 + $285 = $632."
    )
    assert made.bare.startswith("48 ÷ 6 = 8. 347 + 285: ones ")
    assert made.last == "632"
    assert all(equations_told(made.bare))


def test_two_digits_are_written_out_too_where_that_is_wanted() -> None:
    told = "So she had 48 + 24 = <<48+24=72>>72, and 6 + 3 = <<6+3=9>>9."
    plain, written = retold(told), retold(told, two_digits=True)
    assert plain is not None and plain.bare == "48 + 24 = 72. 6 + 3 = 9."
    long = (
        "48 + 24: ones 8 + 4 = 12, write 2, carry 1; tens 4 + 2 + 1 = 7, write 72; so 48 + 24 = 72."
    )
    assert written is not None and written.bare == f"{long} 6 + 3 = 9."
    assert written_out("So 48 + 24 = 72.", always=True) == f"So {long}"


@pytest.mark.parametrize(
    ("source", "needs"),
    [
        ({"kind": "gsm8k", "path": "a.jsonl"}, "solutions: retold or calculations"),
        ({"kind": "generator", "size": 1}, "written_out: true"),
    ],
    ids=["gsm8k", "generator"],
)
def test_two_digits_want_a_source_that_writes_out(source: dict[str, object], needs: str) -> None:
    with pytest.raises(ValidationError, match=f"two_digits: wants {needs}"):
        SOURCE.validate_python({**source, "two_digits": True})


def test_a_formula_is_told_one_calculation_at_a_time() -> None:
    made = retold("She has (20 - 5)*.5 + 2 = <<(20-5)*.5+2=9.5>>9.5 litres.")
    assert made is not None
    assert made.bare == "20 - 5 = 15. 15 × 0.5 = 7.5. 7.5 + 2 = 9.5."


@pytest.mark.parametrize(
    "solution",
    [
        "No call at all: 3 + 4 = 7.", "3 + 4 = <<3+4=8>>8", "x = <<x=8>>8", "1/0 = <<1/0=0>>0",
        "1/3 = <<1/3=0.33>>0.33", "2^3 = <<2**3=8>>8", "now <<f(3)=3>>3", "-3 = <<-3=-3>>-3",
        "empty <<=>>", "<<3+=3>>3", "<<5=5>>5",
        "<<1e999+1=1>>1",
    ],
    ids=["none", "wrong", "letter", "by zero", "rounded", "power", "call", "sign", "empty", "open",
         "alone", "infinite"],
)  # fmt: skip
def test_what_can_not_be_read_is_not_told_again(solution: str) -> None:
    assert retold(solution) is None


def test_numbers_beyond_a_million_stay_as_they_are() -> None:
    made = retold("There are 123456789 + 987654321 = <<123456789+987654321=1111111110>>1 of them.")
    assert made is not None
    assert "ones" not in made.full


def test_the_source_tells_again_what_it_can_and_keeps_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = (
        {"question": "Q1?", "answer": "56*9 = <<56*9=504>>504 eggs\n#### 504"},
        {"question": "Q2?", "answer": "It is twice 4, so 8.\n#### 8"},
        {"question": "Q3?", "answer": "2*4 = <<2*4=8>>8\nand one more is 9\n#### 9"},
    )
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    first, second, third = read(kind="gsm8k", path=path, solutions="retold")
    assert first.solution == (
        "56 × 9: 50 × 9 = 450, 6 × 9 = 54, 450 + 54 = 504; so 56 × 9 = 504. 56 × 9 = 504 eggs."
    )
    assert first.meta["retold"] is True
    assert second.solution == "It is twice 4, so 8."
    assert "retold" not in second.meta
    assert third.solution == "2 × 4 = 8. And one more is 9."
    assert "terse" not in third.meta
    short = read(kind="gsm8k", path=path, solutions="calculations")
    assert short[0].solution == first.meta["terse"]
    assert short[2].solution == third.solution
    assert read(kind="gsm8k", path=path)[0].solution == "56*9 = 504 eggs"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("48 + 24 = 72.", "48 + 24 = 72."),
        ("56 * 9 = 504", "56 × 9: 50 × 9 = 450, 6 × 9 = 54, 450 + 54 = 504; so 56 × 9 = 504"),
        ("$56 \\times 9$ is $56 \\times 1 = 56$", "$56 \\times 9$ is 56 × 1 = 56"),
        ("4 × 2 + 347 + 285 = 640", "4 × 2 + 347 + 285 = 640"),
        ("347.5 + 285 = 632.5", "347.5 + 285 = 632.5"),
        ("56 × 9 = 505", "56 × 9 = 505"),
        ("0 × 900 = 0 and 7 ÷ 0 = 0", "0 × 900 = 0 and 7 ÷ 0 = 0"),
    ],
    ids=["easy", "signs", "latex", "mixed", "decimal", "wrong", "zero"],
)  # fmt: skip
def test_written_out(text: str, told: str) -> None:
    assert written_out(text) == told


def test_families_are_told_with_hard_calculations_written_out() -> None:
    for trace in ("verbose", "brief", "terse"):
        plain, written = (
            read(kind="generator", size=40, seed=3, trace=trace, written_out=on)
            for on in (False, True)
        )
        longer = 0
        for before, after in zip(plain, written, strict=True):
            assert before.question == after.question
            assert all(equations_told(str(after.solution))), after.solution
            longer += len(str(after.solution)) > len(str(before.solution))
        assert longer > 10
        more = read(
            kind="generator", size=40, seed=3, trace=trace, written_out=True, two_digits=True
        )
        lengths = [sum(len(str(row.solution)) for row in rows) for rows in (written, more)]
        assert lengths[0] < lengths[1]
