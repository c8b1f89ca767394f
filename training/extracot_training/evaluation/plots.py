"""Plots of an evaluation and of a comparison, as PNG. Knows figures only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from extracot_training.evaluation.table import AUTO, FULL, levels_of
from extracot_training.pipeline.pictures import png

BY_TOKENS = "accuracy_tokens.png"
REALISED = "requested_realised.png"
BY_DIFFICULTY = "level_difficulty.png"


def draw(figures: Mapping[str, Any]) -> dict[str, bytes]:
    """File name -> PNG; what was not measured is not drawn."""
    budgets = figures["budgets"]
    drawn = {BY_TOKENS: accuracy_against_tokens({str(figures["model"]): budgets})}
    if FULL in budgets:
        drawn[REALISED] = _requested_against_realised(budgets)
    if AUTO in budgets:
        drawn[BY_DIFFICULTY] = _level_by_difficulty(budgets[AUTO])
    return drawn


def accuracy_against_tokens(runs: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Each run's budgets as points with intervals, the first run's by name. Levels are joined by a
    line, on which mixes of neighbours lie. Tokens are all that a reply generates."""

    def paint(panel: Any) -> None:
        for number, (run, budgets) in enumerate(runs.items()):
            colour = f"C{number}"
            fixed = levels_of(budgets)
            if fixed:
                line = [_place(budgets[name]) for name in fixed]
                panel.plot(*zip(*line, strict=True), color=colour, label=f"{run}: levels")
            for name, found in budgets.items():
                label = None if name in fixed else f"{run}: {name}"
                _point(panel, name, found, color=colour, label=label)
                if number == 0:
                    look = {"textcoords": "offset points", "xytext": (6, -10), "fontsize": 8}
                    panel.annotate(name, _place(found), **look)
        panel.set(xlabel="mean tokens of a reply, reasoning and answer", ylabel="accuracy")
        panel.set_ylim(-0.02, 1.02)
        _legend_beside(panel)

    return png(paint)


def _point(panel: Any, name: str, found: Mapping[str, Any], **look: Any) -> None:
    panel.errorbar(
        *_place(found),
        yerr=[[reach] for reach in around(found["accuracy"])],
        marker={"auto": "*", "native": "s", "none": "x"}.get(name, "o"),
        markersize=11 if name == AUTO else 6,
        capsize=3,
        **look,
    )


def _place(found: Mapping[str, Any]) -> tuple[float, float]:
    return found["tokens"]["completion"]["mean"], found["accuracy"]["mean"]


def around(found: Mapping[str, Any]) -> tuple[float, float]:
    """How far an interval reaches below its mean and above it."""
    return max(0.0, found["mean"] - found["low"]), max(0.0, found["high"] - found["mean"])


def _requested_against_realised(budgets: Mapping[str, Any]) -> bytes:
    def paint(panel: Any) -> None:
        panel.plot([0, 1], [0, 1], color="grey", ls=":", label="as requested")
        for name in levels_of(budgets):
            pair = budgets[name]["against"].get(FULL)
            if name == FULL:
                panel.plot(1.0, 1.0, color="C0", marker="o")
            elif pair is not None and pair["ratio_of_sums"] is not None:
                mean, x = pair["ratio_of_sums"]["mean"], float(name)
                below, above = around(pair["ratio_of_sums"])
                panel.plot([x, x], [pair["p10"], pair["p90"]], color="C0", alpha=0.3, lw=5)
                panel.errorbar(x, mean, yerr=[[below], [above]], color="C0", marker="o", capsize=3)
        panel.plot([], [], color="C0", marker="o", label="ratio of sums, 95% interval")
        panel.plot([], [], color="C0", alpha=0.3, lw=5, label="problems, p10 to p90")
        panel.set(xlabel="requested ratio", ylabel="realised ratio, against level 1.0")
        _legend_beside(panel)

    return png(paint)


def _level_by_difficulty(auto: Mapping[str, Any]) -> bytes:
    groups, title = auto["levels_by_r_star"], "r* (smallest level that suffices)"
    if not groups:
        groups, title = auto["levels_by_steps"], "steps"
    if not groups:
        mean = sum(float(level) * share for level, share in auto["levels"].items())
        groups, title = {"all": {"mean": mean, **auto}}, "problems"

    def paint(panel: Any) -> None:
        names = list(groups)
        levels = sorted({level for found in groups.values() for level in found["levels"]})
        bottom = [0.0] * len(names)
        for number, level in enumerate(levels):
            shares = [groups[name]["levels"].get(level, 0.0) for name in names]
            shade = {"color": f"C{number}", "alpha": 0.5}
            panel.bar(names, shares, bottom=bottom, label=f"level {level}", **shade)
            bottom = [low + part for low, part in zip(bottom, shares, strict=True)]
        panel.plot(
            names, [found["mean"] for found in groups.values()], "k*-", label="mean chosen level"
        )
        panel.set(xlabel=title, ylabel="share of replies; mean level", ylim=(0, 1.02))
        _legend_beside(panel)

    return png(paint)


def _legend_beside(panel: Any) -> None:
    panel.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1.0))
