"""The gate on one small marked trace, all systems, and the traces that are kept for the next."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import compressor_gate, record_selections
from extracot_training.compression.steps import steps
from extracot_training.evaluation.marks import read_marked
from tests.training.tiny import QUESTION, TRACE

ASIDE = Path(compressor_gate.__file__).parent / "marked" / "aside"


def test_every_system_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    traces, marks, kept = (tmp_path / name for name in ("t.jsonl", "m.jsonl", "kept.jsonl"))
    row = {"id": "t", "question": QUESTION, "answer": "8", "thinking": TRACE}
    traces.write_text(json.dumps(row) + "\n", encoding="utf-8")
    marked = {"id": "t", "needed": [[4], [6], [9, 10]], "revoked": [7], "protected": []}
    marks.write_text(json.dumps(marked) + "\n", encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["record_selections", str(traces), str(kept)])
    record_selections.main()
    assert [json.loads(line)["ratio"] for line in kept.read_text().splitlines()] == [0.2, 0.3, 0.5]
    arguments = ["gate", "--set", "dev", str(traces), str(marks), "--recorded", f"old={kept}"]
    monkeypatch.setattr("sys.argv", [*arguments, "--out", str(tmp_path / "report.md")])
    compressor_gate.main()
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert report.strip() == capsys.readouterr().out.strip()
    for system in ("oracle", "steps (ours)", "LLMLingua-2-style", "random", "head and tail", "old"):
        assert report.count(f"\n| {system}") == 3, system
    oracle = next(line for line in report.splitlines() if line.startswith("| oracle"))
    assert "0 of 0" in oracle


def test_the_traces_kept_aside_can_be_judged_by() -> None:
    """Nothing is run on them: they are read, and what their readers share is what was asked for."""
    marks = [ASIDE / f"aside1.marks.{reader}.jsonl" for reader in "AB"]
    found = read_marked(ASIDE / "aside1.jsonl", marks)
    assert len(found) == 16
    for trace, shared in found:
        assert 500 <= len(trace.thinking.split()) <= 900
        assert len(shared.needed) >= 3 and shared.revoked
        cut = [end - start for start, end in steps(trace.thinking)]
        needed = sum(min(cut[step] for step in entry) for entry in shared.needed)
        assert needed <= 0.25 * len(trace.thinking)
