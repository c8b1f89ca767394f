"""``extracot compare``: one problem at all budgets, a line of a table each."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from extracot_client.commands.common import (
    budgets_of,
    make_client,
    options_of,
    print_json,
    read_problem,
)
from extracot_client.formatting import figure_cells, no_saving_words
from extracot_client.requests import SolveOptions
from extracot_client.savings import RowSaving, add_up, row_savings, saved_fields
from extracot_client.sweeps import budget_key
from extracot_client.terminal import Progress, Style, table
from extracot_client.types import SweepRow

_HEAD = (
    *("budget", "level", "reasoning", "tokens", "saved", "in reasoning"),
    *("first", "total", "answer"),
)


def run(arguments: argparse.Namespace) -> int:
    """Ask at every budget and print; 1 if a request failed."""
    problem = read_problem(arguments.problem)
    with make_client(arguments) as client:
        budgets = budgets_of(arguments, client)
        progress = Progress(sys.stderr, len(budgets))
        rows: dict[str, SweepRow] = {}
        try:
            for row in client.sweep(
                [problem], budgets, concurrency=arguments.concurrency, **options_of(arguments)
            ):
                rows[budget_key(row.budget)] = row
                progress.step(budget_key(row.budget))
        finally:
            progress.close()
    ordered = [rows[budget_key(budget)] for budget in budgets]
    savings = row_savings(ordered)
    if arguments.json:
        told = [saved_fields(add_up([saving])) for saving in savings]
        rows_told = zip(ordered, told, strict=True)
        print_json([row.model_dump(mode="json") | saved for row, saved in rows_told])
    else:
        style = Style.of(sys.stdout)
        cells = [_cells(row, saving) for row, saving in zip(ordered, savings, strict=True)]
        print(table(_HEAD, cells, style, left=2))
        print(style.dim(sampling_line(options_of(arguments))))
        print(style.dim(saved_line(ordered, savings)))
    return int(any(row.error for row in ordered))


def sampling_line(options: SolveOptions) -> str:
    """How the replies were drawn, in words.

    >>> sampling_line({"temperature": 0.0})
    'sampling: temperature 0; one reply a budget'
    """
    named = [
        f"{name.replace('_', '-')} {value:g}"
        for name in ("temperature", "top_p", "seed", "max_tokens")
        if isinstance(value := options.get(name), int | float)
    ]
    drawn = "sampling: " + (", ".join(named) or "the model's own")
    repeats = options.get("temperature") == 0 or "seed" in options
    told = "" if repeats else ", drawn at random: another run differs"
    return f"{drawn}; one reply a budget{told}"


def saved_line(rows: Sequence[SweepRow], savings: Sequence[RowSaving | None]) -> str:
    """What the savings of the table are measured by, in words."""
    known = [saving for saving in savings if saving is not None]
    if any(saving.measured for saving in known):
        return (
            "saved: tokens less than the native reply of this table; one pair each, chance included"
        )
    if known:
        return "saved: tokens less than the server's baseline, an estimate"
    reasons = [why for row in rows if (why := no_saving_words(row.no_saving))]
    return f"saved: not claimed ({reasons[0]})" if reasons else "saved: not known"


def _cells(row: SweepRow, saving: RowSaving | None) -> list[str]:
    answer = row.boxed if row.boxed is not None else row.answer or "(empty)"
    return [
        budget_key(row.budget),
        *figure_cells(row, saving),
        f"error: {row.error}" if row.error else answer,
    ]
