"""The rows of an evaluation as a table per budget, and what is counted on it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from extracot_training.evaluation.rows import EvalRow
from extracot_training.pipeline.settings import BootstrapSettings
from extracot_training.pipeline.statistics import Estimate, paired, percentile

FULL, NATIVE, AUTO = "1.0", "native", "auto"


@dataclass(frozen=True, slots=True)
class Table:
    """The answered rows of one budget: ``problem id -> its samples``, complete problems only."""

    rows: Mapping[str, tuple[EvalRow, ...]]
    refused: int
    incomplete: int

    def common(self, *others: Table) -> list[str]:
        """The problems that the others have too."""
        return [problem for problem in self.rows if all(problem in one.rows for one in others)]

    def flat(self) -> list[EvalRow]:
        return [row for samples in self.rows.values() for row in samples]

    def accuracy(self, problem: str, *, strict: bool = False) -> float:
        """Share of a problem's samples that are right."""
        samples = self.rows[problem]
        return sum(row.strict if strict else row.correct for row in samples) / len(samples)

    def reasoning(self, problem: str) -> int:
        """Reasoning tokens of all samples of a problem."""
        return sum(row.reasoning_tokens or 0 for row in self.rows[problem])

    def total(self, problem: str) -> int:
        """All tokens generated for all samples of a problem."""
        return sum(row.completion_tokens for row in self.rows[problem])

    def mean_total(self, problems: Sequence[str]) -> float:
        """Tokens generated per reply to these problems."""
        replies = sum(len(self.rows[problem]) for problem in problems)
        return sum(map(self.total, problems)) / replies

    def mean_reasoning(self, problems: Sequence[str]) -> float:
        """Reasoning tokens per reply to these problems."""
        replies = sum(len(self.rows[problem]) for problem in problems)
        return sum(map(self.reasoning, problems)) / replies


def tables_of(rows: Iterable[EvalRow], samples: int) -> dict[str, Table]:
    """The rows by budget."""
    found: dict[str, dict[str, list[EvalRow]]] = {}
    refused: Counter[str] = Counter()
    for row in rows:
        mine = found.setdefault(row.budget, {}).setdefault(row.problem_id, [])
        if row.refused is None:
            mine.append(row)
        else:
            refused[row.budget] += 1
    return {
        budget: Table(
            rows={name: tuple(mine) for name, mine in problems.items() if len(mine) == samples},
            refused=refused[budget],
            incomplete=sum(len(mine) != samples for mine in problems.values()),
        )
        for budget, problems in found.items()
    }


def levels_of(budgets: Iterable[str]) -> list[str]:
    """The fixed levels among the names of budgets, ascending."""
    return sorted((name for name in budgets if name[0].isdigit()), key=float)


def ratios(table: Table, other: Table) -> list[float]:
    """Per problem: reasoning tokens over those of ``other``, where that reasoned at all."""
    return [
        table.reasoning(problem) / whole
        for problem in table.common(other)
        if (whole := other.reasoning(problem)) > 0
    ]


def accuracy_difference(
    ours: Table, theirs: Table, config: BootstrapSettings, *, strict: bool = False
) -> Estimate:
    """Ours minus theirs, paired on the problems that both have; one is needed."""
    both = ours.common(theirs)
    left, right = ([side.accuracy(one, strict=strict) for one in both] for side in (ours, theirs))
    return paired(left, right, **config.bootstrap)


def busy_seconds(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of spans: a run that was cut and resumed does not count its pause."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean, median and 90th percentile; one value is needed."""
    return {
        "mean": sum(values) / len(values),
        "p50": percentile(values, 0.5),
        "p90": percentile(values, 0.9),
    }


def share(rows: Sequence[EvalRow], test: Callable[[EvalRow], bool]) -> float:
    """Share of the rows for which ``test`` holds."""
    return sum(map(test, rows)) / len(rows)
