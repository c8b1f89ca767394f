"""The flags of ``extracot-train run``, checked; what a folder of a run remembers of them.

Loads nothing heavy and starts nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Self

from pydantic import Field, HttpUrl, TypeAdapter, ValidationError, field_validator, model_validator

from extracot.control import DEFAULT_RATIOS
from extracot_training.config.flags import Once
from extracot_training.config.messages import message_of, near_miss
from extracot_training.config.problems import FIELDS, FieldMap
from extracot_training.config.publish import ModelName
from extracot_training.errors import ConfigError
from extracot_training.pipeline.settings import Section, Seed
from extracot_training.policy.prompt_settings import PromptSettings

Skipped = Literal["policy", "chrpo", "evaluate"]
Positive = Annotated[float, Field(gt=0)]
OWN, VLLM, AUTO = "own", "vllm", "auto"


class RunOptions(Section):
    """What a run is asked for. Each is a flag of the same name."""

    model: str = Field(
        min_length=1, description="base model: a folder, a hub id or bundled:smollm2"
    )
    problems: Path = Field(description="problems: JSONL, JSON, CSV, TSV or Parquet, one a row")
    fields: FieldMap = Field(default_factory=FieldMap, description=FIELDS)
    out: Path = Field(description="folder of the run; the same command goes on in it")
    levels: tuple[float, ...] = Field(
        DEFAULT_RATIOS, description="budgets to teach, as 0.2,0.5,1.0; the last is 1.0"
    )
    lora: bool = Field(False, description="train adapters instead of all weights")
    skip: tuple[Skipped, ...] = Field(
        (), description="policy (the choice of a level), chrpo or evaluate; repeatable"
    )
    budget_hours: Positive | None = Field(
        None, description="choose steps and problems that fit into so many hours"
    )
    teacher: str = Field(
        AUTO,
        description="whose traces: own (the solutions), vllm (the model itself), the address of a "
        "server, or auto (own where there are solutions)",
    )
    teacher_model: str | None = Field(None, description="model to ask that server for")
    compressor: Literal["shipped", "train"] = Field(
        "shipped", description="what shortens traces: the shipped one, or one trained on yours"
    )
    serve: bool = Field(False, description="serve the checkpoint once it is there")
    name: ModelName | None = Field(None, description="name to serve it by (else the folder's)")
    license: str = Field("other", description="licence of the weights, as an SPDX id")
    data_license: str = Field("unknown", description="licence of the problems")
    bad_rows: Literal["refuse", "skip"] = Field(
        "refuse",
        description="what is no row, or one without question or gold: an error, or left out and "
        "counted",
    )
    conflicts: Literal["refuse", "first", "drop"] = Field(
        "refuse", description="a question with two golds: an error, keep its first row, or none"
    )
    device: Literal["auto", "cpu"] = Field("auto", description="auto: the GPUs where there are any")
    gpus: int | None = Field(None, ge=1, description="use so many GPUs (else all)")
    report_to: tuple[str, ...] = Field(
        (), description="tracker, such as wandb, tensorboard or trackio; repeatable"
    )
    seed: Seed = Field(1, description="seed of splits, trainings and rollouts")
    set: tuple[str, ...] = Field(
        (), description="STAGE.KEY=VALUE: change one setting of a stage, such as sft.epochs=2"
    )
    assume: tuple[str, ...] = Field((), description="KEY=VALUE: change an assumption of the plan")

    @field_validator("levels")
    @classmethod
    def _levels(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        PromptSettings(ratios=levels)
        if levels[-1] != 1.0 or len(levels) < 2:
            raise ValueError("want two levels or more, and 1.0 as the last, such as 0.2,0.5,1.0")
        return levels

    @model_validator(mode="after")
    def _teacher(self) -> Self:
        if self.teacher not in (OWN, VLLM, AUTO):
            try:
                TypeAdapter(HttpUrl).validate_python(self.teacher)
            except ValidationError:
                raise ValueError(
                    f"teacher: want {OWN}, {VLLM}, {AUTO} or an address such as "
                    f"http://localhost:8000/v1, not {self.teacher!r}"
                ) from None
            if self.teacher_model is None:
                raise ValueError("teacher-model: which model to ask that server for is not said")
        return self

    @property
    def served_name(self) -> str:
        """The name of the checkpoint."""
        return self.name or self.out.resolve().name

    @property
    def policy(self) -> bool:
        """Whether the choice of a level is taught."""
        return "policy" not in self.skip

    @property
    def chrpo(self) -> bool:
        return self.policy and "chrpo" not in self.skip


class Parser(argparse.ArgumentParser):
    """argparse, with its faults raised instead of printed over several lines."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"run: {message}")


def parser() -> Parser:
    """All flags, told by the settings they set."""
    made = Parser(
        prog="extracot-train run",
        description="From a file of problems and a base model to a served checkpoint: every stage "
        "in order. Run the same command again after an interruption.",
        epilog="example: extracot-train run --model bundled:smollm2 --problems mine.jsonl "
        "--fields question=prompt,answer=final,solution=cot --out runs/mine --plan",
        allow_abbrev=False,
    )
    made.add_argument("--plan", action="store_true", help="say what it would take; spend nothing")
    for name, info in RunOptions.model_fields.items():
        flag, told = f"--{name.replace('_', '-')}", str(info.description).replace("%", "%%")
        if name in ("lora", "serve"):
            made.add_argument(flag, action="store_true", help=told)
        elif name in ("skip", "set", "assume", "report_to"):
            made.add_argument(flag, action="append", default=[], metavar="VALUE", help=told)
        else:
            shown = "" if info.is_required() or info.default in (None, "") else " [%(default)s]"
            if name in ("levels", "fields"):
                shown = ""
            made.add_argument(flag, action=Once, metavar="VALUE", help=told + shown)
    for action in made._actions:  # defaults are the settings' own; here they are only told
        default = getattr(RunOptions.model_fields.get(action.dest), "default", None)
        if action.help and "%(default)s" in action.help:
            action.help = action.help.replace("%(default)s", str(default))
    return made


def read(argv: Sequence[str]) -> tuple[RunOptions, bool]:
    """(options, whether only a plan is wanted). Raises :class:`ConfigError` in one line."""
    made = parser()
    found, unknown = made.parse_known_args(argv)
    if unknown:
        flag = unknown[0].partition("=")[0]
        known = [option for action in made._actions for option in action.option_strings]
        raise ConfigError(f"run: unknown argument {flag!r}{near_miss(flag, known)}")
    given: dict[str, Any] = {
        name: value for name, value in vars(found).items() if value not in (None, False, [])
    }
    for name, value in given.items():
        if isinstance(value, list) and not all(one.strip() for one in value):
            raise ConfigError(f"run: --{name.replace('_', '-')} wants a value, not an empty text")
    plan = bool(given.pop("plan", False))
    if "levels" in given:
        given["levels"] = given["levels"].split(",")
    missing = [f"--{name}" for name in ("model", "problems", "out") if name not in given]
    if missing:
        raise ConfigError(f"run: want {' and '.join(missing)}; see extracot-train run --help")
    try:
        return RunOptions.model_validate(given), plan
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        flag = "--" + str(fault["loc"][0]).replace("_", "-") + ": " if fault["loc"] else ""
        message = message_of(fault, RunOptions)
        if fault["type"] == "extra_forbidden":
            key, known = str(fault["loc"][-1]), list(FieldMap.model_fields)
            message = f"unknown key {key!r}{near_miss(key, known)}; known are {', '.join(known)}"
        raise ConfigError(f"run: {flag or '--'}{message}") from error
