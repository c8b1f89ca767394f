"""The report of a CHRPO run in Markdown, from its evaluations on held-out problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from extracot_training.config.chrpo import ChrpoConfig
from extracot_training.pipeline.markdown import table

PRICED = ("price", "accuracy_choice", "accuracy_whole", "spent_choice")
COLUMNS = ("reward", "accuracy", "tokens", "realised", "level_mean", "invalid", "choice_entropy")


def report_of(
    config: ChrpoConfig,
    counts: Mapping[str, Any],
    evaluations: Sequence[Mapping[str, Any]],
    forced: Sequence[Mapping[str, Mapping[str, float]]],
    prices: Sequence[Mapping[str, float]] = (),
) -> str:
    """``evaluations`` in the order of steps; the first is the model that training began with.
    ``forced`` and ``prices`` are what ``forced_course`` and ``price_course`` of
    :mod:`extracot_training.stages.chrpo.evaluation` found."""
    objective = config.objective
    parts: list[str] = [objective.kind]
    if objective.kind == "chrpo_capped":
        parts += [f"without {name}" for name in ("mode", "ctrl") if not getattr(objective, name)]
    if config.given_share:
        parts.append(f"a share of {config.given_share:g} of the problems at forced levels")
    first, last = evaluations[0], evaluations[-1]
    return "\n".join(
        [
            "# Training the choice of a level",
            "",
            f"Objective: {', '.join(parts)}. {counts['steps']} steps of {counts['prompts']} "
            f"problems with {config.group} rollouts each, from {counts['problems']} problems "
            f"({counts['left_out']} left out). Replies to {last['rollouts']} held-out prompts at "
            f"temperature {config.evaluation.temperature:g}, with the same seeds each time:",
            "",
            *table(
                " | ".join(["step", *COLUMNS]),
                (" | ".join([str(one["step"]), *_numbers(one, COLUMNS)]) for one in evaluations),
            ),
            "",
            "`realised` is reasoning tokens over L_ref, as a ratio of sums; `choice_entropy` is in "
            "nats, of the choice restricted to levels.",
            "",
            "## Levels chosen, before and after",
            "",
            *table(
                "level | share, before | share | accuracy | realised",
                (
                    f"{level} | {_number(first['levels'][level]['share'])} | "
                    + " | ".join(_numbers(of, ("share", "accuracy", "realised")))
                    for level, of in last["levels"].items()
                ),
            ),
            "",
            "## By what problems need (r*), after",
            "",
            *table(
                "r* | rollouts | mean level, before | mean level | accuracy | reward",
                (
                    f"{needed} | {of['rollouts']} | "
                    f"{_number(first['by_r_star'][needed]['level_mean'])} | "
                    + " | ".join(_numbers(of, ("level_mean", "accuracy", "reward")))
                    for needed, of in last["by_r_star"].items()
                ),
            ),
            "",
            *(_redrawn(config, counts) if config.rollouts.redraws else ()),
            *(_priced(config, prices) if prices else ()),
            *(_forced(*forced) if forced else ()),
        ]
    )


def _redrawn(config: ChrpoConfig, counts: Mapping[str, Any]) -> list[str]:
    return [
        f"Groups without signal were drawn again for other problems, at most "
        f"{config.rollouts.redraws} draws a group: {counts['redrawn']} in all. "
        f"{counts['without_signal']:.1%} of the groups that were learnt from had none.",
        "",
    ]


def _priced(config: ChrpoConfig, prices: Sequence[Mapping[str, float]]) -> list[str]:
    against = "level 1.0" if config.objective.against == "whole" else "the best level"
    return [
        "## The price of tokens",
        "",
        f"Accuracy of the choice is to stay within {config.objective.slack:g} of {against}; the "
        "price of a whole length, in accuracy, follows it. Rollouts of training, by tenths of the "
        "rounds, the first and the last:",
        "",
        *table(
            f"price | accuracy of the choice | of {against} | level spent",
            (" | ".join(_numbers(one, PRICED)) for one in prices),
        ),
        "",
    ]


def _forced(
    first: Mapping[str, Mapping[str, float]], last: Mapping[str, Mapping[str, float]]
) -> list[str]:
    names = ("accuracy", "realised", "invalid")
    return [
        "## At forced levels",
        "",
        "Rollouts of training, in the first tenth of the rounds and in the last:",
        "",
        *table(
            "level | rollouts | " + " | ".join(f"{name}, before | {name}" for name in names),
            (
                f"{level} | {of['rollouts']} | "
                + " | ".join(
                    f"{_number(first.get(level, {}).get(name))} | {_number(of[name])}"
                    for name in names
                )
                for level, of in last.items()
            ),
        ),
        "",
    ]


def _numbers(of: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return [_number(of[name]) for name in names]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
