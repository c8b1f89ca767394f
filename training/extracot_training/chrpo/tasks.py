"""The problems that CHRPO trains on, with what was measured of them, and the order they come in.

Knows rows of stage ``reference`` and the renderer; knows no trainer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from extracot_training.errors import StageError
from extracot_training.records import Split, read_rows
from extracot_training.reference_rows import ReferenceRow
from extracot_training.rollout.base import PromptMaker


@dataclass(frozen=True, slots=True)
class Task:
    """A problem in policy mode: its prompt's ids, its right answer, r* and L_ref."""

    problem_id: str
    prompt_ids: tuple[int, ...]
    gold: str
    needed: float
    l_ref: float


@dataclass(frozen=True, slots=True)
class Tasks:
    """``left_out`` counts problems without L_ref (no reply at level 1.0 was ever closed) and,
    where those are not wanted, problems that no level solves."""

    chosen: tuple[Task, ...]
    left_out: int


def read_tasks(
    folder: Path,
    split: Split,
    maker: PromptMaker,
    *,
    levels: Sequence[float],
    unsolved: bool = True,
    limit: int | None = None,
) -> Tasks:
    """Tasks of one split, in the folder's order.

    Raises :class:`StageError` if there is none, or if an r* is none of ``levels``.
    """
    rows = [row for row in read_rows(folder, ReferenceRow) if row.split == split]
    usable = [row for row in rows if row.l_ref is not None and (unsolved or row.unanimous)][:limit]
    if not usable:
        raise StageError(f"{folder}: no problem of split {split!r} that could be used")
    for row in usable:
        if row.r_star not in levels:
            known = ", ".join(f"{level:g}" for level in levels)
            raise StageError(
                f"{folder}: r_star {row.r_star:g} of problem {row.problem_id!r} is no level of "
                f"the model ({known})"
            )
    chosen = tuple(
        Task(row.problem_id, maker.policy(row.question), row.gold, row.r_star, row.l_ref or 0.0)
        for row in usable
    )
    return Tasks(chosen, len(rows) - len(usable) if limit is None else 0)


def schedule(tasks: Sequence[Task], count: int, seed: int) -> list[str]:
    """Ids of ``count`` tasks: all of them shuffled, then all again in another order, and so on."""
    order: list[str] = []
    epoch = 0
    while len(order) < count:
        ids = [task.problem_id for task in tasks]
        Random(f"{seed} epoch {epoch}").shuffle(ids)
        order += ids
        epoch += 1
    return order[:count]
