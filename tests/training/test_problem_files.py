"""Files of problems: every format gives what stands in it, and says where it can't be read."""

from __future__ import annotations

import datetime
import decimal
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
from pydantic import TypeAdapter, ValidationError

from extracot_training.config.problems import AnySource, FieldMap, ProblemsConfig
from extracot_training.errors import RowError, StageError
from extracot_training.pipeline.records import Problem, read_rows
from extracot_training.stages.problems.sources import read_source
from extracot_training.stages.problems.stage import run

SOURCE: TypeAdapter[Any] = TypeAdapter(AnySource)
HUGE = "123456789012345678901234567890"
ROWS: list[dict[str, Any]] = [
    {"question": "How many?", "answer": "7"},
    {"question": "When was it?", "answer": "2024-05-01"},
    {"question": "Is it so?", "answer": "true"},
]


def read(path: Path, *, kind: str = "jsonl", **changes: Any) -> list[Problem]:
    where = {"path": path, "name": "mine"} if kind == "jsonl" else {"name": str(path)}
    source = {"kind": kind, "license": "MIT", **where, **changes}
    return list(read_source(SOURCE.validate_python(source)))


def jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8-sig")


def listed(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8-sig")


def separated(path: Path, rows: list[dict[str, Any]]) -> None:
    sign = "\t" if path.suffix == ".tsv" else ","
    text = [sign.join(rows[0]), *(sign.join(map(str, row.values())) for row in rows)]
    path.write_text("\n".join([*text, "", ""]), encoding="utf-8-sig")


def parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.Table.from_pylist(rows), path)


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], None]] = {
    "a.jsonl": jsonl, "a.json": listed, "b.json": jsonl, "a.csv": separated, "a.tsv": separated,
    "a.parquet": parquet, "no_suffix": jsonl,
}  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name, ROWS)
    rows = read(tmp_path / name)
    assert [row.answer for row in rows] == ["7", "2024-05-01", "true"]
    assert [row.question for row in rows] == [str(row["question"]) for row in ROWS]
    if name != "no_suffix":
        assert [row.answer for row in read(tmp_path / name, kind="huggingface")] == [
            row.answer for row in rows
        ]


@pytest.mark.parametrize("kind", ["jsonl", "huggingface"])
def test_numbers_dates_and_texts_may_share_a_column(tmp_path: Path, kind: str) -> None:
    answers = [int(HUGE), "2024-05-01", "true", 0.5, 3]
    jsonl(
        tmp_path / "a.jsonl", [{"question": f"q{n}?", "answer": a} for n, a in enumerate(answers)]
    )
    made = read(tmp_path / "a.jsonl", kind=kind)
    assert [row.answer for row in made] == [HUGE, "2024-05-01", "true", "0.5", "3"]


def test_types_of_parquet_that_json_lacks(tmp_path: Path) -> None:
    rows = [
        {"question": "q?", "answer": decimal.Decimal(HUGE)},
        {"question": "r?", "answer": decimal.Decimal("2")},
    ]
    parquet(tmp_path / "a.parquet", rows)
    assert [row.answer for row in read(tmp_path / "a.parquet")] == [HUGE, "2"]
    parquet(tmp_path / "b.parquet", [{"question": "q?", "answer": datetime.date(2024, 5, 1)}])
    assert read(tmp_path / "b.parquet")[0].answer == "2024-05-01"


@pytest.mark.parametrize("width", ["float16", "float32", "float64"])
def test_numbers_of_parquet_are_as_they_were_written(tmp_path: Path, width: str) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    kind = pa.from_numpy_dtype(width)
    numbers = pa.array(numpy.array([0.1, 0.3, 2.5, 7], width), kind)
    nested = [{"deep": [value]} for value in numbers.to_pylist()]
    inner = pa.array(nested, pa.struct([("deep", pa.list_(kind))]))
    texts = [f"{n}?" for n in range(4)]
    pq.write_table(
        pa.table({"question": texts, "answer": numbers, "at": inner}), tmp_path / "a.parquet"
    )
    assert [row.answer for row in read(tmp_path / "a.parquet")] == ["0.1", "0.3", "2.5", "7"]
    fields = "question=question, answer=at.deep.0"
    assert [row.answer for row in read(tmp_path / "a.parquet", fields=fields)][:2] == ["0.1", "0.3"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_dotted_keys_reach_into_objects_and_lists(tmp_path: Path, name: str) -> None:
    row = {
        "prompt": [{"role": "user", "content": "How many?"}],
        "reward_model": {"ground_truth": "72", "style": "rule"},
        "extra.info": "dots in a name",
    }
    WRITERS[name](tmp_path / name, [row])
    fields = "question=prompt.0.content, answer=reward_model.ground_truth, family=extra.info"
    (made,) = read(tmp_path / name, fields=fields)
    assert (made.question, made.answer, made.family) == ("How many?", "72", "dots in a name")
    for wrong in ("reward_model.truth", "prompt.1.content", "prompt.role", "reward_model.style.x"):
        with pytest.raises(RowError, match=rf"'{wrong}': is missing; the row has: prompt, reward"):
            read(tmp_path / name, fields={"question": "prompt.0.content", "answer": wrong})


@pytest.mark.parametrize("given", ["question", "question=", 3, ["question"], "=a"])
def test_a_wrong_field_map_is_told_what_one_is(given: object) -> None:
    with pytest.raises(ValidationError, match=r"such as \{question: problem, answer: final\}"):
        FieldMap.model_validate(given)


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("a.json", b'[{"question": "q?", "answer": 1}, 2]', "a.json:2: want an object, not int"),
        ("a.json", b'[{"question": "q?"', "a.json:1: not JSON"),
        ("a.csv", b"question,answer\nq?,1,2\n", r"a.csv:2: 3 cells under 2 names"),
        ("a.csv", b'question,answer\n"q"x,1\n', "a.csv:2: not CSV"),
        ("a.csv", b"answer,answer\n1,2\n", "a.csv:1: the column name 'answer' is there twice"),
        ("a.csv", b"question,answer\n\xff,2\n", "a.csv:2: not UTF-8 text"),
        ("a.csv", b"question,answer\nq?,\n", "a.csv:2: field 'answer': is null"),
        ("a.csv", b"question;answer\nq?;1\n", "a.csv:1: .* separated by semicolons, and commas"),
        ("a.csv", b"question\tanswer\nq?\t1\n", r"by tabs, and commas .*\(or name it .tsv\)"),
        ("a.tsv", b"question,answer\nq?,1\n", "separated by commas, and tabs are wanted"),
        ("a.csv", "question,answer\n".encode("utf-16"), "a.csv: is UTF-16 .*save it as UTF-8"),
        ("a.jsonl", '{"question": 1}'.encode("utf-16-le"), "UTF-16 or no text; save it as UTF-8"),
        ("a.jsonl", b'{"question": "q", "answer": 1, "question": "r"}', "a.jsonl:1: the key "),
        ("a.jsonl", b'{"question": {"a": 1, "a": 2}, "answer": 1}', "the key 'a' is there twice"),
        ("a.json", b'[{"question": "q", "answer": 1}, {"a": 1, "a": 2}]', "a.json:2: the key 'a'"),
        ("a.parquet", b"PAR0 no", "a.parquet: not Parquet"),
        (
            "a.jsonl",
            b'{"question": NaN, "answer": 1}',
            "'question': want text or a .*not NaN",
        ),
        ("a.jsonl", b'{"question": "q?", "answer": NaN}', "field 'answer': is NaN"),
        ("a.jsonl", b'{"question": "q?", "answer": null}', "field 'answer': is null"),
        ("a.jsonl", b'{"question": "q?", "answer": " "}', "field 'answer': is empty"),
        ("a.jsonl", b'{"question": "q?", "answer": ' + b"4" * 400 + b"}", "number of 400 digits"),
        ("a.jsonl", b'{"question": "q?", "answer": "' + b"4" * 400 + b'"}', "field 'answer': is a"),
        ("a.jsonl", b'{"question": "q?", "answer": 1e999}', "field 'answer': is Infinity"),
    ],
)
def test_bad_files_name_the_place(tmp_path: Path, name: str, raw: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises((RowError, StageError), match=message) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [None, "", " \u0000 ", float("nan")])
def test_an_optional_field_may_hold_nothing(tmp_path: Path, value: object) -> None:
    jsonl(tmp_path / "a.jsonl", [{"question": "q?", "answer": 1, "cot": value}])
    assert read(tmp_path / "a.jsonl", fields={"solution": "cot"})[0].solution is None


def test_a_calculators_marks_are_taken_out_of_ones_own_solutions(tmp_path: Path) -> None:
    row = {"question": "q?", "answer": "24", "cot": "48/2 = <<48/2=24>>24."}
    jsonl(tmp_path / "a.jsonl", [row])
    assert read(tmp_path / "a.jsonl", fields={"solution": "cot"})[0].solution == "48/2 = 24."


@pytest.mark.parametrize(
    ("cot", "read_as"),
    [
        ("It costs $<<50*48=2400>>2,400.", "It costs $2,400."),
        ("<<98*3400=333200.00>>333,200.00", "333,200.00"),
        (shifted := "First 5 << 2 = 20, and then 20 >> 1 = 10.", shifted),
        (alone := "cat <<END=7>> file", alone),
    ],
)
def test_only_a_mark_with_its_result_behind_it_is_a_calculators(
    tmp_path: Path, cot: str, read_as: str
) -> None:
    jsonl(tmp_path / "a.jsonl", [{"question": "q?", "answer": "10", "cot": cot}])
    assert read(tmp_path / "a.jsonl", fields={"solution": "cot"})[0].solution == read_as


@pytest.mark.parametrize("kind", ["jsonl", "huggingface"])
def test_a_named_key_that_no_row_has_is_an_error(tmp_path: Path, kind: str) -> None:
    rows = [{"question": f"{n}?", "answer": n} for n in range(3)]
    jsonl(tmp_path / "a.jsonl", rows)
    told = r"a.jsonl:1: field '{}': is missing in all rows; the row has: question, answer$"
    for name, key in [("solution", "reasoning_trace"), ("family", "info.kind")]:
        for limit in (None, 1):
            with pytest.raises(RowError, match=told.format(key)):
                read(tmp_path / "a.jsonl", kind=kind, fields={name: key}, limit=limit)
    with pytest.raises(RowError, match=told.format("cot")):
        read(tmp_path / "a.jsonl", kind=kind, fields={"solution": "cot"}, bad_rows="skip")
    assert len(read(tmp_path / "a.jsonl", kind=kind)) == 3
    jsonl(tmp_path / "a.jsonl", [*rows, {"question": "3?", "answer": 3, "cot": "1 + 2"}])
    made = read(tmp_path / "a.jsonl", kind=kind, fields={"solution": "cot"})
    assert [row.solution for row in made] == [None, None, None, "1 + 2"]
    assert len(read(tmp_path / "a.jsonl", kind=kind, fields={"solution": "cot"}, limit=2)) == 2


def test_a_downloaded_folder_is_read_by_split(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for number in (0, 1):
        row = {"question": f"{number}?", "answer": int(HUGE) + number}
        jsonl(tmp_path / "data" / f"train-0000{number}-of-00002.jsonl", [row])
    jsonl(tmp_path / "data" / "test-00000-of-00001.jsonl", [{"question": "t?", "answer": 1}])
    jsonl(tmp_path / ".cache.jsonl", [{"question": "hidden?", "answer": 1}])
    assert [row.question for row in read(tmp_path, kind="huggingface")] == ["0?", "1?"]
    assert read(tmp_path, kind="huggingface")[1].answer == str(int(HUGE) + 1)
    assert [row.question for row in read(tmp_path, kind="huggingface", part="test")] == ["t?"]
    with pytest.raises(StageError, match="no file of split 'validation'"):
        read(tmp_path, kind="huggingface", part="validation")
    (tmp_path / "sheet.xlsx").write_bytes(b"x")
    with pytest.raises(StageError, match=r"sheet\.xlsx: want one of \.jsonl"):
        read(tmp_path / "sheet.xlsx", kind="huggingface")


def config(tmp_path: Path, rows: list[dict[str, Any]], **changes: Any) -> ProblemsConfig:
    jsonl(tmp_path / "mine.jsonl", rows)
    own = {"kind": "jsonl", "path": tmp_path / "mine.jsonl", "name": "mine", "license": "MIT"}
    source = changes.pop("source", {})
    values = {"out": tmp_path / "out", "sources": [own | source], **changes}
    return ProblemsConfig.model_validate(values)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("5 + 5 = 10\n#### 10\nThe answer is: 10", "10"),
        ("#### Step 1\nAdd.\n#### Step 2\nSo \\boxed{12}.", "12"),
        ("add\n#### 1, 2, 3", "1, 2, 3"),
        ("add\n#### (1,2)", "(1,2)"),
        ("so \\boxed{4}, that is \\boxed{4}", "4"),
        ("add\n#### 1,200", "1200"),
    ],
)
def test_golds_go_through_the_stage_as_answers(tmp_path: Path, answer: str, gold: str) -> None:
    run(config(tmp_path, [{"question": "q?", "answer": answer}], splits={"dev": 0}))
    assert [row.answer for row in read_rows(tmp_path / "out", Problem)] == [gold]


@pytest.mark.parametrize(
    "answer",
    [
        "We add the two numbers. Then we are done, and that is all there is to say of it.",
        "\\boxed{1} or \\boxed{2}",
        "10\n#### 10\nThe answer is: 11",
    ],
)
def test_what_holds_no_single_answer_is_refused_with_its_row(tmp_path: Path, answer: str) -> None:
    rows = [{"question": "p?", "answer": 1}, {"question": "q?", "answer": answer}]
    with pytest.raises(RowError, match=r"mine\.jsonl:2: field 'answer': "):
        run(config(tmp_path, rows))


def test_bad_rows_can_be_left_out_and_are_counted(tmp_path: Path) -> None:
    rows = [{"question": "p?", "answer": 1}, {"question": "q?"}, {"question": "", "answer": 2}]
    settings = config(tmp_path, rows, source={"bad_rows": "skip"}, splits={"dev": 0})
    assert run(settings).counts["bad_rows"] == 2
    page = (tmp_path / "out" / "report.md").read_text()
    assert "Bad rows: 2" in page and "mine.jsonl:2: field 'answer': is missing" in page
    with pytest.raises(StageError, match=r"sources\[0\] \(.*mine\.jsonl\): all 1 rows are bad"):
        run(config(tmp_path, rows[1:2], source={"bad_rows": "skip"}), force=True)


@pytest.mark.parametrize(
    ("name", "raw", "faults"),
    [
        (
            "a.jsonl",
            b'{"question": "p?", "answer": 1}\n{broken\n[1]\n\xff\n\n{"question": "q?"}\n'
            b'{"question": "r?", "answer": 2}\n',
            ["2: not JSON", "3: want an object", "4: not UTF-8", "6: field 'answer'"],
        ),
        (
            "a.json",
            b'[{"question": "p?", "answer": 1}, 7, {"question": "r?", "answer": 2}]',
            ["2: want an object, not int"],
        ),
        (
            "a.csv",
            b'question,answer\np?,1\n\xff,2\n"q"x,3\na,b,c\nr?,2\n',
            ["3: not UTF-8", "4: not CSV", "5: 3 cells under 2 names"],
        ),
    ],
)
@pytest.mark.parametrize("kind", ["jsonl", "huggingface"])
def test_what_is_no_row_is_skipped_too(
    tmp_path: Path, kind: str, name: str, raw: bytes, faults: list[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(raw)
    where = {"path": path, "name": "mine"} if kind == "jsonl" else {"name": str(path)}
    source = {"kind": kind, "license": "MIT", **where}
    skipped: list[str] = []
    made = list(read_source(SOURCE.validate_python(source | {"bad_rows": "skip"}), skipped))
    assert [row.answer for row in made] == ["1", "2"]
    assert len(skipped) == len(faults)
    assert all(f"{path}:{fault}" in said for said, fault in zip(skipped, faults, strict=True))
    with pytest.raises(RowError, match=faults[0]):
        list(read_source(SOURCE.validate_python(source)))


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("a.json", b'[{"question": "p?", "answer": 1}, {'),
        ("a.csv", b"answer,answer\n1,2\n"),
        ("a.csv", b"\xff,answer\np?,1\n"),
        ("a.csv", b'question,answer\np?,1\n"q?,2\nr?,3\n'),  # what the quote swallowed?
    ],
)
def test_a_file_without_telling_rows_apart_is_not_skipped(
    tmp_path: Path, name: str, raw: bytes
) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(StageError, match=rf"{name}:\d: "):
        read(tmp_path / name, bad_rows="skip")


def test_a_cell_may_be_as_long_as_a_trace(tmp_path: Path) -> None:
    rows = [{"question": "q?", "answer": 1, "cot": "a b " * 40_000}]
    separated(tmp_path / "a.csv", rows)
    (made,) = read(tmp_path / "a.csv", fields={"solution": "cot"})
    assert len(made.solution or "") > 150_000


@pytest.mark.parametrize("kind", ["jsonl", "huggingface"])
def test_a_source_has_a_name(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where = {"path": "a.jsonl"} if kind == "jsonl" else {}
    with pytest.raises(ValidationError, match="is blank"):
        SOURCE.validate_python({"kind": kind, "license": "MIT", "name": " ", **where})
    jsonl(tmp_path / "a.jsonl", ROWS)
    monkeypatch.chdir(tmp_path)
    assert read(Path(), kind="huggingface")[0].source == tmp_path.stem


def test_a_field_is_named_once() -> None:
    with pytest.raises(ValidationError, match="question is there twice"):
        FieldMap.model_validate("question=question,answer=a,question=b")


def test_contradicting_golds_name_both_rows(tmp_path: Path) -> None:
    rows = [{"question": q, "answer": a} for q, a in [("p?", 1), ("q?", "18"), ("Q ?", "19")]]
    told = r"rows mine 2 and mine 3 ask the same and have the golds '18' and '19'; correct one, or"
    with pytest.raises(StageError, match=told):
        run(config(tmp_path, rows, splits={"dev": 0}))
    run(config(tmp_path, rows, splits={"dev": 0}, conflicts="first"))
    assert [row.answer for row in read_rows(tmp_path / "out", Problem)] == ["1", "18"]
    run(config(tmp_path, rows, splits={"dev": 0}, conflicts="drop"), force=True)
    assert [row.answer for row in read_rows(tmp_path / "out", Problem)] == ["1"]
    same = [{"question": "q?", "answer": "18"}, {"question": "q?", "answer": 18.0}]
    assert run(config(tmp_path, same, splits={"dev": 0}), force=True).counts["duplicates"] == 1


def test_a_file_without_rows_and_one_without_training_rows(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"sources\[0\] \(.*mine\.jsonl\): no rows in it"):
        run(config(tmp_path, []))
    one = [{"question": "q?", "answer": 1}]
    with pytest.raises(StageError, match=r"for training, all 1 are in dev; set splits\.dev and"):
        run(config(tmp_path, one, splits={"dev": 0.9999}))
    assert run(config(tmp_path, one, splits={"dev": 0})).counts["rows"] == 1
