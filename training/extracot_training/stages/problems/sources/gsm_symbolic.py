"""Reader of reasoning-gym's ``gsm_symbolic`` (Apache-2.0), one family per generator function.

An item's ``source_index`` is only its row number. Which function made it is in the data set's
``task_indices``: row ``i`` comes from ``generate_<task_indices[i]>``; that number is our family.
Its templates are GSM8K test questions with other numbers, listed by hand in
``data/gsm_symbolic_templates.json``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

from extracot_training.config.problems import GsmSymbolicSource
from extracot_training.errors import ConfigError, StageError
from extracot_training.pipeline.records import Problem
from extracot_training.stages.problems.sources.rows import Origin, Row, gsm8k_parts, problem

SOURCE = "gsm_symbolic"
LICENSE = "Apache-2.0"
# The data set ends every question with this request for a format, which is ours to make.
_FORMAT_REQUEST = " Give the result as your final answer. Do not include units."


def family_name(function: int) -> str:
    """The family of rows made by ``generate_<function>``."""
    return f"gsm_symbolic/{function}"


def read(source: GsmSymbolicSource) -> Iterator[Problem]:
    """Seeded rows; functions in ``heldout`` (or a seeded share of all) go to heldout_families.

    Rows whose gold is not a finite number, or whose question is broken ("exercise for 3 the amount"
    can't be seen from here, a float such as ``35.916666`` can), are left out.
    """
    data = _load(source)
    functions = sorted(set(data.task_indices))
    held_out = _held_out(source, functions)
    origin = Origin(SOURCE, LICENSE, source.split)
    held_origin = Origin(SOURCE, LICENSE, "heldout_families")
    release = version("reasoning-gym")
    for index in range(source.size):
        function = data.task_indices[index]
        item = data[index]
        values = {
            "question": str(item["question"]).removesuffix(_FORMAT_REQUEST),
            "answer": item["answer"],
            "worked": item["metadata"]["answer_cot"],
        }
        if not _usable(values):
            continue
        row = Row(Path(SOURCE), index + 1, values)
        yield problem(
            row, held_origin if function in held_out else origin,
            row.text("question"), row.text("answer"),
            solution=gsm8k_parts(row, "worked")[0], family=family_name(function),
            meta={"generator": function, "reasoning_gym": release},
        )  # fmt: skip


def _load(source: GsmSymbolicSource) -> Any:
    try:
        import reasoning_gym
    except ImportError as error:
        raise StageError("source kind 'gsm_symbolic' needs the package 'reasoning-gym'") from error
    return reasoning_gym.create_dataset("gsm_symbolic", size=source.size, seed=source.seed)


def _held_out(source: GsmSymbolicSource, functions: Sequence[int]) -> frozenset[int]:
    if unknown := sorted(set(source.heldout) - set(functions)):
        raise ConfigError(f"gsm_symbolic: no row of generator function {unknown[0]} to hold out")
    count = round(source.heldout_share * len(functions))
    drawn = Random(f"gsm_symbolic:{source.seed}").sample(list(functions), count)
    return frozenset(source.heldout) | frozenset(drawn)


def _usable(values: Mapping[str, Any]) -> bool:
    try:
        gold = float(str(values["answer"]).replace(",", ""))
    except ValueError:
        return False
    # A long decimal in the question is a rounded fraction: the stated numbers don't give the gold.
    return math.isfinite(gold) and not any(
        len(word.strip(".,%$").partition(".")[2]) > 4 for word in str(values["question"]).split()
    )
