"""Stage ``chrpo``: it learns, it resumes exactly, its tokens get the right advantages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from extracot_training.errors import ConfigError
from extracot_training.generation.rollout.base import PromptMaker, ReplyReader
from extracot_training.pipeline.checkpoints import CHECKPOINTS, LOG, LossError
from extracot_training.pipeline.stage import Status
from extracot_training.policy.loading import load_policy_model, load_policy_tokenizer
from extracot_training.policy.prompt_settings import PromptSettings
from extracot_training.stages.chrpo.advantage import batch_advantages
from extracot_training.stages.chrpo.scoring import RewardScorer, Scored
from extracot_training.stages.chrpo.stage import run
from extracot_training.stages.chrpo.stratified import planned_levels, stratified_advantages
from extracot_training.stages.chrpo.tasks import read_tasks
from extracot_training.stages.chrpo.trainer import ChrpoTrainer
from tests.training.tiny_chrpo import PROMPT, chrpo_config, make_all, run_until_killed

LEVELS = PROMPT.ratios


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_all(tmp_path_factory.mktemp("chrpo"))


@pytest.fixture(scope="module")
def whole(root: Path) -> Path:
    """Six steps, uncut."""
    return run(chrpo_config(root, out=root / "whole")).folder


def log_of(folder: Path) -> list[dict[str, Any]]:
    """Lines of the log without what a clock put in."""
    lines = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "step_time"} for line in lines]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def dev(folder: Path, at: int) -> dict[str, Any]:
    found: dict[str, Any] = [line["dev"] for line in log_of(folder) if "dev" in line][at]
    return found


CAPPED = {"kind": "chrpo_capped"}


def test_capped_leads_problems_that_no_level_solves_upwards(root: Path, tmp_path: Path) -> None:
    """r* is 1.0 for blue pens and the answer is always wrong: only a larger level costs less."""
    done = run(
        chrpo_config(
            root, out=tmp_path / "up", steps=16, learning_rate=0.001, group=8, objective=CAPPED
        )
    )
    before, after = dev(done.folder, 0), dev(done.folder, -1)
    assert after["by_r_star"]["1"]["level_mean"] > before["by_r_star"]["1"]["level_mean"] + 0.1
    assert after["by_r_star"]["1"]["reward"] > before["by_r_star"]["1"]["reward"] + 0.1
    assert after["reward"] > before["reward"] + 0.03


def test_what_a_level_does_not_bring_is_not_paid_for(root: Path, tmp_path: Path) -> None:
    """Every level is right about red pens and wrong about blue ones: the smallest is enough, though
    the policy had leant to large ones for those."""
    done = run(chrpo_config(root, out=tmp_path / "price", steps=16))
    before, after = dev(done.folder, 0), dev(done.folder, -1)
    assert before["by_r_star"]["1"]["level_mean"] > 0.5
    for of in after["by_r_star"].values():
        assert of["level_mean"] < 0.35
    assert after["accuracy"] >= before["accuracy"] - 0.02
    prices = [line["price"] for line in log_of(done.folder) if "price" in line]
    assert prices[-1] > prices[0], "accuracy was to spare"


@pytest.mark.parametrize("objective", [CAPPED, {"mode": False}])
def test_problems_that_every_level_solves_are_led_downwards(
    root: Path, tmp_path: Path, objective: dict[str, Any]
) -> None:
    """Red pens alone, right at every level: the smaller earns more, by ``ctrl`` if not by mode."""
    done = run(
        chrpo_config(
            root, out=tmp_path / "down", steps=16, learning_rate=0.002, group=8, unsolved=False,
            objective=objective,
        )
    )  # fmt: skip
    before, after = dev(done.folder, 0), dev(done.folder, -1)
    assert after["by_r_star"]["0.2"]["level_mean"] < before["by_r_star"]["0.2"]["level_mean"] - 0.1
    assert after["tokens"] < before["tokens"]
    assert after["choice_entropy"] < before["choice_entropy"]


def test_the_folder_is_a_model_with_its_renderer(root: Path, whole: Path) -> None:
    assert PromptSettings.load(whole) == PROMPT
    model, tokenizer, tokens = load_policy_model(str(whole), PROMPT, seed=0)
    assert tokens.added == () and model.config.vocab_size == len(tokenizer)
    changed = weights_of(whole)
    assert any(
        not torch.equal(changed[name], old) for name, old in weights_of(root / "sft").items()
    )
    assert not (whole / CHECKPOINTS).exists() and not (whole / "training_args.bin").exists()
    text = (whole / "report.md").read_text()
    assert "## Levels chosen" in text and "Objective: chrpo." in text
    assert "## The price of tokens" in text
    assert run(chrpo_config(root, out=whole)).status is Status.UP_TO_DATE


def test_the_log_has_what_was_promised(whole: Path) -> None:
    lines = log_of(whole)
    assert [line["step"] for line in lines] == [0, 1, 2, 3, 4, 5, 6, 6]
    assert ("dev" in lines[0] and "dev" in lines[-2]) or "dev" in lines[-1]
    steps = [line for line in lines if "loss" in line]
    for line in steps:
        assert line["rollouts"] == 24
        assert set(line["levels"]) == {"0.2", "0.4", "0.6", "0.8", "1"}
        assert sum(of["share"] for of in line["levels"].values()) <= 1 + 1e-9
        assert 0.5 < line["level_mass"] <= 1 and 0 <= line["choice_entropy"] < 1.62
        assert {"reward", "reward_ctrl", "realised", "invalid", "grad_norm", "entropy"} <= set(line)
        terms = sum(value for name, value in line.items() if name.startswith("term_"))
        assert terms == pytest.approx(line["reward"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"refresh": {"every": 2}},
        {"micro_batch": 8, "given_share": 0.5, "refresh": {"every": 3}},
        {"objective": CAPPED},
    ],
)
def test_a_killed_run_ends_as_an_uncut_one(
    root: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
) -> None:
    """Killed in step 6, with a checkpoint of step 6 half written; micro-batches change nothing."""
    if settings:
        whole = run(chrpo_config(root, out=tmp_path / "other", **settings)).folder
    config = chrpo_config(root, out=tmp_path / "cut", **settings)
    run_until_killed(config, monkeypatch, after=5)
    checkpoints = tmp_path / "cut" / CHECKPOINTS
    assert (checkpoints / "checkpoint-4").is_dir()
    (checkpoints / "checkpoint-6").mkdir()
    (checkpoints / "checkpoint-6" / "model.safetensors").write_bytes(b"half")
    assert run(config).status is Status.DONE
    cut = tmp_path / "cut"
    assert log_of(cut) == log_of(whole)
    found, expected = weights_of(cut), weights_of(whole)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_several_updates_per_round(root: Path, tmp_path: Path) -> None:
    done = run(chrpo_config(root, out=tmp_path / "two", steps=2, iterations=2, checkpoint_every=1))
    assert [line["step"] for line in log_of(done.folder) if "loss" in line] == [1, 2]


def test_a_divergence_from_the_start_can_be_paid_for(root: Path, tmp_path: Path) -> None:
    done = run(chrpo_config(root, out=tmp_path / "kl", steps=2, kl=0.1))
    lines = [line for line in log_of(done.folder) if "loss" in line]
    assert lines[0]["kl"] == pytest.approx(0.0, abs=1e-6) and lines[1]["kl"] > 0


@pytest.mark.parametrize(
    "objective",
    [
        {"kind": "length_penalty", "scale": "group"},
        {"kind": "degrpo", "control_weight": 0.1, "scale": "group"},
        {"ctrl": False},
    ],
)
def test_other_objectives_train(root: Path, tmp_path: Path, objective: dict[str, Any]) -> None:
    done = run(chrpo_config(root, out=tmp_path / "o", steps=2, objective=objective))
    assert len(log_of(done.folder)) == 4
    assert objective.get("kind", "chrpo") in (done.folder / "report.md").read_text()


def test_trls_own_generation_gets_the_same_prompts(root: Path, tmp_path: Path) -> None:
    done = run(
        chrpo_config(
            root, out=tmp_path / "trl", steps=1, rollouts={"backend": "trl", "max_tokens": 48}
        )
    )
    line = next(line for line in log_of(done.folder) if "loss" in line)
    assert line["invalid"] < 0.5, "with other prompts the model would not pick levels"


class _Probe(ChrpoTrainer):
    """Keeps what the loss is given."""

    seen: list[dict[str, Any]]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        output_copy = {key: value.clone() for key, value in output.items()}
        self.seen.append({**output_copy, "scored": list(self._rewards.scored), "inputs": inputs})
        return output


@pytest.mark.parametrize("given", [0.0, 0.5])
def test_level_tokens_and_the_others_get_their_advantages(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: float
) -> None:
    """What reaches the loss is ``chrpo.advantage`` of what ``chrpo.reward`` said, token by token,
    and the prompts are the renderer's ids."""
    _Probe.seen = []
    monkeypatch.setattr("extracot_training.stages.chrpo.stage.ChrpoTrainer", _Probe)
    config = chrpo_config(
        root, out=tmp_path / "probe", steps=1, rollouts={"max_tokens": 24}, given_share=given,
        objective=CAPPED,
    )  # fmt: skip
    run(config)
    (seen,) = _Probe.seen
    tokenizer, tokens = load_policy_tokenizer(str(root / "sft"), PROMPT)
    maker = PromptMaker(tokenizer, PROMPT)
    read = read_tasks(root / "reference", "train", maker, levels=LEVELS, at_levels=True)
    tasks = {task.key: task for task in (*read.chosen, *read.forced)}
    at_level = [tasks[entry["prompt"]].level is not None for entry in seen["inputs"]]
    assert sum(at_level) == given * len(at_level)
    scorer = RewardScorer(ReplyReader(tokenizer, PROMPT, tokens), config.objective)
    expected: list[Scored] = []
    for row, entry in enumerate(seen["inputs"]):
        task = tasks[entry["prompt"]]
        assert seen["prompt_ids"][row][seen["prompt_mask"][row].bool()].tolist() == list(
            task.prompt_ids
        )
        ids = seen["completion_ids"][row][seen["completion_mask"][row].bool()].tolist()
        expected.append(scorer.score(task, ids))
    assert expected == seen["scored"]
    advantages = batch_advantages(
        [one.reward.main for one in expected],
        [one.reward.ctrl for one in expected],
        group=config.group,
        beta=config.objective.beta,
    )
    levels = set(tokens.levels)
    with_level = 0
    for row, advantage in enumerate(advantages):
        mask = seen["completion_mask"][row].bool()
        found = seen["advantages"][row]
        ids = seen["completion_ids"][row]
        has_level = int(ids[0]) in levels and not at_level[row]
        first = advantage.level if has_level else advantage.rest
        with_level += has_level
        assert found[0].item() == pytest.approx(first, abs=1e-5)
        assert found[mask][1:].tolist() == pytest.approx(
            [advantage.rest] * (int(mask.sum()) - 1), abs=1e-5
        )
        assert found[~mask].abs().sum() == 0
    assert with_level > (1 - given) * len(advantages) / 2


@pytest.mark.parametrize("backend", ["generate", "trl"])
def test_every_level_is_tried_and_its_token_has_the_choices_gradient(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """What reaches the loss is ``chrpo.stratified`` of the rewards and of the policy's own choice,
    which is worked out here by the model itself."""
    _Probe.seen = []
    monkeypatch.setattr("extracot_training.stages.chrpo.stage.ChrpoTrainer", _Probe)
    config = chrpo_config(
        root, out=tmp_path / "probe", steps=1, prompts=3, group=7,
        rollouts={"max_tokens": 48, "backend": backend}, objective={"entropy": 0.02},
    )  # fmt: skip
    run(config)
    (seen,) = _Probe.seen
    model, tokenizer, tokens = load_policy_model(str(root / "sft"), PROMPT, seed=0)
    maker = PromptMaker(tokenizer, PROMPT)
    tasks = {
        task.key: task
        for task in read_tasks(root / "reference", "train", maker, levels=LEVELS).chosen
    }
    arms, main, level, shares = [], [], [], []
    for number in range(3):
        own = seen["scored"][7 * number : 7 * number + 7]
        task = tasks[seen["inputs"][7 * number]["prompt"]]
        planned = planned_levels(7, 5, number)
        assert [one.level for one in own] == [LEVELS[arm] for arm in planned]
        with torch.no_grad():
            logits = model(torch.tensor([task.prompt_ids])).logits[0, -1]
        arms.append(planned)
        main.append([one.reward.main for one in own])
        level.append([one.reward.ctrl for one in own])
        shares.append(torch.softmax(logits, -1)[list(tokens.levels)].tolist())
        for row, arm in enumerate(planned):
            ids = seen["completion_ids"][7 * number + row]
            assert int(ids[0]) == tokens.levels[arm]
    expected = stratified_advantages(arms, main, level, shares, entropy=0.02)
    for row, advantage in enumerate(one for group in expected for one in group):
        mask, found = seen["completion_mask"][row].bool(), seen["advantages"][row]
        assert found[0].item() == pytest.approx(advantage.level, abs=1e-4)
        assert found[mask][1:].tolist() == pytest.approx(
            [advantage.rest] * (int(mask.sum()) - 1), abs=1e-5
        )
        assert found[~mask].abs().sum() == 0


def test_what_problems_need_is_measured_again(root: Path, tmp_path: Path) -> None:
    """Level 1.0 is said to be twice as long as it is; rollouts show better, and a resumed run has
    what an uncut one had."""
    rows = [json.loads(line) for line in (root / "reference/rows.jsonl").read_text().splitlines()]
    for row in rows:
        row["l_ref"] = 38.0
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"input": tmp_path / "rows.jsonl", "learning_rate": 1e-5, "steps": 6}
    lines = {}
    for name, every in (("kept", 0), ("renewed", 2)):
        done = run(chrpo_config(root, out=tmp_path / name, refresh={"every": every}, **settings))
        lines[name] = [line for line in log_of(done.folder) if "loss" in line]
    whole = {name: [one["levels"]["1"]["realised"] for one in of] for name, of in lines.items()}
    assert all(value < 0.6 for value in whole["kept"])
    assert whole["renewed"][:2] == whole["kept"][:2], "the first rounds go by the reference"
    assert all(value > 0.7 for value in whole["renewed"][2:])


def test_a_group_has_room_for_every_level(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="want at least 5"):
        run(chrpo_config(root, out=tmp_path / "few", group=4))


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_levels_can_be_given(root: Path, tmp_path: Path, share: float) -> None:
    """Their rollouts are counted apart; the choice is measured on those that chose."""
    done = run(
        chrpo_config(root, out=tmp_path / "g", steps=5, given_share=share, learning_rate=1e-5)
    )
    lines = [line for line in log_of(done.folder) if "loss" in line]
    seen: dict[str, int] = {}
    for line in lines:
        assert line.get("rollouts", 0) == 24 * (1 - share)
        assert ("level_mass" in line) == (share < 1)
        for level, of in line["given"].items():
            seen[level] = seen.get(level, 0) + of["rollouts"]
            assert of["realised"] == pytest.approx(float(level), abs=0.25)
    assert sum(seen.values()) == 5 * 24 * share
    assert max(seen.values()) - min(seen.values()) <= 6, "each level in turn"
    text = (done.folder / "report.md").read_text()
    assert f"a share of {share:g} of the problems at forced levels" in text
    assert "## At forced levels" in text
    first, last = json.loads((done.folder / "report.json").read_text())["given"]
    for level, of in lines[0]["given"].items():
        assert first[level] == pytest.approx(of)
    assert set(last) == set(lines[-1]["given"])
    assert "reward" in dev(done.folder, -1)


def test_training_at_a_forced_level(root: Path, tmp_path: Path) -> None:
    """Told to count to ten at level 1.0, it is paid for six, and learns to stop there."""
    rows = [json.loads(line) for line in (root / "reference/rows.jsonl").read_text().splitlines()]
    for row in rows:
        row["l_ref"] = 11.0  # tokens of 1 to 6
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run(
        chrpo_config(
            root, input=tmp_path / "rows.jsonl", out=tmp_path / "given", steps=48, prompts=5,
            group=12, given_share=1.0, unsolved=False, learning_rate=0.002,
            objective={"calibration": 0.6, "kappa": 0.2},
        )
    )  # fmt: skip
    lines = [line["given"]["1"] for line in log_of(done.folder) if "loss" in line]
    assert lines[0]["realised"] > 1.5
    assert lines[-1]["realised"] == pytest.approx(1.0, abs=0.25)
    assert lines[-1]["reward"] > lines[0]["reward"] + 0.3


def test_a_loss_that_is_no_number_ends_the_run(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        ChrpoTrainer, "_token_advantages",
        lambda self, output, groups: torch.full(output["completion_ids"].shape, float("nan")),
    )  # fmt: skip
    with pytest.raises(LossError, match="step 1: the loss is nan"):
        run(chrpo_config(root, out=tmp_path / "nan"))
