"""Stage problems: duplicates, contamination, splits, the report; the real data if it is here."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from extracot_training.config.problems import Contamination, ProblemsConfig, Splits
from extracot_training.errors import RowError, StageError
from extracot_training.math_text.normalise import ngrams, normal_form, words
from extracot_training.math_text.verify import verify
from extracot_training.pipeline.records import Problem, read_rows
from extracot_training.stages.problems.contamination import (
    TestIndex,
    check,
    deduplicate,
    gsm_symbolic_origins,
    question_hash,
)
from extracot_training.stages.problems.stage import assign_split, run

# A folder with gsm8k/{train,test}.jsonl and math500/test.jsonl; without it those tests are skipped.
DATA = os.environ.get("PROBLEM_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="PROBLEM_DATA is not set")

QUESTION = (
    "A baker sells 12 loaves of bread at 3 dollars each and then gives 5 loaves to a school. "
    "How much money does the baker take in on that day?"
)


def row(number: int, question: str, **changes: Any) -> Problem:
    fields: dict[str, Any] = {
        "id": f"p{number}",
        "question": question,
        "answer": "1",
        "source": "s",
        "license": "MIT",
        "split": "train",
    }
    return Problem(**(fields | changes))


def index(question: str, **settings: Any) -> TestIndex:
    return TestIndex("t", [(7, question)], Contamination(**settings), {})


@pytest.mark.parametrize(
    "other",
    [
        QUESTION.upper(),
        QUESTION.replace(" ", "  \n"),
        QUESTION.removesuffix("?"),
        QUESTION.replace("12", "\uff11\uff12"),
    ],
)
def test_writing_does_not_make_a_question_new(other: str) -> None:
    assert normal_form(other) == normal_form(QUESTION)


def test_meaning_does() -> None:
    for old, new in (("12", "13"), ("each", "both"), ("then", "")):
        assert normal_form(QUESTION.replace(old, new)) != normal_form(QUESTION)
    assert normal_form("3 - 1?") != normal_form("3 + 1?")
    assert normal_form("it\u2019s 1,000") == normal_form("It's 1000.")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 3²?", "What is 32?"),
        ("What is 10²³?", "What is 1023?"),
        ("Add a₁₂ and b.", "Add a12 and b."),
        ("What is half of 3½?", "What is half of 31/2?"),
        ("What is xⁿ?", "What is xn?"),
        ("What is 5!?", "What is 5?"),
        ("Find (3 + 2)!", "Find (3 + 2)."),
        ("What is 5!!?", "What is 5!?"),
        ("Simplify n!.", "Simplify n."),
    ],
)
def test_mathematics_in_signs_makes_another_question(one: str, other: str) -> None:
    assert normal_form(one) != normal_form(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 3²?", "What is 3^2?"),
        ("What is 10²³?", "What is 10^23?"),
        ("Add a₁₂ and b.", "Add a_12 and b."),
        ("What is half of 3½?", "What is half of 3 1⁄2?"),
        ("What is 5!?", "What is 5!"),
        ("What a day!", "What a day"),
        ("It has 1\u00a0000 and 2\u202f000.", "It has 1000 and 2,000."),
    ],
)
def test_one_piece_of_mathematics_in_two_spellings(one: str, other: str) -> None:
    assert normal_form(one) == normal_form(other)


def test_the_stricter_copy_of_a_question_stays() -> None:
    rows = [
        row(0, "a?"),
        row(1, "A?", split="test", answer="2"),
        row(2, "b?"),
        row(3, "b", source="other"),
        row(4, "How many are 3 apples?"),
        row(5, "How many are 4 apples?"),
    ]
    unique = deduplicate(rows)
    assert [kept.id for kept in unique.rows] == ["p1", "p2", "p4", "p5"]
    assert unique.dropped == {"s": 1, "other": 1}
    assert unique.conflicts == [("p1", "p0")]
    assert unique.same_template == 1


@given(st.lists(st.sampled_from(["a", "B", "b", "c?", "C ?", "d"]), max_size=12))
def test_deduplication_is_idempotent(questions: list[str]) -> None:
    rows = [row(number, question) for number, question in enumerate(questions)]
    once = deduplicate(rows)
    assert deduplicate(once.rows).rows == once.rows
    forms = [normal_form(kept.question) for kept in once.rows]
    assert len(set(forms)) == len(forms)
    assert set(forms) == {normal_form(question) for question in questions}


def test_an_exact_match_is_found() -> None:
    (exact, ngram) = index(QUESTION).hits(row(0, QUESTION.lower()))
    assert (exact.kind, exact.row, exact.share) == ("exact", 7, 1.0)
    assert (ngram.kind, ngram.share) == ("ngram", 1.0)


def test_a_template_with_other_numbers_is_found_when_numbers_are_masked() -> None:
    other = row(0, QUESTION.replace("12", "40").replace("3 dollars", "seven dollars"))
    (hit,) = index(QUESTION, mask_numbers=True).hits(other)
    assert (hit.kind, hit.share) == ("ngram", 1.0)
    assert index(QUESTION, mask_numbers=False, threshold=0.7).hits(other) == []


def test_the_threshold_is_a_share_of_one_test_questions_ngrams() -> None:
    half = row(0, QUESTION.split(".")[0] + ". Nothing that comes after it is the same as before.")
    grams = ngrams(words(half.question, mask_numbers=True), 8)
    shared = len(grams & ngrams(words(QUESTION, mask_numbers=True), 8)) / len(grams)
    assert 0.2 < shared < 0.8
    assert index(QUESTION, threshold=shared).hits(half)[0].share == round(shared, 4)
    assert index(QUESTION, threshold=shared + 0.01).hits(half) == []


def test_short_questions_have_ngrams_too() -> None:
    assert index("What is 2 + 2?").hits(row(0, "what is 2 + 2"))[0].kind == "exact"
    assert ngrams([], 3) == set()
    assert ngrams(["a", "b"], 3) == {("a", "b")}


def test_the_list_of_templates_needs_its_test_question(tmp_path: Path) -> None:
    (family, origin), *_ = gsm_symbolic_origins().items()
    made = row(0, "Something else entirely?", family=family)
    settings = Contamination()
    assert TestIndex("t", [(1, "other?")], settings, {family: origin}).hits(made) == []
    known = {family: question_hash("The test question?")}
    (hit,) = TestIndex("t", [(3, "the test question")], settings, known).hits(made)
    assert (hit.kind, hit.row) == ("template", 3)


def settings_for(tmp_path: Path, **changes: Any) -> Contamination:
    path = tmp_path / "test.jsonl"
    path.write_text(json.dumps({"problem": QUESTION}) + "\n")
    against = [{"name": "t", "path": path, "field": "problem"}]
    return Contamination.model_validate({"against": against, **changes})


def test_contaminated_rows_are_dropped_or_marked(tmp_path: Path) -> None:
    rows = [row(0, QUESTION), row(1, "new?"), row(2, QUESTION, split="test")]
    dropped = check(rows, settings_for(tmp_path))
    assert [kept.id for kept in dropped.rows] == ["p1", "p2"]
    assert dropped.dropped == {"s": 1}
    assert dropped.counts == {"t": {"exact": 1, "ngram": 1, "problems": 1}}
    assert dropped.test_rows == {"t": [1]} and dropped.sizes == {"t": 1}
    marked = check(rows, settings_for(tmp_path, action="mark"))
    assert [kept.id for kept in marked.rows] == ["p0", "p1", "p2"]
    assert marked.rows[0].meta["contamination"][0] == {
        "test": "t",
        "row": 1,
        "kind": "exact",
        "share": 1.0,
    }
    assert (dropped.marked, marked.marked, marked.dropped) == ({}, {"s": 1}, {})


def test_marked_problems_are_counted(tmp_path: Path) -> None:
    made = config(tmp_path, splits={"dev": 0})
    run(made)
    (first, *_) = read_rows(tmp_path / "out", Problem)
    (tmp_path / "seen.jsonl").write_text(json.dumps({"question": first.question}) + "\n")
    against = [{"name": "t", "path": tmp_path / "seen.jsonl"}]
    for action, told in (
        ("mark", "Contaminated and kept, but marked: "),
        ("drop", "and dropped: "),
    ):
        checked = {"against": against, "action": action, "threshold": 1.0, "reworded": None}
        again = config(tmp_path, splits={"dev": 0}, contamination=checked, out=tmp_path / action)
        assert run(again).counts["contaminated"] >= 1
        page = (tmp_path / action / "report.md").read_text()
        assert told in page and f"{told}none" not in page


def test_two_test_files_of_one_name_are_refused(tmp_path: Path) -> None:
    file = {"name": "t", "path": tmp_path / "t.jsonl"}
    with pytest.raises(ValidationError, match="two test files are named 't'; want a name for each"):
        Contamination.model_validate({"against": [file, file]})
    assert Contamination.model_validate({"against": [file, file | {"name": "u"}]})


def test_a_test_file_without_rows_makes_nothing_clean(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    (tmp_path / "test.jsonl").write_text("\n")
    with pytest.raises(
        StageError, match=r"contamination\.against \(t, .*test\.jsonl\): no rows in"
    ):
        check([row(1, QUESTION)], settings)


def test_a_bad_test_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text('{"question": "q"}\n{"problem": "q"}\n')
    bad = Contamination.model_validate({"against": [{"name": "t", "path": path}]})
    with pytest.raises(RowError, match=r"test\.jsonl:2: field 'question': is missing"):
        check([], bad)


@given(st.integers(0, 10**9), st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_split_depends_on_the_id_alone(number: int, dev: float, test: float) -> None:
    splits = Splits(seed=1, dev=dev, test=test)
    split = assign_split(f"id{number}", splits)
    assert split == assign_split(f"id{number}", splits)
    assert split != "dev" or dev > 0
    assert split != "test" or test > 0


def test_shares_of_splits_are_about_right() -> None:
    splits = Splits(seed=0, dev=0.2, test=0.1)
    found = [assign_split(str(number), splits) for number in range(4000)]
    assert 0.17 < found.count("dev") / 4000 < 0.23
    assert 0.08 < found.count("test") / 4000 < 0.12
    moved = sum(split != assign_split(str(n), Splits(seed=1)) for n, split in enumerate(found))
    assert moved > 400


def config(tmp_path: Path, **changes: Any) -> ProblemsConfig:
    path = tmp_path / "gsm.jsonl"
    lines = [{"question": f"{QUESTION} {n}", "answer": f"w\n#### {n}"} for n in range(30)]
    lines += [{"question": "Is this the only other question here?", "answer": "#### 1"}] * 3
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    sources = [
        {"kind": "gsm8k", "path": path},
        {"kind": "generator", "size": 60, "seed": 1, "heldout": ["bus", "trip"]},
    ]
    base = {"out": tmp_path / "out", "sources": sources, "splits": {"dev": 0.3, "test": 0.2}}
    return ProblemsConfig.model_validate(base | changes)


def test_the_stage_writes_rows_and_a_report(tmp_path: Path) -> None:
    outcome = run(config(tmp_path))
    rows = list(read_rows(tmp_path / "out", Problem))
    assert outcome.counts == {
        "rows": 91, "duplicates": 2, "contaminated": 0, "lost": {"duplicates": 2},
    }  # fmt: skip
    assert len(rows) == len({problem.id for problem in rows}) == 91
    assert {problem.split for problem in rows} == {"train", "dev", "test", "heldout_families"}
    assert {p.family for p in rows if p.split == "heldout_families"} == {"bus", "trip"}
    figures = json.loads((tmp_path / "out" / "report.json").read_text())
    assert figures["read"] == {"gsm8k": 33, "generator": 60}
    assert figures["synthetic"] == 60
    assert figures["duplicates"]["dropped"] == {"gsm8k": 2}
    page = (tmp_path / "out" / "report.md").read_text()
    assert "| gsm8k | MIT | 33 |" in page and "Duplicates: gsm8k 2." in page


def test_the_same_settings_give_the_same_bytes(tmp_path: Path) -> None:
    run(config(tmp_path))
    run(config(tmp_path, out=tmp_path / "again"))
    first, second = (tmp_path / name / "rows.jsonl" for name in ("out", "again"))
    assert first.read_bytes() == second.read_bytes()


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    against = [{"name": "itself", "path": tmp_path / "gsm.jsonl"}]
    sources = [{"kind": "gsm8k", "path": tmp_path / "gsm.jsonl"}]
    changed = config(tmp_path, sources=sources, contamination={"against": against}, splits={})
    with pytest.raises(StageError, match="no problem is left"):
        run(changed)


@needs_data
def test_gsm8k_train_is_clean_and_gsm_symbolic_is_not(tmp_path: Path) -> None:
    pytest.importorskip("reasoning_gym")
    data = Path(str(DATA))
    sources = [
        {"kind": "gsm8k", "path": data / "gsm8k" / "train.jsonl"},
        {"kind": "gsm_symbolic", "size": 300, "seed": 1},
    ]
    against = [{"name": "gsm8k_test", "path": data / "gsm8k" / "test.jsonl"}]
    checked = {"against": against, "action": "mark"}
    run(config(tmp_path, sources=sources, contamination=checked, splits={}))
    rows = list(read_rows(tmp_path / "out", Problem))
    assert len(rows) > 7700
    marked = {source: 0 for source in ("gsm8k", "gsm_symbolic")}
    for problem in rows:
        marked[problem.source] += "contamination" in problem.meta
    assert marked["gsm8k"] < 20
    assert marked["gsm_symbolic"] == sum(problem.source == "gsm_symbolic" for problem in rows)


@needs_data
def test_every_listed_origin_is_in_gsm8k_test() -> None:
    lines = (Path(str(DATA)) / "gsm8k" / "test.jsonl").read_text().splitlines()
    hashes = {question_hash(json.loads(line)["question"]) for line in lines}
    assert set(gsm_symbolic_origins().values()) <= hashes


@needs_data
def test_math500s_own_solutions_verify() -> None:
    lines = (Path(str(DATA)) / "math500" / "test.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    right = [verify(line["solution"], line["answer"]).correct for line in rows]
    assert sum(right) / len(right) > 0.99
