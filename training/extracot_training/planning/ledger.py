"""What each folder of a plan has or will have: rows by split, their tokens, the model in it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from extracot_training.config.plan import Assumptions
from extracot_training.errors import ConfigError, TrainingError
from extracot_training.pipeline.data_files import ABSENT, read_values, refuse, value_at
from extracot_training.pipeline.records import rows_file
from extracot_training.planning.shape import Shape, shape_of

SAMPLED = 2_000  # rows whose lengths are read of a file that is there
# Tokens of a template and of the instruction around a question.
TEMPLATE = 35.0


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows by split, or ``all`` where they have none. ``prompt``, ``reasoning`` and ``answer`` are
    mean tokens. ``known``: read from what is there, not estimated."""

    splits: Mapping[str, float]
    prompt: float
    reasoning: float = 0.0
    answer: float = 0.0
    known: bool = False

    def count(self, *splits: str) -> float:
        """Rows of these splits; of all of them without any."""
        chosen = splits or tuple(self.splits)
        return sum(self.splits.get(split, 0.0) for split in chosen)

    @property
    def tokens(self) -> float:
        """Mean tokens of a row."""
        return self.prompt + self.reasoning + self.answer


@dataclass(slots=True)
class Ledger:
    """Filled stage by stage, in the order in which they would run."""

    assume: Assumptions
    rows: dict[str, Rows] = field(default_factory=dict)
    models: dict[str, Shape] = field(default_factory=dict)

    def put(self, folder: Path, rows: Rows) -> None:
        self.rows[str(folder)] = rows

    def of(self, folder: Path, key: str) -> Rows:
        """What the folder has or will have. Raises :class:`ConfigError` where nobody knows."""
        found = self.rows.get(str(folder))
        if found is not None:
            return found
        if finished(folder):
            rows = read_folder(folder, self.assume)
            self.put(folder, rows)
            return rows
        raise ConfigError(
            f"setting {key!r}: {folder} is not there or not finished, and no stage before makes it",
            key=key,
        )

    def shape(self, model: str) -> Shape:
        """Of a model by name, or that a stage before makes."""
        found = self.models.get(model) or shape_of(model, self.assume.weights)
        if found is None:
            raise ConfigError(
                f"the sizes of {model!r} are not known here: give a folder with its config.json, "
                "or --assume weights=1.7e9",
                key="model",
            )
        return found


def finished(folder: Path) -> bool:
    """Whether a stage has ended there."""
    manifest = folder / "stage.json"
    if not manifest.is_file():
        return False
    try:
        found = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{manifest}: cannot be read ({error})") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{manifest}: want an object, not a {type(found).__name__}")
    return found.get("finished") is not None


def read_folder(folder: Path, assume: Assumptions) -> Rows:
    """Rows of a finished stage: all are counted, the first are measured."""
    splits: Counter[str] = Counter()
    first: list[Mapping[str, Any]] = []
    for _, row in read_values(rows_file(folder)):
        splits[str(row.get("split") or "all")] += 1
        if len(first) < SAMPLED:
            first.append(row)
    if not first:
        raise ConfigError(f"{folder}: has no rows")
    if "prompt_ids" in first[0]:
        prompt = mean([len(row["prompt_ids"]) for row in first])
        reasoning = mean([row["reasoning_tokens"] for row in first])
        return Rows(splits, prompt, reasoning,
                    mean([len(row["reply_ids"]) for row in first]) - reasoning, True)  # fmt: skip
    prompt = mean([len(row.get("question", "")) for row in first]) / assume.characters + TEMPLATE
    reasoning = mean([
        row.get("tokens") or len(row.get("reasoning") or "") / assume.characters for row in first
    ])  # fmt: skip
    return Rows(splits, prompt, reasoning, assume.answer_tokens if reasoning else 0.0, True)


def count_problems(
    path: Path, assume: Assumptions, key: str = "question", *, skip: bool = False
) -> tuple[int, float]:
    """Rows of a problem file of any kind that is read, and the mean tokens of its questions, which
    ``key`` holds. Raises :class:`ConfigError` for a file that the stage could not read either.
    ``skip``: without what is no row."""
    rows = read_values(path, (lambda _: None) if skip else refuse)
    try:
        lengths = [len(_question(values, key)) for _, values in islice(rows, SAMPLED)]
        count = len(lengths) + sum(1 for _ in rows)
    except TrainingError as error:
        raise ConfigError(str(error)) from error
    return count, mean(lengths) / assume.characters


def _question(values: Mapping[str, Any], key: str) -> str:
    found = value_at(values, key)
    return str((None if found is ABSENT else found) or values.get("problem") or "")


def mean(values: list[Any]) -> float:
    """0 for none."""
    return float(sum(values) / len(values)) if values else 0.0
