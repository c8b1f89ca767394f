"""Groups without signal are drawn again; prices and needs go by the first draw all the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from extracot_training.pipeline.checkpoints import LOG
from extracot_training.stages.chrpo.choice import ChoiceState
from extracot_training.stages.chrpo.drawing import Draw, Substitutes, drawn_again, flat_groups
from extracot_training.stages.chrpo.reward import Result, Reward
from extracot_training.stages.chrpo.scoring import Scored
from extracot_training.stages.chrpo.stage import run
from extracot_training.stages.chrpo.tasks import Task
from extracot_training.stages.chrpo.trainer import ChrpoTrainer
from tests.training.tiny_chrpo import chrpo_config, make_all

RIGHT = {"a": [1.0, 0.0], "b": [0.0, 0.0], "c": [1.0, 1.0], "d": [0.0, 1.0]}


def task(name: str, level: float | None = None) -> Task:
    return Task(name, (1, 2), "7", 0.2, 10.0, level)


TASKS = {one.key: one for one in map(task, RIGHT)}


def scored(key: str, main: float) -> Scored:
    result = Result(level=0.2, valid=True, correct=main > 0, ratio=0.2)
    return Scored(TASKS[key], result, Reward(main=main, ctrl=0.0), 1.0, 1)


def draw(keys: Sequence[str], tag: int = 0) -> Draw:
    """Groups of two; what they earn goes by the problem, and an id says which draw it was."""
    earned = [RIGHT[key][row % 2] for row, key in enumerate(keys)]
    rows = [scored(key, main) for key, main in zip(keys, earned, strict=True)]
    return Draw(list(keys), [[tag]] * len(keys), None, [(0.5, 0.5)] * len(keys), rows)


def again(first: Draw, attempts: int, **more: Any) -> tuple[Draw, int, list[tuple[int, ...]]]:
    asked: list[tuple[int, ...]] = []

    def drawer(rows: Sequence[int], keys: Sequence[str], attempt: int) -> Draw:
        asked.append(tuple(rows))
        return draw(keys, attempt)

    settings: dict[str, Any] = {
        "size": 2, "attempts": attempts, "step": 0, "group": 0, "count_all": int, "along": False,
    }  # fmt: skip
    found, count = drawn_again(first, drawer, Substitutes(TASKS, seed=1), **(settings | more))
    return found, count, asked


def test_a_group_is_flat_where_all_its_replies_earned_the_same() -> None:
    assert flat_groups(draw(["a", "a", "b", "b", "c", "c"]).scored, 2) == [1, 2]


def test_only_flat_groups_are_drawn_again_and_only_so_often() -> None:
    first = draw(["a", "a", "b", "b", "d", "d"])
    found, count, asked = again(first, 8)
    assert asked and set(asked) == {(2, 3)}, "the flat group's rows alone"
    assert flat_groups(found.scored, 2) == []
    assert count == len(asked)
    assert found.keys[2] in ("a", "d") and found.ids[2] == [count]
    assert (found.keys[:2], found.keys[4:]) == (["a", "a"], ["d", "d"])
    assert first.keys == ["a", "a", "b", "b", "d", "d"], "the first draw stays as it was"
    assert again(first, 0)[1:] == (0, [])


def test_nobody_draws_for_ever_and_nothing_flat_is_hidden() -> None:
    tasks = {name: TASKS[name] for name in ("b", "c")}
    found, count = drawn_again(
        draw(["b", "b"]), lambda rows, keys, attempt: draw(keys, attempt), Substitutes(tasks, 0),
        size=2, attempts=3, step=0, group=0, count_all=int, along=False,
    )  # fmt: skip
    assert count == 3 and flat_groups(found.scored, 2) == [0]


def test_a_process_without_flat_groups_generates_along_where_it_must() -> None:
    first = draw(["a", "a", "d", "d"])
    found, count, asked = again(first, 2, count_all=lambda number: number + 1, along=True)
    assert asked == [(0, 1), (0, 1)]
    assert count == 0 and found.keys == first.keys and found.ids == first.ids
    assert again(first, 2, count_all=lambda number: number + 1)[2] == []


def test_another_problem_at_the_same_level_is_tried_the_same_every_time() -> None:
    levels = [task(name, level) for name in "ab" for level in (None, 0.2, 1.0)]
    tasks = {one.key: one for one in levels}
    first, second = Substitutes(tasks, 3), Substitutes(tasks, 3)
    for key in tasks:
        other = first.of(key, 4, 1, 2)
        assert other == second.of(key, 4, 1, 2)
        assert other != key and tasks[other].level == tasks[key].level
    assert Substitutes({"a": task("a")}, 0).of("a", 0, 1, 0) == "a"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_all(tmp_path_factory.mktemp("drawing"))


def lines_of(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    return [line for line in lines if "loss" in line]


@pytest.mark.parametrize("backend", ["generate", "trl"])
def test_training_goes_by_groups_with_signal_and_measures_all(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """Blue pens are never right: half of the groups are flat, and are drawn again for red ones."""
    learnt: list[tuple[int, int]] = []
    learn = ChoiceState.learn

    def seen(self: ChoiceState, groups: Any, scored: Any, rounds: int) -> Any:
        learnt.append((len(groups), sum(one.task.gold == "8" for one in scored)))
        return learn(self, groups, scored, rounds)

    monkeypatch.setattr(ChoiceState, "learn", seen)
    rollouts = {"max_tokens": 48, "backend": backend}
    settings: dict[str, Any] = {"steps": 2, "prompts": 6, "learning_rate": 1e-5}
    plain = run(chrpo_config(root, out=tmp_path / "p", rollouts=rollouts, **settings))
    again = run(
        chrpo_config(root, out=tmp_path / "r", rollouts=rollouts | {"redraws": 4}, **settings)
    )
    before, after = lines_of(plain.folder), lines_of(again.folder)
    assert "redrawn" not in before[0]
    assert (
        sum(line["redrawn"] for line in after)
        >= sum(6 * line["groups_without_signal"] for line in before)
        > 0
    )
    assert after[0]["groups_without_signal"] < before[0]["groups_without_signal"]
    assert after[0]["accuracy"] > before[0]["accuracy"]
    assert learnt[0][0] == learnt[2][0] == 6
    assert learnt[2][1] > 0, "wrong problems count for the price, though nothing is learnt of them"
    if backend == "generate":  # the first draw is the same, and so is what it measures
        assert after[0]["accuracy_whole"] == before[0]["accuracy_whole"]
        assert learnt[2] == learnt[0]
    text = (again.folder / "report.md").read_text()
    assert "drawn again for other problems, at most 4 draws a group" in text
    assert again.counts["redrawn"] == sum(line["redrawn"] for line in after)


def test_processes_that_must_generate_equally_cannot_draw_again(root: Path) -> None:
    for trainer in ({"vllm_mode": "server"}, {"vllm_tensor_parallel_size": 2}):
        with pytest.raises(ValidationError, match=r"rollouts\.redraws: want 0 with"):
            chrpo_config(root, rollouts={"backend": "trl", "redraws": 1}, trainer=trainer)


class _Asked(ChrpoTrainer):
    calls: list[tuple[int, int | None, int | None]]

    def sample(self, prompts: Any, *args: Any, **kwargs: Any) -> Any:
        self.calls.append((len(prompts), kwargs.get("max_tokens"), kwargs.get("batch")))
        return super().sample(prompts, *args, **kwargs)


def test_evaluation_has_batches_and_a_bound_of_its_own(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _Asked.calls = []
    monkeypatch.setattr("extracot_training.stages.chrpo.stage.ChrpoTrainer", _Asked)
    evaluation = {"every": 0, "samples": 2, "batch": 3, "max_tokens": 8}
    done = run(chrpo_config(root, out=tmp_path / "e", steps=1, evaluation=evaluation))
    assert [(most, batch) for _, most, batch in _Asked.calls] == [(8, 3), (None, None), (8, 3)]
    log = [json.loads(line) for line in (done.folder / LOG).read_text().splitlines()]
    dev = next(line["dev"] for line in log if "dev" in line)
    assert dev["total_tokens"] <= 8 and dev["invalid"] > 0.5, "longer replies are cut"
