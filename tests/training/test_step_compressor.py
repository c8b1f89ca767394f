"""The compressor of steps: training, its folder, and what stage compress makes of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from extracot_training.compression.model import CompressorError
from extracot_training.compression.step_labels import META_KEY
from extracot_training.compression.step_model import CARD, SHIPPED_STEPS, StepsCard, load_steps
from extracot_training.compression.step_scoring import StepScorer
from extracot_training.compression.steps import steps
from extracot_training.config.compress import CompressConfig
from extracot_training.config.compressor import AdapterSettings, CompressorConfig, NetworkSettings
from extracot_training.errors import StageError
from extracot_training.pipeline.records import CompressedTrace, read_rows, write_rows
from extracot_training.stages.compress import stage as compress
from extracot_training.stages.compress.stage import Compressor
from extracot_training.stages.compressor.stage import run
from tests.training.tiny import QUESTION, TRACE, save_encoder, trace


def labelled(number: int) -> dict[str, object]:
    """A row of stage annotate or teach whose steps are labelled."""
    spans = steps(TRACE)
    labels = []
    for index, (begin, end) in enumerate(spans):
        text = TRACE[begin:end]
        needed = ("=" in text and "check" not in text) or text.startswith("So the answer")
        role = "needed" if needed else "revoked" if "Hmm" in text else "narration"
        groups = [index] if needed else []
        labels.append({"start": begin, "end": end, "role": role, "groups": groups})
    needs = [g for one in labels for g in one["groups"]]  # type: ignore[attr-defined]
    at = TRACE.index("3 × 4")
    meta = {META_KEY: {
        "steps": labels, "needs": needs, "protected": [],
        "atoms": [{"start": at, "end": at + 9, "weight": 1.0}],
    }}  # fmt: skip
    row = trace(number).model_dump(mode="json")
    return {**row, "problem_id": f"p{number}", "meta": meta}


def written(path: Path, rows: int = 24) -> Path:
    path.write_text("".join(json.dumps(labelled(n)) + "\n" for n in range(rows)), encoding="utf-8")
    return path


def settings(root: Path, name: str, **more: object) -> CompressorConfig:
    fixed: dict[str, object] = {
        "input": root / "rows.jsonl", "out": root / name, "strategy": "steps",
        "encoder": str(root / "encoder"), "layers": 1, "length": 96, "question": 16,
        "epochs": 3, "batch_size": 4, "learning_rate": 5e-3, "dev_share": 0.3, "threads": 1,
        "network": NetworkSettings(width=16, layers=1, heads=2, members=2),
    }  # fmt: skip
    return CompressorConfig.model_validate({**fixed, **more})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("steps")
    save_encoder(found / "encoder")
    written(found / "rows.jsonl")
    marks = {"id": "m", "needed": [[4, 6], [7]], "revoked": [1], "protected": []}
    marked = {"id": "m", "question": QUESTION, "answer": "8", "thinking": TRACE}
    (found / "m.jsonl").write_text(json.dumps(marked) + "\n", encoding="utf-8")
    (found / "m.marks.jsonl").write_text(json.dumps(marks) + "\n", encoding="utf-8")
    run(settings(found, "model"))
    return found


def test_it_learns_which_steps_are_needed(root: Path) -> None:
    scorer = StepScorer.load(root / "model")
    (scored,) = scorer.steps([(QUESTION, TRACE, "8")])
    texts = scored.structure.texts
    needed = {text: share for text, share in zip(texts, scored.needed, strict=True)}
    worked = max(v for k, v in needed.items() if "3 × 4" in k)
    told = max(v for k, v in needed.items() if "let me think" in k)
    assert worked > told
    assert len(scored.weights) == len(scored.structure.plan.atoms)
    assert scorer.steps([(QUESTION, "", None)])[0].needed == ()


def test_the_same_run_gives_the_same_weights_and_marked_traces_change_them(root: Path) -> None:
    run(settings(root, "again"))
    assert (root / "again/steps.safetensors").read_bytes() == (
        root / "model/steps.safetensors"
    ).read_bytes()
    files = {"traces": root / "m.jsonl", "marks": [root / "m.marks.jsonl"]}
    network = NetworkSettings(width=16, layers=1, heads=2, members=1, marked_epochs=2)
    run(settings(root, "marked", marked=[files], network=network))
    assert json.loads((root / "marked/report.json").read_text())["marked"] == 1


def test_a_folder_says_what_it_is_for(root: Path, tmp_path: Path) -> None:
    compressor = Compressor.load(root / "model")
    found = compressor.compress(QUESTION, TRACE, [0.3, 0.6, 1.0], answer="8")
    whole = steps(TRACE)
    kept = set(found[1].kept)
    assert set(found[0].kept) <= kept
    assert found[2].text == TRACE
    assert any(TRACE[a:b].strip() in found[1].text for a, b in whole)
    write_rows(tmp_path / "traces.jsonl", [trace(0), trace(1)])
    compress.run(CompressConfig(
        input=tmp_path / "traces.jsonl", out=tmp_path / "out", compressor=root / "model",
        tokenizer=str(root / "encoder"), ratios=(0.5, 1.0),
    ))  # fmt: skip
    rows = list(read_rows(tmp_path / "out/all.jsonl", CompressedTrace))
    assert [row.target for row in rows] == [0.5, 1.0, 0.5, 1.0]


def test_steps_can_be_chosen_without_a_model(root: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "traces.jsonl", [trace(0)])
    compress.run(CompressConfig(
        input=tmp_path / "traces.jsonl", out=tmp_path / "out", scores="graph",
        tokenizer=str(root / "encoder"), ratios=(0.4,),
    ))  # fmt: skip
    (row,) = read_rows(tmp_path / "out/all.jsonl", CompressedTrace)
    assert "So 3 × 4 = 12." in row.text
    assert row.text.endswith("So the answer is 8.")
    assert "Hmm" not in row.text


def test_what_does_not_fit_is_said(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keeps its encoder frozen; want adapter null"):
        settings(root, "x", adapter=AdapterSettings())
    with pytest.raises(ValueError, match="want marked empty"):
        settings(root, "x", strategy="atoms", marked=[{"traces": "a", "marks": ["b"]}])
    with pytest.raises(ValueError, match="no multiple of heads 4"):
        NetworkSettings(width=18)
    with pytest.raises(ValueError, match="units words chooses no steps"):
        CompressConfig(input=root, out=root, units="words", strategy="steps")
    write_rows(tmp_path / "plain.jsonl", [trace(0)])
    with pytest.raises(StageError, match="row 1: meta has no step_labels"):
        run(settings(root, "y", input=tmp_path / "plain.jsonl", out=tmp_path / "y"))
    row = labelled(0)
    row["reasoning"] = "Another text. With two steps."
    (tmp_path / "other.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(StageError, match="row 1: step_labels: the labels' steps are not those"):
        run(settings(root, "z", input=tmp_path / "other.jsonl", out=tmp_path / "z"))


def test_broken_folders_are_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(CompressorError, match=r"no trained compressor \(steps\.json missing\)"):
        load_steps(tmp_path)
    card = StepsCard.load(root / "model")
    (tmp_path / CARD).write_text(card.model_dump_json(), encoding="utf-8")
    with pytest.raises(CompressorError, match=r"steps\.safetensors"):
        load_steps(tmp_path)
    other = card.model_copy(update={"features": ("place",)})
    (tmp_path / CARD).write_text(other.model_dump_json(), encoding="utf-8")
    with pytest.raises(CompressorError, match="train it anew"):
        load_steps(tmp_path)
    (tmp_path / CARD).write_text("{}", encoding="utf-8")
    with pytest.raises(CompressorError, match="field"):
        StepsCard.load(tmp_path)


def test_the_shipped_one_is_small_and_loads() -> None:
    networks, card = load_steps(SHIPPED_STEPS)
    assert card.encoder == "bundled:minilm"
    assert len(networks) == card.members
    assert (SHIPPED_STEPS / "steps.safetensors").stat().st_size < 3_000_000
