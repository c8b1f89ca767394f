"""An evaluation as Markdown. Knows the figures, not how they were made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from extracot_training.evaluation.plots import BY_DIFFICULTY, BY_TOKENS, REALISED
from extracot_training.evaluation.published import PUBLISHED
from extracot_training.evaluation.table import AUTO, FULL, NATIVE
from extracot_training.pipeline.markdown import counts, interval, number, table

_MIXED = (
    "A mix's bracket holds the draw of problems and with it the share: each resample works out "
    "anew at which share the mix costs what auto costs there."
)


def report_of(figures: Mapping[str, Any]) -> str:
    """The whole page."""
    server, budgets = figures["server"], figures["budgets"]
    synthetic = f", {figures['synthetic']} of them synthetic" if figures["synthetic"] else ""
    lines = [
        "# Evaluation",
        "",
        f"`{figures['model']}` ({_kind(server)}) on {figures['dataset']}: {figures['problems']} "
        f"problems{synthetic}, {figures['samples']} per problem and budget (accuracy is "
        f"avg@{figures['samples']}), sampling {counts(figures['sampling'])}, "
        f"{figures['concurrency']} requests at a time. Graded by {figures['grader']}.",
        "",
        "Brackets are 95% intervals, bootstrap over problems; differences are paired on the same "
        "problems. Where every problem ends alike an interval has no width; that is not certainty. "
        "Reasoning that was not closed counts in full. *Unclosed*: the model did not close its "
        "reasoning itself; *cap hits*: the server closed it. Refused requests: "
        f"{counts(figures['refused'])}.",
        "",
        *_accuracy(budgets),
        "",
        *_tokens(budgets),
        *(_comparison(budgets, other, figures["margin"]) for other in (FULL, NATIVE)),
        *_working(budgets),
        *_times(budgets, figures["concurrency"]),
        *_auto(figures),
        *_breakdown(budgets, "by_steps", "Steps"),
        *_breakdown(budgets, "by_family", "Family"),
        *_breakdown(budgets, "by_asked", "Stories asked for"),
        *_published(budgets, figures["published"]),
        "",
        "## Plots",
        "",
        f"![accuracy against all tokens]({BY_TOKENS})",
    ]
    if FULL in budgets:
        lines += ["", f"![requested against realised ratio]({REALISED})"]
    if AUTO in budgets:
        lines += ["", f"![chosen level by difficulty]({BY_DIFFICULTY})"]
    return "\n".join([*lines, ""])


def _published(budgets: Mapping[str, Any], dataset: str | None) -> list[str]:
    """Ours and the paper's in one table."""
    if dataset is None:
        return []
    full = budgets[FULL]["tokens"]["reasoning"]["mean"] if FULL in budgets else None
    ours = [
        f"ours, {name} | {of['tokens']['reasoning']['mean']:.0f} | "
        f"{100 * of['accuracy']['mean']:.1f} | "
        f"{number(of['tokens']['reasoning']['mean'] / full if full else None, 2)}"
        for name, of in budgets.items()
    ]
    theirs = [
        f"{row.method} | {row.tokens} | {row.accuracy:.1f} | "
        f"{'' if row.realised is None else f'{row.realised:.2f}'}"
        for row in PUBLISHED[dataset]
    ]
    return [
        "",
        "## Beside the paper's figures",
        "",
        "Of Qwen3-1.7B, arXiv 2602.08324. There a reply that did not close its reasoning counts 0 "
        "tokens, here in full, and the realised ratio is of the base model's length, here of "
        "level 1.0's.",
        "",
        *table("method | reasoning tokens | accuracy, % | realised ratio", [*ours, *theirs]),
    ]


def _accuracy(budgets: Mapping[str, Any]) -> list[str]:
    return table(
        "budget | problems | accuracy | accuracy (strict boxed) | unclosed | cap hits | no box",
        (
            f"{name} | {of['n']} | {interval(of['accuracy'])} | {interval(of['strict'])} "
            f"| {of['unclosed_rate']:.3f} | {of['cap_hit_rate']:.3f} | {of['no_box_rate']:.3f}"
            for name, of in budgets.items()
        ),
    )


def _tokens(budgets: Mapping[str, Any]) -> list[str]:
    rows = ((name, *map(_spread, of["tokens"].values())) for name, of in budgets.items())
    return table(
        "budget | reasoning tokens (mean, p50, p90) | answer tokens | completion tokens",
        map(" | ".join, rows),
    )


def _comparison(budgets: Mapping[str, Any], other: str, margin: float) -> str:
    """A section as one text; empty where nothing was compared."""
    pairs = {name: pair for name in budgets if (pair := budgets[name]["against"].get(other))}
    lines = table(
        f"budget | problems | accuracy difference | no lower than {margin:g} below "
        "| strict difference | realised ratio (of sums) | of all tokens | mean of ratios "
        "| p10 to p90",
        (
            f"{name} | {pair['n']} | {interval(pair['accuracy'], sign=True)} "
            f"| {'yes' if pair['accuracy_non_inferior'] else 'not shown'} "
            f"| {interval(pair['strict'], sign=True)} | {interval(pair['ratio_of_sums'])} "
            f"| {interval(pair.get('ratio_of_totals'))} "
            f"| {number(pair['mean_of_ratios'])} | {number(pair['p10'])} to {number(pair['p90'])}"
            for name, pair in pairs.items()
        ),
    )
    title = f"## Against {'level 1.0' if other == FULL else other}"
    return "\n".join(["", title, "", *lines]) if pairs else ""


def _working(budgets: Mapping[str, Any]) -> list[str]:
    found = {name: of["working"] for name, of in budgets.items()}
    return [
        "",
        "## Why replies are wrong",
        "",
        "The first of these that a wrong reply shows: its reasoning or its tokens were cut off; it "
        "boxes nothing; it writes a calculation that does not hold; all its calculations hold, so "
        "a number, a step or a choice is wrong. Only plain arithmetic is judged. *Calculations*: "
        "those of all replies, wrong or not.",
        "",
        *table(
            "budget | wrong replies | cut off | no answer | miscalculated | other "
            "| calculations | of them right",
            (
                f"{name} | {of['wrong']} | {' | '.join(map(str, of['causes'].values()))} "
                f"| {of['calculations']} | {number(of['share'])}"
                for name, of in found.items()
            ),
        ),
    ]


def _times(budgets: Mapping[str, Any], concurrency: int) -> list[str]:
    times = {name: found["times"] for name, found in budgets.items()}
    return [
        "",
        f"## Time, at {concurrency} requests at a time",
        "",
        "Seconds as p50 / p90, from sending a request.",
        "",
        *table(
            "budget | first token | first answer token | end to end | tokens/s | requests/s",
            (
                f"{name} | {_pair(of['first_token'])} | {_pair(of['first_answer_token'])} "
                f"| {_pair(of['end_to_end'])} | {number(of['tokens_per_s'], 1)} "
                f"| {number(of['requests_per_s'], 2)}"
                for name, of in times.items()
            ),
        ),
    ]


def _auto(figures: Mapping[str, Any]) -> list[str]:
    auto = figures["budgets"].get(AUTO)
    if auto is None:
        return []
    lines = ["", "## What auto chooses", ""]
    lines.append(f"Levels: {_shares(auto['levels'])}.")
    by = (
        ("r*", "levels_by_r_star"),
        ("steps", "levels_by_steps"),
        ("stories asked for", "levels_by_asked"),
    )
    for title, key in by:
        if auto[key]:
            rows = (
                f"{value} | {found['n']} | {found['mean']:.3f} | {_shares(found['levels'])}"
                for value, found in auto[key].items()
            )
            lines += ["", *table(f"{title} | replies | mean level | levels", rows)]
    match = figures.get("auto_against_fixed")
    if match is not None:
        lines += ["", *_matched(match)]
    every = figures.get("auto_against_every")
    if every is not None:
        lines += ["", *_every(every)]
    return [*lines, *_information(auto.get("choice", {}))]


def _every(found: Mapping[str, Any]) -> list[str]:
    hardest = found["hardest"]
    said = "" if hardest is None else (
        f" The hardest opponent of no greater cost is {hardest['name']}: auto is "
        f"{interval(hardest['difference'], sign=True)} beside it; which one that is was chosen "
        "once, from all problems."
    )  # fmt: skip
    return [
        "### By all tokens",
        "",
        f"Auto generates {found['tokens']:.1f} tokens a reply in all, reasoning or not, at an "
        f"accuracy of {found['accuracy']:.3f}. Against every fixed level, and every mix of two "
        f"that generates as many in the mean ({found['n']} problems).{said}"
        f"{f' {_MIXED}' if found['mixes'] else ''}",
        "",
        *table(
            "fixed level, or mix (share of the second) | tokens in all | accuracy | auto minus it",
            (_opponent(one["name"], one) for one in (*found["levels"], *found["mixes"])),
        ),
    ]


def _information(found: Mapping[str, Any]) -> list[str]:
    names = {"r_star": "r*", "steps": "steps", "family": "family", "asked": "stories asked for"}
    rows = [
        f"{title} | {of['n']} | {of['mutual']:.3f} | {of['by_chance']:.3f} | {of['most']:.3f}"
        for name, title in names.items()
        if (of := found.get(name)) is not None
    ]
    if not rows:
        return []
    return [
        "",
        f"The choice has an entropy of {found['entropy']:.3f} nats. What it tells of the problem "
        "(mutual information, nats):",
        "",
        *table("of | replies | mutual information | by chance about | at most", rows),
    ]


def _matched(match: Mapping[str, Any]) -> list[str]:
    best, mix = match["best"], match["mix"]
    name = mix["lower"]
    if mix["upper"] != mix["lower"]:
        name = f"{mix['lower']} and {mix['upper']}, {mix['share_of_upper']:.0%} of the latter"
    first = "none costs as little as auto | | |"
    if best is not None:
        first = _opponent(f"best that costs no more: {best['budget']}", best)
    return [
        f"Auto: {match['accuracy']:.3f} with {match['tokens']:.1f} reasoning tokens, on the "
        f"{match['n']} problems that all fixed levels have too. {_MIXED} The two levels of "
        "this mix are found anew as well.",
        "",
        *table(
            "fixed levels of no greater, or equal, cost | tokens | accuracy | auto minus it",
            [first, _opponent(f"mix: {name}", mix)],
        ),
    ]


def _opponent(name: str, found: Mapping[str, Any]) -> str:
    difference = interval(found["difference"], sign=True)
    return f"{name} | {found['tokens']:.1f} | {found['accuracy']:.3f} | {difference}"


def _breakdown(budgets: Mapping[str, Any], key: str, title: str) -> list[str]:
    """One table: a row per group and a column per budget."""
    groups = list(dict.fromkeys(group for found in budgets.values() for group in found[key]))
    if not groups:
        return []
    rows = ([group, *(_cell(of[key].get(group)) for of in budgets.values())] for group in groups)
    return [
        "",
        f"## {title}: accuracy / mean reasoning tokens / ratio against level 1.0",
        "",
        *table(" | ".join([title.lower(), *budgets]), map(" | ".join, rows)),
    ]


def _cell(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    return f"{found['accuracy']:.3f} / {found['reasoning']:.1f} / {number(found['ratio'])}"


def _kind(server: Mapping[str, Any]) -> str:
    return f"Extra-CoT server, {server['mode']} mode" if server["mode"] else "plain OpenAI server"


def _shares(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in shares.items()) or "none"


def _spread(found: Mapping[str, float]) -> str:
    return ", ".join(f"{found[name]:.1f}" for name in ("mean", "p50", "p90"))


def _pair(found: Mapping[str, float] | None) -> str:
    return "n/a" if found is None else f"{found['p50']:.3f} / {found['p90']:.3f}"
