"""``extracot-train STAGE``: flags are parsed before anything heavy is imported.

A stage is one line in :data:`STAGES`; its parts are found by its name and imported when used. Exit
codes: 0 done or up to date, 1 the stage failed, 2 wrong flags or configuration.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from extracot.errors import ExtracotError
from extracot_training.errors import ConfigError

try:
    from extracot_training.config.flags import Once, file
    from extracot_training.config.load import describe, load_config
    from extracot_training.config.messages import near_miss
    from extracot_training.pipeline.distributed import is_first
    from extracot_training.pipeline.stage import LOST, check_kept, check_settings
    from extracot_training.policy.training_settings import TrainingSettings
except ModuleNotFoundError as missing:  # the base install has the command, not what it needs
    sys.exit(f"extracot-train: error: {missing}; run: pip install 'extracot[training]'")

PROGRAM = "extracot-train"


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage's settings are the class ``config`` of ``config/<name>.py``; its work is ``run`` of
    ``stages/<name>/stage.py``, a function ``(config, *, force) -> StageResult``.

    ``direct``: ``stages/<name>/command.py`` has ``add_flags(parser)`` and ``run_direct(args) -> int
    | None`` for use without a configuration (``compress --text``); ``None`` means those flags were
    not given and the stage runs as usual. Neither it nor the settings may import anything heavy at
    the top.
    """

    summary: str
    config: str
    direct: bool = False


STAGES: dict[str, Stage] = {
    "problems": Stage("read, clean, check and split problem sets", "ProblemsConfig"),
    "teach": Stage("sample reasoning traces and keep those that are right", "TeachConfig"),
    "annotate": Stage("mark which atoms of each trace to keep", "AnnotateConfig"),
    "compressor": Stage("train the token classifier that ranks atoms", "CompressorConfig"),
    "compress": Stage(
        "shorten traces to every ratio; with --text, one trace at once",
        "CompressConfig",
        direct=True,
    ),
    "reader": Stage("train the small reader that judges shortened traces", "ReaderConfig"),
    "fidelity": Stage(
        "measure what the reader still answers from shortened traces", "FidelityConfig"
    ),
    "base": Stage(
        "make a small model from scratch, with a tokenizer of its own", "BaseModelConfig"
    ),
    "mix": Stage("render compressed traces to token ids, for every budget", "MixConfig"),
    "sft": Stage("fine-tune on the mixture", "SftConfig"),
    "reference": Stage(
        "measure which level each problem needs, and what level 1.0 takes", "ReferenceConfig"
    ),
    "chrpo": Stage(
        "train the model's own choice of a level; with --simulate, try the objective in a bandit",
        "ChrpoConfig",
        direct=True,
    ),
    "evaluate": Stage(
        "measure a running server at every budget: accuracy, tokens, time", "EvaluateConfig"
    ),
    "compare": Stage("put several evaluations into one table and plot", "CompareConfig"),
    "publish": Stage(
        "make a folder that extracot-serve serves: weights, tokenizer, budget card", "PublishConfig"
    ),
}


PLAN, RUN = "plan", "run"
AFTER_ERROR = "EXTRACOT_TRAIN_AFTER_ERROR"  # what a run of all stages adds to a stage's error


class UsageError(ConfigError):
    """Wrong flags."""


class Parser(argparse.ArgumentParser):
    """argparse, with its faults raised instead of printed over several lines."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a stage. Every expected failure is one line on standard error."""
    try:
        return _main(list(sys.argv[1:] if argv is None else argv))
    except ConfigError as error:
        return _fail(error, 2)
    except (ExtracotError, OSError) as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def _main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        _overview().print_help()
        return 0 if argv else 2
    if argv[0] == "--version":
        from extracot import __version__

        print(f"{PROGRAM} {__version__}")
        return 0
    if not sys.stderr.isatty():  # libraries' bars for every file they read or write fill a log
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    name = argv[0]
    if name == PLAN:
        planned: int = _module("planning.command").main(argv[1:], config_class)
        return planned
    if name == RUN:
        ran: int = _module("run.command").main(argv[1:], config_class, main)
        return ran
    if name not in STAGES:
        kind = "flag" if name.startswith("-") else "stage"
        known = ["--help", "--version"] if kind == "flag" else [*STAGES, PLAN, RUN]
        raise UsageError(
            f"unknown {kind} {name!r}{near_miss(name, known)}; stages: {', '.join(STAGES)}"
        )
    return _run_stage(name, STAGES[name], argv[1:])


def _run_stage(name: str, stage: Stage, argv: list[str]) -> int:
    direct = _module(f"stages.{name}.command") if stage.direct else None
    settings = config_class(name)
    parser = _stage_parser(name, stage, direct, settings)
    if any(word in ("-h", "--help") for word in argv):
        parser.epilog = "\n  ".join(["settings:", *describe(settings)])
        parser.print_help()
        return 0
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        flag = unknown[0].partition("=")[0]
        known = [option for action in parser._actions for option in action.option_strings]
        if flag == "--input":
            raise UsageError(f"{name}: has no --input; {_inputs_told(settings)}")
        raise UsageError(f"{name}: unknown argument {flag!r}{near_miss(flag, known)}")
    code: int | None = direct.run_direct(args) if direct is not None else None
    if code is not None:
        return code
    given = {flag: getattr(args, flag, None) for flag in ("out", "input")}
    if args.config is None and not args.set and not any(given.values()):
        raise UsageError(f"{name}: want --config FILE (or --set KEY=VALUE); see {name} --help")
    try:
        config = load_config(settings, args.config, args.set, given=given)
    except ConfigError as error:  # a wrong path is told first, not after the settings are right
        if given["input"] is not None and not Path(given["input"]).exists():
            told = f"--input {given['input']}: no such file or folder; and {error}"
            raise ConfigError(told, key=error.key) from error
        raise
    if args.force:
        check_kept(config, {"--config": args.config} if args.config else {})
    if isinstance(config, TrainingSettings):
        if not args.force:
            check_settings(name, config)
        _module("policy.launching").launch(config, [name, *argv])
    outcome = _module(f"stages.{name}.stage").run(config, force=args.force)
    counts = _counts_told(outcome.counts)
    if not is_first():  # of several processes one tells it
        return 0
    print(f"{name}: {outcome.status} in {outcome.folder}" + (f" ({counts})" if counts else ""))
    return 0


def _counts_told(found: Mapping[str, Any]) -> str:
    """What a stage made, and last how many rows it lost and why."""
    told = [f"{key} {value}" for key, value in found.items() if key != LOST]
    if lost := found.get(LOST):
        reasons = ", ".join(f"{why} {count}" for why, count in lost.items())
        told.append(f"left out {sum(lost.values())}: {reasons}")
    return ", ".join(told)


def _stage_parser(name: str, stage: Stage, direct: Any, settings: type[Any]) -> Parser:
    parser = Parser(
        prog=f"{PROGRAM} {name}",
        description=stage.summary,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", action=Once, type=file, metavar="FILE", help="settings as YAML")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one setting (dotted key, YAML value); repeatable",
    )
    if "input" in settings.model_fields:
        told = "the setting input, as it stands"
        parser.add_argument("--input", action=Once, metavar="FOLDER", help=told)
    parser.add_argument("--out", action=Once, metavar="FOLDER", help="the setting out, likewise")
    parser.add_argument(
        "--force",
        action="store_true",
        help="empty the output folder first if it was made otherwise",
    )
    if direct is not None:
        direct.add_flags(parser)
    return parser


def _inputs_told(settings: type[Any]) -> str:
    """How a stage without a setting ``input`` is told what to read."""
    shapes = {"tuple": "[FOLDER]", "dict": "{NAME: FOLDER}"}
    named = [
        f"--set {name}={shapes.get(str(info.annotation).partition('[')[0], 'FOLDER')}"
        for name, info in settings.model_fields.items()
        if name != "out" and "Path" in str(info.annotation)
    ]
    return f"it reads {', '.join(named)}" if named else "it reads `sources`; see --help"


def _overview() -> Parser:
    width = max(map(len, STAGES))
    lines = "\n".join(f"  {name:{width}}  {stage.summary}" for name, stage in STAGES.items())
    return Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} STAGE --config FILE [--set KEY=VALUE ...] [--force]",
        description=f"stages:\n{lines}\n\n{PROGRAM} STAGE --help lists a stage's settings\n"
        f"{PROGRAM} plan CONFIG ... says what stages would take, before anything is spent\n"
        f"{PROGRAM} run --model M --problems FILE --out FOLDER runs every stage, to a served model",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def config_class(name: str) -> type[Any]:
    """The settings of the stage of this name."""
    found: type[Any] = getattr(_module(f"config.{name}"), STAGES[name].config)
    return found


def _module(name: str) -> Any:
    return import_module(f"extracot_training.{name}")


def _fail(error: BaseException, code: int) -> int:
    message = " ".join(str(error).split()) + os.environ.get(AFTER_ERROR, "")
    print(f"{PROGRAM}: error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
