"""All numbers of an evaluation, as plain data, from its judged rows. Knows no server and no file.

The unit is the problem: accuracies are means over problems of the mean over samples (avg@k),
intervals resample problems, and every comparison is paired on the problems that both sides have.
A problem counts at a budget if all its samples were answered; refused requests are counted apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from extracot.usage import mean_of_ratios
from extracot_training.config.evaluate import EvaluateConfig
from extracot_training.evaluation.card import card_of
from extracot_training.evaluation.choice import against_every, against_fixed, information
from extracot_training.evaluation.rows import EvalRow, budget_name
from extracot_training.evaluation.server import Server
from extracot_training.evaluation.table import (
    AUTO,
    FULL,
    NATIVE,
    Table,
    accuracy_difference,
    busy_seconds,
    ratios,
    share,
    spread,
    tables_of,
)
from extracot_training.evaluation.working import causes_of
from extracot_training.math_text.verify import grader
from extracot_training.pipeline.records import Problem
from extracot_training.pipeline.statistics import (
    Estimate,
    estimate,
    percentile,
    ratio_estimate,
)

REFERENCES = (FULL, NATIVE)
T = TypeVar("T")


def figures_of(
    rows: Sequence[EvalRow],
    problems: Sequence[Problem],
    config: EvaluateConfig,
    server: Server,
    r_star: Mapping[str, float],
) -> dict[str, Any]:
    """Everything the report says; ``card`` in it is what stage ``publish`` reads."""
    tables = tables_of(rows, config.samples)
    sources = ", ".join(sorted({problem.source for problem in problems}))
    splits = ", ".join(sorted({problem.split for problem in problems}))
    budgets = {
        name: _budget(name, tables, config, r_star)
        for budget in config.budgets
        if (name := budget_name(budget)) in tables and tables[name].rows
    }
    figures: dict[str, Any] = {
        "dataset": config.dataset or f"{sources} ({splits})",
        "problems": len(problems),
        "synthetic": sum(problem.synthetic for problem in problems),
        "samples": config.samples,
        "model": config.model,
        "server": asdict(server),
        "sampling": config.sampling.model_dump(exclude_none=True),
        "concurrency": config.concurrency,
        "resamples": config.resamples,
        "margin": config.margin,
        "grader": grader(),
        "refused": {name: table.refused for name, table in tables.items() if table.refused},
        "budgets": budgets,
        "published": config.published,
    }
    if AUTO in tables and tables[AUTO].rows:
        figures["auto_against_fixed"] = against_fixed(tables, config)
        figures["auto_against_every"] = against_every(tables, config)
    questions = (problem.question for problem in problems)
    figures["card"] = card_of(figures, tables, config, server, questions)
    return figures


def _budget(
    name: str, tables: Mapping[str, Table], config: EvaluateConfig, r_star: Mapping[str, float]
) -> dict[str, Any]:
    table = tables[name]
    rows = table.flat()
    found: dict[str, Any] = {
        "n": len(table.rows),
        "rows": len(rows),
        "incomplete_problems": table.incomplete,
        "accuracy": asdict(_accuracy(table, config)),
        "strict": asdict(_accuracy(table, config, strict=True)),
        "tokens": {
            "reasoning": spread([row.reasoning_tokens or 0 for row in rows]),
            "answer": spread([row.answer_tokens or 0 for row in rows]),
            "completion": spread([row.completion_tokens for row in rows]),
        },
        "unclosed_rate": share(rows, lambda row: row.unclosed or row.closed_by == "server"),
        "cut_rate": share(rows, lambda row: row.unclosed),
        "cap_hit_rate": share(rows, lambda row: row.cap_hit),
        "no_box_rate": share(rows, lambda row: row.boxed is None),
        "length_rate": share(rows, lambda row: row.finish_reason == "length"),
        "working": causes_of(rows),
        "against": {
            other: _against(table, tables[other], config)
            for other in REFERENCES
            if other in tables and other != name and table.common(tables[other])
        },
        "times": _times(rows),
        "by_steps": _grouped(table, tables.get(FULL), lambda row: row.steps),
        "by_family": _grouped(table, tables.get(FULL), lambda row: row.family),
        "by_asked": _grouped(table, tables.get(FULL), lambda row: row.asked),
    }
    if name == AUTO:
        found["levels"] = _levels(rows)
        found["levels_by_steps"] = _levels_by(rows, lambda row: row.steps)
        found["levels_by_asked"] = _levels_by(rows, lambda row: row.asked)
        found["levels_by_r_star"] = _levels_by(rows, lambda row: r_star.get(row.problem_id))
        found["choice"] = information(
            rows,
            {
                "r_star": lambda row: r_star.get(row.problem_id),
                "steps": lambda row: row.steps,
                "family": lambda row: row.family,
                "asked": lambda row: row.asked,
            },
        )
    return found


def _accuracy(table: Table, config: EvaluateConfig, *, strict: bool = False) -> Estimate:
    values = [table.accuracy(problem, strict=strict) for problem in table.rows]
    return estimate(values, **config.bootstrap)


def _against(table: Table, other: Table, config: EvaluateConfig) -> dict[str, Any]:
    """Paired with another budget: accuracy differences, and the realised ratio both ways."""
    both = table.common(other)
    found: dict[str, Any] = {"n": len(both)}
    for name, strict in (("accuracy", False), ("strict", True)):
        difference = accuracy_difference(table, other, config, strict=strict)
        found[name] = asdict(difference)
        found[f"{name}_non_inferior"] = difference.low > -config.margin
    parts, wholes = (list(map(side.reasoning, both)) for side in (table, other))
    ratio = ratio_estimate(parts, wholes, **config.bootstrap)
    found["ratio_of_sums"] = None if ratio is None else asdict(ratio)
    found["mean_of_ratios"] = mean_of_ratios(parts, wholes)
    parts, wholes = (list(map(side.total, both)) for side in (table, other))
    whole = ratio_estimate(parts, wholes, **config.bootstrap)
    found["ratio_of_totals"] = None if whole is None else asdict(whole)
    single = ratios(table, other)
    for name, share_below in (("p10", 0.1), ("p90", 0.9)):
        found[name] = percentile(single, share_below) if single else None
    return found


def _times(rows: Sequence[EvalRow]) -> dict[str, Any]:
    """Seconds at the stated concurrency, and tokens per second while at least one request ran."""
    busy = busy_seconds([(row.started, row.started + row.seconds) for row in rows])
    tokens = sum(row.completion_tokens for row in rows)
    return {
        "first_token": _spread_of(row.first_token_s for row in rows),
        "first_answer_token": _spread_of(row.first_answer_s for row in rows),
        "end_to_end": _spread_of(row.seconds for row in rows),
        "busy_s": busy,
        "tokens_per_s": tokens / busy if busy > 0 else None,
        "requests_per_s": len(rows) / busy if busy > 0 else None,
        "retried": sum(row.attempts > 1 for row in rows),
    }


def _spread_of(values: Iterable[float | None]) -> dict[str, float] | None:
    there = [value for value in values if value is not None]
    return spread(there) if there else None


def _grouped(
    table: Table, full: Table | None, group: Callable[[EvalRow], object]
) -> dict[str, dict[str, Any]]:
    """Problems by a property: how many, accuracy, mean reasoning, ratio of sums against 1.0."""
    found: dict[str, dict[str, Any]] = {}
    for value, mine in _groups(table.rows, lambda problem: group(table.rows[problem][0])):
        both = [problem for problem in mine if full is not None and problem in full.rows]
        whole = sum(map(full.reasoning, both)) if full is not None else 0
        found[str(value)] = {
            "n": len(mine),
            "accuracy": sum(map(table.accuracy, mine)) / len(mine),
            "reasoning": table.mean_reasoning(mine),
            "ratio": sum(map(table.reasoning, both)) / whole if whole else None,
        }
    return found


def _levels(rows: Sequence[EvalRow]) -> dict[str, float]:
    """How often each level was chosen."""
    chosen = Counter(row.level for row in rows if row.level is not None)
    total = sum(chosen.values())
    return {str(level): chosen[level] / total for level in sorted(chosen)}


def _levels_by(
    rows: Sequence[EvalRow], group: Callable[[EvalRow], float | None]
) -> dict[str, dict[str, Any]]:
    """Chosen levels by difficulty: how many, the mean level, and how often each was chosen."""
    chosen = [row for row in rows if row.level is not None]
    return {
        str(value): {
            "n": len(mine),
            "mean": sum(row.level or 0.0 for row in mine) / len(mine),
            "levels": _levels(mine),
        }
        for value, mine in _groups(chosen, group)
    }


def _groups(items: Iterable[T], group: Callable[[T], Any]) -> list[tuple[Any, list[T]]]:
    """``(value, items)`` in the order of the values; items without a value are left out."""
    found: dict[Any, list[T]] = {}
    for item in items:
        if (value := group(item)) is not None:
            found.setdefault(value, []).append(item)
    return sorted(found.items())
