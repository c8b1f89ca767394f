"""The compressor's gate on one small marked trace, all systems."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import compressor_gate, record_selections
from tests.training.tiny import QUESTION, TRACE


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
