"""``extracot-train chrpo --simulate [--config FILE] [--set …]``: the objective in a bandit.

Prints what the choice comes to by kind of problem, from the configuration's objective, groups and
steps, and its ``simulation`` section. Parsing flags imports nothing heavy.
"""

from __future__ import annotations

import argparse
import json

from extracot_training.config.load import load_config
from extracot_training.errors import ConfigError

# What a simulation has no use for, but a configuration wants.
_NOWHERE = ("input=none", "model=none", "out=none")


def add_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the objective without a model")
    group.add_argument(
        "--simulate",
        action="store_true",
        help="try the objective in a bandit (section simulation): seconds, and nothing is written",
    )
    group.add_argument("--json", action="store_true", help="--simulate: figures as JSON")


def run_direct(args: argparse.Namespace) -> int | None:
    """Simulate; ``None`` when ``--simulate`` was not given."""
    if not args.simulate:
        if args.json:
            raise ConfigError("--json wants --simulate as well")
        return None
    for flag in ("input", "out", "force"):
        if getattr(args, flag):
            raise ConfigError(
                f"--{flag} does not go with --simulate, which reads and fills no folder"
            )
    from extracot_training.config.chrpo import ChrpoConfig
    from extracot_training.stages.chrpo.simulation import report_of, simulate

    config = load_config(ChrpoConfig, args.config, [*args.set, *_NOWHERE])
    config.check_group(len(config.simulation.levels))
    found = simulate(config)
    print(json.dumps(found, indent=2) if args.json else report_of(found, config))
    return 0
