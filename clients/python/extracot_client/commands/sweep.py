"""``extracot sweep``: many problems at several budgets; rows kept, a table, a picture."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from extracot_client.base import only_model
from extracot_client.client import Extracot
from extracot_client.commands.common import (
    budgets_of,
    check_files,
    make_client,
    note,
    options_of,
    print_json,
    read_problems_of,
)
from extracot_client.commands.kept_rows import open_rows
from extracot_client.formatting import percent, seconds, tokens
from extracot_client.plots import draw_sweep
from extracot_client.problem_files import ANSWER_FIELDS
from extracot_client.savings import LEAST_FOR_INTERVAL
from extracot_client.sweep_files import RowStore, write_csv
from extracot_client.sweeps import (
    BudgetSummary,
    SweepProblem,
    budget_key,
    fingerprint,
    summarise,
)
from extracot_client.terminal import Progress, Style, printable, table
from extracot_client.types import Budget, SweepRow

_HEAD = (
    *("budget", "n", "failed", "right", "95%"),
    *("reasoning", "tokens", "of native", "saved", "in reasoning", "time"),
)
_AGAIN = "the same command goes on from there"


def run(arguments: argparse.Namespace) -> int:
    """Ask, keep, add up; 1 if rows failed."""
    problems = read_problems_of(arguments.problems, arguments.limit)
    _check_outputs(arguments)
    with make_client(arguments) as client:
        budgets = budgets_of(arguments, client)
        rows = _rows(arguments, client, problems, budgets)
    summaries = summarise(rows, budgets)
    try:
        drawn = _write_files(arguments, rows, summaries)
    finally:
        _show(arguments, rows, summaries)
    if drawn is not None:
        sys.stderr.write(drawn + "\n")
    failed = sum(summary.errors for summary in summaries)
    if failed:
        again = "; run the same command again to retry them" if arguments.out else ""
        sys.stderr.write(f"{failed} of {len(rows)} requests failed{again}\n")
        first = next(row for row in rows if row.error)
        sys.stderr.write(printable(f"first: problem {first.problem_id}: {first.error}") + "\n")
    return int(failed > 0)


def _write_files(
    arguments: argparse.Namespace, rows: Sequence[SweepRow], summaries: Sequence[BudgetSummary]
) -> str | None:
    """What is to be said of the picture, if there is to be one."""
    if arguments.csv:
        write_csv(Path(arguments.csv), rows)
    return draw_sweep(summaries, Path(arguments.plot), _title(rows)) if arguments.plot else None


def _show(
    arguments: argparse.Namespace, rows: Sequence[SweepRow], summaries: Sequence[BudgetSummary]
) -> None:
    if arguments.json:
        print_json(
            {
                "summary": [summary.to_dict() for summary in summaries],
                "rows": [row.model_dump(mode="json") for row in rows],
            }
        )
    else:
        _print_table(rows, summaries)


def _title(rows: Sequence[SweepRow]) -> str:
    models = sorted({row.model for row in rows if row.model})
    graded = {row.problem_id for row in rows if row.correct is not None}
    return f"{', '.join(models)}: {len(graded)} problems with a known answer"


def _check_outputs(arguments: argparse.Namespace) -> None:
    """The folder of the rows is made."""
    if arguments.out and not Path(arguments.out).is_dir():
        Path(arguments.out).parent.mkdir(parents=True, exist_ok=True)
    check_files(arguments, "out", "csv", "plot", read=arguments.problems)


def _rows(
    arguments: argparse.Namespace,
    client: Extracot,
    problems: Sequence[SweepProblem],
    budgets: Sequence[Budget],
) -> list[SweepRow]:
    """All rows of this sweep, kept ones and new ones, in the order of problems and budgets."""
    options = options_of(arguments)
    if not options.get("model"):  # Rows are of one model, so what is there depends on its name.
        options["model"] = only_model(client.models())
    pairs = [(problem, budget) for problem in problems for budget in budgets]
    rows: dict[tuple[str, str], SweepRow] = {}
    with _kept(arguments, client, options.get("model")) as store:
        for problem, budget in pairs if store else ():
            row = store.get(problem, budget, fingerprint(problem, options)) if store else None
            if row is not None:
                rows[(problem.id, budget_key(budget))] = row
        if rows:
            note(f"{len(rows)} of {len(pairs)} rows are in {arguments.out} already")
        there = frozenset(rows)
        source = client.sweep(
            problems,
            budgets,
            concurrency=arguments.concurrency,
            skip=lambda problem_id, budget, _: (problem_id, budget_key(budget)) in there,
            **options,
        )
        progress = Progress(sys.stderr, len(pairs), done=len(rows))
        whole = False
        try:
            for row in source:
                row = row if store is None else store.add(row)
                rows[(row.problem_id, budget_key(row.budget))] = row
                progress.step(f"{budget_key(row.budget)} {row.error or ''}")
            whole = True
        finally:
            progress.close()
            if store is not None and rows and not whole:
                note(f"{len(rows)} of {len(pairs)} rows are in {arguments.out}; {_AGAIN}")
    return [rows[(problem.id, budget_key(budget))] for problem, budget in pairs]


def _kept(
    arguments: argparse.Namespace, client: Extracot, model: str | None
) -> AbstractContextManager[RowStore | None]:
    if not arguments.out:
        return nullcontext()
    return open_rows(Path(arguments.out), client, model, ratios=True)


def _print_table(rows: Sequence[SweepRow], summaries: Sequence[BudgetSummary]) -> None:
    style = Style.of(sys.stdout)
    print(table(_HEAD, [_cells(summary) for summary in summaries], style))
    remarks = []
    against = {summary.saved_against for summary in summaries} - {None}
    if "native rows" in against:
        remarks.append(
            "saved: all tokens of a reply less than of the native one to the same problem (mean)"
            + (f", with its 95% interval from {LEAST_FOR_INTERVAL} problems on")
        )
    elif against:
        remarks.append(
            "saved: all tokens of a reply less than the server's baseline (mean, an estimate): "
            "`native` among the budgets measures it"
        )
    elif any(summary.assumed_baselines for summary in summaries):
        remarks.append("saved: not counted where the baseline is assumed, not measured")
    if any(_partly(summary) for summary in summaries):
        remarks.append("saved: of the replies that can be compared")
    if not any(row.gold is not None for row in rows):
        remarks.append(f"right: no problem has a known answer ({', '.join(ANSWER_FIELDS)})")
    elif not any(summary.graded for summary in summaries):
        remarks.append("right: no problem with a known answer was answered")
    for remark in remarks:
        print(style.dim(remark))


def _partly(summary: BudgetSummary) -> bool:
    """Whether either saving is of some replies and not of all."""
    whole = summary.n - summary.errors
    return any(0 < count < whole for count in (summary.saved_rows, summary.total_saved_rows))


def saved_words(summary: BudgetSummary) -> str:
    """All tokens saved a reply, with the interval where there is one."""
    rows = summary.total_saved_rows
    low, high = summary.total_saved_low, summary.total_saved_high
    mean = tokens(_each(summary.total_saved_tokens, rows))
    if low is None or high is None:
        return mean
    return f"{mean} ({tokens(_each(low, rows))} to {tokens(_each(high, rows))})"


def _each(total: float | None, rows: int) -> float | None:
    return None if total is None else total / rows


def _cells(summary: BudgetSummary) -> list[str]:
    low, high = summary.accuracy_low, summary.accuracy_high
    return [
        summary.budget,
        str(summary.n),
        str(summary.errors),
        percent(summary.accuracy),
        "–" if low is None or high is None else f"{100 * low:.0f}–{100 * high:.0f}",
        tokens(summary.reasoning_tokens),
        tokens(summary.completion_tokens),
        percent(summary.ratio_to_native),
        saved_words(summary),
        tokens(_each(summary.saved_tokens, summary.saved_rows)),
        seconds(summary.total_seconds),
    ]
