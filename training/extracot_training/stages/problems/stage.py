"""Stage ``problems``: read sources, drop duplicates and test problems, split, report.

Everything is recomputed on each run (it takes seconds) and written at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from extracot_training.config.problems import AnySource, ProblemsConfig, Splits
from extracot_training.errors import StageError
from extracot_training.math_text.normalise import unit_interval
from extracot_training.pipeline.records import Problem, Split, write_rows
from extracot_training.pipeline.stage import Counts, StageResult, StageRun, lost, run_stage
from extracot_training.stages.problems import report as problem_report
from extracot_training.stages.problems.contamination import check, deduplicate
from extracot_training.stages.problems.sources import read_source


def run(config: ProblemsConfig, *, force: bool = False) -> StageResult:
    """Fill ``config.out`` with ``rows.jsonl`` of :class:`Problem` rows and a report.

    Raises :class:`RowError` naming file, line and field of a bad row, :class:`StageError` and
    :class:`ConfigError`.
    """

    def work(stage: StageRun) -> Counts:
        read: Counter[str] = Counter()
        skipped: list[str] = []
        rows: list[Problem] = []
        for number, source in enumerate(config.sources):
            before, bad = len(rows), len(skipped)
            for row in read_source(source, skipped):
                read[row.source] += 1
                free = source.split is None and row.split == "train"
                split = assign_split(row.id, config.splits) if free else row.split
                rows.append(row.model_copy(update={"split": split}))
            if len(rows) == before:
                raise StageError(_nothing(number, source, skipped[bad:]))
        unique = deduplicate(rows, config.conflicts)
        checked = check(unique.rows, config.contamination)
        _check_left(config, checked.rows)
        found = problem_report.figures(read, unique, checked, checked.rows, skipped)
        write_rows(stage.rows, _ordered(config, checked.rows))
        stage.report(problem_report.markdown(found), found)
        alike = problem_report.much_alike(checked.alike)
        return {
            "rows": len(checked.rows),
            "duplicates": sum(unique.dropped.values()),
            "contaminated": sum((checked.dropped + checked.marked).values()),
            **({"bad_rows": len(skipped)} if skipped else {}),
            **({"look at": "; ".join(alike)} if alike else {}),
            **lost(
                {
                    "duplicates": sum(unique.dropped.values()),
                    "test problems": sum(checked.dropped.values()),
                    "bad": len(skipped),
                }
            ),
        }

    return run_stage("problems", config, _inputs(config), work, force=force)


def _ordered(config: ProblemsConfig, rows: Sequence[Problem]) -> Sequence[Problem]:
    if not config.shuffled:
        return rows
    return sorted(rows, key=lambda row: unit_interval("order", config.splits.seed, row.id))


def _nothing(number: int, source: AnySource, skipped: Sequence[str]) -> str:
    """Why a source gave no problem."""
    where = getattr(source, "path", None) or getattr(source, "name", source.kind)
    why = f"all {len(skipped)} rows are bad, such as {skipped[0]}" if skipped else "no rows in it"
    return f"sources[{number}] ({where}): {why}"


def _check_left(config: ProblemsConfig, rows: Sequence[Problem]) -> None:
    """Raise :class:`StageError` where nothing is left, or nothing to train on by chance alone."""
    if not rows:
        raise StageError("no problem is left: all were duplicates or contaminated")
    drawn = config.splits.dev + config.splits.test < 1
    by_seed = drawn and any(source.split is None for source in config.sources)
    if by_seed and {row.split for row in rows} <= {"dev", "test"}:
        raise StageError(
            f"no problem is left for training, all {len(rows)} are in "
            f"{' and '.join(sorted({row.split for row in rows}))}; set splits.dev and splits.test "
            "to 0, or add problems"
        )


def assign_split(problem_id: str, splits: Splits) -> Split:
    """``dev``, ``test`` or ``train`` by id and seed alone: adding rows moves no other row."""
    place = unit_interval("split", splits.seed, problem_id)
    if place < splits.test:
        return "test"
    if place < splits.test + splits.dev:
        return "dev"
    return "train"


def _inputs(config: ProblemsConfig) -> dict[str, Path]:
    """Files and folders read; data sets on the hub are pinned by revision instead."""
    inputs: dict[str, Path] = {}
    for number, source in enumerate(config.sources):
        path = getattr(source, "path", None) or Path(getattr(source, "name", ""))
        if hasattr(source, "path") or (hasattr(source, "name") and path.exists()):
            inputs[f"sources.{number}"] = path
        for place, known in enumerate(getattr(source, "unlike", ())):
            inputs[f"sources.{number}.unlike.{place}"] = known
    for test in config.contamination.against:
        inputs[f"contamination.{test.name}"] = test.path
    return inputs
