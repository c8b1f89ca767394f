"""A round's rollouts as they were drawn, and groups without signal drawn again. Knows no tensors.

A group whose replies all earned the same says nothing about what to say differently: every
advantage of its tokens but the level's is 0. Such a group is drawn again for another problem, as
DAPO does (arXiv 2503.14476), at most so many times; what is flat to the last stays. Only what is
learnt from changes: prices and needs are measured on the first draw, because groups chosen for
their mixed results would make every level look less certain than it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from extracot_training.generation.rollout.sampler import seed_of
from extracot_training.stages.chrpo.scoring import Scored
from extracot_training.stages.chrpo.tasks import Task


@dataclass(slots=True)
class Draw:
    """Rollouts, a row each, groups together. ``keys`` are those of tasks; ``logps`` what the engine
    said of each token, ``None`` where it says nothing; ``first`` the policy's probabilities of the
    levels at the prompt, empty where nobody has read them yet."""

    keys: list[str]
    ids: list[list[int]]
    logps: list[Any] | None
    first: list[tuple[float, ...]]
    scored: list[Scored]

    def copy(self) -> Draw:
        """One whose rows can be put otherwise."""
        logps = None if self.logps is None else list(self.logps)
        return Draw(list(self.keys), list(self.ids), logps, list(self.first), list(self.scored))

    def put(self, rows: Sequence[int], other: Draw) -> None:
        """Let ``rows`` be those of another draw, in their order."""
        for place, row in enumerate(rows):
            self.keys[row], self.ids[row] = other.keys[place], other.ids[place]
            self.scored[row] = other.scored[place]
            if self.first:
                self.first[row] = other.first[place]
            if self.logps is not None and other.logps is not None:
                self.logps[row] = other.logps[place]


# Draws these rows for the tasks of these keys; the number is that of the attempt, from 1.
Drawer = Callable[[Sequence[int], Sequence[str], int], Draw]


def flat_groups(scored: Sequence[Scored], size: int) -> list[int]:
    """Numbers of the groups whose replies all earned the same."""
    return [
        number
        for number in range(len(scored) // size)
        if len({one.reward.main for one in scored[number * size : (number + 1) * size]}) == 1
    ]


class Substitutes:
    """Other problems for groups, by seed, round, attempt and group: the same on every run, and for
    a task at a forced level one at that level."""

    def __init__(self, tasks: Mapping[str, Task], seed: int) -> None:
        self._tasks = tasks
        self._seed = seed
        self._by_level: dict[float | None, list[str]] = {}
        for key, task in tasks.items():
            self._by_level.setdefault(task.level, []).append(key)

    def of(self, key: str, step: int, attempt: int, group: int) -> str:
        """The task to try instead of ``key``; itself, if it is the only one."""
        others = self._by_level[self._tasks[key].level]
        place = Random(seed_of(self._seed, "redraw", step, attempt, group)).randrange(len(others))
        return others[place] if others[place] != key else others[(place + 1) % len(others)]


def drawn_again(
    first: Draw,
    draw: Drawer,
    substitutes: Substitutes,
    *,
    size: int,
    attempts: int,
    step: int,
    group: int,
    count_all: Callable[[int], int],
    along: bool,
) -> tuple[Draw, int]:
    """What is learnt from instead of ``first``, and how many groups were drawn again here.

    ``group`` is the number of the first group among those of all processes; ``count_all`` adds a
    number up over processes, so that all of them go on as long as one does. ``along``: a process
    without flat groups draws one, too, for nothing, because generation is done together.
    """
    now, again = first.copy(), 0
    for attempt in range(1, attempts + 1):
        flat = flat_groups(now.scored, size)
        if not count_all(len(flat)):
            break
        chosen = flat or ([0] if along else [])
        if not chosen:
            continue
        rows = [row for number in chosen for row in _rows(number, size)]
        keys = [now.keys[row] for row in rows]
        for place, number in enumerate(chosen):
            at = slice(place * size, (place + 1) * size)
            keys[at] = [substitutes.of(keys[at][0], step, attempt, group + number)] * size
        found = draw(rows, keys, attempt)
        if flat:
            now.put(rows, found)
            again += len(flat)
    return now, again


def _rows(number: int, size: int) -> Iterator[int]:
    yield from range(number * size, (number + 1) * size)
