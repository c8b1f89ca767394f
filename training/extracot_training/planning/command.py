"""``extracot-train plan CONFIG …``: what a run would take, and whether it could start here.

A configuration's stage is told by its file name (``sft-small.yaml``) or by ``--step``. Flags after
a configuration belong to it, as they would to its stage.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from extracot_training.config.load import load_config
from extracot_training.config.messages import near_miss
from extracot_training.config.plan import Assumptions
from extracot_training.errors import ConfigError
from extracot_training.pipeline.stage import lacks_rows
from extracot_training.planning.costs import Cost
from extracot_training.planning.estimate import NO_COST, STAGES
from extracot_training.planning.ledger import Ledger, finished, read_folder
from extracot_training.planning.report import Planned, figures_of, report_of
from extracot_training.planning.shape import Shape
from extracot_training.policy.launching import check_launch
from extracot_training.policy.training_settings import TrainingSettings

USAGE = """\
usage: extracot-train plan CONFIG [--set KEY=VALUE] [--input FOLDER] [--out FOLDER] [CONFIG ...]

Rows, tokens, memory and hours of each stage, from the data at hand; runs nothing. The stage is the
file name's first word; flags after a CONFIG belong to it.

  --step STAGE         begin a stage by its name; its CONFIG then follows as --config FILE
  --assume KEY=VALUE   change an assumption; the plan ends with all of them
  --check              only say whether every training could start on this machine
  --json               figures as JSON
"""
OF_A_STEP = ("--config", "--set", "--input", "--out")

ConfigOf = Callable[[str], type[Any]]


@dataclass(slots=True)
class Step:
    """A stage with its configuration's file and overrides. ``given``: its folders by flags."""

    stage: str
    config: Path | None = None
    overrides: list[str] = field(default_factory=list)
    given: dict[str, str] = field(default_factory=dict)

    def load(self, model: type[Any]) -> Any:
        """Its settings."""
        return load_config(model, self.config, self.overrides, given=self.given)


@dataclass(slots=True)
class Request:
    """The command line."""

    steps: list[Step] = field(default_factory=list)
    assume: list[str] = field(default_factory=list)
    check: bool = False
    json: bool = False


def main(argv: Sequence[str], config_of: ConfigOf) -> int:
    """Print the plan. Raises :class:`ConfigError` in one line."""
    if not argv or any(word in ("-h", "--help") for word in argv):
        print(USAGE, end="")
        return 0 if argv else 2
    request = read(argv)
    assume = load_config(Assumptions, None, request.assume, flag="--assume")
    configs = [(step.stage, step.load(config_of(step.stage))) for step in request.steps]
    if request.check:
        for _, config in configs:
            if isinstance(config, TrainingSettings):
                check_launch(config)
        return 0
    plan = plan_of(configs, assume)
    figures = figures_of(plan, assume)
    print(json.dumps(figures, indent=2) if request.json else report_of(plan, assume))
    return 0


def plan_of(
    configs: Sequence[tuple[str, Any]],
    assume: Assumptions,
    models: Mapping[str, Shape] | None = None,
) -> list[Planned]:
    """The stages in their order; each finds what those before it would leave. ``models``: sizes of
    models by name, where they are known already."""
    ledger, plan = Ledger(assume, models=dict(models or {})), []
    for stage, config in configs:
        done = finished(config.out) and not lacks_rows(config)
        cost: Cost = NO_COST if done else STAGES[stage](config, ledger)
        if done and config.makes_rows:
            ledger.put(config.out, read_folder(config.out, assume))
        rows = ledger.rows.get(str(config.out))
        if not done and stage != "problems" and rows is not None and not rows.count():
            raise ConfigError(_nothing_left(config))
        plan.append(Planned(config.out.name, stage, rows, cost, done, _note(config)))
    return plan


def read(argv: Sequence[str]) -> Request:
    """The words of a command line. Raises :class:`ConfigError` for one that is none."""
    request, words = Request(), iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        if word == "--check":
            request.check = True
        elif word == "--json":
            request.json = True
        elif not word.startswith("-"):
            request.steps.append(Step(stage_of(word), Path(word)))
        elif name in ("--check", "--json"):
            raise ConfigError(f"plan: {name} takes no value")
        elif name in ("--step", "--assume", *OF_A_STEP):
            value = value if equals else next(words, "")
            if not value:
                raise ConfigError(f"plan: {name} wants a value")
            _take(request, name, value)
        else:
            known = ["--step", "--assume", "--check", "--json", *OF_A_STEP]
            raise ConfigError(f"plan: unknown argument {name!r}{near_miss(name, known)}")
    if not request.steps:
        raise ConfigError("plan: want a CONFIG; see extracot-train plan --help")
    return request


def stage_of(file: str) -> str:
    """The stage that a configuration's file is named after."""
    stage = Path(file).name.partition(".")[0].partition("-")[0]
    if stage not in STAGES:
        raise ConfigError(
            f"plan: {file}: no stage that can be planned is named {stage!r}"
            f"{near_miss(stage, list(STAGES))}; or name it with --step"
        )
    return stage


def _take(request: Request, name: str, value: str) -> None:
    if name == "--assume":
        request.assume.append(value)
        return
    if name == "--step":
        request.steps.append(Step(stage_of(value)))
        return
    if not request.steps:
        raise ConfigError(f"plan: {name} comes before any CONFIG")
    step = request.steps[-1]
    if (name == "--config" and step.config is not None) or name[2:] in step.given:
        raise ConfigError(f"plan: {name} is there twice for {step.stage}")
    if name == "--config":
        step.config = Path(value)
    elif name == "--set":
        step.overrides.append(value)
    else:
        step.given[name[2:]] = value


def _nothing_left(config: Any) -> str:
    read = next(
        (
            folder
            for name in ("input", "compressed", "traces")
            if (folder := getattr(config, name, None))
        ),
        None,
    )
    splits = getattr(config, "splits", None)
    of = f" of splits {', '.join(splits)}" if splits else ""
    return f"{config.out.name}: would make no row: nothing{of} is left of {read}"


def _note(config: Any) -> str | None:
    """Why a training could not start on this machine."""
    if not isinstance(config, TrainingSettings):
        return None
    try:
        check_launch(config)
    except ConfigError as error:
        return str(error)
    return None
