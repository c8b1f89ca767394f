"""Stage folders: skipped when done, resumed when cut, refused when made otherwise."""

from __future__ import annotations

import fcntl
import json
import resource
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from pydantic import Field
from safetensors.torch import save_file

from extracot_training.errors import StageError
from extracot_training.pipeline.replacing import replace_stage
from extracot_training.pipeline.settings import Section, StageConfig
from extracot_training.pipeline.stage import (
    Counts,
    Manifest,
    StageResult,
    StageRun,
    Status,
    run_stage,
)


class Inner(Section):
    depth: int = 1
    workers: int = 1


class RowsConfig(StageConfig):
    makes_rows: ClassVar[bool] = True


class Config(StageConfig):
    runtime: ClassVar[frozenset[str]] = frozenset({"out", "workers", "inner.workers"})
    value: int = 1
    workers: int = 1
    inner: Inner = Field(default_factory=Inner)


def run(config: Config, inputs: dict[str, Path] | None = None, **flags: bool) -> StageResult:
    def work(stage: StageRun) -> Counts:
        with stage.rows.open("a") as rows:
            rows.write("resumed\n" if stage.resumed else "fresh\n")
        if config.value == 13:
            raise StageError("cut")
        stage.report("# Report\n", {"figure": 1})
        return {"rows": 1}

    return run_stage("test", config, inputs or {}, work, **flags)


def test_a_finished_stage_is_not_run_again(tmp_path: Path) -> None:
    config = Config(out=tmp_path / "out")
    assert run(config).status is Status.DONE
    again = run(config)
    assert (again.status, again.counts) == (Status.UP_TO_DATE, {"rows": 1})
    assert (tmp_path / "out" / "rows.jsonl").read_text() == "fresh\n"
    manifest = Manifest.load(tmp_path / "out")
    assert manifest is not None and manifest.finished is not None
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == {"figure": 1}


def test_what_another_stage_has_not_finished_is_no_input(tmp_path: Path) -> None:
    half, whole, own = tmp_path / "half", tmp_path / "whole", tmp_path / "own"
    with pytest.raises(StageError, match="cut"):
        run(Config(out=half, value=13))
    run(Config(out=whole))
    with pytest.raises(StageError, match=r"input 'rows': .*half is not finished"):
        run(Config(out=own), {"rows": half / "rows.jsonl"})
    assert not own.exists()
    assert run(Config(out=own), {"rows": whole / "rows.jsonl"}).status is Status.DONE
    (half / "stage.json").write_text('{"of": "another tool"}')
    run(Config(out=tmp_path / "other"), {"rows": half / "rows.jsonl"})


def test_emptied_rows_are_made_again(tmp_path: Path) -> None:
    def work(stage: StageRun) -> Counts:
        stage.rows.write_text("a row\n")
        return {"rows": 1}

    config = RowsConfig(out=tmp_path / "out")
    for content in (None, ""):
        assert run_stage("test", config, {}, work).status is Status.DONE
        assert run_stage("test", config, {}, work).status is Status.UP_TO_DATE
        rows = config.out / "rows.jsonl"
        rows.unlink() if content is None else rows.write_text(content)
    assert run_stage("test", config, {}, work).status is Status.DONE
    assert rows.read_text() == "a row\n"


def test_a_cut_stage_is_resumed_with_other_runtime_settings(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(StageError, match="cut"):
        run(Config(out=out, value=13))
    assert Manifest.load(out).finished is None  # type: ignore[union-attr]
    with pytest.raises(StageError, match="cut"):
        run(Config(out=out, value=13, workers=8, inner=Inner(workers=9)))
    assert (out / "rows.jsonl").read_text() == "fresh\nresumed\n"


def test_other_settings_need_force(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(Config(out=out))
    with pytest.raises(StageError, match=r"settings: value \(1, now 2\); pass --force"):
        run(Config(out=out, value=2))
    with pytest.raises(StageError, match="settings: inner"):
        run(Config(out=out, inner=Inner(depth=2)))
    assert run(Config(out=out, value=2), force=True).status is Status.DONE
    assert (out / "rows.jsonl").read_text() == "fresh\n"


def test_a_setting_that_is_new_since_then_counts_as_its_default(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(Config(out=out))
    path = out / "stage.json"
    manifest = json.loads(path.read_text())
    for part in ("config", "decisive"):
        del manifest[part]["value"], manifest[part]["inner"]["depth"]
    path.write_text(json.dumps(manifest))
    assert run(Config(out=out)).status is Status.UP_TO_DATE
    with pytest.raises(StageError, match=r"settings: value \(1, now 2\)"):
        run(Config(out=out, value=2))


def test_inputs_count_by_content(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.write_text("a")
    config = Config(out=tmp_path / "out")
    run(config, {"data": given})
    given.rename(tmp_path / "moved")
    assert run(config, {"data": tmp_path / "moved"}).status is Status.UP_TO_DATE
    (tmp_path / "moved").write_text("b")
    with pytest.raises(StageError, match="made with other input 'data'"):
        run(config, {"data": tmp_path / "moved"})
    with pytest.raises(StageError, match=r"input 'data': .*given does not exist"):
        run(config, {"data": given})


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    for force in (False, True):
        with pytest.raises(StageError, match="no stage folder"):
            run(Config(out=tmp_path), force=force)
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_another_stages_folder_is_refused_even_with_force(tmp_path: Path) -> None:
    run(Config(out=tmp_path / "out"))
    with pytest.raises(StageError, match="belongs to stage 'test'"):
        run_stage("other", Config(out=tmp_path / "out"), {}, lambda stage: {}, force=True)


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StageError, match="another process is working in it"):
            run(Config(out=tmp_path))
    assert run(Config(out=tmp_path)).status is Status.DONE


@pytest.mark.parametrize("force", [False, True])
def test_a_broken_manifest_is_one_line_with_its_remedy(tmp_path: Path, force: bool) -> None:
    (tmp_path / "stage.json").write_text("{")
    with pytest.raises(StageError, match=r"stage\.json: Invalid JSON.*; remove that") as caught:
        run(Config(out=tmp_path), force=force)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["rows.jsonl", "below/mine.jsonl", "link", "linked/mine.jsonl"])
@pytest.mark.parametrize("whole", [False, True])
def test_force_deletes_no_input(tmp_path: Path, place: str, whole: bool) -> None:
    """``whole``: a stage whose folder is replaced at once."""
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    run(Config(out=out))
    for folder in (out / "below", elsewhere):
        folder.mkdir()
        (folder / "mine.jsonl").write_text("mine")
    (out / "link").symlink_to(elsewhere / "mine.jsonl")
    (out / "linked").symlink_to(elsewhere)
    before = sorted(path.name for path in out.rglob("*"))
    config, inputs = Config(out=out, value=2), {"data": out / place}
    with pytest.raises(StageError, match=r"--force would empty it, and 'data' is read there") as e:
        if whole:
            replace_stage("test", config, inputs, lambda stage, told: {}, force=True)
        else:
            run(config, inputs, force=True)
    assert "\n" not in str(e.value)
    assert sorted(path.name for path in out.rglob("*")) == before


def test_force_goes_on_where_inputs_lie_elsewhere(tmp_path: Path) -> None:
    given = tmp_path / "output" / "given"  # its folder begins as `out` does
    given.parent.mkdir()
    given.write_text("a")
    out = tmp_path / "out"
    run(Config(out=out), {"data": given})
    inputs = {"data": out / ".." / "output" / "given"}
    assert run(Config(out=out, value=2), inputs, force=True).status is Status.DONE


def test_a_folder_that_has_lost_its_rows_has_not_finished(tmp_path: Path) -> None:
    def work(stage: StageRun) -> Counts:
        stage.rows.write_text("{}\n")
        stage.report("# Report\n", {})
        return {"rows": 1}

    def again() -> Status:
        return run_stage("rows", RowsConfig(out=tmp_path), {}, work).status

    rows = tmp_path / "rows.jsonl"
    assert [again(), again()] == [Status.DONE, Status.UP_TO_DATE]
    rows.rename(tmp_path / "rows.parquet")
    assert again() is Status.UP_TO_DATE
    (tmp_path / "rows.parquet").unlink()
    assert again() is Status.DONE and rows.is_file()
    run(Config(out=tmp_path / "none"))
    (tmp_path / "none" / "rows.jsonl").unlink()  # a stage that makes none
    assert run(Config(out=tmp_path / "none")).status is Status.UP_TO_DATE


def test_system_errors_become_one_line(tmp_path: Path) -> None:
    def work(stage: StageRun) -> Counts:
        raise OSError(28, "No space left on device", "rows.jsonl")

    with pytest.raises(StageError, match=r"stage 'test' in .*: No space left on device \(rows"):
        run_stage("test", Config(out=tmp_path), {}, work)
    (tmp_path / "file").write_text("")
    with pytest.raises(StageError, match=r"File exists|Not a directory"):
        run(Config(out=tmp_path / "file"))


@pytest.mark.parametrize("writer", ["torch", "safetensors"])
def test_weights_that_do_not_fit_on_the_disk_are_one_line(tmp_path: Path, writer: str) -> None:
    """Those who write weights raise no OSError. A limit on file size stands for the full disk."""
    tensors = {"a": torch.zeros(10_000)}

    def work(stage: StageRun) -> Counts:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
        try:
            if writer == "torch":
                torch.save(tensors, stage.folder / "weights.pt")
            else:
                save_file(tensors, stage.folder / "weights.safetensors")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        return {}

    with pytest.raises(StageError, match=r"is the disk full\?") as caught:
        run_stage("test", Config(out=tmp_path), {}, work)
    assert "\n" not in str(caught.value)


def test_other_errors_of_libraries_are_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    def work(stage: StageRun) -> Counts:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        run_stage("test", Config(out=tmp_path), {}, work)


def test_a_run_that_ended_before_its_first_row_claims_no_settings(tmp_path: Path) -> None:
    def fail(stage: StageRun) -> Counts:
        stage.rows.touch()
        raise StageError("nothing to do it with")

    with pytest.raises(StageError, match="nothing to do it with"):
        run_stage("any", Config(out=tmp_path / "o", value=4), {}, fail)
    made = run_stage("any", Config(out=tmp_path / "o", value=8), {}, lambda stage: {"n": 1})
    assert made.status is Status.DONE
