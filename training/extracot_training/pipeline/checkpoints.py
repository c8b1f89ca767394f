"""Checkpoints in a stage's folder, so that a killed run can resume and is never taken for
finished: whole checkpoints told from torn ones, a log without lines from the future, a model folder
that is there at once. Knows the names the library gives its checkpoints, and no trainer.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from extracot_training.errors import TrainingError
from extracot_training.pipeline.files import write_atomic

CHECKPOINTS = "checkpoints"
LOG = "log.jsonl"
WHOLE = "whole"


class LossError(TrainingError):
    """The loss is no finite number."""


def mark_whole(folder: Path, step: int) -> None:
    """Say that the checkpoint of this step has been written to its end."""
    write_atomic(folder / f"checkpoint-{step}" / WHOLE, f"{step}\n")


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint; torn ones are removed on the way."""
    found: list[Path] = []
    for path in folder.glob("checkpoint-*"):
        if re.fullmatch(r"checkpoint-\d+", path.name) and (path / WHOLE).is_file():
            found.append(path)
        else:
            shutil.rmtree(path)
    return max(found, key=step_of, default=None)


def step_of(checkpoint: Path | None) -> int:
    """The step after which a checkpoint was written; 0 without one."""
    return int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0


def log_lines(log: Path) -> list[dict[str, Any]]:
    """The whole lines of a log; none without one."""
    lines = []
    for line in log.read_text(encoding="utf-8").splitlines() if log.is_file() else []:
        with suppress(json.JSONDecodeError):
            lines.append(json.loads(line))
    return lines


def cut_log(log: Path, step: int) -> None:
    """Drop the lines of steps after ``step``, which a resumed run will do again, and torn ones."""
    if log.is_file():
        kept = [json.dumps(line) + "\n" for line in log_lines(log) if line["step"] <= step]
        write_atomic(log, "".join(kept))


def publish_folder(target: Path, save: Callable[[Path], None]) -> None:
    """Let ``save`` fill a folder, then move its files into ``target``, ``config.json`` last.

    Until that one is there, nobody takes the folder for a model.
    """
    made = target / ".model.tmp"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    save(made)
    for path in sorted(made.iterdir(), key=lambda path: path.name == "config.json"):
        old = target / path.name
        if old.is_dir():
            shutil.rmtree(old)
        path.replace(old)
    made.rmdir()
