"""The kept checkpoint of the tiny recipe: what its fingerprint sees, and the way there and back."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from tests import tiny_fingerprint
from tests.tiny_fingerprint import differences, fingerprint, keep, restore

SOURCE = '"""Says."""\n\n\ndef f(x: int) -> str:\n    """Adds."""\n    return f\'{x + 1:>3}\'\n'


def test_words_may_change_and_code_may_not() -> None:
    def seen(source: str) -> str:
        return tiny_fingerprint._plain(ast.parse(source))

    assert seen(SOURCE) == seen(
        SOURCE.replace("Says", "Tells").replace("    return", "    # x\n    return")
    )
    assert seen(SOURCE) != seen(SOURCE.replace("+ 1", "+ 2"))
    assert seen("x = 'a'") != seen("x = 'b'")


def test_everything_behind_the_checkpoint_is_seen_and_nothing_after_it() -> None:
    parts = fingerprint()
    for name in (
        "recipe tiny.sh", "configuration chrpo-tiny", "lock training.txt", "extracot.prompt",
        "extracot_training.cli", "extracot_training.stages.chrpo.reward",
        "extracot_training.policy.trainer", "extracot_training.synthetic.story",
    ):  # fmt: skip
        assert name in parts
    for part in ("stages.evaluate", "stages.publish", "stages.reader", "extracot_server"):
        assert not any(part in name for name in parts)


def test_a_run_is_kept_without_what_is_large_and_laid_out_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny_fingerprint, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(tiny_fingerprint, "ROOT", tmp_path)
    monkeypatch.setattr(tiny_fingerprint, "FINGERPRINT", tmp_path / "kept" / "fingerprint.json")
    monkeypatch.setattr(tiny_fingerprint, "fingerprint", lambda: {"a": "1"})
    assert differences() == ["nothing is kept in kept"]
    run = tmp_path / "run"
    for name in ("problems", "reference", "chrpo", "sft", "published"):
        (run / name).mkdir(parents=True)
        (run / name / "stage.json").write_text(json.dumps({"model": f"{run}/sft"}))
        (run / name / "report.json").write_text("{}")
        (run / name / "model.safetensors").write_bytes(b"weights")
    rows = [{"n": n, "split": "dev" if n % 3 else "train"} for n in range(9)]
    for name in ("problems", "reference"):
        (run / name / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    keep(run)
    assert differences() == []
    assert str(run) not in (tmp_path / "kept" / "chrpo" / "stage.json").read_text()
    restore(tmp_path / "again")
    again = sorted(
        str(p.relative_to(tmp_path / "again")) for p in (tmp_path / "again").rglob("*.*")
    )
    assert again == [
        "chrpo/model.safetensors", "chrpo/report.json", "chrpo/stage.json",
        "problems/report.json", "problems/rows.jsonl", "problems/stage.json",
        "reference/report.json", "reference/rows.jsonl", "reference/stage.json",
        "sft/stage.json",
    ]  # fmt: skip
    left = (tmp_path / "again" / "problems" / "rows.jsonl").read_text().splitlines()
    assert [json.loads(row) for row in left] == [row for row in rows if row["split"] == "dev"]
    manifest = json.loads((tmp_path / "again" / "chrpo" / "stage.json").read_text())
    assert manifest["model"] == f"{tmp_path}/again/sft"
    monkeypatch.setattr(tiny_fingerprint, "fingerprint", lambda: {"a": "2", "b": "3"})
    assert differences() == ["a", "b"]
