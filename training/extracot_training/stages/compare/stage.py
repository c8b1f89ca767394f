"""Stage ``compare``: several evaluations as one table and one plot, paired with a base run.

Runs over different problems can be shown side by side; differences are taken over the problems
that both have, and said to be missing where there are none. A difference is of models only where
one grader judged both by the same golds: other golds are an error, other graders are told of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from extracot.answers import same_answer
from extracot_training.config.compare import CompareConfig
from extracot_training.errors import StageError
from extracot_training.evaluation.card import REPORT_FILENAME
from extracot_training.evaluation.plots import BY_TOKENS, accuracy_against_tokens
from extracot_training.evaluation.rows import EvalRow
from extracot_training.evaluation.table import FULL, Table, accuracy_difference, tables_of
from extracot_training.pipeline.files import write_atomic
from extracot_training.pipeline.markdown import cell, counts, interval, number, table
from extracot_training.pipeline.progress import warn
from extracot_training.pipeline.records import read_rows, rows_file
from extracot_training.pipeline.stage import Counts, StageResult, StageRun, run_stage

Runs = Mapping[str, dict[str, Any]]
UNSTATED = "not stated"
NAMED = 3
"""So many problems with other golds are named; the rest are counted."""


def run(config: CompareConfig, *, force: bool = False) -> StageResult:
    """Write ``report.md``, ``report.json`` and the plot; warn where graders differ. Raises
    :class:`StageError` for a folder without a finished evaluation, for an unknown ``base``, and
    where a problem's gold is another one in the base run."""
    base = config.base or next(iter(config.runs))
    if base not in config.runs:
        raise StageError(f"base {base!r}: no run of that name; there are {', '.join(config.runs)}")
    inputs: dict[str, Path] = {}
    for name, folder in config.runs.items():
        inputs[name] = folder / REPORT_FILENAME
        inputs[f"{name} (rows)"] = rows_file(folder)

    def work(stage: StageRun) -> Counts:
        runs = {name: _figures(folder) for name, folder in config.runs.items()}
        rows = {name: list(read_rows(at, EvalRow)) for name, at in config.runs.items()}
        _check_golds(rows, base)
        differences = _differences(runs, rows, base, config)
        graders = {name: _grader(found) for name, found in runs.items()}
        figures = {"base": base, "runs": runs, "differences": differences, "graders": graders}
        told = _told_graders(graders)
        if told is not None:
            warn(told)
        budgets = {name: found["budgets"] for name, found in runs.items()}
        write_atomic(stage.folder / BY_TOKENS, accuracy_against_tokens(budgets))
        stage.report(_markdown(runs, differences, base, told), figures)
        judges = len(set(graders.values()))
        return {"runs": len(runs)} | ({"graders": judges} if judges > 1 else {})

    return run_stage("compare", config, inputs, work, force=force)


def _figures(folder: Path) -> dict[str, Any]:
    path = folder / REPORT_FILENAME
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StageError(f"{path}: not JSON ({error})") from error
    if not isinstance(found, dict) or "budgets" not in found:
        raise StageError(f"{path}: is no report of stage evaluate")
    return found


def _grader(figures: Mapping[str, Any]) -> str:
    """What judged a run; reports of older versions do not say."""
    return figures.get("grader") or UNSTATED


def _told_graders(graders: Mapping[str, str]) -> str | None:
    """Which run was judged by which grader, and what to do; ``None`` where one judged all."""
    if len(set(graders.values())) < 2:
        return None
    told = "; ".join(f"{name}: {grader}" for name, grader in graders.items())
    return (
        f"the runs were judged by different graders ({told}): differences are of graders as well "
        "as of models. Remove rows.jsonl in a run's folder and run its stage evaluate again: kept "
        "replies are judged anew, and no server is asked"
    )


def _check_golds(rows: Mapping[str, Sequence[EvalRow]], base: str) -> None:
    """Raise :class:`StageError` that names the problems which have one gold in the base run and
    another one in a second. Spelling does not count (``1,000`` is ``1000``)."""
    golds = {row.problem_id: row.gold for row in rows[base]}
    for name, mine in rows.items():
        differ = [
            f"{problem} ({golds[problem][:40]!r}, in {name} {gold[:40]!r})"
            for problem, gold in {row.problem_id: row.gold for row in mine}.items()
            if problem in golds and gold != golds[problem] and not same_answer(gold, golds[problem])
        ]
        if differ:
            more = f" and {len(differ) - NAMED} more" if len(differ) > NAMED else ""
            raise StageError(
                f"{base} and {name} were judged by different golds for the same problems: "
                f"{', '.join(differ[:NAMED])}{more}; evaluate both on one file of problems"
            )


def _differences(
    runs: Runs, rows: Mapping[str, Sequence[EvalRow]], base: str, config: CompareConfig
) -> dict[str, Any]:
    """``run -> budget -> accuracy minus the base run's at the same budget``."""
    tables = {name: tables_of(mine, runs[name]["samples"]) for name, mine in rows.items()}
    found: dict[str, Any] = {}
    for name in runs:
        if name != base:
            found[name] = {
                budget: difference
                for budget, table in tables[name].items()
                if budget in tables[base]
                and (difference := _difference(table, tables[base][budget], config)) is not None
            }
    return found


def _difference(ours: Table, theirs: Table, config: CompareConfig) -> dict[str, Any] | None:
    both = ours.common(theirs)
    if not both:
        return None
    difference = accuracy_difference(ours, theirs, config)
    # Per reply, for the runs may have other numbers of samples.
    mine, tokens = (side.mean_reasoning(both) for side in (ours, theirs))
    return {"accuracy": asdict(difference), "tokens_ratio": mine / tokens if tokens else None}


def _markdown(runs: Runs, differences: Mapping[str, Any], base: str, told: str | None) -> str:
    compared: list[str] = []
    for name, budgets in differences.items():
        compared += [
            f"{cell(name)} | {budget} | {found['accuracy']['n']} "
            f"| {interval(found['accuracy'], sign=True)} | {number(found['tokens_ratio'])}"
            for budget, found in budgets.items()
        ] or [f"{cell(name)} | no budget and problem in common | | |"]
    lines = [
        "# Comparison",
        "",
        *table(
            "run | budget | problems | accuracy | strict | reasoning tokens | all tokens "
            "| ratio against 1.0 | unclosed | end to end p50 / p90 (s)",
            (
                f"{cell(name)} | {budget} | {_measured(found)}"
                for name, figures in runs.items()
                for budget, found in figures["budgets"].items()
            ),
        ),
        "",
        *(_condition(name, figures) for name, figures in runs.items()),
        "",
        *([] if told is None else [f"**Mind the graders**: {told}.", ""]),
        f"## Against {base}, at the same budget and on the same problems",
        "",
        *table(
            "run | budget | problems | accuracy difference | reasoning tokens, as a share", compared
        ),
        "",
        f"![accuracy against all tokens]({BY_TOKENS})",
        "",
    ]
    return "\n".join(lines)


def _measured(found: Mapping[str, Any]) -> str:
    times = found["times"]["end_to_end"]
    ratio = (found["against"].get(FULL) or {}).get("ratio_of_sums") or {}
    return (
        f"{found['n']} | {interval(found['accuracy'])} | {interval(found['strict'])} "
        f"| {found['tokens']['reasoning']['mean']:.1f} "
        f"| {found['tokens']['completion']['mean']:.1f} | {number(ratio.get('mean'))} "
        f"| {found['unclosed_rate']:.3f} | {times['p50']:.3f} / {times['p90']:.3f}"
    )


def _condition(name: str, figures: Mapping[str, Any]) -> str:
    """What a run's figures hold for: times of different conditions are not to be compared."""
    return (
        f"- {name}: `{figures['model']}` on {figures['dataset']}, {figures['samples']} per "
        f"problem, {counts(figures['sampling'])}, {figures['concurrency']} requests at a time; "
        f"graded by: {_grader(figures)}"
    )
