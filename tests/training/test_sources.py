"""Readers: each format as it is published, and bad rows named by file, line and field."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from extracot_training.config.problems import AnySource
from extracot_training.errors import ConfigError, RowError, StageError
from extracot_training.pipeline.records import Problem
from extracot_training.stages.problems.contamination import gsm_symbolic_origins
from extracot_training.stages.problems.sources import read_source

SOURCE: TypeAdapter[Any] = TypeAdapter(AnySource)
needs_reasoning_gym = pytest.mark.skipif(
    importlib.util.find_spec("reasoning_gym") is None, reason="reasoning-gym is not installed"
)


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def read(**source: object) -> list[Problem]:
    return list(read_source(SOURCE.validate_python(source)))


def test_gsm8k(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "a.jsonl",
        {
            "question": "How many clips?\r\n",
            "answer": "She sold 48/2 = <<48/2=24>>24 clips.\n48+24 = <<48+24=72>>72\n#### 1,072",
        },
    )
    (row,) = read(kind="gsm8k", path=path)
    assert (row.question, row.answer) == ("How many clips?", "1072")
    assert row.solution == "She sold 48/2 = 24 clips.\n48+24 = 72"
    assert (row.source, row.license, row.meta["row"]) == ("gsm8k", "MIT", 1)
    assert row.id == read(kind="gsm8k", path=path, split="test")[0].id


def test_math_and_math500(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "m.jsonl",
        {"problem": "p?", "solution": "so $\\boxed{\\frac{1}{2}}$.", "type": "Algebra", "level": 2},
        {"problem": "q?", "solution": "s", "answer": "p - q", "subject": "Algebra"},
    )
    first, second = read(kind="math", path=path)
    assert (first.answer, first.family) == ("\\frac{1}{2}", "Algebra")
    assert first.meta == {"row": 1, "type": "Algebra", "level": 2}
    assert (second.answer, second.solution) == ("p - q", "s")


def test_amc(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "amc.jsonl",
        {"id": 0, "problem": "p?", "answer": 27.0, "url": "u"},
        {"question": "q?", "answer": "3159"},
    )
    assert [row.answer for row in read(kind="amc", path=path)] == ["27", "3159"]


def test_a_field_map(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "own.jsonl",
        {"q": "a?", "a": 0.5, "cot": "half", "topic": "t"},
        {"q": "b?", "a": "work\n#### 7", "cot": None},
        {"q": "c?", "a": "thus \\boxed{9}"},
    )
    fields = {"question": "q", "answer": "a", "solution": "cot", "family": "topic"}
    rows = read(kind="jsonl", path=path, name="own", license="CC0", fields=fields)
    assert [row.answer for row in rows] == ["0.5", "7", "9"]
    assert [row.solution for row in rows] == ["half", "work", "thus \\boxed{9}"]
    assert (rows[0].family, rows[1].family) == ("t", None)
    assert read(kind="jsonl", path=path, name="own", license="", fields=fields, limit=1) == [
        rows[0].model_copy(update={"license": ""})
    ]


GOOD = {"question": "q?", "answer": "#### 1"}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ('{"question": "q?"}', "field 'answer': is missing"),
        ('{"question": "q?", "answer": "no mark"}', "field 'answer': no '#### ANSWER'"),
        ('{"question": "q?", "answer": "a ####  "}', "field 'answer': has nothing behind"),
        ('{"question": "q?", "answer": "#### 1\\nThe answer is: 2"}', "'answer': has two answers"),
        ('{"question": "q?", "answer": NaN}', "field 'answer': "),
        ('{"question": "q?", "answer": ' + "1" * 5000 + "}", "not JSON"),
        ('{"question": "   ", "answer": "#### 1"}', "field 'question': is empty"),
        ('{"question": ["q"], "answer": "#### 1"}', "field 'question': want text"),
        ('{"question": true, "answer": "#### 1"}', "field 'question': want text"),
        ('{"question": "\\ud800", "answer": "#### 1"}', "field 'question': holds half"),
        ("[1]", "want an object, not list"),
        ('{"question": ', "not JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
    ],
)
def test_bad_rows_name_file_line_and_field(tmp_path: Path, raw: str | bytes, message: str) -> None:
    path = tmp_path / "bad.jsonl"
    bad = raw if isinstance(raw, bytes) else raw.encode()
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\n\n" + bad + b"\n")
    with pytest.raises(RowError, match=message) as caught:
        read(kind="gsm8k", path=path)
    assert str(caught.value).startswith(f"{path}:3: ")
    assert "\n" not in str(caught.value)


def test_a_math_row_without_gold(tmp_path: Path) -> None:
    path = lines(tmp_path / "m.jsonl", {"problem": "p?", "solution": "no box {"})
    with pytest.raises(RowError, match=r"m\.jsonl:1: field 'solution': no \\boxed"):
        read(kind="math", path=path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="No such file"):
        read(kind="gsm8k", path=tmp_path / "none.jsonl")


def test_hugging_face_data_sets(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    saved = {"problem": ["p?", "q?"], "gold": ["\\boxed{1}", "2"]}
    datasets.DatasetDict(train=datasets.Dataset.from_dict(saved)).save_to_disk(tmp_path / "set")
    fields = {"question": "problem", "answer": "gold"}
    rows = read(kind="huggingface", name=str(tmp_path / "set"), license="MIT", fields=fields)
    assert [(row.question, row.answer, row.source) for row in rows] == [
        ("p?", "1", "set"),
        ("q?", "2", "set"),
    ]
    rounded = {"problem": ["p?"], "gold": [1.2e30]}
    datasets.Dataset.from_dict(rounded).save_to_disk(tmp_path / "rounded")
    with pytest.raises(RowError, match=r"rounded:1: field 'gold': 1\.2e\+30 has lost digits"):
        read(kind="huggingface", name=str(tmp_path / "rounded"), license="MIT", fields=fields)
    with pytest.raises(StageError, match="data set"):
        read(kind="huggingface", name=str(tmp_path / "nothing"), license="MIT")
    with pytest.raises(RowError, match="field 'answer': is missing"):
        read(kind="huggingface", name=str(tmp_path / "set"), license="MIT")


@needs_reasoning_gym
def test_gsm_symbolic_is_told_apart_by_generator_function() -> None:
    rows = read(kind="gsm_symbolic", size=60, seed=3, heldout_share=0.2)
    again = read(kind="gsm_symbolic", size=30, seed=3)
    assert [row.id for row in rows if row.meta["row"] <= 30] == [row.id for row in again]
    held = {row.family for row in rows if row.split == "heldout_families"}
    trained = {row.family for row in rows if row.split == "train"}
    assert held and trained and not held & trained
    assert all(row.family == f"gsm_symbolic/{row.meta['generator']}" for row in rows)
    assert {row.license for row in rows} == {"Apache-2.0"}
    assert not any("Give the result as your final answer" in row.question for row in rows)
    with pytest.raises(ConfigError, match="no row of generator function 1000"):
        read(kind="gsm_symbolic", size=10, heldout=[1000])


@needs_reasoning_gym
def test_a_family_is_the_function_that_made_the_row() -> None:
    from random import Random

    from reasoning_gym.arithmetic.gsm_symbolic import generators_00_49, generators_50_99

    for row in read(kind="gsm_symbolic", size=40, seed=9):
        number = row.meta["generator"]
        module = generators_00_49 if number < 50 else generators_50_99
        made = getattr(module, f"generate_{number}")(Random(9 + row.meta["row"] - 1), 1.0)
        assert row.question == made["question"].strip()


@needs_reasoning_gym
def test_every_function_that_is_drawn_from_has_a_known_origin() -> None:
    from reasoning_gym.arithmetic.gsm_symbolic.gsm_symbolic import tasks_ok

    origins = gsm_symbolic_origins()
    assert {f"gsm_symbolic/{number}" for number in tasks_ok} <= origins.keys()
    assert len(set(origins.values())) == len(origins) == 100


def test_generated_problems_are_marked_synthetic() -> None:
    rows = read(kind="generator", size=40, seed=1, max_number=100, heldout=["bus", "hens"])
    assert all(row.synthetic and row.family and row.steps for row in rows)
    assert {row.family for row in rows if row.split == "heldout_families"} == {"bus", "hens"}
    assert all(f"\\boxed{{{row.answer}}}" in row.meta["final"] for row in rows)
    (terse,) = read(kind="generator", size=1, seed=1, max_number=100, trace="terse")
    assert terse.solution == terse.meta["terse"] != rows[0].solution
    assert terse.id == rows[0].id
    with pytest.raises(ConfigError, match="did you mean 'hens'"):
        read(kind="generator", size=4, heldout=["hen"])
