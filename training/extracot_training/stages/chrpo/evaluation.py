"""Rollouts on held-out problems while CHRPO trains, and the lines of its log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object

from extracot_training.config.chrpo import ChrpoConfig
from extracot_training.generation.rollout.sampler import seed_of
from extracot_training.pipeline.checkpoints import log_lines
from extracot_training.policy.trainer import TrainingLog
from extracot_training.stages.chrpo.choice import choice_figures
from extracot_training.stages.chrpo.scoring import RewardScorer, figures_of
from extracot_training.stages.chrpo.tasks import Task
from extracot_training.stages.chrpo.trainer import ChrpoTrainer

LOGGED = ("loss", "grad_norm", "learning_rate", "kl", "entropy", "step_time")


class DevEvaluation:
    """Replies to the same problems with the same seeds every time, so that only the model
    differs."""

    def __init__(
        self,
        config: ChrpoConfig,
        tasks: Sequence[Task],
        scorer: RewardScorer,
        levels: Sequence[float],
    ) -> None:
        self._config = config
        self._tasks = [task for task in tasks for _ in range(config.evaluation.samples)]
        self._seeds = [
            seed_of(config.seed, "dev", task.problem_id, number)
            for task in tasks
            for number in range(config.evaluation.samples)
        ]
        self._scorer = scorer
        self._levels = levels

    def figures(self, trainer: ChrpoTrainer) -> dict[str, Any]:
        """Figures of the trainer's model as it is now."""
        settings = self._config.evaluation
        # Processes share the problems out; where they share the weights, each has to read as often
        # as the others, and all answer all.
        number, count = trainer.accelerator.process_index, trainer.accelerator.num_processes
        own = slice(None) if trainer.sharded else slice(number, None, count)
        tasks = self._tasks[own]
        replies = trainer.sample(
            [task.prompt_ids for task in tasks],
            self._seeds[own],
            settings.temperature,
            max_tokens=settings.max_tokens,
            batch=settings.batch,
        )
        scored = [
            (self._scorer.score(task, reply.ids), reply.first)
            for task, reply in zip(tasks, replies, strict=True)
        ]
        if not trainer.sharded:
            parts = [
                gathered[1]
                for gathered in sorted(gather_object([(number, scored)]), key=lambda part: part[0])
            ]
            scored = [parts[at % count][at // count] for at in range(len(self._tasks))]
        found = figures_of([one for one, _ in scored], self._levels)
        return found | choice_figures([first for _, first in scored])


class ChrpoLog(TrainingLog):
    """Evaluates, and logs that and the figures of rollouts as well.

    ``step`` in the log is a round of rollouts, of which one may have several updates.
    """

    trainer: ChrpoTrainer

    def __init__(self, config: ChrpoConfig, folder: Path, evaluation: DevEvaluation) -> None:
        super().__init__(folder, LOGGED, updates=config.iterations)
        self._config = config
        self._evaluation = evaluation

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 0:
            self._evaluate(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        step, rest = divmod(state.global_step, self._config.iterations)
        every = self._config.evaluation.every
        if rest == 0 and (step == self._config.steps or (every and step % every == 0)):
            self._evaluate(state)

    def further(self) -> Mapping[str, Any]:
        return self.trainer.figures

    def _evaluate(self, state: Any) -> None:
        figures = self._evaluation.figures(self.trainer)
        self.append(state, {"dev": figures})
        self.trainer.track_now("eval_", figures)  # trackers show these apart


def forced_course(log: Path) -> list[dict[str, dict[str, float]]]:
    """By level, means over the rollouts at forced levels in the first tenth of the rounds of a log,
    and in the last tenth; empty where no level was forced."""
    rounds = [line["given"] for line in log_lines(log) if "given" in line]
    size = -(-len(rounds) // 10)
    return [_together(part) for part in (rounds[:size], rounds[-size:]) if part]


def price_course(log: Path) -> list[dict[str, float]]:
    """Means of the price and of what it follows in the first tenth of the rounds of a log, and in
    the last; empty where nothing had a price."""
    rounds = [line for line in log_lines(log) if "accuracy_choice" in line]
    size = -(-len(rounds) // 10)
    names = ("price", "accuracy_choice", "accuracy_whole", "spent_choice")
    return [
        {name: sum(one[name] for one in part) / len(part) for name in names}
        for part in (rounds[:size], rounds[-size:])
        if part
    ]


def redraw_figures(log: Path) -> dict[str, Any]:
    """``redrawn``, groups drawn again in all rounds of a log, and ``without_signal``, the share of
    groups that were flat all the same."""
    rounds = [line for line in log_lines(log) if "redrawn" in line]
    flat = [line["groups_without_signal"] for line in rounds]
    return {
        "redrawn": sum(line["redrawn"] for line in rounds),
        "without_signal": sum(flat) / len(flat) if flat else 0.0,
    }


def _together(rounds: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for level in sorted({level for one in rounds for level in one}, key=float):
        own = [one[level] for one in rounds if level in one]
        count = sum(one["rollouts"] for one in own)
        means = own[0].keys() - {"rollouts"}
        found[level] = {"rollouts": count} | {
            name: sum(one["rollouts"] * one[name] for one in own) / count for name in sorted(means)
        }
    return found


def dev_lines(log: Path) -> list[dict[str, Any]]:
    """The evaluations in a log: ``step`` and the figures."""
    return [{"step": line["step"], **line["dev"]} for line in log_lines(log) if "dev" in line]
