"""A bandit to try an objective in: kinds of problems, levels, and the objective's own code.

A choice is a row of logits per kind, trained by Adam. Replies are coin flips by kind and level, of
about the length that their level says. Rewards, groups, advantages and the price are those that
training uses, so that an objective which goes wrong here goes wrong there; what is learned at other
tokens than the level's (accuracy, length) is left out. Seconds on a CPU, no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from extracot_training.config.chrpo import ChrpoConfig
from extracot_training.config.simulation import SimulationSettings
from extracot_training.stages.chrpo.advantage import Advantage, choice_scale, group_advantages
from extracot_training.stages.chrpo.choice import level_worth
from extracot_training.stages.chrpo.controller import GroupAccuracy, PriceController
from extracot_training.stages.chrpo.reward import Result, Reward, reward
from extracot_training.stages.chrpo.stratified import (
    arm_means,
    planned_levels,
    stratified_advantages,
)

ADAM = (0.9, 0.999, 1e-8)
Array = Any


@dataclass(slots=True)
class Bandit:
    """One run. ``logits`` has a row per kind, and one that all kinds share."""

    config: ChrpoConfig
    world: SimulationSettings
    seed: int
    logits: Array = field(init=False)
    controller: PriceController = field(init=False)
    course: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        start = np.log(np.asarray(self.world.start or [1.0] * len(self.world.levels)))
        self.logits = np.zeros((len(self.world.kinds) + 1, len(start)))
        self.logits[-1] = start - start.mean()
        self.controller = PriceController(self.config.objective)

    def shares(self) -> Array:
        """The choice of each kind, shape (kinds, levels)."""
        logits = self.logits[:-1] + self.logits[-1]
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    def run(self) -> Array:
        """Train for the configuration's steps; returns the choice of each kind."""
        rng = np.random.default_rng([self.config.seed, self.seed])
        kinds = list(self.world.kinds.values())
        odds = np.asarray([kind.share for kind in kinds])
        prompts = self.config.global_prompts or self.config.prompts
        first, second = np.zeros_like(self.logits), np.zeros_like(self.logits)
        for step in range(self.config.steps):
            drawn = rng.choice(len(kinds), prompts, p=odds / odds.sum())
            gradient = self._gradient(drawn, self.shares(), rng, step)
            first = ADAM[0] * first + (1 - ADAM[0]) * gradient
            second = ADAM[1] * second + (1 - ADAM[1]) * gradient**2
            mean, square = (
                moment / (1 - beta ** (step + 1))
                for moment, beta in zip((first, second), ADAM, strict=False)
            )
            self.logits += self.world.learning_rate * mean / (np.sqrt(square) + ADAM[2])
        return self.shares()

    def _gradient(self, drawn: Array, shares: Array, rng: Any, step: int) -> Array:
        """Of what training maximises, by logit; shape of ``logits``."""
        stratified = self.config.stratified
        levels, size = len(self.world.levels), self.config.group
        groups: list[tuple[int, list[int], list[Reward]]] = []
        for at, kind in enumerate(drawn):
            turn = step * len(drawn) + at
            arms = planned_levels(size, levels, turn) if stratified else [
                int(one) for one in rng.choice(levels, size, p=shares[kind])
            ]  # fmt: skip
            groups.append((int(kind), arms, [self._reply(int(kind), arm, rng) for arm in arms]))
        found = np.zeros_like(self.logits)
        for (kind, arms, _), advantages in zip(groups, self._advantages(groups, shares),
                                               strict=True):  # fmt: skip
            for arm, advantage in zip(arms, advantages, strict=True):
                own = advantage.level * (np.eye(levels)[arm] - shares[kind])
                found[kind] += (1 - self.world.shared) * own
                found[-1] += self.world.shared * own
        return found

    def _reply(self, kind: int, arm: int, rng: Any) -> Reward:
        of = list(self.world.kinds.values())[kind]
        level = self.world.levels[arm]
        ratio = max(0.0, level + self.world.spread * float(rng.standard_normal()))
        result = Result(level, True, bool(rng.random() < of.right[arm]), ratio)
        needed = self.world.needed(of, self.config.delta)
        return reward(result, needed, self.config.objective, self.controller.price)

    def _advantages(
        self, groups: Sequence[tuple[int, list[int], list[Reward]]], shares: Array
    ) -> list[list[Advantage]]:
        objective = self.config.objective
        main = [[one.main for one in replies] for _, _, replies in groups]
        if not self.config.stratified:
            ctrl = [[one.ctrl for one in replies] for _, _, replies in groups]
            scale = choice_scale(objective)
            return [group_advantages(a, b, scale=objective.scale, **scale)
                    for a, b in zip(main, ctrl, strict=True)]  # fmt: skip
        level = [[level_worth(one, objective) for one in replies] for _, _, replies in groups]
        own = [[float(one) for one in shares[kind]] for kind, _, _ in groups]
        self.course.append(self.controller.update(self._measured(groups, own)))
        return stratified_advantages(
            [arms for _, arms, _ in groups], main, level, own,
            entropy=objective.entropy, weight=objective.choice_weight,
        )  # fmt: skip

    def _measured(
        self, groups: Sequence[tuple[int, list[int], list[Reward]]], own: Sequence[Sequence[float]]
    ) -> list[GroupAccuracy]:
        count = len(self.world.levels)
        return [
            GroupAccuracy(
                arm_means(arms, [one.accuracy for one in replies], count), self.world.levels, mine
            )
            for (_, arms, replies), mine in zip(groups, own, strict=True)
        ]


def simulate(config: ChrpoConfig) -> dict[str, Any]:
    """Means over the seeds: per kind mean level, accuracy, and share of each level; over all of
    them also ``mix``, the best accuracy that fixed levels or a mixture of two give at the same
    mean level, and the price at the end."""
    world = config.simulation
    runs = [Bandit(config, world, seed) for seed in range(world.seeds)]
    shares = np.mean([run.run() for run in runs], axis=0)
    levels = np.asarray(world.levels)
    kinds = list(world.kinds.values())
    right = np.asarray([kind.right for kind in kinds])
    odds = np.asarray([kind.share for kind in kinds])
    odds = odds / odds.sum()
    level, accuracy = shares @ levels, (shares * right).sum(axis=1)
    overall = float(odds @ right[:, -1])
    prices = [run.controller.price for run in runs]
    return {
        "kinds": {
            name: {
                "needs": world.needed(kind, config.delta),
                "level": float(level[at]),
                "accuracy": float(accuracy[at]),
                "shares": [float(one) for one in shares[at]],
            }
            for at, (name, kind) in enumerate(world.kinds.items())
        },
        "level": float(odds @ level),
        "accuracy": float(odds @ accuracy),
        "mix": best_mix(world.levels, odds @ right, float(odds @ level)),
        "whole": overall,
        "price": sum(prices) / len(prices) if config.objective.kind == "chrpo" else None,
    }


def best_mix(levels: Sequence[float], accuracies: Sequence[float], cost: float) -> float:
    """Best accuracy of a fixed level or a mixture of two whose mean level is ``cost`` at most.

    >>> best_mix((0.25, 0.75, 1.0), (0.5, 1.0, 0.75), 0.5)
    0.75
    """
    best = 0.0
    for one, (low, at_low) in enumerate(zip(levels, accuracies, strict=True)):
        if low <= cost + 1e-9:
            best = max(best, float(at_low))
        for high, at_high in list(zip(levels, accuracies, strict=True))[one + 1 :]:
            if low <= cost <= high:
                share = (cost - low) / (high - low)
                best = max(best, float((1 - share) * at_low + share * at_high))
    return best


def report_of(found: Mapping[str, Any], config: ChrpoConfig) -> str:
    """A table for the terminal."""
    head = ["kind", "needs", "level", "accuracy", *(f"{one:g}" for one in config.simulation.levels)]
    rows = [
        [name, f"{of['needs']:g}", f"{of['level']:.3f}", f"{of['accuracy']:.3f}",
         *(f"{share:.2f}" for share in of["shares"])]
        for name, of in found["kinds"].items()
    ]  # fmt: skip
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
             for row in [head, *rows]]  # fmt: skip
    price = "" if found["price"] is None else f", price {found['price']:.2f}"
    lines.append(
        f"all: level {found['level']:.3f}, accuracy {found['accuracy']:.3f}{price}; best mix of "
        f"fixed levels at that level {found['mix']:.3f}, level 1.0 {found['whole']:.3f}"
    )
    return "\n".join(lines)
