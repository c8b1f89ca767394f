"""Rows: strict reading, appending that survives a cut, JSONL and Parquet alike."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extracot_training.errors import RowError, StageError
from extracot_training.pipeline.files import sha256_of, write_atomic
from extracot_training.pipeline.records import (
    Annotation,
    CompressedTrace,
    JsonlWriter,
    Problem,
    Record,
    Trace,
    TraceText,
    read_rows,
    rows_file,
    write_rows,
)
from extracot_training.stages.teach.stage import SampledTrace
from tests.examples import examples

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).filter(
    lambda text: not text.isspace()
)


def problem(number: int = 0, **changes: object) -> Problem:
    fields = {
        "id": f"p{number}",
        "question": f"What is {number} + 1?",
        "answer": str(number + 1),
        "source": "test",
        "license": "MIT",
        "split": "train",
    }
    return Problem.model_validate(fields | changes)


def trace(number: int, sample: int = 0) -> Trace:
    return Trace(
        problem_id=f"p{number}",
        sample=sample,
        question="?",
        reasoning=f"r{number}\u2028x",
        answer="\\boxed{1}",
        gold="1",
        teacher="t",
    )


@examples(40)
@given(
    questions=st.lists(TEXT, min_size=1, max_size=5),
    solution=st.none() | TEXT,
    value=st.recursive(st.none() | st.integers() | TEXT, lambda x: st.lists(x, max_size=2)),
    suffix=st.sampled_from(["jsonl", "parquet"]),
)
def test_rows_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory,
    questions: list[str],
    solution: str | None,
    value: object,
    suffix: str,
) -> None:
    rows = [
        problem(n, question=question, solution=solution, meta={"value": value, "n": n})
        for n, question in enumerate(questions)
    ]
    path = tmp_path_factory.mktemp("rows") / f"rows.{suffix}"
    assert write_rows(path, rows) == len(rows)
    assert list(read_rows(path, Problem)) == rows
    assert list(read_rows(path.parent, Problem)) == rows


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "a"}', "field 'question': Field required"),
        ("{", "Invalid JSON"),
        (problem(1).model_dump_json()[:-1] + ', "sorce": 1}', "field 'sorce': Extra inputs"),
        (problem(1).model_dump_json().replace('"train"', '"trian"'), "field 'split'"),
        ("[]", "valid dictionary|object"),
    ],
)
def test_a_bad_row_names_file_line_and_field(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{problem(0).model_dump_json()}\n\n{line}\n")
    with pytest.raises(RowError, match=message) as caught:
        list(read_rows(path, Problem))
    assert str(caught.value).startswith(f"{path}:3: ")
    assert "\n" not in str(caught.value)


def test_no_rows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"neither rows\.jsonl nor"):
        rows_file(tmp_path)
    with pytest.raises(StageError, match="no such file"):
        rows_file(tmp_path / "nowhere")


@examples(60)
@given(cut=st.integers(0, 600))
def test_a_cut_file_goes_on_with_no_row_lost_or_doubled(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("cut") / "rows.jsonl"
    rows = [trace(n) for n in range(4)]
    with JsonlWriter(path, Trace) as writer:
        for row in rows:
            writer.write(row)
    whole = path.read_bytes()
    path.write_bytes(whole[: min(cut, len(whole))])
    with JsonlWriter(path, Trace) as writer:
        survivors = writer.done_keys()
        assert survivors == {row.key for row in rows[: whole[:cut].count(b"\n")]}
        for row in rows:
            if row.key not in survivors:
                writer.write(row)
    assert path.read_bytes() == whole


def test_a_row_is_not_written_twice(tmp_path: Path) -> None:
    with JsonlWriter(tmp_path / "rows.jsonl", Trace) as writer:
        writer.write(trace(1))
        assert trace(1).key in writer
        with pytest.raises(StageError, match="'p1/0' is there twice"):
            writer.write(trace(1))
        writer.write(trace(1, sample=1))
        assert len(writer.done_keys()) == 2


def test_a_full_disk_is_an_error_and_leaves_whole_lines() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(OSError, match="No space left"), full.open("wb", buffering=0) as stream:
        stream.write(b"x")
    with pytest.raises((StageError, OSError)):
        write_atomic(full / "rows.jsonl", "x")


def test_a_write_that_fails_takes_its_half_line_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.jsonl"
    with JsonlWriter(path, Trace) as writer:
        writer.write(trace(0))
        stream = writer._stream

        class FullDisk:
            """Takes ten bytes, then no more."""

            left = 10

            def write(self, data: bytes) -> int:
                if not self.left:
                    raise OSError(28, "No space left on device")
                taken = stream.write(data[: self.left]) or 0
                self.left -= taken
                return taken

            def truncate(self, size: int) -> int:
                return stream.truncate(size)

        monkeypatch.setattr(writer, "_stream", FullDisk())
        with pytest.raises(StageError, match="No space left"):
            writer.write(trace(1))
        monkeypatch.setattr(writer, "_stream", stream)
        writer.write(trace(1))
    assert [row.key for row in read_rows(path, Trace)] == ["p0/0", "p1/0"]


def test_an_atomic_write_replaces_or_leaves(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file"
    write_atomic(path, "one")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "\ud800")
    assert path.read_text() == "one"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_hashes_follow_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    before = sha256_of(tmp_path)
    assert before == sha256_of(tmp_path)
    (tmp_path / "b").write_text("")
    assert sha256_of(tmp_path) != before
    assert sha256_of(tmp_path / "a").startswith("sha256:2d711642b726b044")


@pytest.mark.parametrize(
    "keep", [[(0, 2), (1, 3)], [(2, 2)], [(3, 9)], [(2, 3), (0, 1)], [(-1, 2)]]
)
def test_annotations_hold_spans_that_fit(keep: list[tuple[int, int]]) -> None:
    fields = json.loads(trace(1).model_dump_json(include={"problem_id", "sample", "question"}))
    with pytest.raises(ValueError, match="empty, unsorted, overlapping or out of range"):
        Annotation(**fields, reasoning="abcd", answer="", gold="1", keep=keep, annotator="a")


def test_a_compressed_trace_has_a_key_per_target() -> None:
    row = CompressedTrace(
        problem_id="p",
        sample=2,
        question="?",
        answer="",
        gold="1",
        target=0.2,
        text="t",
        realised=0.2,
        overshoot=0.0,
        tokens_full=10,
        tokens_kept=2,
        kept_atoms=[1],
        n_atoms=5,
    )
    assert row.key == "p/2@0.2"


def test_a_row_must_say_its_key() -> None:
    class Keyless(Record):
        value: int

    with pytest.raises(TypeError, match="abstract"):
        Keyless(value=1)  # type: ignore[abstract]


def test_an_attempt_that_was_not_kept_is_no_trace(tmp_path: Path) -> None:
    """Stage teach's own record of its attempts holds them; the stages after it take none."""
    left_out = {**trace(1).model_dump(), "reason": "wrong", "finish_reason": "stop"}
    path = tmp_path / "attempts.jsonl"
    path.write_text(json.dumps(left_out) + "\n")
    assert [row.reason for row in read_rows(path, SampledTrace)] == ["wrong"]
    with pytest.raises(RowError, match="stage teach left out, by its `reason`"):
        list(read_rows(path, TraceText))


def test_a_byte_order_mark_is_not_part_of_the_first_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + problem().model_dump_json().encode() + b"\n\n")
    assert list(read_rows(path, Problem)) == [problem()]
    with JsonlWriter(path, Problem) as writer:
        assert writer.done_keys() == {"p0"}


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_doubled_row_is_named_with_both_places(tmp_path: Path, suffix: str) -> None:
    write_rows(tmp_path / f"rows.{suffix}", [problem(1), problem(2), problem(1)])
    with pytest.raises(RowError, match=r":3: the row 'p1' is there twice, first at 1; remove one"):
        list(read_rows(tmp_path, Problem))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("question", " \n", "'question': Value error, is blank"),
        ("answer", None, "'answer': Input should be a valid string"),
        ("answer", float("nan"), "'answer': Input should be a valid string"),
        ("steps", 10**400, "'steps': Input should be less than or equal to"),
        ("steps", float("nan"), "'steps': "),
        ("steps", float("inf"), "'steps': "),
    ],
)
def test_values_that_are_none_name_row_and_field(
    tmp_path: Path, field: str, value: object, message: str
) -> None:
    row = problem().model_dump() | {field: value}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    with pytest.raises(RowError, match=rf"rows\.jsonl:1: field {message}") as caught:
        list(read_rows(tmp_path, Problem))
    assert "\n" not in str(caught.value)


def test_parquet_of_others_is_read_or_named(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "rows.parquet"
    row = problem().model_dump() | {"meta": "{"}
    pq.write_table(pa.Table.from_pylist([row]), path)
    with pytest.raises(RowError, match=r"rows\.parquet:1: field 'meta': not JSON"):
        list(read_rows(path, Problem))
    pq.write_table(pa.Table.from_pylist([row | {"meta": "{}", "steps": date(2024, 5, 1)}]), path)
    with pytest.raises(RowError, match=r"rows\.parquet:1: field 'steps': "):
        list(read_rows(path, Problem))
    path.write_bytes(b"no table")
    with pytest.raises(StageError, match="not Parquet"):
        list(read_rows(path, Problem))
