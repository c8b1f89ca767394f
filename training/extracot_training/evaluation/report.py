"""An evaluation as Markdown. Knows the figures, not how they were made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from extracot_training.evaluation.plots import BY_DIFFICULTY, BY_TOKENS, REALISED
from extracot_training.evaluation.table import AUTO, FULL, NATIVE


def report_of(figures: Mapping[str, Any]) -> str:
    """The whole page."""
    server, budgets = figures["server"], figures["budgets"]
    synthetic = f", {figures['synthetic']} of them synthetic" if figures["synthetic"] else ""
    lines = [
        "# Evaluation",
        "",
        f"`{figures['model']}` ({_kind(server)}) on {figures['dataset']}: {figures['problems']} "
        f"problems{synthetic}, {figures['samples']} per problem and budget (accuracy is "
        f"avg@{figures['samples']}), sampling {_settings(figures['sampling'])}, "
        f"{figures['concurrency']} requests at a time.",
        "",
        "Brackets are 95% intervals, bootstrap over problems; differences are paired on the same "
        "problems. Where every problem ends alike an interval has no width; that is not certainty. "
        "Reasoning that was not closed counts in full. *Unclosed*: the model did not close its "
        "reasoning itself; *cap hits*: the server closed it. Refused requests: "
        f"{_counts(figures['refused'])}.",
        "",
        *_accuracy(budgets),
        "",
        *_tokens(budgets),
        *(_comparison(budgets, other, figures["margin"]) for other in (FULL, NATIVE)),
        *_times(budgets, figures["concurrency"]),
        *_auto(figures),
        *_breakdown(budgets, "by_steps", "Steps"),
        *_breakdown(budgets, "by_family", "Family"),
        "",
        "## Plots",
        "",
        f"![accuracy against reasoning tokens]({BY_TOKENS})",
    ]
    if _has_ratios(budgets):
        lines += ["", f"![requested against realised ratio]({REALISED})"]
    if AUTO in budgets:
        lines += ["", f"![chosen level by difficulty]({BY_DIFFICULTY})"]
    return "\n".join([*lines, ""])


def _accuracy(budgets: Mapping[str, Any]) -> list[str]:
    lines = [
        "| budget | problems | accuracy (math-verify) | accuracy (strict boxed) | unclosed "
        "| cap hits | no box |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in budgets.items():
        lines.append(
            f"| {name} | {found['n']} | {shown(found['accuracy'])} | {shown(found['strict'])} "
            f"| {found['unclosed_rate']:.3f} | {found['cap_hit_rate']:.3f} "
            f"| {found['no_box_rate']:.3f} |"
        )
    return lines


def _tokens(budgets: Mapping[str, Any]) -> list[str]:
    lines = [
        "| budget | reasoning tokens (mean, p50, p90) | answer tokens | completion tokens |",
        "|---|---|---|---|",
    ]
    for name, found in budgets.items():
        cells = " | ".join(
            _spread(found["tokens"][kind], 1) for kind in ("reasoning", "answer", "completion")
        )
        lines.append(f"| {name} | {cells} |")
    return lines


def _comparison(budgets: Mapping[str, Any], other: str, margin: float) -> str:
    """A section as one text; empty where nothing was compared."""
    lines = [
        "",
        f"## Against {'level 1.0' if other == FULL else other}",
        "",
        "| budget | problems | accuracy difference | no lower than "
        f"{margin:g} below | strict difference | realised ratio (of sums) | mean of ratios "
        "| p10 to p90 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows = 0
    for name, found in budgets.items():
        pair = found["against"].get(other)
        if pair is None:
            continue
        rows += 1
        ratio = "n/a" if pair["ratio_of_sums"] is None else shown(pair["ratio_of_sums"])
        lines.append(
            f"| {name} | {pair['n']} | {shown(pair['accuracy'], sign=True)} "
            f"| {'yes' if pair['accuracy_non_inferior'] else 'not shown'} "
            f"| {shown(pair['strict'], sign=True)} | {ratio} | {_number(pair['mean_of_ratios'])} "
            f"| {_number(pair['p10'])} to {_number(pair['p90'])} |"
        )
    return "\n".join(lines) if rows else ""


def _times(budgets: Mapping[str, Any], concurrency: int) -> list[str]:
    lines = [
        "",
        f"## Time, at {concurrency} requests at a time",
        "",
        "Seconds as p50 / p90, from sending a request.",
        "",
        "| budget | first token | first answer token | end to end | tokens/s | requests/s |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in budgets.items():
        times = found["times"]
        cells = " | ".join(
            _pair(times[kind]) for kind in ("first_token", "first_answer_token", "end_to_end")
        )
        lines.append(
            f"| {name} | {cells} | {_number(times['tokens_per_s'], 1)} "
            f"| {_number(times['requests_per_s'], 2)} |"
        )
    return lines


def _auto(figures: Mapping[str, Any]) -> list[str]:
    auto = figures["budgets"].get(AUTO)
    if auto is None:
        return []
    lines = ["", "## What auto chooses", ""]
    lines.append(f"Levels: {_shares(auto['levels'])}.")
    for title, key in (("r*", "levels_by_r_star"), ("steps", "levels_by_steps")):
        if auto[key]:
            lines += ["", f"| {title} | replies | mean level | levels |", "|---|---|---|---|"]
            lines += [
                f"| {value} | {found['n']} | {found['mean']:.3f} | {_shares(found['levels'])} |"
                for value, found in auto[key].items()
            ]
    match = figures.get("auto_against_fixed")
    if match is not None:
        lines += ["", *_matched(match)]
    return lines


def _matched(match: Mapping[str, Any]) -> list[str]:
    lines = [
        f"Auto: {match['accuracy']:.3f} with {match['tokens']:.1f} reasoning tokens, on the "
        f"{match['n']} problems that all fixed levels have too.",
        "",
        "| fixed levels of no greater, or equal, cost | tokens | accuracy | auto minus it |",
        "|---|---|---|---|",
    ]
    best, mix = match["best"], match["mix"]
    if best is None:
        lines.append("| none costs as little as auto | | | |")
    else:
        lines.append(
            f"| best that costs no more: {best['budget']} | {best['tokens']:.1f} "
            f"| {best['accuracy']:.3f} | {shown(best['difference'], sign=True)} |"
        )
    name = mix["lower"]
    if mix["upper"] != mix["lower"]:
        name = f"{mix['lower']} and {mix['upper']}, {mix['share_of_upper']:.0%} of the latter"
    lines.append(
        f"| mix: {name} | {mix['tokens']:.1f} | {mix['accuracy']:.3f} "
        f"| {shown(mix['difference'], sign=True)} |"
    )
    return lines


def _breakdown(budgets: Mapping[str, Any], key: str, title: str) -> list[str]:
    """One table: a row per group and a column per budget."""
    groups = list(dict.fromkeys(group for found in budgets.values() for group in found[key]))
    if not groups:
        return []
    lines = [
        "",
        f"## {title}: accuracy / mean reasoning tokens / ratio against level 1.0",
        "",
        f"| {title.lower()} | {' | '.join(budgets)} |",
        "|---|" + "---|" * len(budgets),
    ]
    for group in groups:
        cells = []
        for found in budgets.values():
            cell = found[key].get(group)
            cells.append(
                ""
                if cell is None
                else f"{cell['accuracy']:.3f} / {cell['reasoning']:.1f} / {_number(cell['ratio'])}"
            )
        lines.append(f"| {group} | {' | '.join(cells)} |")
    return lines


def shown(found: Mapping[str, Any], *, sign: bool = False) -> str:
    """``0.512 [0.480, 0.544]``."""
    plus = "+" if sign else ""
    return f"{found['mean']:{plus}.3f} [{found['low']:{plus}.3f}, {found['high']:{plus}.3f}]"


def _has_ratios(budgets: Mapping[str, Any]) -> bool:
    return any(name[0].isdigit() for name in budgets) and FULL in budgets


def _kind(server: Mapping[str, Any]) -> str:
    return f"Extra-CoT server, {server['mode']} mode" if server["mode"] else "plain OpenAI server"


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def _shares(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in shares.items()) or "none"


def _number(value: float | None, digits: int = 3) -> str:
    return "n/a" if value is None else f"{value:.{digits}f}"


def _spread(found: Mapping[str, float], digits: int) -> str:
    return ", ".join(f"{found[name]:.{digits}f}" for name in ("mean", "p50", "p90"))


def _pair(found: Mapping[str, float] | None) -> str:
    return "n/a" if found is None else f"{found['p50']:.3f} / {found['p90']:.3f}"
