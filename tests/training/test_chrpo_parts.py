"""What stage chrpo is made of, without a training: tasks and their order, figures, settings."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from extracot_training.cli import main
from extracot_training.config.chrpo import ChrpoConfig
from extracot_training.config.objective import Objective
from extracot_training.errors import ConfigError, StageError
from extracot_training.generation.rollout.base import PromptMaker, ReplyReader
from extracot_training.policy.loading import load_policy_tokenizer
from extracot_training.stages.chrpo.choice import choice_figures
from extracot_training.stages.chrpo.scoring import RewardScorer, Scored, figures_of
from extracot_training.stages.chrpo.stage import grpo_arguments, run
from extracot_training.stages.chrpo.tasks import Task, read_tasks, schedule
from tests.training.tiny_chrpo import COUNT, PROMPT, chrpo_config, make_all

LEVELS = PROMPT.ratios
CAPPED = Objective(kind="chrpo_capped")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its model has hardly been taught: only its tokenizer is used."""
    return make_all(tmp_path_factory.mktemp("chrpo"), steps=1)


def test_settings_for_the_library_are_checked_first(root: Path, tmp_path: Path) -> None:
    for trainer, message in (
        ({"use_vlm": True}, "did you mean 'use_vllm'"),
        ({"beta": 0.1}, "follows from other settings"),
    ):
        with pytest.raises(ConfigError, match=message):
            run(chrpo_config(root, out=tmp_path / next(iter(trainer)), trainer=trainer))
    arguments = grpo_arguments(
        chrpo_config(root, trainer={"top_entropy_quantile": 0.5}), tmp_path / "y"
    )
    assert arguments.top_entropy_quantile == 0.5 and arguments.generation_batch_size == 24
    with pytest.raises(ValueError, match="micro_batch"):
        chrpo_config(root, micro_batch=7)


def test_what_is_missing_is_named(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StageError, match="no problem of split 'test'"):
        run(chrpo_config(root, out=tmp_path / "a", dev_split="test"))
    flags = ["--input", str(root / "reference"), "--out", str(tmp_path / "b")]
    flags += ["--set", f"model={root / 'base'}", "--set", "precision=fp32"]
    assert main(["chrpo", *flags]) == 1
    assert "renderer" in capsys.readouterr().err


def test_tasks_without_a_reference_length_are_left_out(root: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (root / "reference/rows.jsonl").read_text().splitlines()]
    rows[0]["l_ref"] = None
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer, _ = load_policy_tokenizer(str(root / "sft"), PROMPT)
    maker = PromptMaker(tokenizer, PROMPT)
    found = read_tasks(tmp_path, "train", maker, levels=LEVELS)
    assert found.left_out == 1 and len(found.chosen) == 2 * (COUNT - COUNT // 3) - 1
    rows[3]["problem_id"] = f"{rows[1]['problem_id']}@0.4"
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(StageError, match="the id of another one at a level"):
        read_tasks(tmp_path, "train", maker, levels=LEVELS, at_levels=True)
    solved = read_tasks(tmp_path, "train", maker, levels=LEVELS, unsolved=False)
    assert {task.problem_id[:3] for task in solved.chosen} == {"red"}
    with pytest.raises(StageError, match=r"r_star 0.2 of problem 'red0'|r_star 0.2"):
        read_tasks(tmp_path, "train", maker, levels=(0.5, 1.0))


def test_every_problem_comes_before_any_comes_again() -> None:
    tasks = [Task(f"p{n}", (1,), "1", 1.0, 1.0) for n in range(5)]
    order = schedule(tasks, 12, seed=1)
    assert set(order[:5]) == set(order[5:10]) == {task.problem_id for task in tasks}
    assert order == schedule(tasks, 12, seed=1) != schedule(tasks, 12, seed=2)
    assert order[:7] == schedule(tasks, 7, seed=1)


def test_a_share_of_the_problems_comes_at_a_given_level() -> None:
    tasks = [Task(f"p{n}", (1,), "1", 1.0, 1.0) for n in range(7)]
    given = [Task(f"p{n}", (2,), "1", v, 1.0, v) for n in range(7) for v in (0.5, 1.0)]
    order = schedule(tasks, 21, seed=1, forced=given, share=1 / 3)
    plain_order = schedule(tasks, 21, seed=1)
    assert [key.partition("@")[0] for key in order] == plain_order
    levels = [key.partition("@")[2] for key in order]
    assert levels == ["", "", "0.5", "", "", "1"] * 3 + ["", "", "0.5"]
    assert all("@" in key for key in schedule(tasks, 9, seed=1, forced=given, share=1.0))


def test_what_a_problem_needs_is_nothing_to_a_given_level(root: Path) -> None:
    tokenizer, tokens = load_policy_tokenizer(str(root / "sft"), PROMPT)
    scorer = RewardScorer(ReplyReader(tokenizer, PROMPT, tokens), CAPPED)
    ids = tokenizer.encode("1 2\n</think>\n\n\\boxed{7}<|im_end|>", add_special_tokens=False)
    maker = PromptMaker(tokenizer, PROMPT)
    found = read_tasks(root / "reference", "train", maker, levels=LEVELS, at_levels=True)
    assert len(found.forced) == 5 * len(found.chosen)
    at_level = [task for task in found.forced if task.level == 0.2]
    rewards = {task.gold: scorer.score(task, ids).reward.main for task in at_level}
    assert rewards["7"] > 1.0 and rewards["8"] == 0.0


def test_figures_by_hand(root: Path) -> None:
    tokenizer, tokens = load_policy_tokenizer(str(root / "sft"), PROMPT)
    scorer = RewardScorer(ReplyReader(tokenizer, PROMPT, tokens), CAPPED)
    task = Task("p", (1,), "7", 0.4, 10.0, need=20.0)

    def scored(text: str) -> Scored:
        return scorer.score(task, tokenizer.encode(text, add_special_tokens=False))

    right = scored("<COMP_40>\n<think>\n1 2\n</think>\n\n\\boxed{7}<|im_end|>")
    wrong = scored("<COMP_20>\n<think>\n1 2\n</think>\n\n\\boxed{8}<|im_end|>")
    nothing = scored("1 2")
    assert (right.tokens, right.result.ratio, right.result.correct) == (3, 0.3, True)
    figures = figures_of([right, wrong, nothing], LEVELS)
    assert figures["accuracy"] == pytest.approx(1 / 3) and figures["invalid"] == pytest.approx(
        1 / 3
    )
    # 1 + 0.1 * (1 - 0.5), one tolerance too short; -0.2; -1
    assert figures["reward"] == pytest.approx((1.05 - 0.2 - 1.0) / 3)
    assert figures["term_under"] == pytest.approx(-0.2 / 3)
    assert figures["realised"] == pytest.approx(6 / 30)
    assert figures["levels"]["0.4"] == {
        "share": pytest.approx(1 / 3), "accuracy": 1.0, "realised": pytest.approx(0.3)
    }  # fmt: skip
    assert figures["level_mean"] == pytest.approx(0.3)
    assert pickle.loads(pickle.dumps(wrong)) == wrong, "processes exchange them"


def test_the_choices_entropy_is_of_levels_alone() -> None:
    found = choice_figures([(0.4, 0.4), (0.5, 0.0)])
    assert found["level_mass"] == pytest.approx(0.65)
    assert found["choice_entropy"] == pytest.approx(0.6931 / 2, abs=1e-4)


def test_a_configuration_needs_its_parts() -> None:
    with pytest.raises(ValueError, match="input"):
        ChrpoConfig.model_validate({"out": "x", "model": "m"})
    degrpo = {"kind": "degrpo", "control_weight": 0.1}
    for objective in (degrpo, {"kind": "length_penalty"}):
        with pytest.raises(
            ValueError, match=r"given_share: want 0 unless objective\.kind is chrpo"
        ):
            chrpo_config(Path("x"), objective=objective, given_share=0.5)
    with pytest.raises(ValueError, match="given_share: too small"):
        chrpo_config(Path("x"), steps=2, prompts=4, given_share=0.1)
