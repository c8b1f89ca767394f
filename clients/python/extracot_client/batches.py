"""Sweeps in batches that each ask in a way of their own, kept in one file and taken up again.

Builds on :meth:`extracot_client.Extracot.sweep`: a batch is one budget and one set of options for
some problems. Knows nothing of what is measured by it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from extracot_client.client import Extracot
from extracot_client.errors import ExtracotClientError, InvalidArgumentError
from extracot_client.requests import SolveOptions
from extracot_client.sweep_files import RowStore
from extracot_client.sweeps import SweepProblem, fingerprint
from extracot_client.types import Budget, SweepRow

QUESTION = "{question}"
BOXED = f"{QUESTION}\n\nPut the final answer within \\boxed{{}}."
"""How a question is put to a model that no server gives an instruction."""


class UnfinishedError(ExtracotClientError):
    """Some requests failed, and what is to come of them all cannot be said yet."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Problems to be asked in one way; ``name`` is what the rows are counted under."""

    name: str
    problems: Sequence[SweepProblem]
    budget: Budget
    options: SolveOptions = field(default_factory=SolveOptions)

    def kept(self, store: RowStore) -> list[SweepRow]:
        """The rows that are there already, failed ones left out."""
        found = (
            store.get(one, self.budget, fingerprint(one, self.options)) for one in self.problems
        )
        return [row for row in found if row is not None]


def run_batch(
    client: Extracot,
    batch: Batch,
    store: RowStore,
    *,
    concurrency: int,
    step: Callable[[str], None],
) -> list[SweepRow]:
    """Ask what is not kept yet, keep it, and give all rows in the order of the problems.

    A failed request is a row with its error; raises what all other requests would meet as well,
    with nothing lost that was answered before.
    """
    there = {row.problem_id: row for row in batch.kept(store)}
    source = client.sweep(
        batch.problems,
        [batch.budget],
        concurrency=concurrency,
        skip=lambda problem_id, *_: problem_id in there,
        **batch.options,
    )
    for row in source:
        there[row.problem_id] = store.add(row)
        step(f"{batch.name} {row.error or ''}")
    return [there[problem.id] for problem in batch.problems]


def check_failed(rows: Iterable[SweepRow], way_on: str) -> None:
    """Raise :class:`UnfinishedError` if requests failed; names the first and the way on."""
    failed = [row for row in rows if row.error is not None]
    if failed:
        raise UnfinishedError(
            f"{len(failed)} requests failed, the first for problem {failed[0].problem_id}: "
            f"{failed[0].error}; {way_on}"
        )


def put(problems: Sequence[SweepProblem], prompt: str) -> list[SweepProblem]:
    """The problems as they are sent: each question in its place in the prompt.

    Raises :class:`InvalidArgumentError` for a prompt without that place.
    """
    if QUESTION not in prompt:
        raise InvalidArgumentError(f"--prompt has no {QUESTION} in it", param="prompt")
    return [
        SweepProblem(one.id, prompt.replace(QUESTION, one.question), one.answer) for one in problems
    ]


def rows_file(out: Path, name: str, *told_apart: object) -> Path:
    """Where the rows of a run are kept, beside what it writes in the end.

    What makes replies no longer comparable is part of the name, so that they are never mixed.
    """
    text = json.dumps(told_apart, sort_keys=True, default=str)
    mark = hashlib.sha256(text.encode("utf-8")).hexdigest()[:8]
    return out.with_name(f"{out.stem}.{name}-{mark}.jsonl")
