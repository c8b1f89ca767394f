"""Rows that are learned beside the rollouts: the right loss, exact resuming, levels that stay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from extracot_training.config.chrpo import ReplaySettings
from extracot_training.errors import StageError
from extracot_training.pipeline.checkpoints import CHECKPOINTS, LOG
from extracot_training.pipeline.records import read_rows, write_rows
from extracot_training.pipeline.stage import Status
from extracot_training.policy.loading import load_policy_model
from extracot_training.policy.mixed_rows import MixedRow
from extracot_training.stages.chrpo.replay import Replay
from extracot_training.stages.chrpo.stage import run
from tests.training.tiny_chrpo import COUNT, PROMPT, chrpo_config, make_all, run_until_killed


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_all(tmp_path_factory.mktemp("replay"))


@pytest.fixture(scope="module")
def rows(root: Path) -> list[MixedRow]:
    return list(read_rows(root / "mixed", MixedRow))


def replaying(root: Path, **settings: Any) -> dict[str, Any]:
    return {"replay": {"rows": root / "mixed", **settings}}


def by_hand(folder: Path, rows: list[MixedRow]) -> float:
    """Mean negative log-likelihood per reply token, a row at a time."""
    model, _, _ = load_policy_model(str(folder), PROMPT, seed=0)
    total = 0.0
    with torch.no_grad():
        for row in rows:
            ids = torch.tensor([row.prompt_ids + row.reply_ids])
            scores = model(input_ids=ids).logits[0].log_softmax(-1)
            begin = len(row.prompt_ids)
            total -= sum(float(scores[at - 1, ids[0, at]]) for at in range(begin, ids.shape[1]))
    return total / sum(len(row.reply_ids) for row in rows)


def test_the_loss_is_that_of_level_rows_and_passes_add_up(root: Path, rows: list[MixedRow]) -> None:
    settings = ReplaySettings(rows=root / "mixed", batch=10)
    replay = Replay(settings, rows, seed=1, pad_id=0)
    drawn = replay.drawn(3, 0)
    assert len(drawn) == 10 and {row.kind for row in drawn} == {"level"}
    assert len({row.length for row in drawn}) > 1, "so that padding matters"
    assert drawn == replay.drawn(3, 0)
    assert drawn != replay.drawn(4, 0) and drawn != replay.drawn(3, 1)
    model, _, _ = load_policy_model(str(root / "sft"), PROMPT, seed=0)
    whole = replay.loss(model, drawn, 0, 1).item()
    assert whole == pytest.approx(by_hand(root / "sft", drawn), rel=1e-4)
    parts = sum(replay.loss(model, drawn, part, 3).item() for part in range(3))
    assert parts == pytest.approx(whole, rel=1e-4)
    assert replay.loss(model, drawn[:1], 1, 2).item() == 0


def test_a_share_of_the_rows_is_shown_under_the_policy_token(
    root: Path, rows: list[MixedRow]
) -> None:
    """Their prompt is what the renderer makes of the question in policy mode, and the level's own
    token is not taught."""
    settings = ReplaySettings(rows=root / "mixed", batch=30)
    _, _, tokens = load_policy_model(str(root / "sft"), PROMPT, seed=0)
    made = {
        share: Replay(settings, rows, seed=1, pad_id=0, tokens=tokens, policy_share=share)
        for share in (0.0, 0.5, 1.0)
    }
    drawn = {share: replay.drawn(3, 0) for share, replay in made.items()}
    assert {row.kind for row in drawn[0.0]} == {"level"}
    assert {row.kind for row in drawn[1.0]} == {"policy"}
    assert 5 <= sum(row.kind == "policy" for row in drawn[0.5]) <= 25
    known = {tuple(row.prompt_ids) for row in rows if row.kind == "policy"}
    for row, old in zip(drawn[1.0], drawn[0.0], strict=True):
        assert tuple(row.prompt_ids) in known and row.reply_ids == old.reply_ids
    _, _, labels = made[1.0]._batch(drawn[1.0])
    for row, own in zip(drawn[1.0], labels, strict=True):
        assert own[own >= 0].tolist() == row.reply_ids[1:]


def test_a_level_that_nobody_chooses_stays_good(
    root: Path, rows: list[MixedRow], tmp_path: Path
) -> None:
    hard = {"steps": 8, "learning_rate": 0.03, "unsolved": False}
    found = {}
    for name, settings in (("without", {}), ("with", replaying(root, weight=1.0))):
        done = run(chrpo_config(root, out=tmp_path / name, **hard, **settings))
        found[name] = by_hand(done.folder, [row for row in rows if row.level == 1.0][::2])
    assert found["with"] < found["without"] - 0.02


@pytest.mark.parametrize("micro", [None, 8])
def test_a_cut_run_draws_what_an_uncut_one_does(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, micro: int | None
) -> None:
    settings = {"steps": 4, "micro_batch": micro, **replaying(root)}
    whole = run(chrpo_config(root, out=tmp_path / "whole", **settings)).folder
    config = chrpo_config(root, out=tmp_path / "cut", **settings)
    run_until_killed(config, monkeypatch, after=3)
    assert (tmp_path / "cut" / CHECKPOINTS / "checkpoint-2").is_dir()
    assert run(config).status is Status.DONE
    found, expected = (
        load_file(at / "model.safetensors") for at in (tmp_path / "cut", tmp_path / "whole")
    )
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    lines = [json.loads(line) for line in (whole / LOG).read_text().splitlines()]
    losses = [line["replay_loss"] for line in lines if "loss" in line]
    assert len(losses) == 4 and all(loss > 0 for loss in losses)


def test_rows_that_do_not_fit_are_named(root: Path, rows: list[MixedRow], tmp_path: Path) -> None:
    settings = ReplaySettings(rows=root / "mixed")
    with pytest.raises(StageError, match="no row is at a level or native"):
        Replay(settings, [row for row in rows if row.kind == "policy"], seed=0, pad_id=0)
    bad = rows[0].model_copy(update={"reply_ids": rows[0].prompt_ids})
    (tmp_path / "mixed").mkdir()
    write_rows(tmp_path / "mixed" / "rows.jsonl", [bad])
    (root / "mixed" / "tokenizer").rename(tmp_path / "mixed" / "tokenizer")
    try:
        with pytest.raises(StageError, match="its reply begins with id"):
            run(chrpo_config(root, out=tmp_path / "o", **replaying(tmp_path)))
    finally:
        (tmp_path / "mixed" / "tokenizer").rename(root / "mixed" / "tokenizer")
    assert len(rows) == 10 * COUNT
