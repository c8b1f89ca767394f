"""CHRPO by LoRA, and what trackers are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from extracot_training.pipeline.checkpoints import LOG
from extracot_training.policy.loading import load_policy_model
from extracot_training.stages.chrpo import stage as chrpo_stage
from extracot_training.stages.chrpo.stage import grpo_arguments, run
from extracot_training.stages.chrpo.trainer import ChrpoTrainer
from tests.training.tiny_chrpo import PROMPT, chrpo_config, make_all

LORA = {"rank": 4, "alpha": 8}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_all(tmp_path_factory.mktemp("lora"))


def dev_of(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    return [line["dev"] for line in lines if "dev" in line]


@pytest.fixture(scope="module")
def adapted(root: Path) -> Path:
    return run(chrpo_config(root, out=root / "lora", lora=LORA, steps=8, learning_rate=0.01)).folder


def test_rollouts_see_the_adapter_and_the_merged_model_says_the_same(
    root: Path, adapted: Path, tmp_path: Path
) -> None:
    before, after = dev_of(adapted)
    assert after["level_mean"] < before["level_mean"] - 0.05, "the adapter has learnt"
    # What training saw at its end is what the merged model does at the start of another run.
    again = run(chrpo_config(root, out=tmp_path / "more", model=str(adapted), steps=1))
    first = dev_of(again.folder)[0]
    for name in ("level_mean", "tokens", "accuracy", "choice_entropy"):
        assert first[name] == pytest.approx(after[name], abs=0.02), name


def test_the_folder_has_a_whole_model_and_its_adapter(root: Path, adapted: Path) -> None:
    load_policy_model(str(adapted), PROMPT, seed=0)
    merged, old = (load_file(at / "model.safetensors") for at in (adapted, root / "sft"))
    assert merged.keys() == old.keys()
    changed = {name for name in old if not torch.equal(merged[name], old[name])}
    assert changed and all("proj" in name for name in changed), "embeddings stay"
    config = json.loads((adapted / "adapter" / "adapter_config.json").read_text())
    assert config["r"] == 4 and config["base_model_name_or_path"] == str(root / "sft")
    rows = load_file(adapted / "adapter" / "adapter_model.safetensors")
    assert all("lora_" in name for name in rows)


def test_a_run_by_lora_goes_on_after_a_kill(root: Path, tmp_path: Path, adapted: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    from tests.training.tiny_chrpo import run_until_killed

    config = chrpo_config(root, out=tmp_path / "cut", lora=LORA, steps=8, learning_rate=0.01)
    run_until_killed(config, monkeypatch, after=5)
    done = run(config).folder
    cut, whole = (load_file(at / "model.safetensors") for at in (done, adapted))
    assert all(torch.allclose(cut[name], whole[name], atol=1e-5) for name in whole)


class _Tracker(TrainerCallback):  # type: ignore[misc]
    """Hears what a tracker such as wandb does."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, dict[str, float]]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any, **kwargs: Any) -> None:
        self.heard.append((state.global_step, dict(logs)))


def test_trackers_get_the_figures_of_rollouts_and_of_dev(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = _Tracker()

    class Tracked(ChrpoTrainer):
        def __init__(self, *args: Any, callbacks: list[Any], **kwargs: Any) -> None:
            super().__init__(*args, callbacks=[*callbacks, tracker], **kwargs)

    monkeypatch.setattr(chrpo_stage, "ChrpoTrainer", Tracked)
    done = run(chrpo_config(root, out=tmp_path / "t", steps=2))
    rounds = [(step, of) for step, of in tracker.heard if "loss" in of]
    devs = [(step, of) for step, of in tracker.heard if "eval_accuracy" in of]
    assert [step for step, _ in rounds] == [1, 2]
    assert [step for step, _ in devs] == [0, 2]
    assert all("eval_accuracy" not in of for _, of in rounds)
    lines = [json.loads(line) for line in (done.folder / LOG).read_text().splitlines()]
    for (_, heard), line in zip(rounds, [one for one in lines if "loss" in one], strict=True):
        for name in ("reward", "accuracy", "price", "level_mean"):
            assert heard[f"chrpo/{name}"] == pytest.approx(line[name])
        assert heard["chrpo/levels/0.2/share"] == pytest.approx(line["levels"]["0.2"]["share"])
    for (_, heard), line in zip(devs, dev_of(done.folder), strict=True):
        assert heard["eval_accuracy"] == pytest.approx(line["accuracy"])


def test_importance_is_cut_by_the_token_unless_said_otherwise(root: Path, tmp_path: Path) -> None:
    assert (
        grpo_arguments(chrpo_config(root), tmp_path).vllm_importance_sampling_mode
        == "token_truncate"
    )
    other = chrpo_config(root, trainer={"vllm_importance_sampling_mode": "sequence_mask"})
    assert grpo_arguments(other, tmp_path).vllm_importance_sampling_mode == "sequence_mask"
