"""The row of a fidelity measurement, the names of what is compared, and figures, Markdown and
drawing of it all. Knows rows, not how they were made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from extracot_training.config.fidelity import FidelityConfig
from extracot_training.evaluation.plots import around
from extracot_training.pipeline.markdown import counts, interval, number, table
from extracot_training.pipeline.pictures import png
from extracot_training.pipeline.records import SampleRecord
from extracot_training.pipeline.statistics import estimate, normalised, paired

OURS, LINGUA, RANDOM, HEAD_TAIL = "ours", "lingua", "random", "head_tail"
# No baseline but a part of ours taken away: atoms and the final answer stay, the question goes.
BLIND = "blind"
FULL, EMPTY = "full", "empty"
SYSTEMS = (OURS, LINGUA, BLIND, RANDOM, HEAD_TAIL)
NAMES = {
    OURS: "ours",
    LINGUA: "LLMLingua-2-style",
    BLIND: "ours without the question",
    RANDOM: "random atoms",
    HEAD_TAIL: "head and tail",
    FULL: "full trace",
    EMPTY: "empty trace",
}
# Where the claim is made; a report over other levels says "not measured".
CLAIMED = (0.2, 0.4)


class FidelityRow(SampleRecord):
    """One shortened trace, judged. ``plain`` and ``redacted``: the reader's answer was right, from
    the text as it is and with the answer hidden. ``log_likelihood``: of the answer, redacted.
    ``allowance``: how far ``realised`` may be from ``target``."""

    system: str
    target: float
    realised: float
    allowance: float
    plain: bool = False
    redacted: bool = False
    log_likelihood: float = 0.0
    formula_recall: float
    broken: int

    @property
    def key(self) -> str:
        return f"{self.problem_id}/{self.sample}:{self.system}@{self.target:g}"


def figures_of(rows: Sequence[FidelityRow], config: FidelityConfig) -> dict[str, Any]:
    """All numbers of the report, as plain data."""
    table: dict[tuple[str, float], dict[str, FidelityRow]] = {}
    for row in rows:
        trace = f"{row.problem_id}/{row.sample}"
        table.setdefault((row.system, row.target), {})[trace] = row
    order = sorted(table[FULL, 1.0])
    columns = {key: [found[trace] for trace in order] for key, found in table.items()}
    systems = [name for name in SYSTEMS if (name, config.levels[0]) in columns]
    full, empty = columns[FULL, 1.0], columns[EMPTY, 1.0]
    levels = {}
    for level in config.levels:
        measured = {name: columns[name, level] for name in systems}
        cells = {name: _cell(found, full, empty, config) for name, found in measured.items()}
        differences = _differences(measured | {EMPTY: empty}, config)
        levels[f"{level:g}"] = cells | {"differences": differences}
    figures: dict[str, Any] = {
        "traces": len(order),
        "full": _recoveries(full, config),
        "empty": _recoveries(empty, config),
        "levels": levels,
    }
    return figures | {"claim": _claim(figures, systems, config)}


def _recoveries(rows: Sequence[FidelityRow], config: FidelityConfig) -> dict[str, Any]:
    kinds = ("redacted", "plain")
    return {kind: _mean([getattr(row, kind) for row in rows], config) for kind in kinds}


def _cell(
    rows: Sequence[FidelityRow], full: Sequence[FidelityRow], empty: Sequence[FidelityRow],
    config: FidelityConfig,
) -> dict[str, Any]:  # fmt: skip
    shift = [a.log_likelihood - b.log_likelihood for a, b in zip(rows, full, strict=True)]
    found = _recoveries(rows, config)
    ends = [sum(row.redacted for row in side) / len(side) for side in (empty, full)]
    off = [abs(row.realised - row.target) for row in rows]
    within = [distance <= row.allowance + 1e-9 for distance, row in zip(off, rows, strict=True)]
    return found | {
        "normalised": normalised(found["redacted"]["mean"], ends[0], ends[1]),
        "log_likelihood_shift": _mean(shift, config),
        "formula_recall": _plain_mean([row.formula_recall for row in rows]),
        "broken_per_trace": _plain_mean([row.broken for row in rows]),
        "broken": sum(row.broken for row in rows),
        "realised": _plain_mean([row.realised for row in rows]),
        "off": _plain_mean(off),
        "allowance": _plain_mean([row.allowance for row in rows]),
        "within": _plain_mean(within),
    }


def _differences(columns: dict[str, list[FidelityRow]], config: FidelityConfig) -> dict[str, Any]:
    """Ours minus each other, redacted recovery, paired."""
    redacted = {name: [row.redacted for row in rows] for name, rows in columns.items()}
    ours = redacted.pop(OURS)
    return {
        name: asdict(paired(ours, theirs, **config.bootstrap)) for name, theirs in redacted.items()
    }


def _claim(
    figures: dict[str, Any], systems: Sequence[str], config: FidelityConfig
) -> dict[str, Any]:
    """At 0.2 and 0.4: ours beats every baseline outside the interval, breaks nothing, and its mean
    distance from the target is within the mean allowance."""
    faults: list[str] = []
    measured = [level for level in CLAIMED if level in config.levels]
    if len(measured) < len(CLAIMED) or LINGUA not in systems:
        faults.append("not measured at 0.2 and 0.4 against all baselines")
    if figures["full"]["redacted"]["mean"] < config.least_full:
        faults.append(f"the reader answers less than {config.least_full:g} of full traces")
    for level in measured:
        cell = figures["levels"][f"{level:g}"]
        for name, difference in cell["differences"].items():
            if name != BLIND and difference["low"] <= 0:
                faults.append(f"at {level:g} not above {NAMES[name]} outside the interval")
        if cell[OURS]["broken"]:
            faults.append(f"at {level:g} {cell[OURS]['broken']} broken atoms")
        if cell[OURS]["off"] > cell[OURS]["allowance"]:
            faults.append(f"at {level:g} off target by {cell[OURS]['off']:.3f} on average")
    return {"holds": not faults, "faults": faults}


def report_of(figures: dict[str, Any], config: FidelityConfig) -> str:
    """Markdown."""
    full, empty, claim = figures["full"], figures["empty"], figures["claim"]
    verdict = "holds" if claim["holds"] else "does not hold: " + "; ".join(claim["faults"])
    lines = [
        "# Fidelity",
        "",
        f"{figures['traces']} traces (left out: {counts(figures['left_out'])}), reader "
        f"`{config.reader}`; tokens are those of `{config.tokenizer}`. Intervals: 95%, bootstrap "
        f"over traces, {config.resamples} resamples, seed {config.seed}; differences are paired.",
        "",
        f"The reader answers full traces: {interval(full['redacted'])} with the answer hidden (the "
        f"gate wants {config.least_full:g}), {interval(full['plain'])} as they are; with no trace: "
        f"{interval(empty['redacted'])}.",
        "",
        "Claim (at 0.2 and 0.4 ours beats every baseline on redacted recovery outside the "
        f"interval, breaks no atom, and stays near its target): **{verdict}**.",
        "",
        "![redacted and plain recovery by ratio](report.png)",
    ]
    for level, cell in figures["levels"].items():
        lines += ["", f"## Ratio {level}", "", *_level_table(cell)]
    return "\n".join([*lines, ""])


def _level_table(cell: dict[str, Any]) -> list[str]:
    ours, differences = cell[OURS], cell["differences"]
    return [
        *table(
            "system | redacted | normalised | plain | log-likelihood shift | formula recall "
            "| broken per trace | realised | distance",
            (
                f"{NAMES[name]} | {interval(of['redacted'])} | {number(of['normalised'])} "
                f"| {interval(of['plain'])} | {interval(of['log_likelihood_shift'])} "
                f"| {of['formula_recall']:.3f} | {of['broken_per_trace']:.2f} "
                f"| {of['realised']:.3f} | {of['off']:.4f}"
                for name, of in cell.items()
                if of is not differences
            ),
        ),
        "",
        *table(
            "ours minus | redacted recovery",
            (f"{NAMES[name]} | {interval(of, sign=True)}" for name, of in differences.items()),
        ),
        "",
        f"Ours: mean distance from the target {ours['off']:.4f}, allowed {ours['allowance']:.4f} "
        f"(max of 0.05 and half the largest atom's share); {ours['within']:.3f} of traces within.",
    ]


def draw(figures: dict[str, Any]) -> bytes:
    """PNG: recovery over ratio, with the answer hidden and as it is."""

    def paint(panels: Any) -> None:
        for panel, kind, title in zip(
            panels, ("redacted", "plain"), ("answer hidden", "as it is"), strict=True
        ):
            _recovery(panel, figures, kind)
            panel.set(title=f"answers from shortened traces, {title}", xlabel="target ratio")
        panels[0].set(ylabel="share of right answers", ylim=(0, 1.02))
        panels[0].legend(fontsize=8, loc="lower right")

    return png(paint, size=(10, 4), ncols=2, sharey=True)


def _recovery(panel: Any, figures: dict[str, Any], kind: str) -> None:
    for name in SYSTEMS:
        points = {
            float(level): cell[name][kind]
            for level, cell in figures["levels"].items()
            if name in cell
        }
        if points:
            means = [found["mean"] for found in points.values()]
            spread = list(zip(*map(around, points.values()), strict=True))
            panel.errorbar(
                list(points), means, yerr=spread, marker="o", capsize=3, label=NAMES[name]
            )
    panel.axhline(figures["full"][kind]["mean"], color="grey", label=NAMES[FULL])
    panel.axhline(figures["empty"][kind]["mean"], color="grey", ls=":", label=NAMES[EMPTY])


def _mean(values: Sequence[float | bool], config: FidelityConfig) -> dict[str, Any]:
    return asdict(estimate(values, **config.bootstrap))


def _plain_mean(values: Sequence[float | bool]) -> float:
    return sum(values) / len(values)
