"""The report of a CHRPO run in Markdown, from its evaluations on held-out problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from extracot_training.config.chrpo import ChrpoConfig

COLUMNS = ("reward", "accuracy", "tokens", "realised", "level_mean", "invalid", "choice_entropy")


def report_of(
    config: ChrpoConfig,
    counts: Mapping[str, Any],
    evaluations: Sequence[Mapping[str, Any]],
    forced: Sequence[Mapping[str, Mapping[str, float]]],
) -> str:
    """``evaluations`` in the order of steps; the first is the model that training began with.
    ``forced`` is what :func:`extracot_training.stages.chrpo.evaluation.forced_course` found."""
    objective = config.objective
    parts: list[str] = [objective.kind]
    if objective.kind == "chrpo":
        parts += [f"without {name}" for name in ("mode", "ctrl") if not getattr(objective, name)]
    if config.given_share:
        parts.append(f"a share of {config.given_share:g} of the problems at forced levels")
    first, last = evaluations[0], evaluations[-1]
    return "\n".join(
        [
            "# Training the choice of a level",
            "",
            f"Objective: {', '.join(parts)}. {counts['steps']} steps of {config.prompts} problems "
            f"with {config.group} rollouts each, from {counts['problems']} problems "
            f"({counts['left_out']} left out). Replies to {last['rollouts']} held-out prompts at "
            f"temperature {config.evaluation.temperature:g}, with the same seeds each time:",
            "",
            *_course(evaluations),
            "",
            "`realised` is reasoning tokens over L_ref, as a ratio of sums; `choice_entropy` is in "
            "nats, of the choice restricted to levels.",
            "",
            "## Levels chosen, before and after",
            "",
            *_levels(first, last),
            "",
            "## By what problems need (r*), after",
            "",
            "| r* | rollouts | mean level, before | mean level | accuracy | reward |",
            "|---|---|---|---|---|---|",
            *(
                f"| {needed} | {of['rollouts']} | "
                f"{_number(first['by_r_star'][needed]['level_mean'])} | "
                f"{_number(of['level_mean'])} | {_number(of['accuracy'])} | "
                f"{_number(of['reward'])} |"
                for needed, of in last["by_r_star"].items()
            ),
            "",
            *(_forced(*forced) if forced else ()),
        ]
    )


def _forced(
    first: Mapping[str, Mapping[str, float]], last: Mapping[str, Mapping[str, float]]
) -> list[str]:
    names = ("accuracy", "realised", "invalid")
    return [
        "## At forced levels",
        "",
        "Rollouts of training, in the first tenth of the rounds and in the last:",
        "",
        "| level | rollouts | " + " | ".join(f"{name}, before | {name}" for name in names) + " |",
        "|---" * (2 + 2 * len(names)) + "|",
        *(
            f"| {level} | {of['rollouts']} | "
            + " | ".join(
                f"{_number(first.get(level, {}).get(name))} | {_number(of[name])}" for name in names
            )
            + " |"
            for level, of in last.items()
        ),
        "",
    ]


def _course(evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        "| step | " + " | ".join(COLUMNS) + " |",
        "|---" * (1 + len(COLUMNS)) + "|",
        *(
            f"| {one['step']} | " + " | ".join(_number(one[name]) for name in COLUMNS) + " |"
            for one in evaluations
        ),
    ]


def _levels(first: Mapping[str, Any], last: Mapping[str, Any]) -> list[str]:
    lines = ["| level | share, before | share | accuracy | realised |", "|---|---|---|---|---|"]
    for level, of in last["levels"].items():
        lines.append(
            f"| {level} | {_number(first['levels'][level]['share'])} | {_number(of['share'])} | "
            f"{_number(of['accuracy'])} | {_number(of['realised'])} |"
        )
    return lines


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
