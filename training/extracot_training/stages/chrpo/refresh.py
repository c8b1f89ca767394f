"""What stage reference measured (r*, L_ref), kept up with the model while it is trained.

Stratified rollouts try every level of a problem, so they measure the same things again: how often
each level is right, and how long level 1.0 is. Every so many steps r* is estimated anew from the
counts of the reference (by a fixed weight) and of all rollouts since, and L_ref is the mean of what
the reference found, scaled to the model of today, and what was seen since. Pure; its state is for
checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from extracot_training.config.chrpo import RefreshSettings
from extracot_training.pipeline.needs import estimate_needs
from extracot_training.stages.chrpo.scoring import Scored
from extracot_training.stages.chrpo.tasks import Task


@dataclass(slots=True)
class Seen:
    """Of one problem's rollouts: how many were right and tried by level; lengths at level 1.0."""

    right: list[float]
    tried: list[float]
    length: float = 0.0
    lengths: int = 0

    def state(self) -> list[Any]:
        return [self.right, self.tried, self.length, self.lengths]


@dataclass(slots=True)
class Refresh:
    """Holds the counts and puts new tasks into ``tasks`` (by key), which others read as well.

    ``measured`` has each problem's counts of stage reference, (right, tried) by ascending level;
    without those (``estimate`` off) r* stays as it is.
    """

    settings: RefreshSettings
    tasks: dict[str, Task]
    levels: Sequence[float]
    measured: Mapping[str, tuple[Sequence[float], Sequence[float]]]
    delta: float
    estimate: bool = True
    seen: dict[str, Seen] = field(default_factory=dict)
    first: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        self.first = {task.problem_id: task.l_ref for task in self.tasks.values()}

    def observe(self, rollouts: Iterable[Scored]) -> None:
        """Count the rollouts of a round, of every process, in their order."""
        for one in rollouts:
            if one.level is None:
                continue
            own = self.seen.setdefault(
                one.task.problem_id, Seen([0.0] * len(self.levels), [0.0] * len(self.levels))
            )
            at = self.levels.index(one.level)
            own.tried[at] += 1
            own.right[at] += one.right
            if one.level == self.levels[-1] and one.closed and one.tokens > 0:
                own.length += one.tokens
                own.lengths += 1

    def due(self, step: int) -> bool:
        """Whether tasks are to be made anew after ``step`` rounds."""
        return bool(self.settings.every) and step > 0 and step % self.settings.every == 0

    def renew(self) -> None:
        """Make the tasks anew."""
        needs = self._needs()
        lengths = self._lengths()
        for key, task in self.tasks.items():
            needed = needs.get(task.problem_id, task.needed) if task.level is None else task.needed
            self.tasks[key] = replace(task, needed=needed, l_ref=lengths[task.problem_id])

    def _needs(self) -> dict[str, float]:
        if not self.estimate or not self.measured:
            return {}
        right, tried = [], []
        for problem, (good, all_) in self.measured.items():
            own = self.seen.get(problem)
            scale = [self.settings.weight / one if one else 0.0 for one in all_]
            right.append(
                [g * s + (own.right[at] if own else 0.0)
                 for at, (g, s) in enumerate(zip(good, scale, strict=True))]
            )  # fmt: skip
            tried.append(
                [a * s + (own.tried[at] if own else 0.0)
                 for at, (a, s) in enumerate(zip(all_, scale, strict=True))]
            )  # fmt: skip
        needs = estimate_needs(self.levels, right, tried, delta=self.delta)
        return {problem: need.level for problem, need in zip(self.measured, needs, strict=True)}

    def _lengths(self) -> dict[str, float]:
        found = {problem: own for problem, own in self.seen.items() if own.lengths}
        now = sum(own.length for own in found.values())
        then = sum(self.first[problem] * own.lengths for problem, own in found.items())
        drift = now / then if then > 0 else 1.0
        lengths = {}
        for problem, first in self.first.items():
            own = found.get(problem)
            weight = self.settings.weight
            lengths[problem] = drift * first if own is None else (
                (weight * drift * first + own.length) / (weight + own.lengths)
            )  # fmt: skip
        return lengths

    def state(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "seen": {problem: own.state() for problem, own in self.seen.items()},
            "tasks": {key: [task.needed, task.l_ref] for key, task in self.tasks.items()},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self.seen = {problem: Seen(*own) for problem, own in state["seen"].items()}
        for key, (needed, l_ref) in state["tasks"].items():
            self.tasks[key] = replace(self.tasks[key], needed=needed, l_ref=l_ref)
