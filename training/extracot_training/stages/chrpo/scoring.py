"""From a reply's ids to its reward, and from many rewards to figures. Knows no trainer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from extracot_training.config.objective import Objective
from extracot_training.generation.rollout.base import ReplyReader, RolloutRequest
from extracot_training.math_text.verify import equal
from extracot_training.pipeline.statistics import entropy
from extracot_training.stages.chrpo.reward import Result, Reward, repeated_share, reward
from extracot_training.stages.chrpo.tasks import Task

TERMS = ("accuracy", "calibration", "mode", "repetition", "under", "length", "invalid")


@dataclass(frozen=True, slots=True)
class Scored:
    """One rollout of a task, in plain numbers that processes can exchange. ``tokens`` is its
    metered length, ``total`` everything generated."""

    task: Task
    result: Result
    reward: Reward
    tokens: float
    total: int
    closed: bool = True

    @property
    def level(self) -> float | None:
        """The level that was chosen, or that the prompt named."""
        return self.result.level

    @property
    def right(self) -> bool:
        """A whole reply with the right answer."""
        return self.result.valid and self.result.correct

    @property
    def forced(self) -> bool:
        """Whether the prompt named the level."""
        return self.task.level is not None


class RewardScorer:
    """Scores replies by an objective's reward. ``price`` is lambda as it is now."""

    def __init__(self, reader: ReplyReader, objective: Objective) -> None:
        self._reader = reader
        self._objective = objective
        self.price = objective.price

    def score(self, task: Task, ids: Sequence[int]) -> Scored:
        """``ids`` are the generated ones, the end token included if it came."""
        request = RolloutRequest(task.problem_id, "", task.prompt_ids, task.level, 0)
        rollout = self._reader.read(request, ids)
        length = rollout.metered(task.need)
        result = Result(
            level=rollout.level,
            valid=rollout.valid,
            correct=rollout.boxed is not None and equal(rollout.boxed, task.gold),
            ratio=length / task.l_ref,
            repeated=repeated_share(list(rollout.reasoning_ids), self._objective.ngram),
        )
        earned = reward(result, task.needed, self._objective, self.price)
        return Scored(task, result, earned, length, rollout.total_tokens, rollout.closed)


def figures_of(scored: Sequence[Scored], levels: Sequence[float]) -> dict[str, Any]:
    """Means over rollouts in policy mode (one is needed), JSON-ready.

    ``realised`` is a ratio of sums of metered tokens and L_ref. ``entropy_of_levels`` is that of
    the histogram, in nats; ``by_r_star`` groups rollouts by what their problem needs.
    """
    count = len(scored)
    return {
        "rollouts": count,
        **_means(scored),
        "reward_ctrl": _mean([one.reward.ctrl for one in scored]),
        **{f"term_{name}": _mean([getattr(one.reward, name) for one in scored]) for name in TERMS},
        "total_tokens": _mean([one.total for one in scored]),
        "level_mean": _mean([one.level for one in scored if one.level is not None]),
        "levels": {f"{level:g}": _of_level(scored, level) for level in levels},
        "entropy_of_levels": entropy([one.level for one in scored]),
        "by_r_star": {
            f"{needed:g}": _of_needed([one for one in scored if one.task.needed == needed])
            for needed in sorted({one.task.needed for one in scored})
        },
    }


def flat_figures(figures: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    """The numbers among figures, by their path behind ``prefix``.

    >>> dict(flat_figures({"reward": 0.5, "levels": {"0.2": {"share": 1.0, "mean": None}}}, "x/"))
    {'x/reward': 0.5, 'x/levels/0.2/share': 1.0}
    """
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from flat_figures(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", float(value)


def forced_figures(scored: Sequence[Scored]) -> dict[str, dict[str, Any]]:
    """Of the rollouts at forced levels, by level; empty for none."""
    by_level: dict[float, list[Scored]] = {}
    for one in scored:
        if one.forced and one.level is not None:
            by_level.setdefault(one.level, []).append(one)
    return {
        f"{level:g}": {"rollouts": len(own), **_means(own)}
        for level, own in sorted(by_level.items())
    }


def _means(scored: Sequence[Scored]) -> dict[str, Any]:
    return {
        "reward": _mean([one.reward.main for one in scored]),
        "accuracy": _mean([float(one.right) for one in scored]),
        "invalid": _mean([float(not one.result.valid) for one in scored]),
        "tokens": _mean([one.tokens for one in scored]),
        "realised": sum(one.tokens for one in scored) / sum(one.task.l_ref for one in scored),
    }


def _of_level(scored: Sequence[Scored], level: float) -> dict[str, Any]:
    chosen = [one for one in scored if one.level == level]
    return {
        "share": len(chosen) / len(scored),
        "accuracy": _mean([float(one.right) for one in chosen]),
        "realised": sum(one.tokens for one in chosen) / sum(one.task.l_ref for one in chosen)
        if chosen
        else None,
    }


def _of_needed(scored: Sequence[Scored]) -> dict[str, Any]:
    means = _means(scored)
    return {
        "rollouts": len(scored),
        "level_mean": _mean([one.level for one in scored if one.level is not None]),
        **{name: means[name] for name in ("accuracy", "reward", "tokens")},
    }


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
