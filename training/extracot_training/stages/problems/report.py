"""Counts and lengths of a finished problem set, as Markdown and as plain figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from extracot_training.pipeline.markdown import counts, table
from extracot_training.pipeline.records import Problem
from extracot_training.pipeline.statistics import quantiles
from extracot_training.stages.problems.contamination import Checked, Deduplicated

_FAULTS_TOLD = 5
MUCH = 0.2
"""Share of a source that is only like test questions, from which on it is told."""
SPLITS = ("train", "dev", "test", "heldout_families")


def figures(
    read: Mapping[str, int],
    unique: Deduplicated,
    checked: Checked,
    rows: Sequence[Problem],
    skipped: Sequence[str] = (),
) -> dict[str, Any]:
    """Everything the report says. ``read`` counts rows per source as they came, ``skipped`` has the
    faults of those that were no problem."""
    per_source: dict[str, Counter[str]] = {}
    for row in rows:
        per_source.setdefault(row.source, Counter())[row.split] += 1
    return {
        "read": dict(read),
        "rows": len(rows),
        "sources": {name: dict(count) for name, count in per_source.items()},
        "licenses": {row.source: row.license for row in rows},
        "families": dict(Counter(row.family for row in rows if row.family).most_common()),
        "steps": dict(sorted(Counter(row.steps for row in rows if row.steps).items())),
        "asked": dict(sorted(Counter(row.asked for row in rows if row.asked).items())),
        "synthetic": sum(row.synthetic for row in rows),
        "bad_rows": {"skipped": len(skipped), "first": list(skipped[:_FAULTS_TOLD])},
        "duplicates": {
            "dropped": dict(unique.dropped),
            "conflicting_golds": unique.conflicts,
            "same_but_for_numbers": unique.same_template,
        },
        "contamination": {
            "dropped": dict(checked.dropped),
            **({"marked": dict(checked.marked)} if checked.marked else {}),
            **({"only_alike": _rounded(checked.alike)} if checked.alike else {}),
            "tests": {
                name: {
                    "questions": checked.sizes[name],
                    **checked.counts[name],
                    "test_rows": checked.test_rows[name],
                }
                for name in checked.counts
            },
        },
        "question_words": quantiles([len(row.question.split()) for row in rows]),
        "solution_words": quantiles([len(row.solution.split()) for row in rows if row.solution]),
    }


def markdown(found: Mapping[str, Any]) -> str:
    """The figures as a page."""
    duplicates, contamination = found["duplicates"], found["contamination"]
    lines = [
        "# Problems",
        "",
        f"{found['rows']} rows, {found['synthetic']} of them synthetic.",
        "",
        *table(
            f"source | licence | read | {' | '.join(SPLITS)}",
            (_source_row(name, read, found) for name, read in found["read"].items()),
        ),
        "",
        "## Left out",
        "",
        f"Duplicates: {counts(duplicates['dropped'])}.",
        f"Conflicting golds among them: {len(duplicates['conflicting_golds'])}.",
        f"Kept, but the same as another but for numbers: {duplicates['same_but_for_numbers']}.",
        f"Contaminated and dropped: {counts(contamination['dropped'])}.",
    ]
    if marked := contamination.get("marked"):
        lines.append(f"Contaminated and kept, but marked: {counts(marked)}.")
    lines += [f"**{told}**." for told in much_alike(contamination.get("only_alike", {}))]
    if bad := found["bad_rows"]["skipped"]:
        lines += [f"Bad rows: {bad}, the first of them:", ""]
        lines += [f"- {fault}" for fault in found["bad_rows"]["first"]]
    if tests := contamination["tests"]:
        lines += [
            "",
            *table(
                "test file | questions | problems hit | exact | n-gram | reworded | template | "
                "rows",
                (_test_row(name, test) for name, test in tests.items()),
            ),
        ]
    lines += ["", "## Lengths", "", f"Question words: {counts(found['question_words'])}."]
    lines += [f"Solution words: {counts(found['solution_words'])}."]
    if found["families"]:
        lines += ["", "## Families", "", f"{len(found['families'])}: {counts(found['families'])}."]
    if found["asked"]:
        lines += ["", f"Problems by the stories they ask for: {counts(found['asked'])}."]
    return "\n".join(lines) + "\n"


def _rounded(shares: Mapping[str, float]) -> dict[str, float]:
    return {name: round(share, 4) for name, share in shares.items()}


def much_alike(shares: Mapping[str, float]) -> list[str]:
    """What to set, perhaps, where much of a source is only like test questions."""
    return [
        f"{share:.0%} of {name} count as test questions by likeness alone, as short templates and "
        "drills do; where their numbers tell them apart set contamination.mask_numbers to false"
        for name, share in shares.items()
        if share >= MUCH
    ]


def _source_row(name: str, read: int, found: Mapping[str, Any]) -> str:
    count = found["sources"].get(name, {})
    cells = " | ".join(str(count.get(split, 0)) for split in SPLITS)
    return f"{name} | {found['licenses'].get(name, '')} | {read} | {cells}"


def _test_row(name: str, test: Mapping[str, Any]) -> str:
    kinds = (test.get(kind, 0) for kind in ("problems", "exact", "ngram", "reworded", "template"))
    return (
        f"{name} | {test['questions']} | {' | '.join(map(str, kinds))} | {len(test['test_rows'])}"
    )
