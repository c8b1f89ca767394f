"""``extracot compare``: one problem at all budgets, a line of a table each."""

from __future__ import annotations

import argparse
import sys

from extracot_client.commands.common import (
    budgets_of,
    make_client,
    options_of,
    print_json,
    read_problem,
)
from extracot_client.formatting import seconds, tokens
from extracot_client.requests import SolveOptions
from extracot_client.sweeps import budget_key
from extracot_client.terminal import Progress, Style, table
from extracot_client.types import SweepRow

_HEAD = ("budget", "level", "reasoning", "tokens", "saved", "first", "total", "answer")


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
    if arguments.json:
        print_json([row.model_dump(mode="json") for row in ordered])
    else:
        style = Style.of(sys.stdout)
        print(table(_HEAD, [_cells(row) for row in ordered], style, left=2))
        print(style.dim(sampling_line(options_of(arguments))))
        if any(row.baseline_source == "assumed" for row in ordered):
            print(style.dim("saved: not counted where the baseline is assumed, not measured"))
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


def _cells(row: SweepRow) -> list[str]:
    answer = row.boxed if row.boxed is not None else row.answer or "(empty)"
    return [
        budget_key(row.budget),
        row.level or "–",
        tokens(row.reasoning_tokens),
        tokens(row.completion_tokens),
        tokens(row.saved_tokens_estimate),
        seconds(row.ttft),
        seconds(row.total),
        f"error: {row.error}" if row.error else answer,
    ]
