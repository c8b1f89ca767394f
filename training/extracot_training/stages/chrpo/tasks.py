"""The problems that CHRPO trains on, with their measured r*, and their order.

Knows rows of stage ``reference`` and the renderer; knows no trainer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import floor
from pathlib import Path
from random import Random

from extracot_training.errors import StageError
from extracot_training.generation.rollout.base import PromptMaker
from extracot_training.pipeline.records import Split, read_rows
from extracot_training.pipeline.reference_rows import ReferenceRow, Which


@dataclass(frozen=True, slots=True)
class Task:
    """A problem in policy mode: its prompt's ids, its right answer, r*, L_ref and the tokens that
    its answer needs.

    Or at a forced ``level``, which the prompt names; what the problem needs is no question then,
    and ``needed`` is that level.
    """

    problem_id: str
    prompt_ids: tuple[int, ...]
    gold: str
    needed: float
    l_ref: float
    level: float | None = None
    need: float = 0.0

    @property
    def key(self) -> str:
        """``problem_id``, or ``problem_id@0.4`` at a forced level."""
        return self.problem_id if self.level is None else f"{self.problem_id}@{self.level:g}"


@dataclass(frozen=True, slots=True)
class Tasks:
    """``forced`` is empty or has each of the ``chosen`` problems at every level. ``left_out``
    counts problems without L_ref (no reply at level 1.0 was ever closed) and, where those are not
    wanted, problems that no level solves. ``measured`` has each problem's counts of right replies
    and of all, by ascending level."""

    chosen: tuple[Task, ...]
    forced: tuple[Task, ...]
    left_out: int
    measured: Mapping[str, tuple[list[float], list[float]]] = field(default_factory=dict)


def read_tasks(
    folder: Path,
    split: Split,
    maker: PromptMaker,
    *,
    levels: Sequence[float],
    which: Which = "estimated",
    unsolved: bool = True,
    at_levels: bool = False,
    limit: int | None = None,
) -> Tasks:
    """Tasks of one split, in the folder's order; those at forced levels only if ``at_levels``.

    Raises :class:`StageError` if there is none, if an r* is none of ``levels``, or if a problem's
    id is that of another one at a level.
    """
    rows = [row for row in read_rows(folder, ReferenceRow) if row.split == split]
    usable = [row for row in rows if row.l_ref is not None and (unsolved or row.solved(which))][
        :limit
    ]
    if not usable:
        raise StageError(
            f"{folder}: no problem of split {split!r} that could be used: of {len(rows)} none has "
            "a reply at level 1.0 that ended its reasoning"
            + ("" if unsolved else " and a level that solves it")
            + " (more problems, a larger k or max_tokens of stage reference, or a longer sft)"
        )
    for row in usable:
        if (needed := row.needed(which)) not in levels:
            known = ", ".join(f"{level:g}" for level in levels)
            raise StageError(
                f"{folder}: r_star {needed:g} of problem {row.problem_id!r} is no level of "
                f"the model ({known})"
            )
    chosen = tuple(
        Task(
            row.problem_id, maker.policy(row.question), row.gold, row.needed(which),
            row.l_ref or 0.0, None, row.need,
        )
        for row in usable
    )  # fmt: skip
    forced = tuple(
        Task(
            row.problem_id, maker.level(row.question, level), row.gold, level, row.l_ref or 0.0,
            level, row.need,
        )
        for row in usable
        for level in (levels if at_levels else ())
    )  # fmt: skip
    if len({task.key for task in (*chosen, *forced)}) < len(chosen) + len(forced):
        raise StageError(
            f"{folder}: a problem has the id of another one at a level (such as p@0.4)"
        )
    measured = {row.problem_id: _counts(row, levels) for row in usable}
    return Tasks(chosen, forced, len(rows) - len(usable) if limit is None else 0, measured)


def _counts(row: ReferenceRow, levels: Sequence[float]) -> tuple[list[float], list[float]]:
    found = {one.level: one.attempts for one in row.levels}
    tries = [found.get(level, []) for level in levels]
    right = [float(sum(one.correct for one in own)) for own in tries]
    return right, [float(len(own)) for own in tries]


def schedule(
    tasks: Sequence[Task], count: int, seed: int, *, forced: Sequence[Task] = (), share: float = 0.0
) -> list[str]:
    """Keys of ``count`` tasks: all of them shuffled, then all again in another order, and so on.

    Of those, ``share`` (0 to 1) are replaced by the problem's task at a forced level: spread
    evenly, and every level in turn.
    """
    at_level: dict[str, list[str]] = {}
    for task in forced:
        at_level.setdefault(task.problem_id, []).append(task.key)
    order: list[str] = []
    epoch = 0
    while len(order) < count:
        ids = [task.problem_id for task in tasks]
        Random(f"{seed} epoch {epoch}").shuffle(ids)
        order += ids
        epoch += 1
    for place in range(count):
        turn = floor(place * share)
        if floor((place + 1) * share) > turn:
            levels = at_level[order[place]]
            order[place] = levels[turn % len(levels)]
    return order[:count]
