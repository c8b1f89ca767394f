"""One stage folder, several processes: the first keeps it, the others only work along.

A launcher starts the same command once per device. Only the first may
decide whether a folder is up to date, lock it and write its manifest; the others wait for its
word. Knows stages in general and no particular one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from extracot_training.pipeline.settings import StageConfig
from extracot_training.pipeline.stage import (
    Conditions,
    Counts,
    StageResult,
    StageRun,
    Status,
    run_stage,
)

WORLD_SIZE = "WORLD_SIZE"


def world_size() -> int:
    """How many processes run this command together."""
    return int(os.environ.get(WORLD_SIZE, "1"))


def is_first() -> bool:
    """Whether this process writes the stage's files."""
    return int(os.environ.get("RANK", "0")) == 0


def run_stage_together(
    name: str,
    config: StageConfig,
    inputs: Mapping[str, Path],
    work: Callable[[StageRun], Counts],
    *,
    force: bool = False,
    cpu: bool = False,
    conditions: Conditions | None = None,
) -> StageResult:
    """As :func:`run_stage`, for a ``work`` that several processes do together.

    Every process calls it. ``work`` runs in all of them or in none; it must write files only where
    :func:`is_first`. ``cpu``: the processes compute on CPUs even where there are GPUs. A fault in
    one process ends it; the launcher then ends the others.
    """
    if world_size() == 1:
        return run_stage(name, config, inputs, work, force=force, conditions=conditions)
    from accelerate import PartialState

    state = PartialState(cpu=cpu)
    told = False

    def together(stage: StageRun) -> Counts:
        nonlocal told
        told = True
        _tell((True, stage.resumed))
        return work(stage)

    try:
        if is_first():
            try:
                return run_stage(name, config, inputs, together, force=force, conditions=conditions)
            finally:
                if not told:  # up to date, or refused: nobody needs to wait any longer
                    _tell((False, False))
        begun, resumed = _tell(None)
        if not begun:
            return StageResult(Status.UP_TO_DATE, config.out, {})
        return StageResult(Status.DONE, config.out, work(StageRun(config.out, resumed=resumed)))
    finally:
        state.destroy_process_group()


def _tell(word: tuple[bool, bool] | None) -> tuple[bool, bool]:
    """The first process's (work begins, resumed), in every process."""
    import torch.distributed as dist

    box: list[Any] = [word]
    dist.broadcast_object_list(box, src=0)
    begun, resumed = box[0]
    return bool(begun), bool(resumed)
