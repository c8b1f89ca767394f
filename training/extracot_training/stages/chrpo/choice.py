"""The choice of a level while it is trained: groups and their advantages, the price, and what is
kept of all that in a checkpoint. Knows numbers and files; knows no tensors of the model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch

from extracot_training.config.chrpo import ChrpoConfig
from extracot_training.config.objective import Objective, spent
from extracot_training.pipeline.files import write_atomic
from extracot_training.stages.chrpo.advantage import Advantage, choice_scale, group_advantages
from extracot_training.stages.chrpo.controller import GroupAccuracy, PriceController
from extracot_training.stages.chrpo.refresh import Refresh
from extracot_training.stages.chrpo.reward import Reward
from extracot_training.stages.chrpo.scoring import Scored
from extracot_training.stages.chrpo.stratified import arm_means, stratified_advantages
from extracot_training.stages.chrpo.tasks import Task

STATE = "choice.json"


class Group(NamedTuple):
    """A group of rollouts in plain numbers, one per reply. ``arms`` are the places of their levels
    and ``shares`` the policy's probabilities of all levels at the prompt; both are empty where
    levels were not forced in turn. ``level`` is what the level tokens earned."""

    arms: tuple[int, ...]
    main: tuple[float, ...]
    ctrl: tuple[float, ...]
    level: tuple[float, ...]
    right: tuple[float, ...]
    spent: tuple[float, ...]
    shares: tuple[float, ...]

    @classmethod
    def of(
        cls,
        arms: Sequence[int],
        scored: Sequence[Scored],
        shares: Sequence[float],
        config: ChrpoConfig,
    ) -> Self:
        return cls(
            arms=tuple(arms),
            main=tuple(one.reward.main for one in scored),
            ctrl=tuple(one.reward.ctrl for one in scored),
            level=tuple(level_worth(one.reward, config.objective) for one in scored),
            right=tuple(float(one.right) for one in scored),
            spent=tuple(
                1.0 if one.level is None else spent(one.level, one.result.ratio) for one in scored
            ),
            shares=tuple(shares),
        )

    def measured(self) -> GroupAccuracy:
        """What the price goes by; the shares are those among levels."""
        total, count = sum(self.shares), len(self.shares)
        return GroupAccuracy(
            arm_means(self.arms, self.right, count),
            arm_means(self.arms, self.spent, count),
            [one / total if total > 0 else 1.0 / count for one in self.shares],
        )


def level_worth(earned: Reward, objective: Objective) -> float:
    """What a level token earned in a stratified group, where it is not compared by ``main``."""
    if objective.kind == "chrpo":
        return earned.ctrl
    return earned.main + (objective.beta * earned.ctrl if objective.ctrl else 0.0)


def advantages_of(groups: Sequence[Group], config: ChrpoConfig) -> list[list[Advantage]]:
    """Advantages of the groups of a round, of every process together."""
    objective = config.objective
    stratified = [group for group in groups if group.arms]
    found = iter(
        stratified_advantages(
            [group.arms for group in stratified],
            [group.main for group in stratified],
            [group.level for group in stratified],
            [group.shares for group in stratified],
            entropy=objective.entropy,
            weight=objective.choice_weight,
        )
        if stratified
        else ()
    )
    scale = choice_scale(objective)
    return [
        next(found)
        if group.arms
        else group_advantages(group.main, group.ctrl, scale=objective.scale, **scale)
        for group in groups
    ]


@dataclass(slots=True)
class ChoiceState:
    """What a round of rollouts changes beside the weights: the price, r* and L_ref."""

    controller: PriceController
    refresh: Refresh

    @classmethod
    def of(
        cls,
        config: ChrpoConfig,
        tasks: dict[str, Task],
        measured: Mapping[str, tuple[Sequence[float], Sequence[float]]],
        levels: Sequence[float],
    ) -> Self:
        return cls(
            PriceController(config.objective),
            Refresh(
                config.refresh, tasks, tuple(levels), measured, config.delta,
                estimate=config.needed == "estimated",
            ),
        )  # fmt: skip

    def learn(
        self, groups: Sequence[Group], scored: Sequence[Scored], rounds: int
    ) -> dict[str, Any]:
        """Take in a round, the ``rounds``-th, of every process; returns figures for the log."""
        stratified = [group for group in groups if group.arms]
        if not stratified:
            return {}
        measured = [group.measured() for group in stratified]
        figures: dict[str, Any] = self.controller.update(measured)
        self.refresh.observe(scored)
        if self.refresh.due(rounds):
            self.refresh.renew()
        return figures

    def save(self, folder: Path) -> None:
        """Write the state into a checkpoint's folder."""
        state = {"price": self.controller.state(), "refresh": self.refresh.state()}
        write_atomic(folder / STATE, json.dumps(state))

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint; one without such a state (of an earlier version) changes
        nothing."""
        path = folder / STATE
        if path.is_file():
            state = json.loads(path.read_text(encoding="utf-8"))
            self.controller.load(state["price"])
            self.refresh.load(state["refresh"])


def choice_figures(first: Sequence[Sequence[float]]) -> dict[str, float]:
    """Of the levels' probabilities at the first token, one row per reply: ``level_mass``, their
    sum; ``choice_entropy``, the mean entropy in nats of a choice restricted to levels."""
    shares = torch.tensor(first, dtype=torch.float64)
    mass = shares.sum(dim=1)
    entropies = torch.special.entr(shares / mass[:, None].clamp(min=1e-300)).sum(dim=1)
    return {"level_mass": mass.mean().item(), "choice_entropy": entropies.mean().item()}
